package steer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A Flow is a connection, or what stands for one over UDP.
type Flow struct {
	Client, Virtual netip.AddrPort
	Proto           snapshot.Proto
}

// String returns f as in "198.51.100.7:40000 → 192.0.2.1:80/tcp".
func (f Flow) String() string { return fmt.Sprintf("%s → %s/%s", f.Client, f.Virtual, f.Proto) }

// A Route is the way of a new Flow from the node that it arrives at.
type Route struct {
	Service string // namespace/name
	// Hops are the servers that it meets, in order. Where a Front server may
	// lead to several nodes, there is one for each of them behind it.
	Hops []Hop
	// Refused is why it gets nowhere; "" if it does.
	Refused string
}

// End returns where the Flow ends, if that can be told.
func (r Route) End() (netip.AddrPort, bool) {
	if r.Refused != "" || len(r.Hops) == 0 || slices.ContainsFunc(r.Hops, func(h Hop) bool { return len(h.To) != 1 }) {
		return netip.AddrPort{}, false
	}
	last := r.Hops[len(r.Hops)-1]
	return last.To[0], last.Tier != Front
}

// A Hop is one server on the way of a Flow.
type Hop struct {
	Node   string
	Tier   Tier
	Server Server
	// To is where it leads: one destination if that can be told, else all that
	// may be meant, sorted. Why says why it cannot be told.
	To  []netip.AddrPort
	Why string
	// Of is how many destinations take new connections.
	Of    int
	nodes map[netip.Addr]string // by the address that they take tunnels at
}

// String returns h for people to read:
//
//	n2: front mh,mh-fallback,mh-port chooses n3 of 3, by tunnel to 192.168.0.13
//	n3: back rr has one: 10.244.3.12:8080, which sees the client's address
//	n1: rr takes turns: one of 10.244.1.10:8080 10.244.2.10:8080, which sees an address of n1
func (h Hop) String() string {
	scheduler := Server{Scheduler: h.Server.Scheduler, Flags: h.Server.Flags}.String()
	who := strings.TrimSpace(h.Tier.String() + " " + scheduler)
	names := make([]string, 0, len(h.To))
	for _, to := range h.To {
		names = append(names, h.name(to))
	}
	list := strings.Join(names, " ")
	switch {
	case len(h.To) == 0:
		return fmt.Sprintf("%s: %s leads nowhere: %s", h.Node, who, h.Why)
	case h.Why != "":
		return fmt.Sprintf("%s: %s %s: one of %s, %s", h.Node, who, h.Why, list, h.manner())
	case h.Of == 1:
		return fmt.Sprintf("%s: %s has one: %s, %s", h.Node, who, list, h.manner())
	}
	return fmt.Sprintf("%s: %s chooses %s of %d, %s", h.Node, who, list, h.Of, h.manner())
}

func (h Hop) name(to netip.AddrPort) string {
	if h.Tier == Front {
		return h.nodes[to.Addr()]
	}
	return to.String()
}

// manner is how the packet goes on.
func (h Hop) manner() string {
	switch {
	case h.Tier == Front && len(h.To) == 1:
		return "by tunnel to " + h.To[0].Addr().String()
	case h.Tier == Front:
		return "by tunnel"
	case h.Server.SNAT:
		return "which sees an address of " + h.Node
	}
	return "which sees the client's address"
}

// SelfOf returns what a Plan for a node has to know of it, as far as its
// speaker has made it known.
func SelfOf(s snapshot.Snapshot, node string) Self {
	for _, sp := range slices.Concat(s.Speakers, s.Lost) {
		if sp.Node == node {
			return Self{Node: node, Tiers: sp.DataPath == "ipvs", Tunnels: sp.Tunnels}
		}
	}
	return Self{Node: node}
}

// Trace returns the way of f, which arrives at a node. The error says why
// Herald does not steer it at all.
//
// It plans what the speakers plan, and so tells what new flows do once all of
// them have seen s. Flows that are under way stay where they are. What mh
// chooses it computes as 64-bit kernels do whose tables have the default size,
// with destinations that were added in the order of their addresses: one that
// was added later moves few flows where there are few (6 in 4093 of three), more
// where there are many (5 % of a hundred). A destination of
// weight 0 is taken for one that had weight 1 before, as package ipvs sees to.
func Trace(s snapshot.Snapshot, node string, f Flow) (Route, error) {
	t := tracer{s: s, flow: f}
	if !steers(s, node) {
		return Route{}, fmt.Errorf("node %s has no speaker that steers", node)
	}
	p := plan(s, SelfOf(s, node))
	v, ok := t.entry(p, node)
	if !ok {
		return Route{}, t.unknown()
	}
	t.route.Service = oldest(p.claims[v]).key
	if from := p.want.Servers[v].Sources; !lets(from, f.Client.Addr()) && !p.world.own[f.Client.Addr()] {
		t.route.Refused = fmt.Sprintf("only clients from %s may connect", from)
		if from == Nobody {
			t.route.Refused = "only clients of the other family may connect"
		}
		return t.route, nil
	}
	if !t.inside(node) {
		v = outside(p.want, v)
	}
	t.hop(p, v)
	return t.route, nil
}

