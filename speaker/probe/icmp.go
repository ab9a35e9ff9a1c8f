package probe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// ICMP pings with echo requests. It takes the right to open raw sockets.
type ICMP struct{}

// family is what differs between ICMP and ICMPv6.
type family struct {
	network, any, tunnel string
	proto                int // IANA number
	echo, reply          icmp.Type
	// Of an IP packet, for a filter:
	ethertype   uint16
	protoOffset uint32
	replyType   byte
	toTransport bpf.Instruction // loads into X how much longer than header the header is
	header      uint32
}

var (
	family4 = family{
		"ip4:icmp", "0.0.0.0", "ip4:4", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply,
		unix.ETH_P_IP, 9, byte(ipv4.ICMPTypeEchoReply), bpf.LoadMemShift{Off: 0}, 0,
	}
	family6 = family{
		"ip6:ipv6-icmp", "::", "ip6:41", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply,
		unix.ETH_P_IPV6, 6, byte(ipv6.ICMPTypeEchoReply), bpf.LoadConstant{Dst: bpf.RegX, Val: 0}, header6,
	}
)

// Ping implements [Pinger].
func (ICMP) Ping(ctx context.Context, addr netip.Addr, within time.Duration) (bool, error) {
	f := family4
	if addr.Is6() {
		f = family6
	}
	conn, err := icmp.ListenPacket(f.network, f.any)
	if err != nil {
		return false, fmt.Errorf("opening a socket for ICMP: %w", err)
	}
	defer conn.Close()
	deadline := time.Now().Add(within)
	if err := conn.SetDeadline(deadline); err != nil {
		return false, fmt.Errorf("bounding a ping: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	// Whoever else pings on this host gets the replies of all.
	ask := icmp.Echo{ID: rand.IntN(1 << 16), Seq: rand.IntN(1 << 16), Data: []byte("herald")}
	packet, err := (&icmp.Message{Type: f.echo, Body: &ask}).Marshal(nil)
	if err != nil {
		return false, fmt.Errorf("encoding a ping: %w", err)
	}
	if _, err := conn.WriteTo(packet, &net.IPAddr{IP: addr.AsSlice()}); err != nil {
		return false, fmt.Errorf("pinging %s: %w", addr, err)
	}
	return f.await(conn, addr, ask)
}

// await reads until the reply has come, or the time is over.
func (f family) await(conn *icmp.PacketConn, addr netip.Addr, ask icmp.Echo) (bool, error) {
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("waiting for %s: %w", addr, err)
		}
		if ip, ok := from.(*net.IPAddr); ok && ip.IP.Equal(addr.AsSlice()) && f.isReply(buf[:n], ask) {
			return true, nil
		}
	}
}

// isReply is whether packet answers ask. It may be anything.
func (f family) isReply(packet []byte, ask icmp.Echo) bool {
	m, err := icmp.ParseMessage(f.proto, packet)
	if err != nil || m.Type != f.reply {
		return false
	}
	echo, ok := m.Body.(*icmp.Echo)
	return ok && echo.ID == ask.ID && echo.Seq == ask.Seq
}
