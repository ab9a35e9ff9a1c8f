package cloud

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Owner is the Service for which something exists in a cloud. Cluster and UID
// identify it; Namespace and Name are for people, and for finding again what
// belonged to a Service that was made anew under its old name.
type Owner struct {
	Cluster         string // Config.ClusterID
	UID             types.UID
	Namespace, Name string
}

// Key is how people name the Service: namespace/name.
func (o Owner) Key() string { return o.Namespace + "/" + o.Name }

// Same is whether two are the same Service, whatever it is called.
func (o Owner) Same(other Owner) bool { return o.Cluster == other.Cluster && o.UID == other.UID }

// ResourceName is the name of what is made for the Service, one that nobody else
// uses: k8s-<8 characters of the cluster>-<UID>.
func (o Owner) ResourceName() string {
	cluster := strings.ReplaceAll(o.Cluster, "-", "")
	return fmt.Sprintf("k8s-%s-%s", cluster[:min(8, len(cluster))], o.UID)
}

// Instance is a machine in a cloud.
type Instance struct {
	ID   string // as the cloud's API calls it
	Name string
}

// A Target is a node to which a load balancer sends traffic.
type Target struct {
	Node     string
	Instance Instance
	Addr     netip.Addr // of the node, where a load balancer reaches it
}

// ProxyProtocol is how a client's address is passed on to the backends.
type ProxyProtocol string

// Versions of the PROXY protocol.
const (
	ProxyNone ProxyProtocol = ""
	ProxyV1   ProxyProtocol = "v1"
	ProxyV2   ProxyProtocol = "v2"
)

// A Listener is one port of a Service.
type Listener struct {
	Protocol corev1.Protocol
	Port     int32 // of the address
	NodePort int32 // of the targets
	Proxy    ProxyProtocol
	Health   HealthCheck
}

// ID tells apart the listeners of one load balancer: protocol/port.
func (l Listener) ID() string { return strings.ToLower(string(l.Protocol)) + "/" + fmt.Sprint(l.Port) }

// A HealthCheck is how a load balancer finds out which targets serve.
type HealthCheck struct {
	HTTP              bool  // or else a TCP connection
	Port              int32 // of the target
	Path              string
	Interval, Timeout time.Duration
	Retries           int
}

// LBSpec is the load balancer that a Service should have.
type LBSpec struct {
	Owner Owner
	// Title is the name that people see where a cloud has one beside the unique
	// name; empty for ResourceName.
	Title string

	// Type, Location, Network and Subnet are names or IDs of the cloud; empty for
	// the default of the configuration.
	Type, Location, Network, Subnet string
	UsePrivateIP                    bool // targets are reached over Network
	Internal                        bool // no public address
	Families                        []corev1.IPFamily
	Listeners                       []Listener        // by Protocol and Port
	Targets                         []Target          // by Node
	NodeFamilies                    []corev1.IPFamily // of the Service: at addresses of these nodes serve it; empty for any
	Algorithm                       string            // RoundRobin or LeastConnections, or as the cloud writes them; empty for the cloud's default
	SourceRanges                    []netip.Prefix
	IdleTimeout                     time.Duration // zero for the cloud's default

	// Address is an address reserved before, by its ID or as text. It is not ours.
	Address       string
	AllowRecreate bool
}

// Serves is whether nodes serve the Service at an address, by its family.
func (s LBSpec) Serves(a netip.Addr) bool {
	family := corev1.IPv4Protocol
	if a.Unmap().Is6() {
		family = corev1.IPv6Protocol
	}
	return len(s.NodeFamilies) == 0 || slices.Contains(s.NodeFamilies, family)
}

// Policy is what becomes of a resource when its Service is gone.
type Policy string

// Policies. Delete is the default of what was made here, Release of what was
// adopted.
const (
	PolicyDelete  Policy = "Delete"  // deleted
	PolicyRelease Policy = "Release" // kept, without our marks
	PolicyRetain  Policy = "Retain"  // kept as it is, for a Service of the same name
)

// Kind is what a resource is.
type Kind string

// Kinds of resources that cost money.
const (
	LoadBalancer Kind = "load balancer"
	Address      Kind = "address"
)

