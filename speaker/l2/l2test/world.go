package l2test

import (
	"slices"
	"time"

	"github.com/herald-lb/herald/speaker"
)

// A world is how things are, or what a host believes of them. Its lists are by
// host, but for wanted, which is by address.
type world struct {
	alive  []bool
	side   []int
	may    []bool // be elected
	serves []bool // could announce; who may does
	wanted []bool
	// deaf is who hears no other host, and is heard by all on its side; -1 for
	// nobody.
	deaf int
}

// numbered are the addresses that a world may want.
var numbered = []int{10, 11, 12, 13, 14, 15}

// terms are those of some of them.
var terms = map[int]speaker.Terms{
	12: {Failback: 3 * time.Second},
	13: {Failback: time.Minute, Refresh: time.Second},
}

func newWorld(hosts int) world {
	yes := func(n int) []bool { return slices.Repeat([]bool{true}, n) }
	return world{yes(hosts), make([]int, hosts), yes(hosts), yes(hosts), yes(len(numbered)), -1}
}

func (w world) clone() world {
	return world{slices.Clone(w.alive), slices.Clone(w.side), slices.Clone(w.may), slices.Clone(w.serves), slices.Clone(w.wanted), w.deaf}
}

// hears is whether a host that is alive hears another.
func (w world) hears(h, other *host) bool {
	return w.alive[other.index] && w.side[h.index] == w.side[other.index]
}

// elected is who should answer for address number n on the side of h; "" for nobody.
func (w world) elected(l Language, hosts []*host, h *host, n int) string {
	if !w.wanted[slices.Index(numbered, n)] {
		return ""
	}
	var nodes []string
	for _, o := range hosts {
		if w.hears(h, o) && w.may[o.index] {
			nodes = append(nodes, o.node)
		}
	}
	return speaker.Elect(l.ip(l.Addr(n)), nodes)
}

// plan is what speaker.Plan makes of it for a host.
func (s *segment) plan(h *host, w world) speaker.Announcements {
	plan := speaker.Announcements{Node: h.node, Terms: map[speaker.Claim]speaker.Terms{}, Peers: s.peersOf(h, func(o *host) bool { return w.hears(h, o) })}
	for i := range plan.Peers { // who may not is drained
		plan.Peers[i].Deaf = plan.Peers[i].Alive && w.deaf >= 0 && plan.Peers[i].Node == s.hosts[w.deaf].node
		plan.Peers[i].Leaving = slices.ContainsFunc(s.hosts, func(o *host) bool { return o.node == plan.Peers[i].Node && !w.may[o.index] })
	}
	for _, n := range numbered {
		claim := speaker.Claim{Addr: s.l.ip(s.l.Addr(n)), Link: "eth0"}
		switch w.elected(s.l, s.hosts, h, n) {
		case "":
		case h.node:
			plan.Claims = append(plan.Claims, claim)
			if t, ok := terms[n]; ok {
				plan.Terms[claim] = t
			}
		default:
			if w.serves[h.index] && w.deaf != h.index { // it would not hear that he has it
				plan.Others = append(plan.Others, claim)
			}
		}
	}
	return plan
}
