package ndp

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker/l2"
)

// The filter agrees with a naive reading of the packet, for packets of every
// kind and whatever is claimed.
func TestFilterAgreesWithTheNaivePredicate(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	passed, dropped := 0, 0
	for range 300 {
		claimed := randomAddrs(rnd)
		prog, matters := filter(claimed), naive(claimed)
		vm, err := bpf.NewVM(prog)
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := bpf.Assemble(prog); err != nil || len(raw) > 4000 { // BPF_MAXINSNS is 4096
			t.Fatalf("%d instructions, %v", len(raw), err)
		}
		for range 200 {
			frame := randomFrame(rnd, claimed)
			n, err := vm.Run(frame)
			if want := matters(frame); err != nil || (n > 0) != want {
				t.Fatalf("filter of %v says %d, %v to % x, want %t", claimed, n, err, frame, want)
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

// naive returns whether a packet passes that is read byte by byte.
func naive(claimed []netip.Addr) func(b []byte) bool {
	uppers, lower := split(claimed)
	near := func(b []byte) bool {
		begins := len(uppers) == 0 || slices.ContainsFunc(claimed, func(a netip.Addr) bool {
			whole := a.As16()
			return bytes.Equal(whole[:12], b[:12])
		})
		n := binary.BigEndian.Uint32(b[12:])
		return begins && slices.ContainsFunc(lower, func(s l2.Span) bool { return s.First <= n && n <= s.Last })
	}
	return func(b []byte) bool {
		if len(claimed) == 0 || len(b) < 78 || b[12] != 0x86 || b[13] != 0xdd || b[20] != 58 || b[21] != 255 || b[54] != 135 && b[54] != 136 {
			return false
		}
		return near(b[62:]) || near(b[22:])
	}
}

// Of few addresses in few subnets the filter passes those and no others.
func TestFilterIsExactForTheUsualCluster(t *testing.T) {
	claimed := []netip.Addr{ip("2001:db8::f0"), ip("2001:db8::f1"), ip("2001:db8::1:7")}
	vm, err := bpf.NewVM(filter(claimed))
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"2001:db8::f0", "2001:db8::f1", "2001:db8::1:7", "2001:db8::ef", "2001:db8::f2", "2001:db8::1:f0", "2001:db8:1::f0", "2001:db8::1:0:f0", "2002:db8::f0", "fe80::f0"} {
		n, err := vm.Run(solicit(them, "fe80::9", addr).wire())
		if want := slices.Contains(claimed, ip(addr)); err != nil || (n > 0) != want {
			t.Errorf("%s: passed %t, %v, want %t", addr, n > 0, err, want)
		}
	}
}

// randomAddrs returns none to a few hundred different addresses, some dense,
// some far apart, of one subnet or of many.
func randomAddrs(rnd *rand.Rand) (addrs []netip.Addr) {
	mask := []uint32{0x1f, 0x3ff, 1<<32 - 1}[rnd.IntN(3)]
	subnets := []int{1, 3, maxUppers, 200}[rnd.IntN(4)]
	for range rnd.IntN(300) {
		addrs = append(addrs, numbered(rnd.IntN(subnets), rnd.Uint32()&mask))
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}

// numbered returns address n of a subnet; those differ in any of their words.
func numbered(subnet int, n uint32) netip.Addr {
	b := ip("2001:db8::").As16()
	b[1+5*(subnet%3)] += byte(subnet)
	binary.BigEndian.PutUint32(b[12:], n)
	return netip.AddrFrom16(b)
}

// randomFrame is a packet about addresses in, beside or far from claimed, every
// other time with a byte changed or the end cut off.
func randomFrame(rnd *rand.Rand, claimed []netip.Addr) []byte {
	pick := func() string {
		if len(claimed) == 0 || rnd.IntN(4) == 0 {
			return numbered(rnd.IntN(300), rnd.Uint32()).String()
		}
		b := claimed[rnd.IntN(len(claimed))].As16()
		b[15] += byte(rnd.IntN(3)) - 1
		return netip.AddrFrom16(b).String()
	}
	p := solicit(them, pick(), pick())
	p.kind += byte(rnd.IntN(3)) - 1
	b := p.wire()
	switch rnd.IntN(4) {
	case 0:
		b[rnd.IntN(78)] ^= byte(1 << rnd.IntN(8))
	case 1:
		b = b[:rnd.IntN(len(b))]
	}
	return b
}
