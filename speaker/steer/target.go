package steer

import (
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A target is where a connection may go in the end.
type target struct {
	real   netip.AddrPort
	node   string // "" for what is on no node
	weight int    // 0 if it gets no new connections
}

// takes is whether t gets new connections.
func (t target) takes() bool { return t.weight > 0 }

// targets returns where connections may go. With local only what is on this
// node counts, and what is on no node at all.
func (r rows) targets(local bool) []target {
	var found []target
	switch {
	case r.by == external && r.pool.Backends == config.BackendsNodePort:
		found = r.nodePorts(local)
	case r.by == external && r.pool.Backends == config.BackendsClusterIP:
		if a, ok := ofFamily(r.svc.ClusterIPs, r.six()); ok {
			found = []target{{netip.AddrPortFrom(a, r.port.Number), "", 1}}
		}
	default:
		found = r.endpoints(local)
	}
	return r.mourn(found)
}

// endpoints returns the endpoints. Those that get no new connections stay as long as
// they are listed, with weight 0, for the connections they have. Only over UDP
// there is no telling when one has ended: an endpoint that fails is left out,
// so that clients who go on sending are sent elsewhere.
func (r rows) endpoints(local bool) []target {
	six := r.six()
	eps := make([]*snapshot.Endpoint, 0, len(r.svc.Endpoints))
	ready := false
	for i := range r.svc.Endpoints {
		ep := &r.svc.Endpoints[i]
		if ep.Addr.Is6() != six || local && ep.Node != r.self.Node && ep.Node != "" {
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
		if weight == 0 && r.port.Proto == snapshot.UDP && !ep.Draining {
			continue
		}
		for _, t := range ep.Ports {
			if t.Name == r.port.Name && t.Proto == r.port.Proto {
				found = append(found, target{netip.AddrPortFrom(ep.Addr, t.Number), ep.Node, weight})
			}
		}
	}
	return found
}

// nodePorts returns the node port on the nodes that are ready, for kube-proxy
// to lead on; with local that of this node, if it has an endpoint. Without tiers
// that of this node counts only where there is no other: one connection has one
// DNAT, so that kube-proxy would not lead on.
func (r rows) nodePorts(local bool) []target {
	if r.port.Node == 0 {
		return nil
	}
	var found []target
	for _, n := range r.nodes {
		if local && (n.Name != r.self.Node || len(Usable(*r.svc, n.Name)) == 0) {
			continue
		}
		if a, ok := ofFamily(n.Internal, r.six()); ok {
			t := target{netip.AddrPortFrom(a, r.port.Node), n.Name, 0}
			if n.Ready {
				t.weight = 1
			}
			found = append(found, t)
		}
	}
	mine := func(t target) bool { return t.node == r.self.Node }
	theirs := func(t target) bool { return !mine(t) && t.takes() }
	if !r.self.Tiers && slices.ContainsFunc(found, theirs) {
		found = slices.DeleteFunc(found, mine)
	}
	return found
}

// mourn gives no new connections to targets on nodes that are dead, if there
// are others.
func (r rows) mourn(targets []target) []target {
	lives := func(t target) bool { return t.weight > 0 && !r.dead[t.node] }
	if len(r.dead) == 0 || !slices.ContainsFunc(targets, lives) {
		return targets
	}
	for i := range targets {
		if r.dead[targets[i].node] {
			targets[i].weight = 0
		}
	}
	return targets
}

// CanUse is whether [Usable] returns any that can serve addr: one of its family.
func CanUse(svc *snapshot.Service, node string, addr netip.Addr) bool {
	return slices.ContainsFunc(svc.Endpoints, func(ep snapshot.Endpoint) bool {
		return (ep.Ready || ep.Draining) && ep.Addr.Is4() == addr.Is4() && (!svc.Local || ep.Node == node || ep.Node == "")
	})
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
