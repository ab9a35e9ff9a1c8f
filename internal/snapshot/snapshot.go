// Package snapshot holds one moment of the cluster as plain values.
//
// It owns no client, no lock and no clock: package kube fills a Snapshot, the
// planners of controller, speaker and speaker/steer read it, and nobody edits
// it afterwards. Label selectors are resolved while the snapshot is taken, so
// that no planner ever sees a label. Every slice is sorted by the key named in
// its field comment.
package snapshot

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/ipam"
)

// A Snapshot is the cluster as one pass sees it.
type Snapshot struct {
	Now time.Time // when it was taken
	// Recalled is when it was read, if that was by an earlier process and nothing
	// can be read now; zero otherwise.
	Recalled time.Time
	Config   config.Config
	Problems []config.Problem // of the configuration, by Object
	Services []Service        // by Key
	Claims   []Claim          // by Key
	Nodes    []Node           // by Name
	Speakers []Speaker        // by Node; only those that are alive
	Lost     []Speaker        // by Node; those that fell silent, as they were last heard: Leaving, if they took their leave
	Pools    []PoolStatus     // by Name; what the API holds, for comparison
	Reports  []Report         // by Node; what speakers have said last, for the controller only
	// Peers and PeerProblems are of BGPPeers: what the API holds, for comparison, and
	// what of them cannot be used.
	Peers        []PeerStatus     // by Name
	PeerProblems []config.Problem // by Object
	// Passwords are those of BGPPeers, by Name. They are kept nowhere.
	Passwords map[string]string `json:"-"`
	// PasswordsKept says of those that are not what their Secret says, but the last that
	// could be used, why.
	PasswordsKept map[string]string `json:"-"`
}

// SameView is whether both show the same to a speaker. What was taken once is
// never edited, so slices that begin at one place are the same.
func (s Snapshot) SameView(t Snapshot) bool {
	return one(s.Services, t.Services) && one(s.Config.Pools, t.Config.Pools) && one(s.Config.Peers, t.Config.Peers) &&
		maps.Equal(s.Passwords, t.Passwords) && maps.Equal(s.PasswordsKept, t.PasswordsKept) && one(s.Nodes, t.Nodes) &&
		one(s.Speakers, t.Speakers) && slices.EqualFunc(s.Lost, t.Lost, func(x, y Speaker) bool { return x.Node == y.Node })
}

