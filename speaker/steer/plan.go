package steer

import (
	"net/netip"
	"slices"

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

func plan(s snapshot.Snapshot, self Self) *planner {
	p := &planner{self: self, config: s.Config, nodes: s.Nodes, want: NewTable(), claims: map[Virtual]claim{}}
	p.learn(s)
	for i := range s.Services {
		p.enter(&s.Services[i])
	}
	for v, c := range p.claims {
		p.rows(v, c)
	}
	return p
}

// A planner is one Plan in the making.
type planner struct {
	self    Self
	config  config.Config
	nodes   []snapshot.Node
	tunnels map[string][]netip.Addr // by node
	dead    map[string]bool         // nodes that are lost
	silent  map[string]bool         // nodes whose speaker does not keep their Back tier in step
	want    Table
	claims  map[Virtual]claim
}

// learn takes in what is known of the nodes. A speaker that was stopped on
// purpose leaves a node that is as well as ever, but for its Back tier.
func (p *planner) learn(s snapshot.Snapshot) {
	p.tunnels, p.dead, p.silent = map[string][]netip.Addr{}, map[string]bool{}, map[string]bool{}
	for _, sp := range s.Lost {
		p.tunnels[sp.Node] = sp.Tunnels
		p.silent[sp.Node], p.dead[sp.Node] = true, !sp.Leaving
	}
	for _, sp := range s.Speakers {
		p.tunnels[sp.Node] = sp.Tunnels
		delete(p.silent, sp.Node)
		delete(p.dead, sp.Node)
	}
	p.tunnels[p.self.Node] = p.self.Tunnels
	delete(p.silent, p.self.Node)
	delete(p.dead, p.self.Node)
	if len(p.self.Tunnels) > 0 {
		for _, ends := range p.tunnels {
			for _, a := range ends {
				p.want.Nodes[a] = true
			}
		}
	}
	for _, n := range s.Nodes {
		if n.Name != p.self.Node {
			continue
		}
		for _, prefix := range n.PodCIDRs {
			p.want.Pods[prefix] = true
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

// A claim is one port of a Service at one of its addresses.
type claim struct {
	svc  *snapshot.Service
	port snapshot.Port
	by   entrance
	pool config.Pool
}

// enter claims every address and port by which svc is entered.
func (p *planner) enter(svc *snapshot.Service) {
	if svc.Served && svc.Ours && !svc.Closed {
		for _, in := range svc.Ingress {
			if pool := p.config.PoolOf(in.Addr); pool.Steer == config.SteerIPVS {
				p.address(svc, in.Addr, external, pool)
			}
		}
	}
	if !svc.Proxied {
		return
	}
	for _, a := range svc.ClusterIPs {
		p.address(svc, a, clusterIP, config.Default())
	}
	for _, a := range svc.ExternalIPs {
		if !p.isNode(a) { // the host's own address cannot be led away from it
			p.address(svc, a, external, config.Default())
		}
	}
	for _, port := range svc.Ports {
		for _, a := range svc.ClusterIPs {
			if port.Node == 0 {
				continue
			}
			every := netip.IPv4Unspecified()
			if a.Is6() {
				every = netip.IPv6Unspecified()
			}
			v := Virtual{Addr: netip.AddrPortFrom(every, port.Node), Proto: port.Proto}
			p.claim(v, claim{svc, port, nodePort, config.Default()})
		}
	}
}

func (p *planner) isNode(a netip.Addr) bool {
	return slices.ContainsFunc(p.nodes, func(n snapshot.Node) bool { return slices.Contains(n.Addrs, a) })
}

// address claims every port of svc at one address.
func (p *planner) address(svc *snapshot.Service, a netip.Addr, by entrance, pool config.Pool) {
	p.want.Addrs[a] = true
	for _, port := range svc.Ports {
		p.claim(Virtual{Addr: netip.AddrPortFrom(a, port.Number), Proto: port.Proto}, claim{svc, port, by, pool})
	}
}

func (p *planner) claim(v Virtual, c claim) {
	if first, taken := p.claims[v]; !taken || older(c.svc, first.svc) {
		p.claims[v] = c
	}
}

func older(a, b *snapshot.Service) bool {
	if !a.Created.Equal(b.Created) {
		return a.Created.Before(b.Created)
	}
	return a.Key < b.Key
}

// rows adds the servers of v, which c has claimed, and their destinations.
func (p *planner) rows(v Virtual, c claim) {
	local := c.by == clusterIP && c.svc.InternalLocal || c.by != clusterIP && c.svc.Local
	outside := c.by == external && p.self.Tiers && c.pool.Backends == config.BackendsPod
	single := c.server(Single, 0)
	single.SNAT = c.by != clusterIP && (outside || !local || c.pool.Backends == config.BackendsClusterIP)
	single.Sources = c.sources(v)
	all := p.targets(v, c, local && !outside)
	p.add(v, single, all)
	if !outside {
		return
	}
	switch own := p.own(all); {
	case local:
		p.back(v, c, p.targets(v, c, true), true)
	case !p.kept(v, c, all):
	case len(p.nodes) == 1 && len(own) == len(all): // nobody to send it to
		p.back(v, c, own, true)
	default:
		p.front(v, c, all)
		p.back(v, c, own, false)
	}
}

// own returns those of targets that are on this node.
func (p *planner) own(targets []target) []target {
	var own []target
	for _, t := range targets {
		if t.node == p.self.Node {
			own = append(own, t)
		}
	}
	return own
}

// kept is whether the client's address can be kept on the way to all of
// targets: every one of them is on a node that takes tunnels, as this one does.
// So every node that can send by tunnel comes to the same answer.
func (p *planner) kept(v Virtual, c claim, targets []target) bool {
	if !c.pool.KeepClientIP || len(targets) == 0 {
		return false
	}
	six := v.Addr.Addr().Is6()
	if _, ok := ofFamily(p.self.Tunnels, six); !ok {
		return false
	}
	return !slices.ContainsFunc(targets, func(t target) bool {
		_, ok := ofFamily(p.tunnels[t.node], six)
		return t.node == "" || !ok
	})
}

// ofFamily returns the first of addrs that is of a family.
func ofFamily(addrs []netip.Addr, six bool) (netip.Addr, bool) {
	i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is6() == six })
	if i < 0 {
		return netip.Addr{}, false
	}
	return addrs[i], true
}

// front adds the Front server: its destinations are the nodes, each with as
// much weight as its endpoints have together.
func (p *planner) front(v Virtual, c claim, targets []target) {
	v.Tier = Front
	weights := map[string]int{}
	heard := false
	for _, t := range targets {
		weights[t.node] += t.weight
		heard = heard || t.weight > 0 && !p.silent[t.node]
	}
	p.want.Servers[v] = c.server(Front, len(weights))
	for node, weight := range weights {
		if heard && p.silent[node] {
			weight = 0
		}
		end, _ := ofFamily(p.tunnels[node], v.Addr.Addr().Is6())
		p.want.Dests[Dest{v, netip.AddrPortFrom(end, v.Addr.Port())}] = min(weight, heaviest)
	}
}

// heaviest is the most that a destination can weigh.
const heaviest = 65535

// back adds the Back server. Without a tunnel before it there is one even where
// it has no destination, to refuse connections; behind one it would refuse
// what another node has sent here just before this one knew of the endpoint.
func (p *planner) back(v Virtual, c claim, targets []target, direct bool) {
	if len(targets) == 0 && !direct {
		return
	}
	v.Tier = Back
	alike := len(targets)
	if direct {
		alike = 0 // no other node chooses for the same connections
	}
	server := c.server(Back, alike)
	server.Direct = direct
	p.add(v, server, targets)
}

func (p *planner) add(v Virtual, s Server, targets []target) {
	p.want.Servers[v] = s
	for _, t := range targets {
		p.want.Dests[Dest{v, t.real}] = t.weight
	}
}
