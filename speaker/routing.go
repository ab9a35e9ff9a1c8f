package speaker

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/herald-lb/herald/ipam"
)

// A Routing is what this node says by BGP, and to whom. Nothing of it is changed once
// it is made: sessions may have their routes in common, and a Router keeps them to find
// what the next Routing has changed.
type Routing struct {
	Sessions []Session // by Name
	// Told are the addresses that are told in each session, by place of the
	// session; with aggregates they are fewer than Routes lead to.
	Told [][]ipam.Range
}

// Known returns the addresses that some router knows, as sessions are, as
// ipam.Normalize leaves them.
func (r Routing) Known(states []SessionState) []ipam.Range {
	var all []ipam.Range
	for i, told := range r.Told {
		at := slices.IndexFunc(states, func(st SessionState) bool { return st.Name == r.Sessions[i].Name })
		if at < 0 || !states[at].Up {
			continue
		}
		for _, one := range told {
			if st := states[at]; st.V4 && one.First.Is4() || st.V6 && one.First.Is6() {
				all = append(all, one)
			}
		}
	}
	return ipam.Normalize(all)
}

func sameTold(a, b Routing) bool {
	return slices.EqualFunc(a.Told, b.Told, func(x, y []ipam.Range) bool { return slices.Equal(x, y) })
}

// A Session is a BGP session with one router (RFC 4271). Each is on its own: what
// is said in one does not depend on any other.
type Session struct {
	Name string // of the BGPPeer; unique

	// LocalASN is the number of this node's autonomous system in this session.
	LocalASN uint32
	// PeerASN is that of the router; 0 for any that Relation allows.
	PeerASN  uint32
	Relation Relation

	// Addr is that of the router. It is invalid where it is to be found out:
	// whoever is a router at the other end of Interface (unnumbered).
	Addr      netip.Addr
	Interface string // of this node; "" for that which the route leads by
	Port      uint16
	Source    netip.Addr // of this node; invalid for whichever the kernel chooses
	RouterID  netip.Addr // IPv4 (RFC 6286: any number but 0, unique in its AS)
	Password  string     // TCP-MD5 (RFC 2385); "" for none
	Hold      string     // why it cannot be opened yet, and what to do; "" if it can
	Warning   string     // what is wrong, though it can; "" for nothing

	HoldTime, Keepalive time.Duration // whole seconds; HoldTime 0 for no keepalives at all
	ConnectRetry        time.Duration // the longest pause between two attempts; 0 for the default
	// Hops is how far away an external router may be: 1 for a neighbour. With
	// TTLSecurity (GTSM, RFC 5082) packets that have come farther are not heard.
	Hops        uint8
	TTLSecurity bool
	// GracefulRestart is for how long the router keeps our routes while this
	// speaker restarts (RFC 4724); 0 for not at all.
	GracefulRestart time.Duration
	V4, V6          bool // families; both may be told by either (RFC 4760, 8950); routes of others are not told

	// BFD is how the session is watched; Interval 0 for not at all.
	BFD BFD

	Routes []Route // by Prefix
}

// Differs is whether t is another session than s, which has to be closed for it,
// and not only one with other routes or one that is watched in another way.
func (s Session) Differs(t Session) bool {
	for _, one := range []*Session{&s, &t} {
		one.Routes, one.BFD, one.ConnectRetry, one.Warning = nil, BFD{}, 0, "" // are not seen on the wire of BGP
	}
	return !reflect.DeepEqual(s, t)
}

// A Relation is which autonomous systems a router may be of.
type Relation uint8

// The relations.
const (
	AnyRelation Relation = iota
	External             // another than ours
	Internal             // ours
)

// A BFD is how a session is watched by BFD (RFC 5882).
type BFD struct {
	Interval   time.Duration // of packets, either way
	Multiplier uint8         // how many in a row have to be missing
}

// A Route is one prefix with what is said of it.
type Route struct {
	Prefix      netip.Prefix
	Communities []uint32    // RFC 1997, sorted
	Large       [][3]uint32 // RFC 8092, sorted
	LocalPref   *uint32     // internal sessions only; nil for the default
	MED         *uint32     // nil for none
	// Leaving is whether routers are to find another way, as it is about to be
	// withdrawn: it has GRACEFUL_SHUTDOWN (RFC 8326) and the worst of the above.
	Leaving bool
}

// A Router tells routers what they are to know.
type Router interface {
	// Sync makes each router of want know its routes, and nothing else of this
	// node. What has not changed is not touched: no session is closed for a
	// change of its routes, nor for one of another session. Errors name the
	// session; one that fails does not stop the others, and is tried again by the
	// next Sync. That a router cannot be reached is no error, nor that a session
	// cannot be as it is wanted, and goes on as it was, nor that a route has more
	// attributes than can be told: see States.
	Sync(ctx context.Context, want Routing) error
	// States returns how the sessions are, by Name.
	States() []SessionState
}

// A SessionState is how a session is.
type SessionState struct {
	Name     string
	Addr     netip.Addr // of the router; invalid while it is not known
	Local    netip.Addr // of this node, in the connection that came up last; invalid before one has
	State    string     // as RFC 4271 §8.2.2 has it, in lower case: idle, connect, opensent, openconfirm, established
	Up       bool
	Since    time.Time // when that began
	PeerASN  uint32    // as the router says; 0 before it has
	RouterID netip.Addr
	Flaps    int    // how often it was lost
	Err      string // in words, what went wrong last, or is wrong though it is up, and what to do
	Sent     int    // routes that the router was told
	V4, V6   bool   // families that it is told, once it has said what it takes
	Offered  int    // routes that it would have told us, one that it repeats each time: they are refused
	BFD      string // state of its BFD session: up, down, init or admin-down; "" for none
}