// steers is whether a speaker of node has said that it can steer.
func steers(s snapshot.Snapshot, node string) bool {
	return slices.ContainsFunc(slices.Concat(s.Speakers, s.Lost), func(sp snapshot.Speaker) bool {
		return sp.Node == node && sp.DataPath != ""
	})
}

// lets is whether sources let a client in.
func lets(sources Sources, client netip.Addr) bool {
	prefixes, ok := sources.Prefixes()
	if sources == "" {
		return true
	}
	return ok && slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(client) })
}

// outside returns the server that what comes from outside meets in the place
// of the Single one.
func outside(t Table, v Virtual) Virtual {
	front, back := v, v
	front.Tier, back.Tier = Front, Back
	if _, ok := t.Servers[front]; ok {
		return front
	}
	if t.Servers[back].Direct {
		return back
	}
	return v
}

// A tracer is one Trace in the making.
type tracer struct {
	s     snapshot.Snapshot
	flow  Flow
	route Route
}

// entry returns the Single server that the flow is for.
func (t *tracer) entry(p *Planner, node string) (Virtual, bool) {
	v := Virtual{Addr: t.flow.Virtual, Proto: t.flow.Proto}
	if _, ok := p.want.Servers[v]; ok {
		return v, true
	}
	for _, n := range t.s.Nodes {
		if n.Name == node && slices.Contains(n.Addrs, v.Addr.Addr()) {
			every := netip.IPv4Unspecified()
			if v.Addr.Addr().Is6() {
				every = netip.IPv6Unspecified()
			}
			v.Addr = netip.AddrPortFrom(every, v.Addr.Port())
		}
	}
	_, ok := p.want.Servers[v]
	return v, ok
}

// inside is whether the client is node itself or one of its pods.
func (t *tracer) inside(node string) bool {
	at, ok := NodeOf(t.s, t.flow.Client.Addr())
	return ok && at == node
}

// NodeOf returns the node that addr belongs to, or one of whose pods may have it.
func NodeOf(s snapshot.Snapshot, addr netip.Addr) (string, bool) {
	for _, n := range s.Nodes {
		in := func(p netip.Prefix) bool { return p.Contains(addr) }
		if slices.Contains(n.Addrs, addr) || slices.ContainsFunc(n.PodCIDRs, in) {
			return n.Name, true
		}
	}
	return "", false
}

// hop goes on from the server v of the node of p.
func (t *tracer) hop(p *Planner, v Virtual) {
	h := t.choose(p, v)
	t.route.Hops = append(t.route.Hops, h)
	if len(h.To) == 0 {
		t.route.Refused = "no endpoint takes the connection"
	}
	if v.Tier != Front {
		return
	}
	v.Tier = Back
	for _, to := range h.To {
		next := plan(t.s, SelfOf(t.s, h.nodes[to.Addr()]))
		if _, ok := next.want.Servers[v]; !ok {
			t.route.Refused = fmt.Sprintf("%s takes nothing from a tunnel for it", next.world.self.Node)
			return
		}
		t.hop(next, v)
	}
}

// unknown says why no node has a server for the flow.
func (t *tracer) unknown() error {
	addr := t.flow.Virtual.Addr()
	for i := range t.s.Services {
		svc := &t.s.Services[i]
		given := slices.Contains(svc.Addrs(), addr)
		switch {
		case !given && !slices.Contains(svc.ClusterIPs, addr) && !slices.Contains(svc.ExternalIPs, addr):
			continue
		case given && svc.Closed:
			return fmt.Errorf("%s is of %s, which is open to nobody: who may connect to it cannot be read", addr, svc.Key)
		case given && !svc.Steered(), !given && !svc.Proxied:
			return fmt.Errorf("%s is of %s, but not by Herald", addr, svc.Key)
		case given && t.s.Config.PoolOf(addr).Steer != config.SteerIPVS:
			return fmt.Errorf("%s is of %s, but its pool %s leaves steering to kube-proxy", addr, svc.Key, t.s.Config.PoolOf(addr).Name)
		}
		return fmt.Errorf("%s is of %s, which has no port %d/%s, but %s", addr, svc.Key, t.flow.Virtual.Port(), t.flow.Proto, ports(svc.Ports))
	}
	if _, ok := NodeOf(t.s, addr); ok {
		return fmt.Errorf("%s is an address of a node, and %d/%s no node port that Herald steers", addr, t.flow.Virtual.Port(), t.flow.Proto)
	}
	return fmt.Errorf("%s belongs to no Service", addr)
}

func ports(all []snapshot.Port) string {
	words := make([]string, 0, len(all))
	for _, p := range all {
		words = append(words, fmt.Sprintf("%d/%s", p.Number, p.Proto))
	}
	return strings.Join(words, " ")
}
