package steer

import (
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// server returns what is set on a server of c in a tier. Alike is among how many
// destinations it chooses as another node has to choose for the same
// connection; 0 if it alone does.
//
// Where nobody has named a scheduler it is mh if that gains something, for it
// costs 32 kB of kernel memory and a rebuild of its table with each change; else rr.
func (c claim) server(tier Tier, alike int) Server {
	name, flags := c.svc.Scheduler, c.svc.SchedulerFlags
	if name == "" {
		name, flags = c.pool.Scheduler, c.pool.SchedulerFlags
	}
	if name == "" {
		name, flags = "rr", 0
		if alike > 1 {
			name, flags = "mh", config.SchedulerPort|config.SchedulerFallback
		}
	}
	s := Server{Scheduler: name, Flags: flags, Affinity: uint32(min(c.svc.Affinity/time.Second, longestAffinity))}
	if s.Affinity > 0 {
		s.Flags &^= config.SchedulerPort // a client's connections belong together
	}
	return s
}

// sources returns who may connect to v: loadBalancerSourceRanges hold where the
// Service is entered from outside.
func (c claim) sources(v Virtual) Sources {
	if c.by != external || !c.svc.Served {
		return ""
	}
	return SourcesOf(c.svc.Sources, v.Addr.Addr().Is6())
}

// A target is where a connection may go in the end.
type target struct {
	real   netip.AddrPort
	node   string // "" for what is on no node
	weight int    // 0 if it gets no new connections
}

// targets returns where v leads, which c has claimed. With local only what is
// on this node counts, and what is on no node at all.
func (p *planner) targets(v Virtual, c claim, local bool) []target {
	six := v.Addr.Addr().Is6()
	var found []target
	switch {
	case c.by == external && c.pool.Backends == config.BackendsNodePort:
		found = p.nodePorts(c, six, local)
	case c.by == external && c.pool.Backends == config.BackendsClusterIP:
		if a, ok := ofFamily(c.svc.ClusterIPs, six); ok {
			found = []target{{netip.AddrPortFrom(a, c.port.Number), "", 1}}
		}
	default:
		found = p.pods(c, six, local)
	}
	return p.mourn(found)
}

// pods returns the endpoints. Those that get no new connections stay as long as
// they are listed, with weight 0, for the connections they have. Only over UDP
// there is no telling when one has ended: an endpoint that fails is left out,
// so that clients who go on sending are sent elsewhere.
func (p *planner) pods(c claim, six, local bool) []target {
	eps := make([]*snapshot.Endpoint, 0, len(c.svc.Endpoints))
	ready := false
	for i := range c.svc.Endpoints {
		ep := &c.svc.Endpoints[i]
		if ep.Addr.Is6() != six || local && ep.Node != p.self.Node && ep.Node != "" {
			continue
		}
		eps = append(eps, ep)
		ready = ready || ep.Ready
	}
	var found []target
	for _, ep := range eps {
		weight := 0
		if ep.Ready || ep.Draining && !ready { // KEP-1669
			weight = 1
		}
		if weight == 0 && c.port.Proto == snapshot.UDP && !ep.Draining {
			continue
		}
		for _, t := range ep.Ports {
			if t.Name == c.port.Name && t.Proto == c.port.Proto {
				found = append(found, target{netip.AddrPortFrom(ep.Addr, t.Number), ep.Node, weight})
			}
		}
	}
	return found
}

// nodePorts returns the node port on the nodes that are ready, for kube-proxy
// to lead on; with local that of this node, if it has an endpoint.
func (p *planner) nodePorts(c claim, six, local bool) []target {
	if c.port.Node == 0 {
		return nil
	}
	var found []target
	for _, n := range p.nodes {
		if local && (n.Name != p.self.Node || len(Usable(*c.svc, n.Name)) == 0) {
			continue
		}
		if a, ok := ofFamily(n.Internal, six); ok {
			t := target{netip.AddrPortFrom(a, c.port.Node), n.Name, 0}
			if n.Ready {
				t.weight = 1
			}
			found = append(found, t)
		}
	}
	return found
}

// mourn gives no new connections to targets on nodes that are lost, if there
// are others.
func (p *planner) mourn(targets []target) []target {
	lives := func(t target) bool { return t.weight > 0 && !p.dead[t.node] }
	if len(p.dead) == 0 || !slices.ContainsFunc(targets, lives) {
		return targets
	}
	for i := range targets {
		if p.dead[targets[i].node] {
			targets[i].weight = 0
		}
	}
	return targets
}

// Usable returns the endpoints of svc that node may send to: the ready ones
// or, failing any, those that still serve while they terminate (KEP-1669).
// With externalTrafficPolicy Local only those on node count, and those that
// are on no node at all.
func Usable(svc snapshot.Service, node string) []snapshot.Endpoint {
	var ready, draining []snapshot.Endpoint
	for _, ep := range svc.Endpoints {
		switch {
		case svc.Local && ep.Node != node && ep.Node != "":
		case ep.Ready:
			ready = append(ready, ep)
		case ep.Draining:
			draining = append(draining, ep)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return draining
}