// State is how far a resource is.
type State string

// States of a resource.
const (
	Ready    State = "ready"
	Busy     State = "busy"     // it is being changed, and refuses other changes
	Failed   State = "failed"   // the cloud has given up on it
	Deleting State = "deleting" // it will be gone
)

// Found is a resource as the cloud shows it.
type Found struct {
	Kind  Kind
	ID    string
	Name  string
	Owner Owner // whose marks it bears; zero for nobody's
	State State
	// Adopted is whether it was there before its Service, by its marks.
	Adopted bool
	// Retained is whether it was kept on purpose when its Service went, by its marks.
	Retained  bool
	Protected bool // against being deleted, by a person
	Created   time.Time
	// Addrs are the addresses that clients use, IPv4 first.
	Addrs []netip.Addr
	// Cost is what it costs in a month, net; zero where the cloud has no prices.
	Cost Money
	// Raw is what the driver has read, and knows to plan with.
	Raw any
}

// AddressSpec is an address that a Service should have.
type AddressSpec struct {
	Owner    Owner
	Title    string // as that of an LBSpec
	Family   corev1.IPFamily
	Location string // empty for the default of the configuration
}

// ResourceName is the name under which the address is reserved, one that nobody else uses.
func (s AddressSpec) ResourceName() string {
	return s.Owner.ResourceName() + "-" + strings.ToLower(string(s.Family))
}

// FoundAddress is an address as the cloud shows it.
type FoundAddress struct {
	Found
	// Prefix is all that is routed with it: more than the address where the cloud hands
	// out networks.
	Prefix netip.Prefix
	// Instance is to which machine it is routed; zero for none.
	Instance Instance
}

// Money is an amount in a currency, in thousandths.
type Money struct {
	Milli    int64
	Currency string
}

func (m Money) String() string {
	return fmt.Sprintf("%d.%02d %s", m.Milli/1000, m.Milli%1000/10, m.Currency)
}

// Delivery is what a node sees of a packet for a load balancer's address.
type Delivery string

// Deliveries.
const (
	ToNodePort Delivery = "nodePort" // the node's address and the nodePort
	ToVIP      Delivery = "vip"      // the load balancer's address and port
)

// Capabilities is what a cloud can do.
type Capabilities struct {
	Protocols       []corev1.Protocol
	Families        []corev1.IPFamily
	SourceRanges    bool // are enforced
	ProxyProtocol   bool
	HTTPHealthCheck bool
	Retains         bool // can mark what is to be kept (PolicyRetain)
	Addresses       bool // can be reserved, and routed to a machine: its driver is an AddressDriver
	Delivery        Delivery
}

// Step is one call that changes something in a cloud. It may be repeated.
type Step struct {
	Order  Order
	Kind   string // what is done, by the driver: "add listener"
	ID     string // of the resource that is changed; empty for one to be made
	Detail string // for people: "tcp/80 → 30080"
	// Payload is what the driver sends.
	Payload any
	// Destructive is whether an address, or data, is lost by it.
	Destructive bool
	// Exposes is whether traffic gets in by it that did not before, or by what is made of it.
	Exposes bool
	// Cost is what it adds to a month's bill.
	Cost Money
}

func (s Step) String() string {
	text := s.Kind
	if s.ID != "" {
		text += " of " + s.ID
	}
	if s.Detail != "" {
		text += ": " + s.Detail
	}
	return text
}

// Order is when a step is due among others: marks first, for they say whose the
// rest is; what is added before what is taken away, for nobody is to be without.
type Order int

// Orders of steps.
const (
	Mark Order = iota
	Create
	Grow // to a larger type, for what is added
	AddListener
	AddTarget
	Change
	RemoveTarget
	RemoveListener
	Shrink
	Unassign
	Remove
)

// Plan is what is to be done, in order.
type Plan []Step

// Pending is a change that the cloud has accepted and not finished.
type Pending struct {
	ID string // of the action, or of the resource to look at
	// Resource is what is being changed.
	Resource string
	// After is how long the cloud says to wait before asking; zero for whoever asks to
	// choose.
	After time.Duration
}
