package steer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A Self is what a plan has to know of the node that it is for.
type Self struct {
	Node string
	// Tiers is whether the kernel has the tiers Front and Back. Without them
	// all is done by Single servers.
	Tiers bool
	// Tunnels are the addresses at which this node takes tunnels, at most one
	// of each family. Without one of a family it has no use for its Front.
	Tunnels []netip.Addr
}

// Plan returns the table that self needs for all Services of s.
//
// Every node gets the virtual servers of every Service, whoever announces the
// address: so the rows already stand when the address moves here. Of two
// Services that claim one address and port the older one is steered.
//
// What comes from outside meets, by externalTrafficPolicy,
//
//	Cluster   the Front server, which chooses alike on every node, so that a
//	          connection goes on after its address has moved; where that cannot
//	          be (see kept) the Single server, which hides the client's address
//	Local     the Back server of this node, directly
//
// Clients on the node itself always meet the Single server, which knows all
// endpoints.
func Plan(s snapshot.Snapshot, self Self) Table { return plan(s, self).want }

// plan returns a Planner that has planned once.
func plan(s snapshot.Snapshot, self Self) *Planner {
	byKey := func(a, b snapshot.Service) int { return cmp.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(s.Services, byKey) {
		s.Services = slices.SortedFunc(slices.Values(s.Services), byKey)
	}
	p := new(Planner)
	p.Plan(s, self)
	return p
}

// A Planner plans for one snapshot after the other, and looks anew only at the
// Services that have changed. What it returns is what [Plan] would; the zero
// value is ready.
type Planner struct {
	view     view
	services []snapshot.Service // of the last snapshot
	seen     []seen             // what was done for them, by key
	world    *world             // the nodes of the last snapshot

	want Table
	// claims are all that any Service has, by the virtual server claimed; made
	// is what stands in want for it.
	claims map[Virtual][]claim
	made   map[Virtual]placed
	held   map[netip.Addr]int // how many Services are entered by an address
}

// Touched are the rows that may differ from those of the plan before, and what
// they were in it. The others are the same.
type Touched struct {
	Servers map[Virtual]bool
	Dests   map[Dest]bool
	Addrs   map[netip.Addr]bool
	Was     Table // of those above
}

func newTouched() *Touched {
	return &Touched{map[Virtual]bool{}, map[Dest]bool{}, map[netip.Addr]bool{}, NewTable()}
}

// server, dest and addr note a row of want that is about to change; t may be nil.
func (t *Touched) server(want Table, v Virtual) {
	if t != nil {
		note(t.Servers, t.Was.Servers, want.Servers, v)
	}
}

func (t *Touched) dest(want Table, d Dest) {
	if t != nil {
		note(t.Dests, t.Was.Dests, want.Dests, d)
	}
}

func (t *Touched) addr(want Table, a netip.Addr) {
	if t != nil {
		note(t.Addrs, t.Was.Addrs, want.Addrs, a)
	}
}

func note[K comparable, V any](touched map[K]bool, was, want map[K]V, k K) {
	if touched[k] {
		return
	}
	touched[k] = true
	if v, ok := want[k]; ok {
		was[k] = v
	}
}

// before returns what want was before the plan that touched t.
func (t *Touched) before(want Table) Table {
	if len(t.Servers)+len(t.Dests)+len(t.Addrs) == 0 {
		return want
	}
	was := want.Clone()
	revert(was.Servers, t.Was.Servers, t.Servers)
	revert(was.Dests, t.Was.Dests, t.Dests)
	revert(was.Addrs, t.Was.Addrs, t.Addrs)
	return was
}

func revert[K comparable, V any](rows, was map[K]V, touched map[K]bool) {
	for k := range touched {
		delete(rows, k)
	}
	maps.Copy(rows, was)
}

// A view is the part of a snapshot that every row depends on. What was taken
// once is never edited, so slices that begin at one place are the same.
type view struct {
	pools    []config.Pool
	nodes    []snapshot.Node
	speakers []snapshot.Speaker
	lost     []snapshot.Speaker
	self     Self
}

func (v view) same(o view) bool {
	return sameSlice(v.pools, o.pools) && sameSlice(v.nodes, o.nodes) && sameSlice(v.speakers, o.speakers) && sameSlice(v.lost, o.lost) &&
		v.self.Node == o.self.Node && v.self.Tiers == o.self.Tiers && slices.Equal(v.self.Tunnels, o.self.Tunnels)
}

// sameSlice is whether a and b are one slice.
func sameSlice[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// A seen is a Service as it was planned for.
type seen struct {
	key      string
	revision uint64
	entered  []Virtual // what it claims
	addrs    []netip.Addr
}

// placed are the rows of one claimed server.
type placed struct {
	servers []Virtual
	dests   []Dest
}

// A claim is one port of a Service at one of its addresses.
type claim struct {
	key     string // of the Service
	created time.Time
	port    snapshot.Port
	by      entrance
}

// Plan returns what self needs for s, and which rows may differ from the last
// plan; nil stands for all of them. The table is valid until the next Plan, which
// makes a new one or edits this one where it says, and not to be edited.
func (p *Planner) Plan(s snapshot.Snapshot, self Self) (Table, *Touched) {
	now := view{s.Config.Pools, s.Nodes, s.Speakers, s.Lost, self}
	whole := p.claims == nil || !p.view.same(now)
	if whole {
		*p = Planner{
			view: now, world: newWorld(s, self), want: tableFor(len(s.Services)),
			claims: make(map[Virtual][]claim, len(s.Services)), made: make(map[Virtual]placed, len(s.Services)), held: map[netip.Addr]int{},
		}
		p.world.fill(p.want)
	}
	var t *Touched // nil notes nothing
	if !whole {
		t = newTouched()
	}
	if !whole && sameSlice(p.services, s.Services) {
		return p.want, t
	}
	p.services = s.Services
	again := p.walk(s.Services, t)
	for v := range again {
		p.settle(v, s.Services, t)
	}
	return p.want, t
}

// walk goes through the Services and those of the last plan, both by key, takes
// out the claims of what has changed or is gone, enters what has changed or is
// new, and returns the servers to plan again.
func (p *Planner) walk(services []snapshot.Service, t *Touched) map[Virtual]bool {
	again := map[Virtual]bool{}
	next := make([]seen, 0, len(services))
	old := p.seen
	for i := range services {
		svc := &services[i]
		for len(old) > 0 && old[0].key < svc.Key {
			p.forget(old[0], again, t)
			old = old[1:]
		}
		known := len(old) > 0 && old[0].key == svc.Key
		if known && svc.Revision != 0 && old[0].revision == svc.Revision {
			next = append(next, old[0])
		} else {
			if known {
				p.forget(old[0], again, t)
			}
			next = append(next, p.enter(svc, again, t))
		}
		if known {
			old = old[1:]
		}
	}
	for _, gone := range old {
		p.forget(gone, again, t)
	}
	p.seen = next
	return again
}

// forget takes out what a Service has claimed.
func (p *Planner) forget(s seen, again map[Virtual]bool, t *Touched) {
	for _, v := range s.entered {
		p.claims[v] = slices.DeleteFunc(p.claims[v], func(c claim) bool { return c.key == s.key })
		again[v] = true
	}
	for _, a := range s.addrs {
		t.addr(p.want, a)
		if p.held[a]--; p.held[a] == 0 {
			delete(p.held, a)
			delete(p.want.Addrs, a)
		}
	}
}

// enter notes by which addresses and ports svc is entered.
func (p *Planner) enter(svc *snapshot.Service, again map[Virtual]bool, t *Touched) seen {
	now := seen{key: svc.Key, revision: svc.Revision}
	entrances(svc, p.world, func(v Virtual, port snapshot.Port, by entrance) {
		if !slices.Contains(now.entered, v) {
			p.claims[v] = append(p.claims[v], claim{svc.Key, svc.Created, port, by})
			again[v] = true
			now.entered = append(now.entered, v)
		}
		if a := v.Addr.Addr(); by != nodePort && !slices.Contains(now.addrs, a) {
			now.addrs = append(now.addrs, a)
			t.addr(p.want, a)
			p.held[a]++
			p.want.Addrs[a] = true
		}
	})
	return now
}

// settle plans v again: for the oldest of those who claim it.
func (p *Planner) settle(v Virtual, services []snapshot.Service, t *Touched) {
	for _, server := range p.made[v].servers {
		t.server(p.want, server)
		delete(p.want.Servers, server)
	}
	for _, d := range p.made[v].dests {
		t.dest(p.want, d)
		delete(p.want.Dests, d)
	}
	claims := p.claims[v]
	if len(claims) == 0 {
		delete(p.claims, v)
		delete(p.made, v)
		return
	}
	first := oldest(claims)
	i, ok := slices.BinarySearchFunc(services, first.key, func(s snapshot.Service, key string) int { return cmp.Compare(s.Key, key) })
	if !ok {
		return // cannot be: claims are of the Services of this snapshot
	}
	var m placed
	r := rows{world: p.world, virtual: v, svc: &services[i], port: first.port, by: first.by}
	r.plan(func(v Virtual, s Server) {
		m.servers = append(m.servers, v)
		t.server(p.want, v)
		p.want.Servers[v] = s
	}, func(d Dest, weight int) {
		m.dests = append(m.dests, d)
		t.dest(p.want, d)
		p.want.Dests[d] = weight
	})
	p.made[v] = m
}

// oldest returns the claim that is met; there has to be one.
func oldest(claims []claim) claim {
	return slices.MinFunc(claims, func(a, b claim) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.key, b.key))
	})
}
