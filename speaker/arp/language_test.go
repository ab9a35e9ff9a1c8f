package arp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
	"github.com/herald-lb/herald/speaker/l2/l2test"
)

// language is ARP as the tests of all announcers speak it.
var language = l2test.Language{
	New:     New,
	Addr:    func(n int) string { return fmt.Sprintf("192.0.2.%d", n) },
	Foreign: "2001:db8::1",
	Text:    text,
	Ask: func(host l2.MAC, asker, target string) []byte {
		return wire(every, host, 1, host, asker, zero, target)
	},
	Answer: func(us, host l2.MAC, target, asker string) string {
		return text(wire(host, us, 2, us, target, host, asker))
	},
	Greeting: func(us l2.MAC, addr string) []string {
		return []string{
			text(wire(every, us, 1, us, addr, zero, addr)),
			text(wire(every, us, 2, us, addr, us, addr)),
		}
	},
	Probe: func(us l2.MAC, addr string) string {
		return text(wire(every, us, 1, us, "0.0.0.0", zero, addr))
	},
	IsProbe: func(said string) bool {
		return strings.Contains(said, " request ") && strings.Contains(said, " 0.0.0.0 to 00:")
	},
	Has: func(host, us l2.MAC, addr string) []byte {
		return wire(us, host, 2, host, addr, us, "0.0.0.0")
	},
	Claim: func(host l2.MAC, addr string) []byte { return wire(every, host, 1, host, addr, zero, addr) },
	Defence: func(us l2.MAC, addr string) string {
		return text(wire(every, us, 1, us, addr, zero, addr))
	},
	Promises: promises,

	EtherType: unix.ETH_P_ARP,
	Bits:      "/24",
	Asker:     func(n int) string { return fmt.Sprintf("198.51.%d.%d", 100+n/250, n%250) },
	Noise:     func(heard string) bool { return strings.Contains(heard, "192.0.2.1 to") },
}

func TestAnnouncer(t *testing.T) { l2test.Run(t, language) }

// wire returns a frame, built by hand from RFC 826 so that the codec in use
// is not its own judge.
func wire(to, from l2.MAC, op uint16, sender l2.MAC, senderIP string, target l2.MAC, targetIP string) []byte {
	b := slices.Concat(to[:], from[:], []byte{0x08, 0x06, 0, 1, 0x08, 0, 6, 4})
	b = binary.BigEndian.AppendUint16(b, op)
	b = slices.Concat(b, sender[:], ip(senderIP).AsSlice(), target[:], ip(targetIP).AsSlice())
	return append(b, make([]byte, 60-len(b))...)
}

// text prints a frame the way the tests of this package write it down:
//
//	02:…:01>ff:…:ff reply 02:…:01 192.0.2.1 to 02:…:02 192.0.2.2
func text(b []byte) string {
	if len(b) != 60 || binary.BigEndian.Uint16(b[12:]) != 0x0806 || !slices.Equal(b[14:20], []byte{0, 1, 8, 0, 6, 4}) {
		return fmt.Sprintf("% x", b)
	}
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i:])) }
	op := map[uint16]string{1: "request", 2: "reply"}[binary.BigEndian.Uint16(b[20:])]
	return fmt.Sprintf("%s>%s %s %s %s to %s %s", l2.MAC(b[6:]), l2.MAC(b), op, l2.MAC(b[22:]), addr(28), l2.MAC(b[32:]), addr(38))
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

var (
	us    = l2.MAC{2, 0, 0, 0, 0, 1}
	also  = l2.MAC{2, 0, 0, 0, 0, 2} // our second link
	them  = l2.MAC{2, 0, 0, 0, 0, 9}
	zero  = l2.MAC{}
	every = broadcast

	// here is where the promises are made.
	here = station("192.0.2.10", "192.0.2.11")
)

// station returns the place of a host with two links that claims addrs on one
// of them, and 192.0.2.20 on the other.
func station(addrs ...string) l2.Station {
	want := speaker.Announcements{Claims: []speaker.Claim{{Addr: ip("192.0.2.20"), Link: "eth1"}}}
	for _, a := range addrs {
		want.Claims = append(want.Claims, speaker.Claim{Addr: ip(a), Link: "eth0"})
	}
	return l2.NewStation(protocol, "eth0", want, us, also)
}
