package nft

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func slotsOf(reals []netip.AddrPort) []slot {
	var slots []slot
	for i, real := range reals {
		slots = append(slots, slot{uint32(i), real, 1})
	}
	return slots
}

// TestIdentify walks through random destinations: every one has one id, which
// is its own whoever else is there.
func TestIdentify(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 500 {
		slots := slotsOf(arrange(nil, map[netip.AddrPort]int{
			real(byte(r.IntN(200))): 1 + r.IntN(3), real(byte(r.IntN(200))): 1 + r.IntN(3), real(byte(r.IntN(200))): 1}, byTurn))
		live, ids := identify(slots, idOf)
		byID := map[uint32]netip.AddrPort{}
		for _, n := range live {
			if other, taken := byID[n.id]; taken {
				t.Fatalf("%v and %v have one id", n.real, other)
			}
			if byID[n.id] = n.real; n.id != idOf(n.real) {
				t.Errorf("%v has id %d, alone it has %d", n.real, n.id, idOf(n.real))
			}
		}
		if len(ids) != len(slots) {
			t.Fatalf("%d of %d slots have an id", len(ids), len(slots))
		}
		for i, s := range ids {
			if s.index != slots[i].index || byID[s.id] != slots[i].real {
				t.Errorf("slot %v has the id of %v", slots[i], byID[s.id])
			}
		}
	}
}

func TestNobodySharesAnID(t *testing.T) {
	slots := slotsOf(reals("abca"))
	live, ids := identify(slots, func(netip.AddrPort) uint32 { return math.MaxUint32 })
	if want := []named{{0, real('b')}, {1, real('c')}, {math.MaxUint32, real('a')}}; !slices.Equal(live, want) {
		t.Errorf("identify() = %v, want %v", live, want)
	}
	if want := []slotID{{0, math.MaxUint32}, {1, 0}, {2, 1}, {3, math.MaxUint32}}; !slices.Equal(ids, want) {
		t.Errorf("identify() = %v by slot, want %v", ids, want)
	}
}
