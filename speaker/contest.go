package speaker

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// A contest is an address that somebody could announce on layer 2.
type contest struct {
	target
	field  *field
	roster *roster // who could
}

// A target is an address that somebody should announce.
type target struct {
	addr  netip.Addr
	any   bool                // some Service on it can be served from every node
	avoid []string            // nodes that announce it only where no other can
	local []*snapshot.Service // those that are served only where their endpoints are
}

func newTarget(addr netip.Addr, services []*snapshot.Service) target {
	t := target{addr: addr}
	for _, svc := range services {
		t.avoid = append(t.avoid, svc.Avoid...)
		switch {
		case svc.Local:
			t.local = append(t.local, svc)
		case steer.CanUse(svc, "", addr):
			t.any = true
		}
	}
	return t
}

// reaches is whether some Service on t has an endpoint within reach of node.
func (t target) reaches(node string) bool {
	return t.any || slices.ContainsFunc(t.local, func(svc *snapshot.Service) bool { return steer.CanUse(svc, node, t.addr) })
}

// best returns those of cs that can serve every Service on the address or, if
// none can, all of cs: where Services of policy Cluster and Local share it, a
// node without endpoints of the latter would leave them out.
func (t target) best(cs []*candidate) []*candidate {
	if len(t.local) == 0 {
		return cs
	}
	all := slices.DeleteFunc(slices.Clone(cs), func(c *candidate) bool {
		return slices.ContainsFunc(t.local, func(svc *snapshot.Service) bool {
			return len(svc.Endpoints) > 0 && !steer.CanUse(svc, c.node.Name, t.addr)
		})
	})
	if len(all) > 0 {
		return all
	}
	return cs
}

// A candidate is a node whose speaker is alive.
type candidate struct {
	node    snapshot.Node
	speaker *snapshot.Speaker
	reserve bool // it announces only what no other can
	number  int
	hash    uint64
}

// A field is who could announce the addresses of one pool that lie in the same
// subnets, as far as that does not depend on the endpoints.
type field struct {
	pool       *config.Pool
	candidates []*candidate // by node
	common     *roster      // of the addresses that every node can serve; nil until first asked for
	link       string       // of this node, that such an address comes by
	linked     bool         // whether there is one
}

// roster returns who could announce t, of those that its pool likes best. A
// speaker that is leaving, or whose node is drained or avoided, or whose link comes
// and goes, counts only where no other is left: an address that is served by its
// last node is served until the end.
func (f *field) roster(t target) *roster {
	common := t.any && len(t.local) == 0 && len(t.avoid) == 0
	if common && f.common != nil {
		return f.common
	}
	var usual, reserve []*candidate
	for _, c := range f.candidates {
		switch {
		case !t.reaches(c.node.Name):
		case c.reserve, slices.Contains(t.avoid, c.node.Name):
			reserve = append(reserve, c)
		default:
			usual = append(usual, c)
		}
	}
	if len(usual) == 0 {
		usual = reserve
	}
	r := newRoster(f.liked(t.best(usual)))
	if common {
		f.common = r
	}
	return r
}

// liked returns those of cs that the pool likes best.
func (f *field) liked(cs []*candidate) []*candidate {
	if len(cs) == 0 || len(f.pool.Layer2.PreferNodes) == 0 {
		return cs
	}
	rank := func(c *candidate) int { return c.node.Ranks[f.pool.Name] }
	least := rank(slices.MinFunc(cs, func(a, b *candidate) int { return cmp.Compare(rank(a), rank(b)) }))
	return slices.DeleteFunc(slices.Clone(cs), func(c *candidate) bool { return rank(c) > least })
}

// An election is what is common to all contests.
type election struct {
	pools      []config.Pool
	uncovered  config.Pool // of an address that no pool covers any more
	self       *snapshot.Speaker
	candidates []*candidate // by node
	subnets    subnets
	fields     map[fieldKey]*field
}

type fieldKey struct {
	pool   *config.Pool
	subnet int
}

// contests returns the addresses that somebody can announce on layer 2, by address.
// What a field says of this node is said of self.
func contests(s snapshot.Snapshot, self *snapshot.Speaker) []contest {
	e := newElection(s, self)
	out := make([]contest, 0, len(s.Services))
	eachAddr(s, announces, func(addr netip.Addr, services []*snapshot.Service) {
		if f := e.field(addr); f.pool.Layer2.Enabled {
			t := newTarget(addr, services)
			if r := f.roster(t); len(r.nodes) > 0 {
				out = append(out, contest{t, f, r})
			}
		}
	})
	return out
}

