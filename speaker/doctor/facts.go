package doctor

import (
	"net/netip"

	"github.com/herald-lb/herald/internal/snapshot"
)

// Facts are what is known of one node. A reason that is "" means that there is
// nothing to be said against it.
type Facts struct {
	NoIPVS, NoNFT string            // why the kernel has none
	Schedulers    map[string]string // why not, by the names of IPVS schedulers
	Tunnels       map[string]string // why not, by "IPv4" and "IPv6"
	Machine       string            // as uname has it, "x86_64"

	// Settings are sysctls as they were read, by keys like "net/ipv4/ip_forward".
	Settings map[string]string
	Links    []Link // that packets from outside may come by, by Name

	KubeProxy KubeProxy
	Taken     []string // what others have of Herald's names and numbers, so that it cannot work
	Shared    []string // what others have so that it may go wrong

	Addrs  []Addr  // of the host
	Routes []Route // to single addresses, that are not Herald's

	Cluster Cluster
	// Reached are other nodes that were sent a packet through a tunnel, as the
	// front sends them.
	Reached []Reach
}

// A Link is a network interface.
type Link struct {
	Name     string
	MTU      int // bytes
	RPFilter int // 0 none, 1 strict, 2 loose: the greater of its own and that of all
	Prefixes []netip.Prefix
}

// A KubeProxy is what answers where kube-proxy would on this node.
type KubeProxy struct {
	There bool
	Mode  string // "iptables", "ipvs", "nftables", or "" if it does not say
}

// An Addr is an address that is bound on the host.
type Addr struct {
	Addr netip.Addr
	Link string
}

// A Route leads to one address.
type Route struct {
	Addr netip.Addr
	Text string // "via 192.0.2.7 dev eth0 proto 186"
}

// A Reach is how another node was found from this one.
type Reach struct {
	Node     string
	Addr     netip.Addr // where it takes tunnels
	ByTunnel bool       // it has answered what was sent through a tunnel
	ByPing   bool       // it has answered an ordinary ping, or was not asked
}

// A Cluster is what the API says.
type Cluster struct {
	Unread   string             // why it was not asked
	Services []snapshot.Service // of type LoadBalancer
	Nodes    map[string]string  // architecture as GOARCH has it, by name
	// Tunnels are where nodes with a speaker take tunnels, by name.
	Tunnels map[string][]netip.Addr
}
