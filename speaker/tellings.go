package speaker

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// A Telling is what becomes of an address between a node and a router.
type Telling struct {
	Node string
	Peer string // the BGPPeer; "" for all that the node has
	// Route is as what the router is told the address: the zero one if it is not to
	// be told.
	Route Route
	// Why is why the router does not know it; "" if it does.
	Why string
}

// Tellings returns, by Node and Peer, what becomes of an address that a pool has
// routers be told. Each node makes the very plan that its speaker makes; whether its
// sessions are up is what that has reported.
func Tellings(s snapshot.Snapshot, addr netip.Addr) (out []Telling) {
	s.Services = near(s, addr)
	eachAddr(s, announces, func(a netip.Addr, services []*snapshot.Service) {
		if a != addr || len(s.Config.PoolOf(addr).BGP) == 0 {
			return
		}
		t := newTarget(addr, services)
		for _, n := range s.Nodes {
			out = append(out, tellingsOf(s, n.Name, t, services)...)
		}
	})
	return out
}

// near returns the Services that may have to do with how addr is told: those with
// an address that can be told in one prefix with it.
func near(s snapshot.Snapshot, addr netip.Addr) []snapshot.Service {
	bits := addr.BitLen()
	for _, b := range s.Config.PoolOf(addr).BGP {
		bits = min(bits, b.Length(addr))
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return nil // Compile lets no such length through
	}
	var out []snapshot.Service
	for _, svc := range s.Services {
		if slices.ContainsFunc(svc.Ingress, func(in snapshot.Ingress) bool { return prefix.Contains(in.Addr) }) {
			out = append(out, svc)
		}
	}
	return out
}

// tellingsOf returns what becomes of t at one node.
func tellingsOf(s snapshot.Snapshot, node string, t target, services []*snapshot.Service) []Telling {
	p, why := newRoutePlan(s, node, wasRelieved(s, node, t.addr))
	pool := s.Config.PoolOf(t.addr)
	if why != none {
		return []Telling{{Node: node, Why: why.words(p, &pool, t, "")}}
	}
	steered := map[netip.Addr]bool{}
	for _, svc := range s.Services {
		for _, a := range svc.Addrs() {
			steered[a] = true
		}
	}
	p.tellAll(s, steered)
	var out []Telling
	common := true
	for _, session := range p.finish().Sessions {
		routes, why := p.routesTo(session, t, services)
		for _, r := range routes {
			out = append(out, Telling{node, session.Name, r, unheard(s, node, session.Name, t.addr)})
		}
		if why != none {
			out = append(out, Telling{Node: node, Peer: session.Name, Why: why.words(p, &pool, t, session.Name)})
		}
		common = common && why != none && why < otherPeers
	}
	if common { // it is the node that does not tell, whoever would hear it
		return []Telling{{Node: node, Why: out[0].Why}}
	}
	return out
}

// routesTo returns those of s by which t is told or, if there are none, of the
// obstacles of all entries that of the one which came closest.
func (p *routePlan) routesTo(s Session, t target, services []*snapshot.Service) (routes []Route, why obstacle) {
	pool := p.pool(t.addr)
	prefixes := map[netip.Prefix]bool{}
	for i, b := range pool.BGP {
		here, _ := p.obstacle(entry{pool, i, ipam.FamilyOf(t.addr)}, t, services)
		if here == none {
			here = obstacleTo(s, b, ipam.FamilyOf(t.addr))
		}
		if here == none {
			prefix, _ := t.addr.Prefix(b.Length(t.addr)) // the plan has it
			prefixes[prefix] = true
		}
		why = max(why, here)
	}
	for _, r := range s.Routes {
		if prefixes[r.Prefix] {
			routes = append(routes, r)
		}
	}
	if len(routes) > 0 {
		why = none
	}
	return routes, why
}

