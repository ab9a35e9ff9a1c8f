package arp

import (
	"testing"

	"github.com/herald-lb/herald/speaker/l2"
	"github.com/herald-lb/herald/speaker/l2/l2test"
)

// promises are made by a host with hardware address us to one with them.
func promises(us, them l2.MAC) []l2test.Promise {
	other := l2.MAC{2, 0, 0, 0, 0, 0x77}
	multicast := l2.MAC{1, 0, 0x5e, 0, 0, 1}
	answer := func(addr, asker string) string {
		return text(wire(them, us, 2, us, addr, them, asker))
	}
	tagged := func(frame []byte) []byte { // 802.1Q, VLAN 7
		return append(append(append([]byte{}, frame[:12]...), 0x81, 0, 0, 7), frame[12:]...)
	}
	spoil := func(frame []byte, at int, b byte) []byte {
		frame[at] = b
		return frame
	}
	ask := func(to l2.MAC, sender string, target string) []byte {
		return wire(to, them, 1, them, sender, zero, target)
	}
	return []l2test.Promise{
		l2test.Answer("a broadcast request is answered", ask(every, "192.0.2.1", "192.0.2.10"), answer("192.0.2.10", "192.0.2.1")),
		l2test.Answer("the second address too", ask(every, "192.0.2.1", "192.0.2.11"), answer("192.0.2.11", "192.0.2.1")),
		l2test.Answer("a unicast request is answered", ask(us, "192.0.2.1", "192.0.2.10"), answer("192.0.2.10", "192.0.2.1")),
		l2test.Answer("a probe is answered", ask(every, "0.0.0.0", "192.0.2.10"), answer("192.0.2.10", "0.0.0.0")),
		l2test.Answer("a unicast probe is answered", ask(us, "0.0.0.0", "192.0.2.10"), answer("192.0.2.10", "0.0.0.0")),
		l2test.Answer("a multicast request is answered", ask(multicast, "192.0.2.1", "192.0.2.10"), answer("192.0.2.10", "192.0.2.1")),
		l2test.Answer("a sender outside the subnet is answered", ask(every, "198.51.100.9", "192.0.2.10"), answer("192.0.2.10", "198.51.100.9")),
		l2test.Silence("a request for a free address is not answered", ask(every, "192.0.2.1", "192.0.2.12")),
		l2test.Silence("a request for an address of another link is not answered", ask(every, "192.0.2.1", "192.0.2.20")),
		l2test.Silence("a unicast request to another host is not answered", ask(other, "192.0.2.1", "192.0.2.10")),
		l2test.Silence("a reply is not answered", wire(us, them, 2, them, "192.0.2.1", us, "192.0.2.10")),
		l2test.Silence("a packet with a VLAN tag is not answered", tagged(ask(every, "192.0.2.1", "192.0.2.10"))),
		l2test.Silence("reverse ARP is not answered", wire(every, them, 3, them, "192.0.2.1", zero, "192.0.2.10")),
		l2test.Silence("another hardware type is not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 15, 6)),
		l2test.Silence("another protocol is not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 16, 0x86)),
		l2test.Silence("another ether type is not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 13, 0x35)),
		l2test.Silence("longer hardware addresses are not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 18, 8)),
		l2test.Silence("shorter hardware addresses are not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 18, 4)),
		l2test.Silence("another length of addresses is not answered", spoil(ask(every, "192.0.2.1", "192.0.2.10"), 19, 16)),
		l2test.Silence("a packet that is cut off is not answered", ask(every, "192.0.2.1", "192.0.2.10")[:41]),
		l2test.Silence("an asker with a broadcast address is not answered", wire(every, them, 1, every, "192.0.2.1", zero, "192.0.2.10")),
		l2test.Silence("an asker without a hardware address is not answered", wire(every, them, 1, zero, "192.0.2.1", zero, "192.0.2.10")),
		l2test.Silence("our own announcement coming back is not answered", wire(every, us, 1, us, "192.0.2.10", zero, "192.0.2.10")),
		l2test.Silence("an announcement of a free address is none of our business", wire(every, them, 2, them, "192.0.2.12", every, "192.0.2.12")),
		// The first conflict is defended by one announcement; the others
		// come within ten seconds of it.
		l2test.Dispute("a foreign announcement is a conflict, and defended", wire(every, them, 1, them, "192.0.2.10", zero, "192.0.2.10"), text(wire(every, us, 1, us, "192.0.2.10", zero, "192.0.2.10"))),
		l2test.Dispute("a foreign gratuitous reply is a conflict", wire(every, them, 2, them, "192.0.2.10", every, "192.0.2.10"), ""),
		l2test.Dispute("a foreign reply to us is a conflict", wire(us, them, 2, them, "192.0.2.10", us, "192.0.2.1"), ""),
		l2test.Dispute("a request that bears our address is a conflict", ask(every, "192.0.2.10", "192.0.2.1"), ""),
		l2test.Dispute("and is not answered", ask(every, "192.0.2.10", "192.0.2.11"), ""),
	}
}

// Were there no filter, user space would decide alike.
func TestJudgesWithoutTheFilter(t *testing.T) {
	for _, p := range promises(us, them) {
		h, err := hear(p.Frame, here)
		if err == nil && h.Verdict != p.Verdict || err != nil && p.Verdict != l2.Ignored {
			t.Errorf("%s: verdict %d, error %v, want verdict %d", p.Name, h.Verdict, err, p.Verdict)
		}
	}
}
