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
	nodes := make(map[string]snapshot.Node, len(s.Nodes))
	for _, n := range s.Nodes {
		nodes[n.Name] = n
	}
	plan := Announcements{Node: me, Peers: others(s, me)}
	var self snapshot.Speaker
	if i := slices.IndexFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == me }); i >= 0 {
		self = s.Speakers[i]
	}
	for addr, services := range wanted(s.Services) {
		pool := s.Config.PoolOf(addr)
		if !pool.Layer2.Enabled || pool.Steer == config.SteerIPVS && !ready[addr] {
			continue
		}
		t := newTarget(addr, pool, services)
		links := candidates(s.Speakers, nodes, t)
		if len(links) == 0 || self.Node == "" {
			continue
		}
		if Elect(addr, names(links)) == me {
			i := slices.IndexFunc(links, func(l candidate) bool { return l.node == me })
			plan.Claims = append(plan.Claims, Claim{Addr: addr, Link: links[i].link})
		} else if link, ok := serves(self, t); ok {
			plan.Others = append(plan.Others, Claim{Addr: addr, Link: link})
		}
	}
	for _, claims := range [][]Claim{plan.Claims, plan.Others} {
		slices.SortFunc(claims, func(a, b Claim) int {
			return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Link, b.Link))
		})
	}
	return plan
}

// others returns the speakers of other nodes, as they show on the wire.
func others(s snapshot.Snapshot, me string) []Peer {
	var peers []Peer
	add := func(list []snapshot.Speaker, alive bool) {
		for _, sp := range list {
			if sp.Node == me {
				continue
			}
			p := Peer{Node: sp.Node, Alive: alive}
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
	on := map[netip.Addr][]snapshot.Service{}
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
	local []snapshot.Service // those that are served only where their endpoints are
}

func newTarget(addr netip.Addr, pool config.Pool, services []snapshot.Service) target {
	t := target{addr: addr, pool: pool}
	for _, svc := range services {
		switch {
		case svc.Local:
			t.local = append(t.local, svc)
		case len(steer.Usable(svc, "")) > 0:
			t.any = true
		}
	}
	return t
}

// A candidate is a node that could announce a target, and on which link.
type candidate struct{ node, link string }

// candidates returns the nodes that could announce t, by name. A speaker that
// is leaving counts only where no other is left: an address that is served by
// its last node is served until the end.
func candidates(speakers []snapshot.Speaker, nodes map[string]snapshot.Node, t target) []candidate {
	var staying, leaving []candidate
	for _, sp := range speakers {
		link, ok := able(sp, nodes, t)
		switch {
		case !ok:
		case sp.Leaving:
			leaving = append(leaving, candidate{sp.Node, link})
		default:
			staying = append(staying, candidate{sp.Node, link})
		}
	}
	if len(staying) > 0 {
		return t.best(staying)
	}
	return t.best(leaving)
}

// best returns those of cs that can serve every Service on the address or, if
// none can, all of cs: where Services of policy Cluster and Local share it, a
// node without endpoints of the latter would leave them out.
func (t target) best(cs []candidate) []candidate {
	all := slices.DeleteFunc(slices.Clone(cs), func(c candidate) bool {
		return slices.ContainsFunc(t.local, func(svc snapshot.Service) bool {
			return len(svc.Endpoints) > 0 && len(steer.Usable(svc, c.node)) == 0
		})
	})
	if len(all) > 0 {
		return all
	}
	return cs
}

// able reports whether sp could announce t, and on which of its links.
func able(sp snapshot.Speaker, nodes map[string]snapshot.Node, t target) (link string, ok bool) {
	node, known := nodes[sp.Node]
	if !known || node.Excluded != "" {
		return "", false
	}
	if t.pool.Name != "" && !slices.Contains(node.Announces, t.pool.Name) {
		return "", false
	}
	return serves(sp, t)
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

func names(cs []candidate) []string {
	out := make([]string, 0, len(cs))
	for _, c := range cs {
		out = append(out, c.node)
	}
	return out
}
