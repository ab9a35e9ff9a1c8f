package nft

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/speaker/steer"
)

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

// drawOf returns how a server chooses on which s is set. SchedulerFallback
// means nothing here: a destination of weight 0 is never drawn.
func drawOf(s steer.Server) draw {
	switch {
	case s.Scheduler == "rr" || s.Scheduler == "wrr":
		return byTurn
	case s.Scheduler != "sh" && s.Scheduler != "mh":
		return atRandom
	case s.Flags&config.SchedulerPort != 0:
		return byFlow
	}
	return bySource
}

// hashes is whether d sends the same client to the same slot, so that every
// node must number the slots alike.
func (d draw) hashes() bool { return d == bySource || d == byFlow }

// A helper is a chain that draws one of n slots and sends there.
type helper struct {
	entrance
	draw draw
	turn int // which of the chains that take turns; 0 for the others
	n    int
	snat bool
	keep uint32 // for how many seconds it remembers where it sent a client
}

// helperFor returns the chain for v, if s is set on it and it has n slots.
func helperFor(v steer.Virtual, s steer.Server, n int) helper {
	a := v.Addr.Addr()
	h := helper{entrance: entrance{familyOf(a), a.IsUnspecified()}, draw: drawOf(s), n: n, snat: s.SNAT, keep: s.Affinity}
	if h.draw == byTurn {
		sum := fnv.New32a()
		sum.Write(a.AsSlice())
		h.turn = int((uint64(sum.Sum32()) + uint64(v.Addr.Port()) + uint64(v.Proto)) % turns)
	}
	return h
}

// String returns the name of the chain, as in "v4-turn-3-11-port-keep600-snat":
// the number of slots comes before that of the turn.
func (h helper) String() string {
	parts := []string{h.fam.String(), string(h.draw), strconv.Itoa(h.n)}
	if h.draw == byTurn {
		parts = append(parts, strconv.Itoa(h.turn))
	}
	if h.port {
		parts = append(parts, "port")
	}
	if h.keep > 0 {
		parts = append(parts, fmt.Sprintf("keep%d", h.keep))
	}
	if h.snat {
		parts = append(parts, "snat")
	}
	return strings.Join(parts, "-")
}

// parseHelper reads the name of a chain; not ok if it is not a helper's.
func parseHelper(name string) (h helper, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) < 3 {
		return helper{}, false
	}
	h.fam, h.draw = v4, draw(parts[1])
	if parts[0] == v6.String() {
		h.fam = v6
	}
	h.n, _ = strconv.Atoi(parts[2])
	for _, part := range parts[3:] {
		seconds, keeps := strings.CutPrefix(part, "keep")
		switch {
		case part == "port":
			h.port = true
		case part == "snat":
			h.snat = true
		case keeps:
			n, _ := strconv.ParseUint(seconds, 10, 32)
			h.keep = uint32(n)
		default:
			h.turn, _ = strconv.Atoi(part)
		}
	}
	known := slices.Contains([]draw{byTurn, atRandom, bySource, byFlow}, h.draw)
	return h, known && h.n > 0 && h.String() == name
}