func one[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// A Service is one Kubernetes Service that Herald serves, or once served and
// has still to let go of.
type Service struct {
	Key       string // namespace/name
	Namespace string
	Name      string
	UID       string
	Version   string    // resourceVersion that this reading is of
	Revision  uint64    // another one for each reading in which anything of it may differ; 0 if that is not known
	Created   time.Time // decides who keeps an address that two hold

	// Served is whether Herald gives this Service an address: its type is
	// LoadBalancer, its class is one of ours, and it is not being deleted.
	Served bool
	// Ours is whether Herald has marked the Service: what stands in Ingress
	// was put there by Herald, and Herald has to clear it in the end.
	Ours bool
	// Routed is whether a cloud's plugin has put there what stands in Ingress, and has the
	// cloud route it to one node at a time: it is steered as what is Herald's, announced by
	// nobody, and no business of the controller.
	Routed bool

	Families []ipam.Family // wanted, in the order of spec.ipFamilies
	Require  bool          // all of Families or nothing (RequireDualStack)
	Pools    []string      // names of the pools whose selectors match, sorted
	Pool     string        // the pool asked for by annotation; "" for any
	Want     []netip.Addr
	Claim    string // the AddressClaim asked for by annotation; "" for none
	// Share is the key under which the Service shares its address, with those
	// of the namespaces ShareWith as well; "" for an address of its own.
	Share string
	// Told are, by pool, the entries of its announce.bgp whose Service selector
	// matches, by their place.
	Told map[string][]int
	// Avoid are the nodes that announce it only where no other can.
	Avoid     []string
	ShareWith []string
	// Reassign is the text of the annotation that asks for another address.
	// Each new text asks once.
	Reassign string
	Invalid  string // why a request on the Service cannot be read or met; "" if it can
	// Closed is whether the Service asks for a restriction that Herald cannot
	// keep: rather than to everybody it is open to nobody.
	Closed bool

	Ingress    []Ingress   // status.loadBalancer.ingress, in its order
	Named      bool        // that list has host names, which Herald never writes
	Conditions []Condition // Herald's own, by Type

	Ports []Port // by Proto, Number
	// Local is externalTrafficPolicy: Local, InternalLocal internalTrafficPolicy.
	Local, InternalLocal bool
	Endpoints            []Endpoint // by Addr, Node

	// Affinity is how long a client that pauses keeps its endpoint
	// (sessionAffinity ClientIP); 0 if every connection chooses anew.
	Affinity time.Duration
	// Sources are the prefixes that clients may come from, sorted; none if all
	// may.
	Sources []netip.Prefix
	// Scheduler and SchedulerFlags are those asked for by annotation; "" for
	// those of the pool.
	Scheduler      string
	SchedulerFlags config.SchedulerFlags
	// HealthCheckPort is spec.healthCheckNodePort; 0 for none.
	HealthCheckPort uint16

	// Proxied is whether Herald stands in for kube-proxy: it steers what is
	// sent to ClusterIPs, ExternalIPs and the node ports of the Service.
	Proxied     bool
	ClusterIPs  []netip.Addr // in the order of spec.clusterIPs; none of a headless Service
	ExternalIPs []netip.Addr // sorted
}

// Steered is whether what stands in the status of s is for nodes to steer.
func (s *Service) Steered() bool { return s.Served && s.Ours || s.Routed }

// Addrs returns the addresses that stand in the status of s.
func (s Service) Addrs() []netip.Addr {
	addrs := make([]netip.Addr, 0, len(s.Ingress))
	for _, in := range s.Ingress {
		addrs = append(addrs, in.Addr)
	}
	return addrs
}

// A Claim is an AddressClaim: it keeps addresses for Services of its namespace.
type Claim struct {
	config.Claim
	Key        string // namespace/name
	UID        string
	Version    string
	Created    time.Time
	Pools      []string     // names of the pools whose selectors match, sorted
	Invalid    string       // what of it cannot be read; "" if all can
	Addrs      []netip.Addr // status.addresses
	Conditions []Condition  // by Type
	Observed   bool         // Conditions are of the claim as it is written now
}

// A Rest is an address that was freed a short time ago, and that only its last
// owner may have until some time has passed.
type Rest struct {
	Addr  netip.Addr
	Owner string // namespace/name of a Service
	Until time.Time
}

// An Ingress is one entry of status.loadBalancer.ingress that has an address.
type Ingress struct {
	Addr netip.Addr
	Mode string // ipMode: "Proxy", "VIP" or "" where the API has none
}

// A Condition is a condition of a Service or of a pool, without its times.
type Condition struct {
	Type    string
	Status  bool
	Reason  string
	Message string
}

// Proto is a transport protocol by its IANA number.
type Proto uint8

// The protocols a Service port may have.
const (
	TCP  Proto = 6
	UDP  Proto = 17
	SCTP Proto = 132
)

// String returns the protocol's name in lower case, as ipvsadm and nft print it.
func (p Proto) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case SCTP:
		return "sctp"
	}
	return "proto?"
}

// A Port is one port of a Service.
type Port struct {
	Name   string
	Proto  Proto
	Number uint16
	Node   uint16 // the node port; 0 for none
}

// An Endpoint is one backend of a Service. Ports gives the target port of each
// of the Service's ports that this endpoint serves: a named target port may
// resolve differently from endpoint to endpoint.
type Endpoint struct {
	Addr  netip.Addr
	Node  string // "" for an endpoint outside the cluster: it counts for every node
	Ready bool
	// Draining is serving and terminating: used only where no endpoint is
	// ready (KEP-1669).
	Draining bool
	Ports    []Target // by Proto, Port name
}

// A Target is the port number behind one port of a Service at one endpoint.
type Target struct {
	Name   string // of the Service port
	Proto  Proto
	Number uint16
}

// A Node is a Kubernetes Node.
type Node struct {
	Name  string
	Addrs []netip.Addr // InternalIP and ExternalIP addresses, sorted
	// Internal are the InternalIP addresses, in the order of the Node.
	Internal []netip.Addr
	Ready    bool // condition Ready
	// PodCIDRs are the prefixes that this node's pods take their addresses
	// from, sorted; none where the CNI keeps its own books.
	PodCIDRs []netip.Prefix
	// Excluded is why the node may not announce: a label, NetworkUnavailable,
	// deletion. "" if it may.
	Excluded string
	// Draining is whether it is to announce only what no other can.
	Draining bool
	// Announces names the pools whose layer-2 node selector matches, sorted.
	Announces []string
	// Peers names the BGPPeers whose node selector matches, sorted.
	Peers []string
	// Tells are, by pool, the entries of its announce.bgp whose node selector
	// matches, by their place.
	Tells map[string][]int
	// Ranks is how well it is liked by those pools that like some nodes better
	// than others: 0 is best.
	Ranks map[string]int
}

