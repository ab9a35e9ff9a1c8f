package openstack

import (
	"net/netip"
	"time"
)

// A balancer is a load balancer as OpenStack shows it: of it what is set here, and
// what plans are made with. It is the Raw of what is found.
type balancer struct {
	ID, Name, Description string
	Provisioning          string // Octavia's provisioning_status
	// Served is whether it has ever been up. One that has not loses nothing by being
	// made anew.
	Served bool
	// Twin is whether there is another one of the same owner.
	Twin            bool
	Created         time.Time
	Tags            []string
	VIP             netip.Addr
	VIPPort         string // ID of Neutron's port
	Subnet, Network place
	Flavor          place
	Zone, Provider  string
	Listeners       []listener
	Pools           []pool     // made here, or by another controller
	Addresses       []floating // at its port, or of its owner
}

// A place is a subnet, a network or a flavor: people name it by ID or name.
type place struct{ ID, Name string }

// is whether a place is what people named; any will do where they named none.
func (p place) is(ref string) bool { return ref == "" || p.ID == ref || p.Name == ref }

// A listener is one port of a load balancer.
type listener struct {
	ID, Name, Protocol string
	Port               int32
	Pool               string // ID of the pool that it sends to
	CIDRs              string // from where it may be reached, sorted, by commas; empty for everywhere
	// Idle is for how many milliseconds a connection may be silent, if that was set
	// here, and else zero. The listener's description says that it was.
	Idle int
}

// idleSet is the description of a listener with timeouts that were set here. Octavia
// does not tell them from its defaults.
const idleSet = "idle timeout set"

// A pool is what a listener sends to.
type pool struct {
	ID, Name, Protocol, Algorithm string
	Members                       []member // by address and port
	Monitor                       string   // ID; empty for none
	Probe                         probe    // what it does
}

// A member is a node's port.
type member struct {
	Name        string
	Addr        netip.Addr
	Port        int32
	MonitorPort int32
}

// at is what tells members apart.
func (m member) at() netip.AddrPort { return netip.AddrPortFrom(m.Addr, uint16(m.Port)) }

// A probe is how a monitor finds out which members serve.
type probe struct {
	Type, Path     string
	Delay, Timeout int // seconds
	Retries        int
}

// A floating is a floating IP of Neutron's.
type floating struct {
	ID          string
	Addr        netip.Addr
	Port        string // ID of the port that it leads to; empty for none
	Description string
	Tags        []string
	Mark        marks
	Created     time.Time
}
