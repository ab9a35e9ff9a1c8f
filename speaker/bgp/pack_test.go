package bgp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// updateMessage makes an UPDATE.
func updateMessage(gone, attributes, nlri []byte) message {
	return newMessage(typeUpdate, long(gone), gone, long(attributes), attributes, nlri)
}

func TestPacker(t *testing.T) {
	med := []byte{0x80, 4, 4, 0, 0, 0, 7}
	one, two := []byte{32, 203, 0, 113, 1}, []byte{24, 203, 0, 112}
	reach := func(hop byte, prefixes ...byte) []byte {
		value := slices.Concat([]byte{0, 2, 1, 16}, make([]byte, 15), []byte{hop, 0}, prefixes)
		return slices.Concat([]byte{0x80, 14, byte(len(value))}, value)
	}
	reaches := func(hop byte, prefixes ...byte) []byte { // as we encode it
		return slices.Concat([]byte{0x90, 14, 0}, reach(hop, prefixes...)[2:])
	}
	six, seven := []byte{16, 0x20, 1}, []byte{24, 0x20, 2, 3}
	alive, end := newMessage(typeKeepalive), updateMessage(nil, nil, nil)
	tests := []struct {
		name     string
		in, want []message
	}{
		{"nothing", nil, nil},
		{"IPv4 announced", []message{updateMessage(nil, med, one), updateMessage(nil, med, two)}, []message{updateMessage(nil, med, slices.Concat(one, two))}},
		{"IPv4 withdrawn", []message{updateMessage(one, nil, nil), updateMessage(two, nil, nil)}, []message{updateMessage(slices.Concat(one, two), nil, nil)}},
		{"what is said otherwise stays apart", []message{updateMessage(nil, med, one), updateMessage(nil, nil, two)}, []message{updateMessage(nil, med, one), updateMessage(nil, nil, two)}},
		{"order stays", []message{updateMessage(nil, med, one), updateMessage(one, nil, nil), updateMessage(nil, med, two)},
			[]message{updateMessage(nil, med, one), updateMessage(one, nil, nil), updateMessage(nil, med, two)}},
		{"IPv6 announced, with its attribute first", []message{updateMessage(nil, slices.Concat(med, reach(1, six...)), nil), updateMessage(nil, slices.Concat(med, reach(1, seven...)), nil)},
			[]message{updateMessage(nil, slices.Concat(reaches(1, slices.Concat(six, seven)...), med), nil)}},
		{"another next hop", []message{updateMessage(nil, reach(1, six...), nil), updateMessage(nil, reach(2, six...), nil)},
			[]message{updateMessage(nil, reaches(1, six...), nil), updateMessage(nil, reaches(2, six...), nil)}},
		{"other messages, and the End-of-RIB marker, are let through", []message{updateMessage(nil, med, one), end, updateMessage(nil, med, two), alive, end},
			[]message{updateMessage(nil, med, one), end, updateMessage(nil, med, two), alive, end}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var p packer
			for _, m := range tt.in {
				p.add(m)
			}
			var want []byte
			for _, m := range tt.want {
				want = append(want, m...)
			}
			if got := p.take(); !bytes.Equal(got, want) {
				t.Errorf("take() = %x\nwant     %x", got, want)
			}
			if again := p.take(); len(again) > 0 {
				t.Errorf("then it has %x", again)
			}
		})
	}
}

// Whatever is packed, a router that decodes it learns the same.
func TestPackerLosesNothing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	hops := []netip.Addr{ip("192.0.2.1"), ip("2001:db8::1")}
	for range 20 {
		var p packer
		plain, packed := &puppet{rib: map[netip.Prefix]string{}, heard: map[family]int{}}, &puppet{rib: map[netip.Prefix]string{}, heard: map[family]int{}}
		for range 1 + rnd.IntN(2000) {
			m := randomUpdate(rnd, hops)
			plain.learn(t, m)
			p.add(m)
		}
		messages := 0
		for in := bytes.NewReader(p.take()); in.Len() > 0; messages++ {
			m, err := readMessage(in, make([]byte, maxMessage))
			if err != nil {
				t.Fatal(err)
			}
			packed.learn(t, m)
		}
		if !equalRIBs(plain, packed) {
			t.Fatalf("packed into %d messages: %d prefixes, want %d", messages, len(packed.rib), len(plain.rib))
		}
	}
}

func equalRIBs(a, b *puppet) bool {
	if len(a.rib) != len(b.rib) || a.heard[ipv4] != b.heard[ipv4] || a.heard[ipv6] != b.heard[ipv6] {
		return false
	}
	for p, said := range a.rib {
		if other, ok := b.rib[p]; !ok || other != said {
			return false
		}
	}
	return true
}

// randomUpdate is one of a prefix, as GoBGP encodes it.
func randomUpdate(rnd *rand.Rand, hops []netip.Addr) message {
	seed := rnd.Uint32N(1 << 16)
	a := []wire.PathAttributeInterface{wire.NewPathAttributeOrigin(0), wire.NewPathAttributeMultiExitDisc(seed >> 14)}
	var u *wire.BGPMessage
	addr := binary.BigEndian.AppendUint32(nil, 0xcb007100|seed&0xff)
	v4 := wire.NewIPAddrPrefix(32, netip.AddrFrom4([4]byte(addr)).String())
	v6 := wire.NewIPv6AddrPrefix(128, ip("2001:db8:1::").Next().String())
	if seed&0x100 != 0 {
		v6 = wire.NewIPv6AddrPrefix(64, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(seed)}).String())
	}
	switch rnd.IntN(8) {
	case 0:
		u = wire.NewBGPUpdateMessage([]*wire.IPAddrPrefix{v4}, nil, nil)
	case 1:
		u = wire.NewBGPUpdateMessage(nil, []wire.PathAttributeInterface{wire.NewPathAttributeMpUnreachNLRI([]wire.AddrPrefixInterface{v6})}, nil)
	case 2, 3, 4:
		u = wire.NewBGPUpdateMessage(nil, append(a, wire.NewPathAttributeNextHop(hops[0].String())), []*wire.IPAddrPrefix{v4})
	default:
		u = wire.NewBGPUpdateMessage(nil, append(a, wire.NewPathAttributeMpReachNLRI(hops[1].String(), []wire.AddrPrefixInterface{v6})), nil)
	}
	b, err := u.Serialize()
	if err != nil {
		panic(err)
	}
	return b
}

// Nothing makes it panic, and what it makes can be read.
func FuzzParseUpdate(f *testing.F) {
	f.Add([]byte{0, 0, 0, 7, 0x90, 14, 0, 3, 0, 2, 1, 200, 1})
	f.Add([]byte{0, 0, 0, 7, 0x80, 15, 4, 0, 2, 1, 0})
	f.Add([]byte{0, 0, 0, 4, 0x80, 4, 1, 7, 32, 203, 0, 113, 1})
	f.Fuzz(func(t *testing.T, body []byte) {
		m := newMessage(typeUpdate, body)
		if len(m) > maxMessage {
			return
		}
		u, ok := parseUpdate(m)
		if !ok || u.size() > maxMessage {
			return
		}
		again, ok := parseUpdate(u.message())
		if !ok || !again.like(u) || !bytes.Equal(again.prefixes, u.prefixes) {
			t.Errorf("%+v becomes %+v", u, again)
		}
	})
}
