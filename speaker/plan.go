package speaker

import (
	"cmp"
	"net/netip"
	"path"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// Plan returns what the node called me announces on layer 2. An address that
// Herald steers is announced only once ready says that its rows stand in the
// kernel.
//
// All Services on one address have one owner, because the owner is elected
// for the address and not for the Service.
func Plan(s snapshot.Snapshot, me string, ready map[netip.Addr]bool) Announcements {
	plan := Announcements{Node: me, Peers: others(s, me)}
	i := slices.IndexFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == me })
	if i < 0 {
		return plan
	}
	unheard := map[string]bool{}
	for _, sp := range s.Speakers {
		unheard[sp.Node] = sp.Unheard
	}
	all := contests(s, &s.Speakers[i])
	for i, owner := range electAll(all) {
		c := all[i]
		switch claim := (Claim{Addr: c.addr, Link: c.field.link}); {
		case !c.field.linked || !c.reaches(me) || c.field.pool.Steer == config.SteerIPVS && !ready[c.addr]:
		case owner == me:
			plan.Claims = append(plan.Claims, claim)
			plan.terms(claim, c)
		case unheard[owner]: // that he has it would not be heard
		default:
			plan.Others = append(plan.Others, claim)
		}
	}
	return plan
}

// terms notes those of a claim.
func (a *Announcements) terms(c Claim, of contest) {
	t := Terms{of.field.pool.Layer2.Failback, of.field.pool.Layer2.Refresh}
	if len(of.avoid) > 0 {
		t.Failback = 0 // who has it may be whom to avoid
	}
	if t != (Terms{}) {
		if a.Terms == nil {
			a.Terms = map[Claim]Terms{}
		}
		a.Terms[c] = t
	}
}

// others returns the speakers of other nodes, as they show on the wire.
func others(s snapshot.Snapshot, me string) []Peer {
	var peers []Peer
	drained := map[string]bool{}
	for _, n := range s.Nodes {
		drained[n.Name] = n.Draining
	}
	add := func(list []snapshot.Speaker, alive bool) {
		for _, sp := range list {
			if sp.Node == me {
				continue
			}
			p := Peer{Node: sp.Node, Alive: alive, Leaving: sp.Leaving || drained[sp.Node], Deaf: sp.Deaf}
			for _, l := range sp.Links {
				if l.MAC != [6]byte{} { // it has not said
					p.MACs = append(p.MACs, l.MAC)
				}
			}
			peers = append(peers, p)
		}
	}
	add(s.Speakers, true)
	add(s.Lost, false)
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.Node, b.Node) })
	return peers
}

// allowed reports whether name matches one of globs; none means all.
func allowed(name string, globs []string) bool {
	for _, g := range globs {
		if ok, err := path.Match(g, name); ok && err == nil {
			return true
		}
	}
	return len(globs) == 0
}
