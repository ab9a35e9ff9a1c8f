//go:build netns

package nft

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// castagnoli is the polynomial of the checksum of SCTP (RFC 9260 appendix A).
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sctpInit is a packet that asks for an association (RFC 9260 §3.3.2). It is
// written by hand, for not every kernel has sockets of SCTP; to lead its
// packets takes none.
func sctpInit(source, port uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, source)
	b = binary.BigEndian.AppendUint16(b, port)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)  // no tag yet, checksum
	b = append(b, 1, 0, 0, 20)             // INIT
	b = append(b, 0, 0, 0, 9, 0, 0, 16, 0) // its tag, window
	b = append(b, 0, 1, 0, 1, 0, 0, 0, 1)  // streams, first number
	binary.LittleEndian.PutUint32(b[8:], checksum(b))
	return b
}

// checksum is that of b with its own field clear.
func checksum(b []byte) uint32 {
	clear := append([]byte{}, b...)
	copy(clear[8:], []byte{0, 0, 0, 0})
	return crc32.Checksum(clear, castagnoli)
}

// raw opens a socket for all packets of SCTP.
func raw(t *testing.T, n *nettest.Namespace, w world) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	err := n.Do(func() (err error) {
		c, err = net.ListenPacket(map[string]string{"v4": "ip4:132", "v6": "ip6:132"}[w.name], "")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// receive waits for an INIT to a port and says who sent it.
func receive(c net.PacketConn, port uint16) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return "", err
		}
		if n < 13 || b[12] != 1 || binary.BigEndian.Uint16(b[2:]) != port {
			continue
		}
		if want := checksum(b[:n]); binary.LittleEndian.Uint32(b[8:]) != want {
			return "", fmt.Errorf("checksum %x, want %x", b[8:12], want)
		}
		return from.String(), nil
	}
}

func TestSCTPIsLed(t *testing.T) {
	l := newLab(t)
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			for _, v := range []string{at(w.vip, 80), at(w.every(), 30080)} {
				l.apply(t, kerneltest.Set(steer.Add, v+"/sctp", steer.Server{Scheduler: "rr", Affinity: 600, Sources: w.letIn()}),
					kerneltest.Dest(steer.Add, v+"/sctp", at(w.targets[0], 8080), 1))
			}
			l.apply(t, kerneltest.Addr(steer.Add, w.vip))
			pod, client := raw(t, l.pods[0], w), raw(t, l.client, w)
			for i, addr := range []string{w.vip, w.node} {
				port := []uint16{80, 30080}[i]
				if _, err := client.WriteTo(sctpInit(40000+port, port), &net.IPAddr{IP: net.ParseIP(addr)}); err != nil {
					t.Fatal(err)
				}
				if from, err := receive(pod, 8080); err != nil || from != w.client {
					t.Errorf("what went to %s port %d comes from %q, %v, want %s", addr, port, from, err, w.client)
				}
			}
		})
	}
}