// unheard is why, by what the speaker of a node has reported, a router does not know
// an address that the node means to tell it; "" if it does.
func unheard(s snapshot.Snapshot, node, peer string, addr netip.Addr) string {
	i := slices.IndexFunc(s.Reports, func(r snapshot.Report) bool { return r.Node == node })
	if i < 0 {
		return "its speaker has not reported anything: see its log"
	}
	report := s.Reports[i]
	j := slices.IndexFunc(report.Routers, func(r snapshot.RouterReport) bool { return r.Peer == peer })
	switch {
	case j < 0:
		return "its speaker has not said anything of the session yet"
	case !report.Routers[j].Up:
		// Its state is left out: it is another one at each node, and in each second.
		return "the session is not established: " + cmp.Or(report.Routers[j].Err, "it was not tried for long")
	case !knownFrom(report, addr):
		return cmp.Or(report.Routers[j].Err, "its speaker does not say yet that it does: its rows do not stand, or that takes a second")
	}
	return ""
}

// wasRelieved is whether a node is drained, and has told addr for long enough, by what
// its speaker reports: how long that is only itself knows.
func wasRelieved(s snapshot.Snapshot, node string, addr netip.Addr) bool {
	draining := slices.ContainsFunc(s.Nodes, func(n snapshot.Node) bool { return n.Name == node && n.Draining })
	i := slices.IndexFunc(s.Reports, func(r snapshot.Report) bool { return r.Node == node })
	return draining && i >= 0 && !knownFrom(s.Reports[i], addr)
}

// knownFrom is whether some router knows addr from the node that reports.
func knownFrom(r snapshot.Report, addr netip.Addr) bool {
	return slices.ContainsFunc(r.Told, func(one ipam.Range) bool { return one.Contains(addr) })
}

// ExplainRoutes says in a few lines which nodes tell which routers the addresses of
// the Service at key, and what keeps the others from it; none if its pools tell
// routers nothing.
func ExplainRoutes(s snapshot.Snapshot, key string) (lines []string) {
	i := slices.IndexFunc(s.Services, func(x snapshot.Service) bool { return x.Key == key })
	if i < 0 {
		return nil
	}
	for _, addr := range s.Services[i].Addrs() {
		lines = append(lines, grouped(addr, Tellings(s, addr))...)
	}
	return lines
}

// grouped puts tellings into words: those that differ in the node only in one line,
// and what is told before what is not.
func grouped(addr netip.Addr, all []Telling) []string {
	type line struct{ before, behind string } // the nodes
	nodes := map[line][]string{}
	var told, not []line
	for _, t := range all {
		l := line{t.before(addr), t.behind()}
		switch {
		case nodes[l] != nil:
		case t.Why == "":
			told = append(told, l)
		default:
			not = append(not, l)
		}
		nodes[l] = append(nodes[l], t.Node)
	}
	var lines []string
	for _, l := range slices.Concat(told, not) {
		lines = append(lines, l.before+" by "+someOf(nodes[l])+l.behind)
	}
	return lines
}

func (t Telling) before(addr netip.Addr) string {
	title, to := "told", ""
	if t.Why != "" {
		title = "not told"
	}
	if t.Peer != "" {
		to = " to " + t.Peer
	}
	return fmt.Sprintf("%-10s %s%s", title, addr, to)
}

func (t Telling) behind() string {
	text := ""
	if t.Route.Prefix.IsValid() {
		text = " as " + t.Route.String()
	}
	if t.Why != "" {
		text += ": " + t.Why
	}
	return text
}

// someOf names a few of many.
func someOf(names []string) string {
	const few = 8
	if more := len(names) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), more)
	}
	return strings.Join(names, ", ")
}

// String returns r as people write it.
func (r Route) String() string {
	text := r.Prefix.String()
	var communities []string
	for _, c := range r.Communities {
		communities = append(communities, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
	}
	for _, l := range r.Large {
		communities = append(communities, fmt.Sprintf("%d:%d:%d", l[0], l[1], l[2]))
	}
	if len(communities) > 0 {
		text += ", communities " + strings.Join(communities, " ")
	}
	if r.LocalPref != nil {
		text += fmt.Sprintf(", local preference %d", *r.LocalPref)
	}
	if r.MED != nil {
		text += fmt.Sprintf(", MED %d", *r.MED)
	}
	if r.Leaving {
		text += ", so that routers avoid it while others can serve"
	}
	return text
}