// A Speaker is what the speaker of one node has made known of itself.
type Speaker struct {
	Node     string
	Links    []Link // by Name
	DataPath string // "ipvs", "nft", or "" if it cannot steer
	Leaving  bool   // it is stopping and wants to be relieved
	// Tunnels are the addresses at which the node takes in what other nodes
	// send it by tunnel, at most one of each family; none where it cannot.
	Tunnels []netip.Addr
	// Lacks says why the node cannot steer as well as others can, one line for
	// each thing that its kernel has not.
	Lacks []string
	// Stale, of one that fell silent, is whether that was so long ago that what
	// its node takes by tunnel may be steered to what is not there any more.
	Stale bool
	// Dead, of one that fell silent, is whether its node does not answer either.
	Dead bool
	// BFD is whether it keeps BFD sessions with the others.
	BFD bool
	// Hears are the nodes that it hears and that do not hear it, sorted.
	Hears []string
	// Deaf is whether it does not hear this node, which hears it. Unheard is
	// the other way round, as it has said itself. Both are alive: the fault is
	// between the two.
	Deaf, Unheard bool
}

// A Report is what a speaker says of how it is.
type Report struct {
	Speaker
	Draining  bool           // whether what it announces is what a node that is drained does
	Peers     []PeerReport   // by Node
	Answers   []Answer       // by Addr, Link
	Conflicts []Conflict     // by Addr, Link
	Routers   []RouterReport // by Peer
	// Told are the addresses that routers are told by sessions that are
	// established, as ipam.Normalize leaves them.
	Told []ipam.Range
}

// A RouterReport is a BGP session of a node.
type RouterReport struct {
	Peer  string     // name of the BGPPeer
	Addr  netip.Addr // of the router; invalid while it is not known
	State string
	Up    bool
	Since time.Time
	ASN   uint32 // of the router, as it says; 0 before it has
	Flaps int
	Err   string // what went wrong last, or is wrong though it is up
	Sent  int    // routes that the router was told
	BFD   string // state of its BFD session; "" for none
	// Offered is how many routes it would tell the node, which refuses them. For
	// metrics only: it is not written.
	Offered int
}

// A PeerReport is a BFD session with the speaker of another node.
type PeerReport struct {
	Node   string
	Addr   netip.Addr
	State  string
	Up     bool
	Deaf   bool // it is heard, and does not hear this one
	Since  time.Time
	Losses int
	Err    string // while it is not up
}

// An Answer is an address that a node answers for on one of its links.
type Answer struct {
	Addr  netip.Addr
	Link  string
	Since time.Time // by the clock of the node
}

// A Conflict is an address that a node should answer for, and that another host
// has.
type Conflict struct {
	Addr     netip.Addr
	Link     string
	MAC      string // of the other host
	Node     string // that it is the speaker of; "" if it is none
	Answered bool   // whether the node answers for it all the same
	Since    time.Time
}

// A Contact is what a speaker knows of another by their BFD session.
type Contact uint8

// The contacts.
const (
	Untried Contact = iota // there was never a session: nothing is known
	Reached                // it answers
	Lost                   // it did, and does not any more
	Left                   // it has said that it goes
	Deaf                   // it did, is heard still, and does not hear us
)

// A Link is a network interface that can announce.
type Link struct {
	Name     string
	MAC      [6]byte        // its hardware address
	Prefixes []netip.Prefix // its addresses with their subnets, sorted
	// Unsteady is whether it comes and goes: it announces only what no other can.
	Unsteady bool
}

// PoolStatus is what the API holds as status of an AddressPool.
type PoolStatus struct {
	Name       string
	Version    string
	V4, V6     Count
	Resting    []Rest       // by Addr
	Conflicts  []Quarantine // by Addr
	Conditions []Condition  // Herald's own, by Type
	Observed   bool         // Conditions are of the pool as it is written now
}

// PeerStatus is what the API holds as status of a BGPPeer.
type PeerStatus struct {
	Name        string
	Version     string
	Established string
	Conditions  []Condition // Herald's own, by Type
	Observed    bool        // Conditions are of the peer as it is written now
}

// A Quarantine is an address that nobody is given, for a host has it that Herald
// does not know.
type Quarantine struct {
	Addr  netip.Addr
	MAC   string // of that host
	Node  string // that has found it
	Until time.Time
}

// A Count counts a pool's addresses of one family. Total saturates at
// math.MaxInt64.
type Count struct{ Total, Assigned, Free int64 }
