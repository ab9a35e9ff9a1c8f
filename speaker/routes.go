package speaker

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// PlanRoutes returns what the node called me tells routers. An address that Herald
// steers is told only once ready says that its rows stand in the kernel.
//
// Unlike on layer 2 every node that can serve an address tells it, and routers
// spread what they send over those that are equal. A node that cannot serve all
// Services on an address does not tell it where another can. A node that is relieved
// has told routers to find other ways, and tells only what no other can.
func PlanRoutes(s snapshot.Snapshot, me string, ready map[netip.Addr]bool, relieved bool) Routing {
	p, why := newRoutePlan(s, me, relieved)
	if why != none {
		return Routing{}
	}
	p.tellAll(s, ready)
	return p.finish()
}

// newRoutePlan returns the plan of a node, that tells nothing yet; why is what keeps
// it from telling anything at all.
func newRoutePlan(s snapshot.Snapshot, me string, relieved bool) (p *routePlan, why obstacle) {
	i := slices.IndexFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == me })
	j := slices.IndexFunc(s.Nodes, func(n snapshot.Node) bool { return n.Name == me })
	if i < 0 || j < 0 {
		return nil, noSpeaker
	}
	p = &routePlan{node: s.Nodes[j], peers: s.Config.Peers, relieved: relieved, election: newElection(s, &s.Speakers[i]), tellers: map[entry]*tellers{}}
	p.sessions(s)
	if len(p.routing.Sessions) == 0 {
		return p, noPeer
	}
	return p, none
}

// tellAll adds the routes of all addresses.
func (p *routePlan) tellAll(s snapshot.Snapshot, ready map[netip.Addr]bool) {
	eachAddr(s, announces, func(addr netip.Addr, services []*snapshot.Service) {
		pool := p.pool(addr)
		if len(pool.BGP) > 0 && (pool.Steer != config.SteerIPVS || ready[addr]) {
			p.tell(pool, newTarget(addr, services), services)
		}
	})
}

// A routePlan is a Routing in the making.
type routePlan struct {
	*election
	node     snapshot.Node
	peers    []config.Peer // of all nodes
	relieved bool
	routing  Routing // without routes
	publics  []public
	tellers  map[entry]*tellers
}

// An entry is one of a pool's announce.bgp, as far as one family goes.
type entry struct {
	pool   *config.Pool
	at     int
	family ipam.Family
}

// tellers are the nodes that could tell the addresses of an entry, apart from
// endpoints.
type tellers struct {
	candidates []*candidate
	steady     int // how many of them are no reserve
	self       *candidate
	without    obstacle // why self is none of them
}

// sessions sets those of this node, without routes.
func (p *routePlan) sessions(s snapshot.Snapshot) {
	for _, peer := range s.Config.Peers {
		if _, ok := slices.BinarySearch(p.node.Peers, peer.Name); !ok {
			continue
		}
		one := session(peer, p.node, s.Passwords[peer.Name])
		if one.Hold != "" && !s.Recalled.IsZero() { // passwords are kept nowhere
			one.Hold = "the session waits for the API server, which has its password"
		}
		if why := s.PasswordsKept[peer.Name]; why != "" {
			one.Warning = "the last password stays in use until the speaker restarts: " + why
		}
		p.seat(one, len(p.routing.Sessions))
		p.routing.Sessions = append(p.routing.Sessions, one)
		p.routing.Told = append(p.routing.Told, nil)
	}
}

// session returns the one of a node with a peer, without routes.
func session(p config.Peer, node snapshot.Node, password string) Session {
	s := Session{
		Name: p.Name, LocalASN: p.LocalASN, PeerASN: p.PeerASN,
		Addr: p.Addr, Interface: p.Interface, Port: p.Port, Source: p.Source, RouterID: p.RouterID, Password: password,
		HoldTime: p.HoldTime, Keepalive: p.Keepalive, ConnectRetry: p.ConnectRetry,
		Hops: 1, TTLSecurity: p.TTLSecurity, GracefulRestart: p.GracefulRestart, V4: p.V4, V6: p.V6,
		BFD: BFD{Interval: p.BFDInterval, Multiplier: p.BFDMultiplier},
	}
	switch {
	case p.Secret == "":
	case password == "":
		s.Hold = fmt.Sprintf("there is no Secret %s with a key %s in Herald's namespace: make it, or correct spec.passwordSecretRef", p.Secret, p.SecretKey)
	case len(password) > config.LongestPassword:
		s.Hold, s.Password = fmt.Sprintf("key %s of Secret %s is longer than %d bytes: TCP-MD5 takes no more, here and on the router", p.SecretKey, p.Secret, config.LongestPassword), ""
	}
	switch {
	case p.External:
		s.Relation = External
	case p.Internal:
		s.Relation = Internal
	}
	if p.Multihop {
		s.Hops = 255
	}
	if !s.RouterID.IsValid() {
		s.RouterID = routerID(node)
	}
	return s
}

// routerID returns the BGP identifier of a node: its first IPv4 address or, where it
// has none, one made from its name, of 240.0.0.0/4, which nobody has for an address.
func routerID(n snapshot.Node) netip.Addr {
	for _, list := range [][]netip.Addr{n.Internal, n.Addrs} {
		if i := slices.IndexFunc(list, netip.Addr.Is4); i >= 0 {
			return list[i]
		}
	}
	h := hash(n.Name)
	return netip.AddrFrom4([4]byte{240 | byte(h>>24)&15, byte(h >> 16), byte(h >> 8), byte(h) | 1})
}

