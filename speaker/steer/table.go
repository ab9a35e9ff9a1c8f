package steer

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A Tier is where on the way of a packet a virtual server stands.
type Tier uint8

// The tiers. A packet meets either a Single server, or a Front server and, on
// the node that it chose, a Back server.
const (
	// Single servers choose an endpoint and lead there by NAT.
	Single Tier = iota
	// Front servers choose a node that has endpoints, and send the packet
	// there as it is, by tunnel. They take what comes from outside; clients on
	// the node itself meet the Single server of the same address and port.
	Front
	// Back servers take what comes out of a tunnel, choose among the endpoints
	// of this node, and lead there by NAT that keeps the client's address.
	Back
)

// String returns "front" or "back"; "" for Single.
func (t Tier) String() string {
	switch t {
	case Front:
		return "front"
	case Back:
		return "back"
	}
	return ""
}

// A Virtual is the identity of a virtual server: address, port, protocol, and
// tier. The unspecified address stands for every address of this node: such a
// server takes what is sent to a node port.
type Virtual struct {
	Addr  netip.AddrPort
	Proto snapshot.Proto
	Tier  Tier
}

// String returns v as in "192.0.2.1:80/tcp" or "front 192.0.2.1:80/tcp".
func (v Virtual) String() string {
	if v.Tier != Single {
		return fmt.Sprintf("%s %s/%s", v.Tier, v.Addr, v.Proto)
	}
	return fmt.Sprintf("%s/%s", v.Addr, v.Proto)
}

// A Server is what is set on a virtual server.
type Server struct {
	Scheduler string                // a kernel IPVS scheduler by name
	Flags     config.SchedulerFlags // of the scheduler, where it has any
	// Affinity is for how many seconds a client that pauses keeps its
	// destination; 0 if each connection chooses anew. At most 86400.
	Affinity uint32
	// SNAT makes the backends see an address of this node instead of the
	// client's, so that replies come back the way they have to. Only of
	// Single servers.
	SNAT bool
	// Sources says who may connect. Only of Single servers: what they refuse
	// reaches no other tier either.
	Sources Sources
	// Direct is whether a Back server takes what comes from outside as well,
	// without a Front server and a tunnel before it.
	Direct bool
}

// String returns s as in "mh,mh-fallback,mh-port affinity 600 s snat from 10.0.0.0/8".
func (s Server) String() string {
	text := s.Scheduler
	for _, f := range []struct {
		bit  config.SchedulerFlags
		name string
	}{{config.SchedulerFallback, "-fallback"}, {config.SchedulerPort, "-port"}} {
		if s.Flags&f.bit != 0 {
			text += "," + s.Scheduler + f.name
		}
	}
	if s.Affinity > 0 {
		text += fmt.Sprintf(" affinity %d s", s.Affinity)
	}
	if s.SNAT {
		text += " snat"
	}
	if s.Direct {
		text += " direct"
	}
	if s.Sources != "" {
		text += " from " + string(s.Sources)
	}
	return text
}

// Sources are prefixes of clients in their one canonical form, as in
// "10.0.0.0/8 192.0.2.0/24", so that they compare with ==. "" are all clients,
// Nobody is none.
type Sources string

// Nobody lets no client in.
const Nobody Sources = "nobody"

