package nft

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
)

// A named is one element of live4 or live6: a destination by the id under
// which clients are remembered to have gone there.
type named struct {
	id   uint32
	real netip.AddrPort
}

// A slotID is one element of ids4 or ids6.
type slotID struct{ index, id uint32 }

// identify gives ids to the destinations of slots. A destination has the same
// one again when it comes back, and keeps it whatever others do: only if two
// draw the same has the later in their order to give way.
func identify(slots []slot, draw func(netip.AddrPort) uint32) (live []named, ids []slotID) {
	reals := make([]netip.AddrPort, 0, len(slots))
	for _, s := range slots {
		reals = append(reals, s.real)
	}
	taken, byReal := map[uint32]bool{}, map[netip.AddrPort]uint32{}
	for _, real := range once(reals, netip.AddrPort.Compare) {
		id := draw(real)
		for taken[id] {
			id++
		}
		taken[id], byReal[real] = true, id
		live = append(live, named{id, real})
	}
	slices.SortFunc(live, compareNamed)
	for _, s := range slots {
		ids = append(ids, slotID{s.index, byReal[s.real]})
	}
	return live, ids
}

// idOf draws the id of a destination.
func idOf(real netip.AddrPort) uint32 {
	sum := fnv.New32a()
	sum.Write(target(real))
	return sum.Sum32()
}

func compareNamed(a, b named) int {
	return cmp.Or(cmp.Compare(a.id, b.id), a.real.Compare(b.real))
}

func compareSlotIDs(a, b slotID) int {
	return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.id, b.id))
}