// tell adds the routes by which t is told.
func (p *routePlan) tell(pool *config.Pool, t target, services []*snapshot.Service) {
	for i, b := range pool.BGP {
		why, leaving := p.obstacle(entry{pool, i, ipam.FamilyOf(t.addr)}, t, services)
		if why != none {
			continue
		}
		prefix, err := t.addr.Prefix(b.Length(t.addr))
		if err != nil {
			continue // Compile lets no such length through
		}
		r := Route{Prefix: prefix, Communities: b.Communities, Large: b.Large, LocalPref: b.LocalPref, MED: b.MED, Leaving: leaving}
		for i := range p.publics {
			if pub := &p.publics[i]; obstacleTo(pub.Session, b, ipam.FamilyOf(t.addr)) == none {
				pub.add(r)
				pub.told = extend(pub.told, t.addr)
			}
		}
	}
}

// obstacle is what keeps this node from telling t by an entry. If nothing does,
// leaving is whether others that tell it, too, are to relieve it.
func (p *routePlan) obstacle(e entry, t target, services []*snapshot.Service) (why obstacle, leaving bool) {
	asked := func(svc *snapshot.Service) bool { return slices.Contains(svc.Told[e.pool.Name], e.at) }
	if !slices.ContainsFunc(services, asked) {
		return otherServices, false
	}
	why, leaving = p.of(e).obstacle(t)
	if leaving && p.relieved {
		return relievedNode, false
	}
	return why, leaving
}

// obstacleTo is what keeps the router of s from being told addresses of a family by b.
func obstacleTo(s Session, b config.BGP, f ipam.Family) obstacle {
	switch {
	case !named(s, b):
		return otherPeers
	case f == ipam.IPv4 && !s.V4, f == ipam.IPv6 && !s.V6:
		return otherFamily
	}
	return none
}

// extend adds an address to ranges none of whose addresses is greater.
func extend(ranges []ipam.Range, addr netip.Addr) []ipam.Range {
	last := len(ranges) - 1
	switch {
	case last < 0 || ranges[last].Last != addr && ranges[last].Last.Next() != addr:
		return append(ranges, ipam.Range{First: addr, Last: addr})
	default: // which may be there already, by another entry
		ranges[last].Last = addr
		return ranges
	}
}

// of returns the tellers of an entry.
func (p *routePlan) of(e entry) *tellers {
	if ts := p.tellers[e]; ts != nil {
		return ts
	}
	ts := &tellers{without: excludedNode}
	for _, c := range p.candidates {
		why := e.obstacle(c)
		if c.node.Name == p.node.Name {
			ts.self, ts.without = c, why
		}
		if why != none || c != ts.self && !e.heard(c.node, p.peers) { // of self each session says so
			continue
		}
		ts.candidates = append(ts.candidates, c)
		if !c.reserve {
			ts.steady++
		}
	}
	p.tellers[e] = ts
	return ts
}

// obstacle is what keeps a node that is alive from telling any address by e.
func (e entry) obstacle(c *candidate) obstacle {
	switch {
	case !slices.Contains(c.node.Tells[e.pool.Name], e.at):
		return otherNodes
	case !steers(c.speaker, e.pool):
		return noDataPath
	}
	return none
}

// heard is whether a node has a session in which what e tells can be said.
func (e entry) heard(n snapshot.Node, peers []config.Peer) bool {
	return slices.ContainsFunc(peers, func(p config.Peer) bool {
		_, has := slices.BinarySearch(n.Peers, p.Name)
		return has && obstacleTo(Session{Name: p.Name, V4: p.V4, V6: p.V6}, e.pool.BGP[e.at], e.family) == none
	})
}

// obstacle is what keeps this node from telling t and, if nothing does, whether it
// is to be relieved of it by others that tell it, too.
func (ts *tellers) obstacle(t target) (why obstacle, leaving bool) {
	if ts.without != none {
		return ts.without, false
	}
	if !t.reaches(ts.self.node.Name) {
		return noEndpoint, false
	}
	able, steady := ts.candidates, ts.steady
	reserve := func(c *candidate) bool { return c.reserve || slices.Contains(t.avoid, c.node.Name) }
	if len(t.local)+len(t.avoid) > 0 {
		able = t.best(slices.DeleteFunc(slices.Clone(able), func(c *candidate) bool { return !t.reaches(c.node.Name) }))
		if !slices.Contains(able, ts.self) {
			return outdone, false
		}
		steady = 0
		for _, c := range able {
			if !reserve(c) {
				steady++
			}
		}
	}
	return none, reserve(ts.self) && steady > 0
}

// finish returns the Routing with all its routes.
func (p *routePlan) finish() Routing {
	for i := range p.publics {
		pub := &p.publics[i]
		routes := pub.byPrefix()
		for _, at := range pub.places {
			p.routing.Sessions[at].Routes, p.routing.Told[at] = routes, pub.told
		}
	}
	return p.routing
}

// gracefulShutdown is the community by which a router finds another way (RFC 8326).
const gracefulShutdown = 0xffff0000

// Leaving returns r as it is told when all of it is about to be withdrawn. Routers
// that keep the routes while a speaker restarts find no other way: they are told
// what they were.
func (r Routing) Leaving() Routing {
	sessions := slices.Clone(r.Sessions)
	for i, s := range sessions {
		if s.GracefulRestart > 0 {
			continue
		}
		sessions[i].Routes = make([]Route, 0, len(s.Routes))
		for _, route := range s.Routes {
			sessions[i].Routes = append(sessions[i].Routes, route.leaving())
		}
	}
	return Routing{sessions, r.Told}
}

// leaving returns r with the worst that can be said of it.
func (r Route) leaving() Route {
	least, most := uint32(0), uint32(math.MaxUint32)
	r.Communities = union(r.Communities, []uint32{gracefulShutdown}, cmp.Compare[uint32])
	r.LocalPref, r.MED, r.Leaving = &least, &most, true
	return r
}
