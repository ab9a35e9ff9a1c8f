package nft

import (
	"maps"
	"net/netip"
	"slices"
)

// maxSlots is how many slots a server with unequal weights may have. One whose
// weights are all equal has one slot for each destination, however many.
const maxSlots = 256

// shares returns how many slots each destination gets. Those of weight 0 get
// none, every other at least one.
func shares(weights map[netip.AddrPort]int) map[netip.AddrPort]int {
	divisor, sum := 0, 0
	for _, w := range weights {
		divisor = gcd(divisor, w)
		sum += w
	}
	counts := make(map[netip.AddrPort]int, len(weights))
	for real, w := range weights {
		if w == 0 {
			continue
		}
		counts[real] = w / divisor
		if sum/divisor > max(maxSlots, len(weights)) {
			counts[real] = max(1, w*maxSlots/sum)
		}
	}
	return counts
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// arrange returns the slots of a server, given the slots that it has. A server
// that hashes gets them in the order of the addresses, as on every other node.
// For others as few slots change as can be: what leaves is replaced by what
// comes, else by the last.
func arrange(have []netip.AddrPort, weights map[netip.AddrPort]int, d draw) []netip.AddrPort {
	missing := shares(weights)
	total := 0
	for _, n := range missing {
		total += n
	}
	slots := make([]netip.AddrPort, total)
	if !d.hashes() {
		keep(slots, have, missing)
	}
	rest := expand(missing)
	for i := range slots {
		if !slots[i].IsValid() {
			slots[i], rest = rest[0], rest[1:]
		}
	}
	return slots
}

// keep puts into slots what is wanted of have and already stands in its place,
// and takes it out of missing.
func keep(slots, have []netip.AddrPort, missing map[netip.AddrPort]int) {
	for i := range min(len(slots), len(have)) {
		if missing[have[i]] > 0 {
			slots[i] = have[i]
			missing[have[i]]--
		}
	}
}

// expand lists each destination as often as it counts, in order.
func expand(counts map[netip.AddrPort]int) []netip.AddrPort {
	var all []netip.AddrPort
	for _, real := range slices.SortedFunc(maps.Keys(counts), netip.AddrPort.Compare) {
		for range counts[real] {
			all = append(all, real)
		}
	}
	return all
}
