package nft

import (
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/herald-lb/herald/speaker/steer"
)

// maxSlots is how many slots a server with unequal weights may have. One whose
// weights are all equal has one slot for each destination, however many.
const maxSlots = 256

// turns is how many chains that take turns there are for each number of slots.
// Two servers on one chain that are used in strict alternation would each be
// given the same half of their slots. A prime keeps 80, 443, 8080 and 8443 of
// one address apart.
const turns = 13

// A draw is how a chain chooses a slot.
type draw string

// The ways to choose.
const (
	byTurn   draw = "turn"   // one after the other
	atRandom draw = "random" // any
	bySource draw = "source" // hash of the client's address
	byFlow   draw = "flow"   // hash of the client's address and port
)

// drawOf returns how a server with an IPVS scheduler of that name chooses.
func drawOf(scheduler string) draw {
	switch scheduler {
	case "rr", "wrr":
		return byTurn
	case "sh":
		return bySource
	case "mh":
		return byFlow
	}
	return atRandom
}

// hashes is whether d sends the same client to the same slot, so that every
// node must number the slots alike.
func (d draw) hashes() bool { return d == bySource || d == byFlow }

// A helper is a chain that draws one of n slots and sends there.
type helper struct {
	fam  family
	draw draw
	turn int // which of the chains that take turns; 0 for the others
	n    int
	snat bool
}

// helperFor returns the chain for v, if s is set on it and it has n slots.
func helperFor(v steer.Virtual, s steer.Server, n int) helper {
	h := helper{fam: familyOf(v.Addr.Addr()), draw: drawOf(s.Scheduler), n: n, snat: s.SNAT}
	if h.draw == byTurn {
		sum := fnv.New32a()
		sum.Write(v.Addr.Addr().AsSlice())
		h.turn = int((uint64(sum.Sum32()) + uint64(v.Addr.Port()) + uint64(v.Proto)) % turns)
	}
	return h
}

// String returns the name of the chain, as in "v4-turn-3-11-snat": the number
// of slots comes before that of the turn.
func (h helper) String() string {
	parts := []string{h.fam.String(), string(h.draw), strconv.Itoa(h.n)}
	if h.draw == byTurn {
		parts = append(parts, strconv.Itoa(h.turn))
	}
	if h.snat {
		parts = append(parts, "snat")
	}
	return strings.Join(parts, "-")
}

// parseHelper reads the name of a chain; not ok if it is not a helper's.
func parseHelper(name string) (h helper, ok bool) {
	rest, snat := strings.CutSuffix(name, "-snat")
	parts := strings.Split(rest, "-")
	if len(parts) < 3 {
		return helper{}, false
	}
	h = helper{fam: v4, draw: draw(parts[1]), snat: snat}
	if parts[0] == v6.String() {
		h.fam = v6
	}
	h.n, _ = strconv.Atoi(parts[2])
	if len(parts) > 3 {
		h.turn, _ = strconv.Atoi(parts[3])
	}
	known := slices.Contains([]draw{byTurn, atRandom, bySource, byFlow}, h.draw)
	return h, known && h.n > 0 && h.String() == name
}

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
