package steer

import (
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A world is what is known of the nodes, and of the pools.
type world struct {
	self    Self
	config  config.Config
	nodes   []snapshot.Node
	tunnels map[string][]netip.Addr // by node
	dead    map[string]bool         // nodes that do not answer
	stale   map[string]bool         // nodes whose Back tier may be out of date
	own     map[netip.Addr]bool     // every address that a node has
	pods    []netip.Prefix          // of this node
}

// newWorld takes in what is known of the nodes. A speaker that has died, or was
// stopped on purpose, leaves a node that steers on as it did; only after some
// time its Back tier cannot be relied on any more.
func newWorld(s snapshot.Snapshot, self Self) *world {
	w := &world{
		self: self, config: s.Config, nodes: s.Nodes,
		tunnels: map[string][]netip.Addr{}, dead: map[string]bool{}, stale: map[string]bool{}, own: map[netip.Addr]bool{},
	}
	for _, sp := range s.Lost {
		w.tunnels[sp.Node] = sp.Tunnels
		w.dead[sp.Node] = sp.Dead
		w.stale[sp.Node] = sp.Dead || sp.Stale
	}
	for _, sp := range s.Speakers {
		w.tunnels[sp.Node] = sp.Tunnels
		delete(w.stale, sp.Node)
		delete(w.dead, sp.Node)
	}
	w.tunnels[self.Node] = self.Tunnels
	delete(w.stale, self.Node)
	delete(w.dead, self.Node)
	for _, n := range s.Nodes {
		for _, a := range n.Addrs {
			w.own[a] = true
		}
		if n.Name == self.Node {
			w.pods = n.PodCIDRs
		}
	}
	return w
}

// fill adds to t what depends on nothing but the nodes.
func (w *world) fill(t Table) {
	for _, p := range w.pods {
		t.Pods[p] = true
	}
	if len(w.self.Tunnels) == 0 {
		return
	}
	for _, ends := range w.tunnels {
		for _, a := range ends {
			t.Nodes[a] = true
		}
	}
}

// An entrance is by which of its addresses a Service is entered.
type entrance uint8

// The entrances.
const (
	external  entrance = iota // of type LoadBalancer, and external IPs
	clusterIP                 // inside the cluster
	nodePort                  // every address of the node
)

// entrances calls enter with every address and port by which svc is entered.
func entrances(svc *snapshot.Service, w *world, enter func(Virtual, snapshot.Port, entrance)) {
	at := func(a netip.Addr, by entrance) {
		for _, port := range svc.Ports {
			number := port.Number
			if by == nodePort {
				number = port.Node
			}
			if number != 0 {
				enter(Virtual{Addr: netip.AddrPortFrom(a, number), Proto: port.Proto}, port, by)
			}
		}
	}
	if svc.Steered() && !svc.Closed {
		for _, in := range svc.Ingress {
			if w.config.PoolOf(in.Addr).Steer == config.SteerIPVS {
				at(in.Addr, external)
			}
		}
	}
	if !svc.Proxied {
		return
	}
	for _, a := range svc.ExternalIPs {
		if !w.own[a] { // the host's own address cannot be led away from it
			at(a, external)
		}
	}
	for _, a := range svc.ClusterIPs {
		at(a, clusterIP)
		if a.Is6() {
			at(netip.IPv6Unspecified(), nodePort)
		} else {
			at(netip.IPv4Unspecified(), nodePort)
		}
	}
}

// ofFamily returns the first of addrs that is of a family.
func ofFamily(addrs []netip.Addr, six bool) (netip.Addr, bool) {
	i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is6() == six })
	if i < 0 {
		return netip.Addr{}, false
	}
	return addrs[i], true
}
