package steer

import (
	"fmt"
	"net/netip"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A Virtual is the identity of a virtual server: address, port, protocol.
type Virtual struct {
	Addr  netip.AddrPort
	Proto snapshot.Proto
}

// String returns v as in "192.0.2.1:80/tcp".
func (v Virtual) String() string { return fmt.Sprintf("%s/%s", v.Addr, v.Proto) }

// A Server is what is set on a virtual server.
type Server struct {
	Scheduler string // a kernel IPVS scheduler by name
	// SNAT makes the backends see an address of this node instead of the
	// client's, so that replies come back the way they have to.
	SNAT bool
}

// A Dest is the identity of a destination of a virtual server.
type Dest struct {
	Virtual Virtual
	Real    netip.AddrPort // of the same family as Virtual.Addr
}

// A Table is everything that steers on one node, wanted or found.
type Table struct {
	Servers map[Virtual]Server
	Dests   map[Dest]int // weight, 0 to 65535; a server without any refuses connections
	// Addrs are the addresses that this node takes in. An address is in
	// after all of its servers, and out before any of them.
	Addrs map[netip.Addr]bool
	// Pods are the prefixes that the pods of this node take their addresses
	// from. What comes from them gets SNAT whatever the server says, for its
	// reply would not pass here otherwise.
	Pods map[netip.Prefix]bool
}

// NewTable returns an empty Table, ready to be filled.
func NewTable() Table {
	return Table{
		Servers: map[Virtual]Server{},
		Dests:   map[Dest]int{},
		Addrs:   map[netip.Addr]bool{},
		Pods:    map[netip.Prefix]bool{},
	}
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
// Virtual is meant: Addr if it is valid, else Pods if it is valid, else the
// destination Real of Virtual if Real is valid, else Virtual itself.
type Change struct {
	Verb    Verb
	Addr    netip.Addr
	Pods    netip.Prefix
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
func (c Change) String() string {
	switch c.Kind() {
	case KindAddr:
		return fmt.Sprintf("%s address %s", c.Verb, c.Addr)
	case KindPods:
		return fmt.Sprintf("%s pods %s", c.Verb, c.Pods)
	case KindDest:
		if c.Verb == Del {
			return fmt.Sprintf("%s %s -> %s", c.Verb, c.Virtual, c.Real)
		}
		return fmt.Sprintf("%s %s -> %s weight %d", c.Verb, c.Virtual, c.Real, c.Weight)
	}
	switch {
	case c.Verb == Del:
		return fmt.Sprintf("%s %s", c.Verb, c.Virtual)
	case c.Server.SNAT:
		return fmt.Sprintf("%s %s %s snat", c.Verb, c.Virtual, c.Server.Scheduler)
	}
	return fmt.Sprintf("%s %s %s", c.Verb, c.Virtual, c.Server.Scheduler)
}
