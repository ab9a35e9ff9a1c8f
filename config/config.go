// Package config holds Herald's configuration after it was compiled from what
// users write: immutable, sorted, plain values.
//
// It never reads the API and never parses: config/v1alpha1 does both. Every
// Config that comes out of Compile is usable as it stands, whatever was wrong
// with the objects: what could not be used is a Problem instead.
package config

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/ipam"
)

// A Config is the whole configuration of a cluster.
type Config struct {
	Pools []Pool // by Name
	Peers []Peer // by Name
}

// Pool returns the pool of that name.
func (c Config) Pool(name string) (Pool, bool) {
	i, ok := slices.BinarySearchFunc(c.Pools, name, func(p Pool, name string) int { return cmp.Compare(p.Name, name) })
	if !ok {
		return Pool{}, false
	}
	return c.Pools[i], true
}

// A Problem is why an object, or a part of it, is not in use as written.
type Problem struct {
	Object string // name of the AddressPool, namespace/name of the AddressClaim
	Field  string // path of the field, as in "spec.addresses[2]"
	Reason string // one of the Reason constants
	Detail string // what is wrong, and what to do about it
}

// Reasons of a Problem. They are shown as condition reasons, and documented in
// docs/reasons.md.
const (
	Invalid = "Invalid" // a field cannot be read
	Overlap = "Overlap" // the addresses belong to an older pool
)

// A Pool is a set of addresses with the rules for giving them out and for
// making them known.
type Pool struct {
	ipam.Pool

	// NamespaceSelector and ServiceSelector say whose Services may take from
	// the pool, in the syntax of kubectl's --selector. "" selects all.
	NamespaceSelector string
	ServiceSelector   string

	// ReuseAfter is how long an address rests once it is freed; only its last
	// owner may have it again in the meantime.
	ReuseAfter time.Duration

	Layer2   Layer2
	BGP      []BGP
	Steer    Steer
	Backends Backends
	// KeepClientIP is whether backends see the client's address although they
	// are on other nodes than the one that announces, where that is possible.
	KeepClientIP bool
	// Scheduler is a kernel IPVS scheduler: rr, wrr, lc, wlc, lblc, lblcr, dh,
	// sh, mh, sed, nq, fo, ovf; "" lets Herald choose.
	Scheduler      string
	SchedulerFlags SchedulerFlags
}

// SchedulerFlags are the flags of the schedulers sh and mh.
type SchedulerFlags uint8

// The flags of schedulers.
const (
	// SchedulerPort hashes the client's port as well as its address, so that
	// each connection of a client is chosen for by itself.
	SchedulerPort SchedulerFlags = 1 << iota
	// SchedulerFallback goes on to another destination where the one that was
	// hashed takes no connections.
	SchedulerFallback
)

// Layer2 says where a pool's addresses are announced by ARP and NDP.
type Layer2 struct {
	Enabled      bool
	Interfaces   []string // names or globs (path.Match); none means every link whose subnet holds the address
	NodeSelector string   // "" selects all nodes
	PreferNodes  []string // selectors, the first is liked best
	// Failback is for how long a node that is elected leaves an address to
	// another that has it and can go on; FailbackNever for as long as that can.
	Failback time.Duration
	// Refresh is how often an address is greeted though nothing has changed; 0
	// for never.
	Refresh time.Duration
}

// How long a node waits before it takes an address back.
const (
	FailbackDelay = 5 * time.Minute
	FailbackNever = time.Duration(math.MaxInt64)
)

// Steer says who leads a packet that has arrived at a node to a backend.
type Steer string

// The ways to steer.
const (
	SteerIPVS         Steer = "IPVS"         // Herald: IPVS, or nftables where the kernel has no IPVS
	SteerServiceProxy Steer = "ServiceProxy" // kube-proxy or the CNI
)

// Backends says what the destinations of a virtual server are.
type Backends string

// The kinds of backends.
const (
	BackendsPod       Backends = "Pod"       // the endpoints themselves
	BackendsNodePort  Backends = "NodePort"  // the node port of every ready node
	BackendsClusterIP Backends = "ClusterIP" // the cluster IP, which kube-proxy or the CNI steers on
)

// A Claim is what an AddressClaim asks for, as far as one can tell without the
// pools.
type Claim struct {
	Namespace, Name string
	Pool            string       // take from this one only; "" for any
	Want            []netip.Addr // exactly these; at most one of each family
	Families        []ipam.Family
}

// Default returns the pool settings that hold for an assigned address that no
// pool covers any more: it keeps being announced and steered.
func Default() Pool {
	return Pool{
		Layer2:       Layer2{Enabled: true},
		Steer:        SteerIPVS,
		Backends:     BackendsPod,
		KeepClientIP: true,
	}
}

// PoolOf returns the pool that covers addr or, if none does, Default.
func (c Config) PoolOf(addr netip.Addr) Pool {
	for _, p := range c.Pools {
		if p.Contains(addr) {
			return p
		}
	}
	return Default()
}
