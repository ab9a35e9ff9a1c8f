package ndp

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

// language is NDP as the tests of all announcers speak it.
var language = l2test.Language{
	New:     New,
	Addr:    func(n int) string { return fmt.Sprintf("2001:db8::%d", n) },
	Foreign: "192.0.2.1",
	Text:    text,
	Ask: func(host l2.MAC, asker, target string) []byte {
		return solicit(host, asker, target).wire()
	},
	Answer:   answered,
	Greeting: func(us l2.MAC, addr string) []string { return []string{defended(us, addr)} },
	Probe:    func(us l2.MAC, addr string) string { return text(solicit(us, "::", addr).wire()) },
	IsProbe:  func(said string) bool { return strings.Contains(said, " probes ") },
	Has:      func(host, _ l2.MAC, addr string) []byte { return advertise(host, addr).wire() }, // RFC 4861 §7.2.4
	Claim:    func(host l2.MAC, addr string) []byte { return advertise(host, addr).wire() },
	Defence:  defended,
	Promises: promises,
	Group:    group,
	Twin:     func(n int) string { return fmt.Sprintf("2001:db8:7::%d", n) },

	EtherType: unix.ETH_P_IPV6,
	Bits:      "/64",
	Asker:     func(n int) string { return fmt.Sprintf("2001:db8:9::%d", n) },
	Noise:     noise,
}

func TestAnnouncer(t *testing.T) { l2test.Run(t, language) }

// A packet is a solicitation or an advertisement in all its parts, put together
// by hand from RFC 4861 §4.3, §4.4 and §4.6.1 so that the codec in use is not
// its own judge.
type packet struct {
	to, from            l2.MAC
	source, destination string
	kind, flags         byte
	target              string
	options             []byte
}

// wire returns the frame.
func (p packet) wire() []byte {
	message := slices.Concat([]byte{p.kind, 0, 0, 0, p.flags, 0, 0, 0}, ip(p.target).AsSlice(), p.options)
	f := slices.Concat(p.to[:], p.from[:], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(message)), 58, 255})
	return seal(slices.Concat(f, ip(p.source).AsSlice(), ip(p.destination).AsSlice(), message))
}

// seal makes the checksum of a frame right.
func seal(frame []byte) []byte {
	frame[56], frame[57] = 0, 0
	binary.BigEndian.PutUint16(frame[56:], ^slowSum(frame))
	return frame
}

// slowSum is that of RFC 8200 §8.1 over a whole message: 0xffff if it is right.
func slowSum(frame []byte) uint16 {
	b := slices.Concat(frame[22:], []byte{0, byte(len(frame) - 54), 0, 58}) // pseudo-header, in another order
	sum := 0
	for i := range b {
		sum += int(b[i]) << (8 * (1 - i%2))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// option is a link-layer address, 1 of the source, 2 of the target.
func option(kind byte, m l2.MAC) []byte { return append([]byte{kind, 1}, m[:]...) }

// group returns the solicited-node group of an address.
func group(addr string) string {
	b := ip(addr).As16()
	return ip(fmt.Sprintf("ff02::1:ff%02x:%02x%02x", b[13], b[14], b[15])).String()
}

// groupMAC is where frames for it go (RFC 2464 §7).
func groupMAC(addr string) l2.MAC {
	b := ip(addr).As16()
	return l2.MAC{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}

var all = l2.MAC{0x33, 0x33, 0, 0, 0, 1}

// solicit is the question of a host at source for target; a probe if that is "::".
func solicit(host l2.MAC, source, target string) packet {
	p := packet{to: groupMAC(target), from: host, source: source, destination: group(target), kind: 135, target: target}
	if source != "::" {
		p.options = option(1, host)
	}
	return p
}

// advertise is what a host says unasked that has addr.
func advertise(host l2.MAC, addr string) packet {
	return packet{to: all, from: host, source: addr, destination: "ff02::1", kind: 136, flags: 0x20, target: addr, options: option(2, host)}
}

// answered is what a question for target has to be answered with, defended what
// everybody has to be told.
func answered(us, host l2.MAC, target, asker string) string {
	p := advertise(us, target)
	p.to, p.destination, p.flags = host, asker, 0x60
	return text(p.wire())
}

func defended(us l2.MAC, addr string) string { return text(advertise(us, addr).wire()) }

// text prints the frame of an advertisement that has one option, or of a probe,
// or bytes:
//
//	02:…:01>33:33:00:00:00:01 2001:db8::1>ff02::1 advert 2001:db8::1 at 02:…:01 [override]
//	02:…:01>33:33:ff:00:00:01 probes 2001:db8::1
func text(b []byte) string {
	if len(b) == 78 && b[54] == 135 {
		target := netip.AddrFrom16([16]byte(b[62:])).String()
		if slices.Equal(b, solicit(l2.MAC(b[6:]), "::", target).wire()) {
			return fmt.Sprintf("%s>%s probes %s", l2.MAC(b[6:]), l2.MAC(b), target)
		}
	}
	if len(b) != 86 || !slices.Equal(b[12:22], []byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255}) || b[54] != 136 ||
		b[55] != 0 || slowSum(b) != 0xffff || !slices.Equal(b[59:62], make([]byte, 3)) || b[78] != 2 || b[79] != 1 {
		return fmt.Sprintf("% x", b)
	}
	addr := func(i int) netip.Addr { return netip.AddrFrom16([16]byte(b[i:])) }
	var flags []string
	for bit, name := range []string{7: "router", 6: "solicited", 5: "override", 4: "?", 3: "?", 2: "?", 1: "?", 0: "?"} {
		if b[58]>>bit&1 == 1 {
			flags = append(flags, name)
		}
	}
	return fmt.Sprintf("%s>%s %s>%s advert %s at %s %v", l2.MAC(b[6:]), l2.MAC(b), addr(22), addr(38), addr(62), l2.MAC(b[80:]), flags)
}

// noise is all that kernels say themselves: they have addresses 1 and 2 only, and
// say more than advertisements. The client's asks, by an address that it has
// made up, where to complain of an answer to fe80::9.
func noise(heard string) bool {
	about := func(addr string) bool { return strings.Contains(heard, " advert "+addr) }
	complains := strings.Contains(heard, ">fe80::") && !strings.Contains(heard, ">fe80::9 ")
	return complains || !about("2001:db8::") || about("2001:db8::1 ") || about("2001:db8::2 ")
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

var (
	us   = l2.MAC{2, 0, 0, 0, 0, 1}
	also = l2.MAC{2, 0, 0, 0, 0, 2} // our second link
	them = l2.MAC{2, 0, 0, 0, 0, 9}

	// here is where the promises are made.
	here = station("2001:db8::10", "2001:db8::11")
)

// station returns the place of a host with two links that claims addrs on one
// of them, and 2001:db8::20 on the other.
func station(addrs ...string) l2.Station {
	want := speaker.Announcements{Claims: []speaker.Claim{{Addr: ip("2001:db8::20"), Link: "eth1"}}}
	for _, a := range addrs {
		want.Claims = append(want.Claims, speaker.Claim{Addr: ip(a), Link: "eth0"})
	}
	return l2.NewStation(protocol, "eth0", want, us, also)
}
