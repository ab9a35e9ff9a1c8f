package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// RouterASN and NodeASN are the autonomous systems of the lab.
const (
	RouterASN = 65001
	NodeASN   = 65000
)

// Neighbours is how a router has the nodes as neighbours, all alike.
type Neighbours struct {
	On       *Host  // the router; nil for the lab's
	Over6    bool   // sessions are over IPv6; both families are told either way
	ASN      uint32 // of the router; RouterASN if 0
	NodeASN  uint32 // as the router has it; NodeASN if 0
	TTL      bool   // only neighbours are heard (GTSM)
	Multihop bool   // the router is not on the segment (BIRD only)
	// Unnumbered takes whoever is at the other end of eth0, by link-local addresses
	// (BIRD only).
	Unnumbered bool
	Password   string
	BFD        time.Duration // interval, ×3; 0 for none
	Graceful   bool
	HoldTime   time.Duration // 9 s if 0
	No6        bool          // IPv6 is not spoken
}

func (l *Lab) withDefaults(n Neighbours) Neighbours {
	if n.On == nil {
		n.On = l.Router
	}
	if n.ASN == 0 {
		n.ASN = RouterASN
	}
	if n.NodeASN == 0 {
		n.NodeASN = NodeASN
	}
	if n.HoldTime == 0 {
		n.HoldTime = 9 * time.Second
	}
	return n
}

// A RoutingDaemon is a program that speaks BGP on the router, writes what it
// learns into the router's kernel, and spreads what is sent over equal ways.
type RoutingDaemon interface {
	// ASN returns the number of its autonomous system.
	ASN() uint32
	// Sessions returns how it says its sessions are.
	Sessions() (map[Ends]RouterSession, error)
	// Kill ends it without a word, and takes what it wrote out of the kernel.
	Kill()
	// Start starts it, again after Kill.
	Start()
	// Reconfigure ends it, and starts it with other neighbours.
	Reconfigure(Neighbours)
}

// Ends are both ends of a session.
type Ends struct{ Router, Node netip.Addr }

// A RouterSession is a BGP session as the router sees it.
type RouterSession struct {
	Up       bool
	Prefixes int    // that it was told, of both families
	BFD      string // "up" or what else it says; "" for none
}

// RoutingDaemons are all that stories are held against, by name.
var RoutingDaemons = map[string]func(*Lab, Neighbours) RoutingDaemon{
	"BIRD": func(l *Lab, n Neighbours) RoutingDaemon { return l.Bird(n) },
	"FRR":  func(l *Lab, n Neighbours) RoutingDaemon { return l.FRR(n) },
}

// neighbours are all sessions that there should be.
func (l *Lab) neighbours(n Neighbours) []Ends {
	var all []Ends
	for _, node := range l.nodes {
		all = append(all, Ends{n.On.Addr(!n.Over6), node.Addr(!n.Over6)})
	}
	return all
}

// Uplink adds a router with a cable of its own to a node, whose link is up0. Neither end
// has an address but its link-local one. The router's segment addresses, which name it,
// end in number.
func (l *Lab) Uplink(n *Node, name string, number int) *Host {
	l.t.Helper()
	ns, err := l.net.namespace(name)
	if err != nil {
		l.t.Fatalf("adding %s: %v", name, err)
	}
	h := &Host{Namespace: ns, mac: net.HardwareAddr{2, 0, 192, 168, 51, byte(number)}}
	if err := errors.Join(cable(plug{ns: n.Namespace, link: "up0"}, plug{ns: ns, link: "eth0", mac: h.mac.String()}), h.forward()); err != nil {
		l.t.Fatalf("adding %s: %v", name, err)
	}
	return h
}

// daemonDir makes a directory for what a routing daemon keeps in files.
func (l *Lab) daemonDir(name string, owner int) string {
	l.t.Helper()
	dir := filepath.Join(l.cp.run, fmt.Sprintf("%s-%s", l.name, name))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatalf("%v", err)
	}
	if err := os.Chown(dir, owner, owner); err != nil {
		l.t.Fatalf("%v", err)
	}
	return dir
}

func (l *Lab) writeFile(path, text string) {
	l.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatalf("%v", err)
	}
}

// Hops returns the next hops that the host's kernel has for exactly this address,
// sorted.
func (h *Host) Hops(addr netip.Addr) ([]netip.Addr, error) {
	family := netlink.FAMILY_V4
	if addr.Is6() {
		family = netlink.FAMILY_V6
	}
	dst := &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}
	routes, err := h.links.RouteListFiltered(family, &netlink.Route{Dst: dst}, netlink.RT_FILTER_DST)
	if err != nil {
		return nil, fmt.Errorf("listing the routes to %s: %w", addr, err)
	}
	var hops []netip.Addr
	for _, r := range routes {
		hops = append(hops, hopsOf(r)...)
	}
	slices.SortFunc(hops, netip.Addr.Compare)
	return slices.Compact(hops), nil
}

// Addr returns the host's address of a family: on the segment or, of the far host, on
// the other side of the router.
func (h *Host) Addr(four bool) netip.Addr {
	a4, a6 := far4, far6
	if h.mac != nil {
		a4, a6 = lanAddrs(int(h.mac[5]))
	}
	if four {
		return netip.MustParseAddr(a4)
	}
	return netip.MustParseAddr(a6)
}

// Object returns an object of Herald's own cluster-wide kinds, as JSON.
func (l *Lab) Object(resource, name string) (string, error) {
	o, err := l.cp.API.dynamic.Resource(v1alpha1.GroupVersion.WithResource(resource)).Get(l.ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	text, err := o.MarshalJSON()
	return string(text), err
}

// answers is nil if somebody listens at a socket in the file system.
func answers(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	return c.Close()
}