// eachAddr calls do for each address of the Services that are so, by address, with those
// that have it. do may not keep the slice.
func eachAddr(s snapshot.Snapshot, so func(*snapshot.Service) bool, do func(addr netip.Addr, services []*snapshot.Service)) {
	type hosted struct {
		addr netip.Addr
		svc  *snapshot.Service
	}
	all := make([]hosted, 0, len(s.Services))
	for i := range s.Services {
		if svc := &s.Services[i]; so(svc) {
			for _, in := range svc.Ingress {
				all = append(all, hosted{in.Addr, svc})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b hosted) int { return a.addr.Compare(b.addr) })
	var services []*snapshot.Service
	for i, h := range all {
		services = append(services, h.svc)
		if i+1 == len(all) || all[i+1].addr != h.addr {
			do(h.addr, services)
			services = services[:0]
		}
	}
}

// announces is whether nodes announce the addresses in the status of svc.
func announces(svc *snapshot.Service) bool {
	return svc.Served && svc.Ours && !svc.Routed && !svc.Closed
}

func newElection(s snapshot.Snapshot, self *snapshot.Speaker) *election {
	known := make(map[string]snapshot.Node, len(s.Nodes))
	for _, n := range s.Nodes {
		known[n.Name] = n
	}
	e := &election{
		pools: s.Config.Pools, uncovered: config.Default(), self: self,
		subnets: newSubnets(s.Speakers), fields: map[fieldKey]*field{},
	}
	for i := range s.Speakers {
		sp := &s.Speakers[i]
		node, ok := known[sp.Node]
		if !ok || node.Excluded != "" {
			continue
		}
		e.candidates = append(e.candidates, &candidate{
			node: node, speaker: sp, reserve: sp.Leaving || node.Draining, number: len(e.candidates), hash: hash(sp.Node),
		})
	}
	return e
}

// field returns the one that addr belongs to.
func (e *election) field(addr netip.Addr) *field {
	key := fieldKey{e.pool(addr), e.subnets.of(addr)}
	if f := e.fields[key]; f != nil {
		return f
	}
	f := &field{pool: key.pool}
	for _, c := range e.candidates {
		if f.pool.Name != "" && !slices.Contains(c.node.Announces, f.pool.Name) {
			continue
		}
		if link, ok := comesBy(c.speaker, f.pool, addr); ok {
			here := *c
			here.reserve = c.reserve || link.Unsteady
			f.candidates = append(f.candidates, &here)
		}
	}
	if e.self != nil {
		link, ok := comesBy(e.self, f.pool, addr)
		f.link, f.linked = link.Name, ok
	}
	e.fields[key] = f
	return f
}

// pool returns the one that covers addr, or one with what holds where none does.
func (e *election) pool(addr netip.Addr) *config.Pool {
	for i := range e.pools {
		if e.pools[i].Contains(addr) {
			return &e.pools[i]
		}
	}
	return &e.uncovered
}

// steers is whether the node of sp can do anything with what is sent to an address
// of pool.
func steers(sp *snapshot.Speaker, pool *config.Pool) bool {
	return sp.DataPath != "" || pool.Steer != config.SteerIPVS
}

// comesBy returns the link by which what is sent to an address of pool would come
// to the node of sp, if it can do anything with it: the first, by name, whose subnet
// holds the address and which the pool allows.
func comesBy(sp *snapshot.Speaker, pool *config.Pool, addr netip.Addr) (link snapshot.Link, ok bool) {
	if !steers(sp, pool) {
		return link, false
	}
	for _, l := range sp.Links {
		if !allowed(l.Name, pool.Layer2.Interfaces) {
			continue
		}
		for _, p := range l.Prefixes {
			if p.Contains(addr) {
				return l, true
			}
		}
	}
	return link, false
}

// subnets are those that speakers have links in, each with a number from 1.
type subnets struct {
	numbers map[netip.Prefix]int
	lengths []int // of the prefixes, each once, the longest first
}

func newSubnets(speakers []snapshot.Speaker) subnets {
	s := subnets{numbers: map[netip.Prefix]int{}}
	for _, sp := range speakers {
		for _, l := range sp.Links {
			for _, p := range l.Prefixes {
				if p = p.Masked(); s.numbers[p] > 0 {
					continue
				}
				s.numbers[p] = len(s.numbers) + 1
				if !slices.Contains(s.lengths, p.Bits()) {
					s.lengths = append(s.lengths, p.Bits())
				}
			}
		}
	}
	slices.SortFunc(s.lengths, func(a, b int) int { return b - a })
	return s
}

// of returns the smallest subnet that addr lies in; 0 if there is none. It says
// in which others addr lies: those that this one is a part of.
func (s subnets) of(addr netip.Addr) int {
	for _, bits := range s.lengths {
		p, err := addr.Prefix(bits)
		if err != nil {
			continue // it is longer than the address
		}
		if number := s.numbers[p]; number > 0 {
			return number
		}
	}
	return 0
}
