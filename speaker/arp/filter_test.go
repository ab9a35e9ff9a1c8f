package arp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
)

func TestSpans(t *testing.T) {
	tests := []struct {
		name  string
		addrs []string
		want  []span
	}{
		{"nothing is no span", nil, nil},
		{"one address is one span", []string{"0.0.0.1"}, []span{{1, 1}}},
		{"neighbours join, whatever their order", []string{"0.0.0.3", "0.0.0.1", "0.0.0.2"}, []span{{1, 3}}},
		{"duplicates count once", []string{"0.0.0.1", "0.0.0.1"}, []span{{1, 1}}},
		{"a gap parts", []string{"0.0.0.1", "0.0.0.3"}, []span{{1, 1}, {3, 3}}},
		{"the ends of the address space", []string{"255.255.255.255", "0.0.0.0"}, []span{{0, 0}, {1<<32 - 1, 1<<32 - 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var addrs []netip.Addr
			for _, a := range tt.addrs {
				addrs = append(addrs, ip(a))
			}
			if got := spans(addrs); !slices.Equal(got, tt.want) {
				t.Errorf("spans() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWidenJoinsAcrossTheSmallestGaps(t *testing.T) {
	all := []span{{0, 1}, {10, 10}, {13, 20}, {40, 41}, {44, 44}}
	tests := []struct {
		limit int
		want  []span
	}{
		{5, all},
		{4, []span{{0, 1}, {10, 10}, {13, 20}, {40, 44}}},
		{3, []span{{0, 1}, {10, 20}, {40, 44}}},
		{2, []span{{0, 20}, {40, 44}}},
		{1, []span{{0, 44}}},
	}
	for _, tt := range tests {
		if got := widen(all, tt.limit); !slices.Equal(got, tt.want) {
			t.Errorf("widen(%d) = %v, want %v", tt.limit, got, tt.want)
		}
	}
}

// Whatever the addresses: the spans cover them all, are sorted, disjoint, few,
// and exact as long as they are few enough.
func TestSpansCover(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		addrs := randomAddrs(rnd)
		got := spans(addrs)
		if len(got) > maxSpans {
			t.Fatalf("%d spans, want at most %d", len(got), maxSpans)
		}
		var covered uint64
		for i, s := range got {
			if s.first > s.last || i > 0 && uint64(got[i-1].last)+1 >= uint64(s.first) {
				t.Fatalf("spans %v are not sorted, disjoint and apart", got)
			}
			covered += uint64(s.last-s.first) + 1
		}
		for _, a := range addrs {
			if !in(got, number(a)) {
				t.Fatalf("%s is not in %v", a, got)
			}
		}
		if len(got) < maxSpans && covered != uint64(len(addrs)) {
			t.Fatalf("%d spans let in %d addresses, want exactly %d", len(got), covered, len(addrs))
		}
	}
}

// The filter agrees with a naive reading of the packet, for packets of every
// kind and whatever the spans are.
func TestFilterAgreesWithTheNaivePredicate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	passed, dropped := 0, 0
	for range 300 {
		addrs := randomAddrs(rnd)
		ranges := spans(addrs)
		vm, err := bpf.NewVM(filter(ranges))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := assemble(1<<31-1, filter(ranges)); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			frame := randomFrame(rnd, addrs)
			n, err := vm.Run(frame)
			if want := naive(frame, ranges); err != nil || (n > 0) != want {
				t.Fatalf("filter of %v says %d, %v to % x, want %t", ranges, n, err, frame, want)
			}
			if n > 0 {
				passed++
			} else {
				dropped++
			}
		}
	}
	if passed < 1000 || dropped < 1000 {
		t.Errorf("%d packets passed and %d did not: too few to mean anything", passed, dropped)
	}
}

func naive(b []byte, ranges []span) bool {
	if len(b) < 42 || binary.BigEndian.Uint16(b[12:]) != 0x0806 || !slices.Equal(b[14:20], []byte{0, 1, 8, 0, 6, 4}) {
		return false
	}
	op := binary.BigEndian.Uint16(b[20:])
	return (op == 1 || op == 2) && (in(ranges, binary.BigEndian.Uint32(b[28:])) || in(ranges, binary.BigEndian.Uint32(b[38:])))
}

func in(ranges []span, n uint32) bool {
	return slices.ContainsFunc(ranges, func(s span) bool { return s.first <= n && n <= s.last })
}

// randomAddrs returns none to a few hundred different addresses, some dense,
// some far apart, with the ends of the address space among them.
func randomAddrs(rnd *rand.Rand) []netip.Addr {
	mask := []uint32{0x1f, 0x3ff, 1<<32 - 1}[rnd.IntN(3)]
	seen := map[uint32]bool{}
	for range rnd.IntN(300) {
		seen[rnd.Uint32()&mask] = true
	}
	if rnd.IntN(4) == 0 {
		seen[0], seen[1<<32-1] = true, true
	}
	var addrs []netip.Addr
	for n := range seen {
		addrs = append(addrs, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))))
	}
	return addrs
}

// randomFrame is an ARP packet about addresses in, beside or far from addrs,
// every other time with a byte changed or the end cut off.
func randomFrame(rnd *rand.Rand, addrs []netip.Addr) []byte {
	pick := func() string {
		if len(addrs) == 0 || rnd.IntN(4) == 0 {
			return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, rnd.Uint32()))).String()
		}
		n := number(addrs[rnd.IntN(len(addrs))]) + uint32(rnd.IntN(3)) - 1
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n))).String()
	}
	b := wire(every, them, uint16(rnd.IntN(4)), them, pick(), zero, pick())
	switch rnd.IntN(4) {
	case 0:
		b[rnd.IntN(42)] ^= byte(1 << rnd.IntN(8))
	case 1:
		b = b[:rnd.IntN(len(b))]
	}
	return b
}
