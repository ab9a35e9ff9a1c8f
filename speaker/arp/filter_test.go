package arp

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker/l2"
)

// The filter agrees with a naive reading of the packet, for packets of every
// kind and whatever the spans are.
func TestFilterAgreesWithTheNaivePredicate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	passed, dropped := 0, 0
	for range 300 {
		addrs := randomAddrs(rnd)
		ranges := spansOf(addrs)
		vm, err := bpf.NewVM(filter(addrs))
		if err != nil {
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

func naive(b []byte, ranges []l2.Span) bool {
	if len(b) < 42 || binary.BigEndian.Uint16(b[12:]) != 0x0806 || !slices.Equal(b[14:20], []byte{0, 1, 8, 0, 6, 4}) {
		return false
	}
	op := binary.BigEndian.Uint16(b[20:])
	return (op == 1 || op == 2) && (in(ranges, binary.BigEndian.Uint32(b[28:])) || in(ranges, binary.BigEndian.Uint32(b[38:])))
}

func in(ranges []l2.Span, n uint32) bool {
	return slices.ContainsFunc(ranges, func(s l2.Span) bool { return s.First <= n && n <= s.Last })
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
