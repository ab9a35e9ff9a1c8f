package steer

import (
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// rows are what one port of a Service needs at one of its addresses.
type rows struct {
	*world
	virtual Virtual // as a Single server
	svc     *snapshot.Service
	port    snapshot.Port
	by      entrance
	pool    config.Pool

	server func(Virtual, Server)
	dest   func(Dest, int)
}

// plan calls server and dest with every row.
func (r rows) plan(server func(Virtual, Server), dest func(Dest, int)) {
	r.server, r.dest = server, dest
	r.pool = config.Default()
	if r.by == external && (r.svc.Served || r.svc.Routed) {
		r.pool = r.config.PoolOf(r.virtual.Addr.Addr())
	}
	local := r.by == clusterIP && r.svc.InternalLocal || r.by != clusterIP && r.svc.Local
	outside := r.by == external && r.self.Tiers && r.pool.Backends == config.BackendsPod
	single := r.set(Single, 0)
	single.SNAT = r.by != clusterIP && (outside || !local || r.pool.Backends == config.BackendsClusterIP)
	single.Sources = r.sources()
	all := r.targets(local && !outside)
	if r.by == external && local && !outside && !slices.ContainsFunc(all, target.takes) {
		// Nobody outside is sent here; clients on the node are promised all
		// endpoints (externalTrafficPolicy in k8s.io/api/core/v1).
		if others := r.targets(false); slices.ContainsFunc(others, target.takes) {
			single.SNAT, all = true, others
		}
	}
	r.add(Single, single, all)
	if !outside {
		return
	}
	switch own := r.own(all); {
	case local:
		r.back(r.targets(true), true)
	case !r.pool.KeepClientIP || len(all) == 0:
	case len(r.nodes) == 1 && len(own) == len(all): // nobody to send it to
		r.back(own, true)
	case r.kept(all):
		r.front(all)
		r.back(own, false)
	}
}

// own returns those of targets that are on this node.
func (r rows) own(targets []target) []target {
	var own []target
	for _, t := range targets {
		if t.node == r.self.Node {
			own = append(own, t)
		}
	}
	return own
}

func (r rows) six() bool { return r.virtual.Addr.Addr().Is6() }

// kept is whether the client's address can be kept on the way to all of
// targets: every one of them is on a node that takes tunnels, as this one does,
// and not all are where nobody keeps the Back tier in step. So every node that
// can send by tunnel comes to the same answer.
func (r rows) kept(targets []target) bool {
	if !slices.ContainsFunc(targets, func(t target) bool { return !r.stale[t.node] }) {
		return false
	}
	if _, ok := ofFamily(r.self.Tunnels, r.six()); !ok {
		return false
	}
	return !slices.ContainsFunc(targets, func(t target) bool {
		_, ok := ofFamily(r.tunnels[t.node], r.six())
		return t.node == "" || !ok
	})
}

// front adds the Front server: its destinations are the nodes, each with as
// much weight as its endpoints have together.
func (r rows) front(targets []target) {
	weights := map[string]int{}
	heard := false
	for _, t := range targets {
		weights[t.node] += t.weight
		heard = heard || t.weight > 0 && !r.stale[t.node]
	}
	var nodes []target
	for node, weight := range weights {
		if heard && r.stale[node] {
			weight = 0
		}
		end, _ := ofFamily(r.tunnels[node], r.six())
		nodes = append(nodes, target{netip.AddrPortFrom(end, r.virtual.Addr.Port()), node, min(weight, heaviest)})
	}
	r.add(Front, r.set(Front, len(weights)), nodes)
}

// heaviest is the most that a destination can weigh.
const heaviest = 65535

// back adds the Back server. Without a tunnel before it there is one even where
// it has no destination, to refuse connections; behind one it would refuse
// what another node has sent here just before this one knew of the endpoint.
func (r rows) back(targets []target, direct bool) {
	if len(targets) == 0 && !direct {
		return
	}
	alike := len(targets)
	if direct {
		alike = 0 // no other node chooses for the same connections
	}
	server := r.set(Back, alike)
	server.Direct = direct
	r.add(Back, server, targets)
}

func (r rows) add(tier Tier, s Server, targets []target) {
	v := r.virtual
	v.Tier = tier
	r.server(v, s)
	for _, t := range targets {
		r.dest(Dest{v, t.real}, t.weight)
	}
}

// set returns what is set on the server of a tier. Alike is among how many
// destinations it chooses as another node has to choose for the same
// connection; 0 if it alone does.
//
// Where nobody has named a scheduler it is mh if that gains something, for it
// costs 32 kB of kernel memory and a rebuild of its table with each change; else rr.
func (r rows) set(tier Tier, alike int) Server {
	name, flags := r.svc.Scheduler, r.svc.SchedulerFlags
	if name == "" {
		name, flags = r.pool.Scheduler, r.pool.SchedulerFlags
	}
	if name == "" {
		name, flags = "rr", 0
		if alike > 1 {
			name, flags = "mh", config.SchedulerPort|config.SchedulerFallback
		}
	}
	s := Server{Scheduler: name, Flags: flags, Affinity: uint32(min(r.svc.Affinity/time.Second, longestAffinity))}
	if s.Affinity > 0 {
		s.Flags &^= config.SchedulerPort // a client's connections belong together
	}
	return s
}

// sources returns who may connect: loadBalancerSourceRanges hold where a
// Service of type LoadBalancer is entered from outside.
func (r rows) sources() Sources {
	if r.by != external || !r.svc.Served && !r.svc.Routed {
		return ""
	}
	return SourcesOf(r.svc.Sources, r.six())
}
