package speaker

import (
	"cmp"
	"net/netip"
	"path"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// Plan returns what the node called me announces on layer 2. An address that
// Herald steers is announced only once ready says that its rows stand in the
// kernel.
//
// All Services on one address have one owner, because the owner is elected
// for the address and not for the Service.
func Plan(s snapshot.Snapshot, me string, ready map[netip.Addr]bool) Announcements {
	plan := Announcements{Node: me, Peers: others(s, me)}
	var self snapshot.Speaker
	if i := slices.IndexFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == me }); i >= 0 {
		self = s.Speakers[i]
	}
	if self.Node == "" {
		return plan
	}
	targets, nodes := elections(s)
	for addr, owner := range electAll(nodes) {
		t := targets[addr]
		link, ok := serves(self, t)
		switch claim := (Claim{Addr: addr, Link: link}); {
		case !ok || t.pool.Steer == config.SteerIPVS && !ready[addr]:
		case owner == me:
			plan.Claims = append(plan.Claims, claim)
			plan.terms(claim, t)
		default:
			plan.Others = append(plan.Others, claim)
		}
	}
	for _, claims := range [][]Claim{plan.Claims, plan.Others} {
		slices.SortFunc(claims, func(a, b Claim) int {
			return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Link, b.Link))
		})
	}
	return plan
}

// terms notes those of a claim.
func (a *Announcements) terms(c Claim, of target) {
	t := Terms{of.pool.Layer2.Failback, of.pool.Layer2.Refresh}
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

// elections returns the addresses that somebody can announce on layer 2, and
// the nodes that one is elected of for each.
func elections(s snapshot.Snapshot) (map[netip.Addr]target, map[netip.Addr][]string) {
	known := make(map[string]snapshot.Node, len(s.Nodes))
	for _, n := range s.Nodes {
		known[n.Name] = n
	}
	on := wanted(s.Services)
	targets, nodes := make(map[netip.Addr]target, len(on)), make(map[netip.Addr][]string, len(on))
	last := map[string][]string{} // by pool: most addresses of one have the same
	for addr, services := range on {
		pool := s.Config.PoolOf(addr)
		if !pool.Layer2.Enabled {
			continue
		}
		t := newTarget(addr, pool, services)
		list := candidates(s.Speakers, known, t)
		if len(list) == 0 {
			continue
		}
		if slices.Equal(list, last[pool.Name]) {
			list = last[pool.Name]
		}
		last[pool.Name] = list
		targets[addr], nodes[addr] = t, list
	}
	return targets, nodes
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
			p := Peer{Node: sp.Node, Alive: alive, Leaving: sp.Leaving || drained[sp.Node]}
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

// wanted returns the Services on each address that has been assigned by Herald.
func wanted(services []snapshot.Service) map[netip.Addr][]snapshot.Service {
	on := make(map[netip.Addr][]snapshot.Service, len(services))
	for _, svc := range services {
		if !svc.Served || !svc.Ours || svc.Closed {
			continue
		}
		for _, addr := range svc.Addrs() {
			on[addr] = append(on[addr], svc)
		}
	}
	return on
}

// A target is an address that somebody should announce.
type target struct {
	addr  netip.Addr
	pool  config.Pool
	any   bool               // some Service on it can be served from every node
	avoid []string           // nodes that announce it only where no other can
	local []snapshot.Service // those that are served only where their endpoints are
}

func newTarget(addr netip.Addr, pool config.Pool, services []snapshot.Service) target {
	t := target{addr: addr, pool: pool}
	for _, svc := range services {
		t.avoid = append(t.avoid, svc.Avoid...)
		switch {
		case svc.Local:
			t.local = append(t.local, svc)
		case len(steer.Usable(svc, "")) > 0:
			t.any = true
		}
	}
	return t
}

// candidates returns the nodes that could announce t, of those that its pool
// likes best. A speaker that is leaving, or whose node is drained or avoided,
// counts only where no other is left: an address that is served by its last node
// is served until the end.
func candidates(speakers []snapshot.Speaker, nodes map[string]snapshot.Node, t target) []string {
	var staying, leaving []string
	for _, sp := range speakers {
		switch {
		case !able(sp, nodes, t):
		case sp.Leaving, nodes[sp.Node].Draining, slices.Contains(t.avoid, sp.Node):
			leaving = append(leaving, sp.Node)
		default:
			staying = append(staying, sp.Node)
		}
	}
	if len(staying) == 0 {
		staying = leaving
	}
	return t.liked(t.best(staying), nodes)
}

// best returns those of cs that can serve every Service on the address or, if
// none can, all of cs: where Services of policy Cluster and Local share it, a
// node without endpoints of the latter would leave them out.
func (t target) best(cs []string) []string {
	if len(t.local) == 0 {
		return cs
	}
	all := slices.DeleteFunc(slices.Clone(cs), func(node string) bool {
		return slices.ContainsFunc(t.local, func(svc snapshot.Service) bool {
			return len(svc.Endpoints) > 0 && len(steer.Usable(svc, node)) == 0
		})
	})
	if len(all) > 0 {
		return all
	}
	return cs
}

// liked returns those of cs that the pool likes best.
func (t target) liked(cs []string, nodes map[string]snapshot.Node) []string {
	if len(cs) == 0 || len(t.pool.Layer2.PreferNodes) == 0 {
		return cs
	}
	rank := func(node string) int { return nodes[node].Ranks[t.pool.Name] }
	least := rank(slices.MinFunc(cs, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) }))
	return slices.DeleteFunc(slices.Clone(cs), func(node string) bool { return rank(node) > least })
}

// able reports whether sp could announce t.
func able(sp snapshot.Speaker, nodes map[string]snapshot.Node, t target) bool {
	node, known := nodes[sp.Node]
	if !known || node.Excluded != "" {
		return false
	}
	if t.pool.Name != "" && !slices.Contains(node.Announces, t.pool.Name) {
		return false
	}
	_, ok := serves(sp, t)
	return ok
}

// serves reports whether what comes for t to the node of sp gets to where it
// should, and on which of its links it would come.
func serves(sp snapshot.Speaker, t target) (link string, ok bool) {
	if sp.DataPath == "" && t.pool.Steer == config.SteerIPVS {
		return "", false
	}
	local := func(svc snapshot.Service) bool { return len(steer.Usable(svc, sp.Node)) > 0 }
	if !t.any && !slices.ContainsFunc(t.local, local) {
		return "", false
	}
	return linkFor(sp.Links, t)
}

// linkFor returns the first link, by name, whose subnet holds the address and
// which the pool allows.
func linkFor(links []snapshot.Link, t target) (string, bool) {
	for _, l := range links {
		if !allowed(l.Name, t.pool.Layer2.Interfaces) {
			continue
		}
		for _, p := range l.Prefixes {
			if p.Contains(t.addr) {
				return l.Name, true
			}
		}
	}
	return "", false
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
