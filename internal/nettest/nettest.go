// Package nettest builds small networks out of network namespaces, for tests.
//
// A namespace has no name in the file system: it lives as long as the test
// that made it, so tests neither meet nor leave anything behind. Nothing is
// done in the namespace that the test itself runs in.
//
// A test that cannot have namespaces is skipped on a laptop and fails where
// the environment says that it has to run (REQUIRE_NETNS=1, REQUIRE_IPVS=1):
// a green run can then not hide that nothing was tested.
package nettest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Require skips t where network namespaces cannot be made, and fails it there
// if REQUIRE_NETNS is set.
func Require(t testing.TB) {
	t.Helper()
	err := Isolated(func() error { return nil })
	require(t, "REQUIRE_NETNS", "making a network namespace (it takes root)", err)
}

// RequireIPVS skips t where the kernel has no IPVS, and fails it there if
// REQUIRE_IPVS is set. The kernel is asked for the generic netlink family:
// moby/ipvs reports success without one.
func RequireIPVS(t testing.TB) {
	t.Helper()
	Require(t)
	_, err := netlink.GenlFamilyGet("IPVS")
	require(t, "REQUIRE_IPVS", "finding IPVS in this kernel", err)
}

func require(t testing.TB, variable, what string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv(variable) != "":
		t.Fatalf("%s: %v", what, err)
	default:
		t.Skipf("%s: %v", what, err)
	}
}

// Isolated runs f on a thread of its own in a new, empty network namespace.
func Isolated(f func() error) error {
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unsharing the network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that nobody else will ever use: it is never
// unlocked, so it dies with its goroutine, whatever namespace f moved it to.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// A Namespace is one host of a test network.
type Namespace struct {
	Name   string
	Handle netns.NsHandle
	Link   *netlink.Handle // speaks to the kernel from inside
}

// New makes a namespace that forwards packets, checks no reverse path and
// has its loopback up. It is gone when t ends.
func New(t testing.TB, name string) *Namespace {
	t.Helper()
	n := &Namespace{Name: name}
	must(t, name, Isolated(func() (err error) {
		n.Handle, err = netns.Get()
		return err
	}))
	t.Cleanup(func() { n.Handle.Close() })
	// Without a family NewHandleAt opens XFRM too, which small kernels lack.
	link, err := netlink.NewHandleAt(n.Handle, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	must(t, name, err)
	n.Link = link
	t.Cleanup(link.Close)

	n.Up(t, "lo")
	for _, key := range []string{"net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter"} {
		n.Sysctl(t, key, "0")
	}
	n.Sysctl(t, "net/ipv4/ip_forward", "1")
	if n.HasIPv6() {
		n.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
		n.Sysctl(t, "net/ipv6/conf/all/accept_dad", "0")
		n.Sysctl(t, "net/ipv6/conf/default/accept_dad", "0")
	}
	return n
}

// Do runs f on a thread inside n. Sockets that f opens stay there.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(n.Handle); err != nil {
			return fmt.Errorf("entering namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// FD returns the file descriptor of n, valid as long as the test.
func (n *Namespace) FD() int { return int(n.Handle) }

// HasIPv6 is whether the kernel knows IPv6.
func (n *Namespace) HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/all")
	return err == nil
}

// Sysctl sets a kernel setting inside n; key as in "net/ipv4/ip_forward".
func (n *Namespace) Sysctl(t testing.TB, key, value string) {
	t.Helper()
	must(t, n.Name, n.Do(func() error {
		return os.WriteFile("/proc/sys/"+key, []byte(value), 0)
	}))
}

// Up sets a link up.
func (n *Namespace) Up(t testing.TB, name string) {
	t.Helper()
	must(t, n.Name, n.Link.LinkSetUp(n.link(t, name)))
}

// Down sets a link down.
func (n *Namespace) Down(t testing.TB, name string) {
	t.Helper()
	must(t, n.Name, n.Link.LinkSetDown(n.link(t, name)))
}

// Index returns the index of a link.
func (n *Namespace) Index(t testing.TB, name string) int {
	t.Helper()
	return n.link(t, name).Attrs().Index
}

// Addr gives a link addresses, as in "192.0.2.1/24".
func (n *Namespace) Addr(t testing.TB, name string, addrs ...string) {
	t.Helper()
	link := n.link(t, name)
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		must(t, n.Name, err)
		if addr.IP.To4() == nil {
			addr.Flags = unix.IFA_F_NODAD // usable at once
		}
		must(t, n.Name, n.Link.AddrAdd(link, addr))
	}
}

// Route leads a prefix, or "default" of the family of via, to a gateway.
func (n *Namespace) Route(t testing.TB, prefix, via string) {
	t.Helper()
	gateway := netip.MustParseAddr(via)
	if prefix == "default" {
		prefix = "0.0.0.0/0"
		if gateway.Is6() {
			prefix = "::/0"
		}
	}
	_, dst, err := net.ParseCIDR(prefix)
	must(t, n.Name, err)
	must(t, n.Name, n.Link.RouteAdd(&netlink.Route{Dst: dst, Gw: gateway.AsSlice()}))
}

// Run runs a program inside n and returns what it prints.
func (n *Namespace) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %s %s: %v\n%s", n.Name, name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *Namespace) link(t testing.TB, name string) netlink.Link {
	t.Helper()
	link, err := n.Link.LinkByName(name)
	must(t, n.Name+": link "+name, err)
	return link
}

// An End is one end of a cable: a link in a namespace, and its addresses.
type End struct {
	In    *Namespace
	Link  string
	Addrs []string
}

// Cable joins two namespaces by a veth pair; both ends are up and carry
// packets when it returns.
func Cable(t testing.TB, a, b End) {
	t.Helper()
	must(t, a.In.Name, a.In.Link.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.Link, MTU: 1500},
		PeerName:      b.Link,
		PeerNamespace: netlink.NsFd(b.In.FD()),
	}))
	for _, end := range []End{a, b} {
		end.In.Addr(t, end.Link, end.Addrs...)
		end.In.Up(t, end.Link)
	}
	a.In.awaitCarrier(t, a.Link)
	b.In.awaitCarrier(t, b.Link)
}

// awaitCarrier waits until the kernel has noticed that the other end is up.
// It does so a little later (net/core/link_watch.c), and drops until then: later
// by seconds while namespaces end, for which it holds the lock that this takes.
func (n *Namespace) awaitCarrier(t testing.TB, name string) {
	t.Helper()
	Await(t, n.Name+": link "+name+" to come up", func() bool {
		return n.link(t, name).Attrs().OperState == netlink.OperUp
	})
}

// Bridge makes a bridge in n out of links that are there already, with
// hairpin mode on every port as CNI plug-ins set it.
func (n *Namespace) Bridge(t testing.TB, name string, ports ...string) {
	t.Helper()
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	must(t, n.Name, n.Link.LinkAdd(bridge))
	for _, p := range ports {
		n.Enslave(t, name, p)
	}
	n.Up(t, name)
}

// Enslave makes a link one more port of a bridge.
func (n *Namespace) Enslave(t testing.TB, bridge, port string) {
	t.Helper()
	must(t, n.Name, n.Link.LinkSetMaster(n.link(t, port), n.link(t, bridge)))
	must(t, n.Name, n.Link.LinkSetHairpin(n.link(t, port), true))
}

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