// SourcesOf returns the prefixes of one family as Sources; Nobody if there are
// some, but none of that family.
func SourcesOf(prefixes []netip.Prefix, six bool) Sources {
	if len(prefixes) == 0 {
		return ""
	}
	var mine []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().Is6() == six {
			mine = append(mine, p.Masked())
		}
	}
	if len(mine) == 0 {
		return Nobody
	}
	slices.SortFunc(mine, func(a, b netip.Prefix) int { // outer before inner
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	words := make([]string, 0, len(mine))
	for _, p := range outermost(mine) {
		words = append(words, p.String())
	}
	return Sources(strings.Join(words, " "))
}

// outermost leaves out prefixes that lie in others; they are sorted.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		if n := len(out); n == 0 || !out[n-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// Prefixes returns the prefixes that s lets in; ok is false if s is not in the
// form that SourcesOf makes.
func (s Sources) Prefixes() (prefixes []netip.Prefix, ok bool) {
	if s == "" || s == Nobody {
		return nil, true
	}
	for word := range strings.SplitSeq(string(s), " ") {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, false
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, SourcesOf(prefixes, prefixes[0].Addr().Is6()) == s
}

// A Dest is the identity of a destination of a virtual server.
type Dest struct {
	Virtual Virtual
	// Real is the endpoint or, of a Front server, the address that its node
	// takes tunnels at, with the port of the server. It is of the same family
	// as Virtual.Addr.
	Real netip.AddrPort
}

// A Table is everything that steers on one node, wanted or found.
type Table struct {
	Servers map[Virtual]Server
	Dests   map[Dest]int // weight, 0 to 65535; a server without any refuses connections
	// Addrs are the addresses that this node takes in. An address is in
	// after all of its servers, and out before any of them.
	Addrs map[netip.Addr]bool
	// Pods are the prefixes that the pods of this node take their addresses
	// from. What goes from one of them to another gets SNAT whatever the server
	// says, for its reply would not pass here otherwise.
	Pods map[netip.Prefix]bool
	// Nodes are the addresses of nodes, this one included, that packets may
	// come from by tunnel.
	Nodes map[netip.Addr]bool
}

// NewTable returns an empty Table, ready to be filled.
func NewTable() Table {
	return Table{
		Servers: map[Virtual]Server{},
		Dests:   map[Dest]int{},
		Addrs:   map[netip.Addr]bool{},
		Pods:    map[netip.Prefix]bool{},
		Nodes:   map[netip.Addr]bool{},
	}
}

// Clone returns a copy that shares no rows with t.
func (t Table) Clone() Table {
	return Table{maps.Clone(t.Servers), maps.Clone(t.Dests), maps.Clone(t.Addrs), maps.Clone(t.Pods), maps.Clone(t.Nodes)}
}

// tableFor returns an empty Table with room for so many Services.
func tableFor(services int) Table {
	t := NewTable()
	t.Servers = make(map[Virtual]Server, 2*services)
	t.Dests = make(map[Dest]int, 4*services)
	return t
}

// A Verb is what a Change does.
type Verb string

// The verbs. Add is for what is not there, Set and Del for what is.
const (
	Add Verb = "add"
	Set Verb = "set"
	Del Verb = "del"
)

// A Change is one step from one Table to another. Exactly one of Addr, Pods,
// Node, Virtual is meant: Addr if it is valid, else Pods, else Node, else the
// destination Real of Virtual if Real is valid, else Virtual itself.
type Change struct {
	Verb    Verb
	Addr    netip.Addr
	Pods    netip.Prefix
	Node    netip.Addr
	Virtual Virtual
	Server  Server         // of Virtual, for Add and Set of the server itself
	Real    netip.AddrPort // destination
	Weight  int            // of the destination, for Add and Set
}

// A Kind is what a Change is about.
type Kind uint8

// The kinds of rows.
const (
	KindAddr Kind = iota
	KindPods
	KindNode
	KindServer
	KindDest
)

// Kind returns what c is about.
func (c Change) Kind() Kind {
	switch {
	case c.Addr.IsValid():
		return KindAddr
	case c.Pods.IsValid():
		return KindPods
	case c.Node.IsValid():
		return KindNode
	case c.Real.IsValid():
		return KindDest
	}
	return KindServer
}

// String returns c as it stands in logs, errors and golden files:
//
//	add 192.0.2.1:80/tcp rr snat
//	add 192.0.2.1:80/tcp -> 10.0.0.7:8080 weight 1
//	del 192.0.2.1:80/tcp -> 10.0.0.7:8080
//	add address 192.0.2.1
//	add pods 10.244.1.0/24
//	add node 192.0.2.11
func (c Change) String() string {
	switch c.Kind() {
	case KindAddr:
		return fmt.Sprintf("%s address %s", c.Verb, c.Addr)
	case KindPods:
		return fmt.Sprintf("%s pods %s", c.Verb, c.Pods)
	case KindNode:
		return fmt.Sprintf("%s node %s", c.Verb, c.Node)
	case KindDest:
		if c.Verb == Del {
			return fmt.Sprintf("%s %s -> %s", c.Verb, c.Virtual, c.Real)
		}
		return fmt.Sprintf("%s %s -> %s weight %d", c.Verb, c.Virtual, c.Real, c.Weight)
	}
	if c.Verb == Del {
		return fmt.Sprintf("%s %s", c.Verb, c.Virtual)
	}
	return fmt.Sprintf("%s %s %s", c.Verb, c.Virtual, c.Server)
}
