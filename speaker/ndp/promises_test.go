package ndp

import (
	"slices"
	"testing"

	"github.com/herald-lb/herald/speaker/l2"
	"github.com/herald-lb/herald/speaker/l2/l2test"
)

// promises are made by a host with hardware address us to one with them.
func promises(us, them l2.MAC) []l2test.Promise {
	const ten, asker = "2001:db8::10", "2001:db8::1"
	other := l2.MAC{2, 0, 0, 0, 0, 0x77}
	ask := func(change func(*packet)) []byte {
		p := solicit(them, asker, ten)
		if change != nil {
			change(&p)
		}
		return p.wire()
	}
	probe := func(change func(*packet)) []byte {
		p := solicit(them, "::", ten)
		if change != nil {
			change(&p)
		}
		return p.wire()
	}
	claim := func(change func(*packet)) []byte {
		p := advertise(them, ten)
		if change != nil {
			change(&p)
		}
		return p.wire()
	}
	// spoil changes a question behind the back of its checksum, or not.
	spoil := func(at int, b byte, seals bool) []byte {
		frame := ask(nil)
		frame[at] = b
		if seals {
			seal(frame)
		}
		return frame
	}
	tagged := func(frame []byte) []byte { // 802.1Q, VLAN 7
		return append(append(append([]byte{}, frame[:12]...), 0x81, 0, 0, 7), frame[12:]...)
	}
	answer := func(target, to string, at l2.MAC) string { return answered(us, at, target, to) }
	defence := defended(us, ten)
	unicast := func(p *packet) { p.to, p.destination = us, ten }
	nonce := []byte{14, 1, 1, 2, 3, 4, 5, 6} // RFC 7527 §4
	unknown := []byte{99, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
	return []l2test.Promise{
		l2test.Answer("a multicast solicitation is answered", ask(nil), answer(ten, asker, them)),
		l2test.Answer("the second address too", solicit(them, asker, "2001:db8::11").wire(), answer("2001:db8::11", asker, them)),
		l2test.Answer("a unicast solicitation is answered", ask(unicast), answer(ten, asker, them)),
		l2test.Answer("one that does not say from where", ask(func(p *packet) { unicast(p); p.options = nil }), answer(ten, asker, them)),
		l2test.Answer("not even by multicast", ask(func(p *packet) { p.options = nil }), answer(ten, asker, them)),
		l2test.Answer("a multicast solicitation to us alone is answered", ask(func(p *packet) { p.to = us }), answer(ten, asker, them)),
		l2test.Answer("a solicitation of all nodes is answered", ask(func(p *packet) { p.to, p.destination = all, "ff02::1" }), answer(ten, asker, them)),
		l2test.Answer("a link-local asker is answered", ask(func(p *packet) { p.source = "fe80::9" }), answer(ten, "fe80::9", them)),
		l2test.Answer("an asker outside the subnet is answered", ask(func(p *packet) { p.source = "2001:db8:9::9" }), answer(ten, "2001:db8:9::9", them)),
		l2test.Answer("an asker is answered where he says he is", ask(func(p *packet) { p.options = option(1, other) }), answer(ten, asker, other)),
		l2test.Answer("options of others are passed over", ask(func(p *packet) { p.options = slices.Concat(unknown, nonce, option(2, other), p.options) }), answer(ten, asker, them)),
		l2test.Refuse("a probe is answered to everybody", probe(nil), defence),
		l2test.Refuse("and again", probe(nil), defence),
		l2test.Refuse("a probe with a nonce too", probe(func(p *packet) { p.options = nonce }), defence),
		l2test.Silence("a solicitation for a free address is not answered", solicit(them, asker, "2001:db8::12").wire()),
		l2test.Silence("nor of one that shares the group", solicit(them, asker, "2001:db8:7::10").wire()),
		l2test.Silence("nor for an address of another link", solicit(them, asker, "2001:db8::20").wire()),
		l2test.Silence("nor for the unspecified one", solicit(them, asker, "::").wire()),
		l2test.Silence("a probe for a free address is none of our business", solicit(them, "::", "2001:db8::12").wire()),
		l2test.Silence("a solicitation to another host is not answered", ask(func(p *packet) { p.to, p.destination = other, ten })),
		l2test.Silence("an advertisement about others is not answered", advertise(them, "2001:db8::12").wire()),
		l2test.Silence("a packet with a VLAN tag is not answered", tagged(ask(nil))),
		l2test.Silence("a packet that was routed is not answered", spoil(21, 254, false)),
		l2test.Silence("another version of IP is not answered", spoil(14, 0x40, false)),
		l2test.Silence("another ether type is not answered", spoil(13, 0xde, false)),
		l2test.Silence("a packet with an extension header is not answered", spoil(20, 0, false)),
		l2test.Silence("a wrong checksum is not answered", spoil(56, 0x12, false)),
		l2test.Silence("another code is not answered", spoil(55, 1, true)),
		l2test.Silence("an echo request is not answered", spoil(54, 128, true)),
		l2test.Silence("a router solicitation is not answered", spoil(54, 133, true)),
		l2test.Silence("an option without length is not answered", spoil(79, 0, true)),
		l2test.Silence("an option that is longer than the packet is not answered", spoil(79, 2, true)),
		l2test.Silence("a packet that is longer than its frame is not answered", spoil(19, 40, false)),
		l2test.Silence("a packet that is cut off is not answered", ask(nil)[:77]),
		l2test.Silence("an asker with a multicast address is not answered", ask(func(p *packet) { p.source = "ff02::9" })),
		l2test.Silence("nor one who says he is everywhere", ask(func(p *packet) { p.options = option(1, all) })),
		l2test.Silence("nor one who says he is nowhere", ask(func(p *packet) { p.options = option(1, l2.MAC{}) })),
		l2test.Silence("a probe that says from where is not answered", probe(func(p *packet) { p.options = option(1, them) })),
		l2test.Silence("a probe to one host is not answered", probe(unicast)),
		l2test.Silence("our own greeting coming back is not answered", advertise(us, ten).wire()),
		l2test.Silence("nor if a switch sends it", claim(func(p *packet) { p.options = option(2, us) })),
		l2test.Silence("an advertisement that is asked for and to all is none", claim(func(p *packet) { p.flags = 0x60 })),
		// The first conflict is defended by one advertisement; the others
		// come within ten seconds of it.
		l2test.Dispute("a foreign advertisement is a conflict, and defended", claim(nil), defence),
		l2test.Dispute("a foreign advertisement of a router is a conflict", claim(func(p *packet) { p.flags = 0xa0 }), ""),
		l2test.Dispute("one that does not say where is a conflict", claim(func(p *packet) { p.options = nil }), ""),
		l2test.Dispute("a foreign advertisement to us is a conflict", claim(func(p *packet) { p.to, p.destination, p.flags = us, asker, 0x60 }), ""),
		l2test.Dispute("an advertisement of ours from elsewhere is a conflict", claim(func(p *packet) { p.source = asker }), ""),
		l2test.Dispute("a solicitation that bears our address is a conflict", solicit(them, ten, "2001:db8::11").wire(), ""),
		l2test.Dispute("and an advertisement", claim(func(p *packet) { p.target = "2001:db8::12" }), ""),
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
