//go:build netns

package ndp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
	"github.com/herald-lb/herald/speaker/l2/l2test"
)

func TestMain(m *testing.M) {
	nettest.Main(m, map[string]nettest.Role{"speaker": language.Speaker})
}

func BenchmarkFlood(b *testing.B) { language.BenchFlood(b) }

func TestKernel(t *testing.T) { l2test.RunKernel(t, language) }

// knock makes the kernel of a host look for target.
func knock(t *testing.T, host *nettest.Namespace, target string) {
	t.Helper()
	c, err := host.Dial("udp", net.JoinHostPort(target, "9"))
	if err == nil {
		_, err = c.Write([]byte("anybody?"))
		c.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// neighbour is what the kernel of a host believes about an address.
func neighbour(t *testing.T, host *nettest.Namespace, addr string) netlink.Neigh {
	t.Helper()
	list, err := host.Link.NeighList(host.Index(t, "eth0"), netlink.FAMILY_V6)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if n.IP.Equal(net.ParseIP(addr)) {
			return n
		}
	}
	return netlink.Neigh{}
}

func reachable(t *testing.T, host *nettest.Namespace, addr string, at l2.MAC) func() bool {
	return func() bool {
		n := neighbour(t, host, addr)
		return n.State == netlink.NUD_REACHABLE && bytes.Equal(n.HardwareAddr, at[:])
	}
}

func TestKernelsResolve(t *testing.T) {
	t.Parallel()
	p := language.NewPair(t)
	p.Sync(t, "eth0 10")
	knock(t, p.Client, "2001:db8::10")
	l2test.WaitFor(t, "the client to find the address", reachable(t, p.Client, "2001:db8::10", l2test.MACOf(t, p.Node, "eth0")))
	knock(t, p.Client, "2001:db8::12")
	l2test.WaitFor(t, "the client to give up on one that nobody has", func() bool {
		return neighbour(t, p.Client, "2001:db8::12").State == netlink.NUD_FAILED
	})
}

// A kernel that probes an entry asks by unicast, and no other way.
func TestKernelsRefresh(t *testing.T) {
	t.Parallel()
	p := language.NewPair(t)
	p.Sync(t, "eth0 10")
	us := l2test.MACOf(t, p.Node, "eth0")
	for range 3 {
		asked := p.Announcer.Stats().Requests
		probe := &netlink.Neigh{LinkIndex: p.Client.Index(t, "eth0"), IP: net.ParseIP("2001:db8::10"), State: netlink.NUD_PROBE, HardwareAddr: us[:]}
		if err := p.Client.Link.NeighSet(probe); err != nil {
			t.Fatal(err)
		}
		l2test.WaitFor(t, "the client to reach it", reachable(t, p.Client, "2001:db8::10", us))
		if got := p.Announcer.Stats().Requests; got == asked {
			t.Error("it was reached without a question")
		}
	}
}

// A host that wants an address of ours for itself has to give up (RFC 4862
// §5.4.5), and is shown.
func TestKernelsGiveUpWhatIsTaken(t *testing.T) {
	t.Parallel()
	p := language.NewPair(t)
	p.Sync(t, "eth0 10")
	// A greeting alone would make it give up.
	l2test.WaitFor(t, "the greetings to be over", func() bool { return p.Announcer.Stats().Greetings == 5 })
	p.Client.Sysctl(t, "net/ipv6/conf/eth0/accept_dad", "1")
	link, err := p.Client.Link.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	flags := func(addr string) int {
		list, err := p.Client.Link.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if a.IP.Equal(net.ParseIP(addr)) {
				return a.Flags
			}
		}
		t.Fatalf("%s is gone", addr)
		return 0
	}
	for _, addr := range []string{"2001:db8::10", "2001:db8::12"} {
		a, err := netlink.ParseAddr(addr + "/64")
		if err = errors.Join(err, p.Client.Link.AddrAdd(link, a)); err != nil {
			t.Fatal(err)
		}
	}
	l2test.WaitFor(t, "the client to give up", func() bool { return flags("2001:db8::10")&unix.IFA_F_DADFAILED != 0 })
	l2test.WaitFor(t, "the client to have what is free", func() bool { return flags("2001:db8::12")&unix.IFA_F_TENTATIVE == 0 })
	l2test.WaitFor(t, "the dispute to be shown", func() bool {
		d := p.Announcer.Stats().Disputes
		return len(d) == 1 && d[0].Claim.Addr == ip("2001:db8::10") && d[0].MAC == l2test.MACOf(t, p.Client, "eth0").String()
	})
}

func TestKernelsFollowATakeover(t *testing.T) {
	t.Parallel()
	p := language.NewPair(t)
	us := l2test.MACOf(t, p.Node, "eth0")
	old := &netlink.Neigh{
		LinkIndex: p.Client.Index(t, "eth0"), IP: net.ParseIP("2001:db8::10"), State: netlink.NUD_REACHABLE,
		HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0x66},
	}
	if err := p.Client.Link.NeighSet(old); err != nil {
		t.Fatal(err)
	}
	p.Sync(t, "eth0 10")
	l2test.WaitFor(t, "the greeting to correct the client's neighbour table", func() bool {
		return bytes.Equal(neighbour(t, p.Client, "2001:db8::10").HardwareAddr, us[:])
	})
}

// ready waits until the kernel of a router has done with addr and with the address of the
// link itself on eth0. It makes their routes, and joins their groups, a little later.
func ready(t *testing.T, router *nettest.Namespace, addr string) {
	t.Helper()
	l2test.WaitFor(t, "the addresses of the node to be ready", func() bool {
		routes := router.Run(t, "ip", "-6", "route", "show", "table", "local", "dev", "eth0")
		return strings.Contains(routes, "local "+addr) && strings.Contains(routes, "local fe80:") && strings.Count(routes, "anycast ") == 2
	})
}

// claims is one of an address on eth0.
func claims(addr string) speaker.Announcements {
	return speaker.Announcements{Claims: []speaker.Claim{{Addr: ip(addr), Link: "eth0"}}}
}

// listens is whether a host's eth0 is in the group of an address.
func listens(t *testing.T, host *nettest.Namespace, addr string) bool {
	t.Helper()
	return slices.Contains(strings.Fields(host.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0")), group(addr))
}

func TestGroupsAreThoseOfWhatIsClaimed(t *testing.T) {
	t.Parallel()
	p := language.NewPair(t)
	const ten, eleven = "2001:db8::10", "2001:db8::11"
	// A link that comes back may be opened once more, and a program that has just been
	// started may hold what it inherited.
	check := func(when string, want ...string) {
		t.Helper()
		l2test.WaitFor(t, fmt.Sprintf("the groups to be those of %v: %s", want, when), func() bool {
			return listens(t, p.Node, ten) == slices.Contains(want, ten) && listens(t, p.Node, eleven) == slices.Contains(want, eleven)
		})
	}
	check("at first")
	p.Sync(t, "eth0 10 11 2001:db8:7::10")
	check("claimed", ten, eleven)
	p.Sync(t, "eth0 11 2001:db8:7::10")
	check("one of two that share a group is left", ten, eleven)
	p.Node.Down(t, "eth0")
	p.Node.Up(t, "eth0")
	p.Node.Sysctl(t, "net/ipv6/conf/eth0/disable_ipv6", "1")
	p.Node.Sysctl(t, "net/ipv6/conf/eth0/disable_ipv6", "0")
	l2test.WaitFor(t, "the link to come back", func() bool { return p.Announcer.Sync(t.Context(), claims("2001:db8::11")) == nil })
	check("after the link was down and IPv6 off", eleven)
	p.Sync(t, "eth0 10")
	check("the other", ten)
	p.Sync(t)
	check("nothing is claimed")
}

// Below its smallest MTU the kernel takes IPv6 off a link, groups and all.
func TestLinkThatIsTooNarrowComesBack(t *testing.T) {
	t.Parallel()
	p := language.NewPair(t)
	p.Sync(t, "eth0 10")
	link, err := p.Node.Link.LinkByName("eth0")
	if err = errors.Join(err, p.Node.Link.LinkSetMTU(link, 1000)); err != nil {
		t.Fatal(err)
	}
	l2test.WaitFor(t, "the link to be refused", func() bool {
		err := p.Announcer.Sync(t.Context(), claims("2001:db8::10"))
		return err != nil && strings.Contains(err.Error(), "its MTU is 1000: NDP takes 1280")
	})
	if err := p.Node.Link.LinkSetMTU(link, 1500); err != nil {
		t.Fatal(err)
	}
	l2test.WaitFor(t, "the group to be joined again", func() bool { return listens(t, p.Node, "2001:db8::10") })
}

// More groups than one socket may join.
func TestManyGroups(t *testing.T) {
	t.Parallel()
	p := language.NewPair(t)
	many := "eth0"
	for i := range 2500 {
		many += fmt.Sprintf(" 2001:db8::1:%x", i)
	}
	ready(t, p.Node, "2001:db8::2")
	before := p.Node.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0")
	p.Sync(t, many)
	if got := strings.Count(p.Node.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0"), "ff02::1:ff01:"); got != 2500 {
		t.Errorf("in %d groups, want 2500", got)
	}
	knock(t, p.Client, "2001:db8::1:7")
	l2test.WaitFor(t, "one of many to be found", reachable(t, p.Client, "2001:db8::1:7", l2test.MACOf(t, p.Node, "eth0")))
	p.Sync(t)
	// A program that has just been started may hold what it inherited.
	l2test.WaitFor(t, "all to be left", func() bool { return p.Node.Run(t, "ip", "-6", "maddr", "show", "dev", "eth0") == before })
}

// A switch that looks for listeners learns of ours, by MLD, and on which port.
func TestSwitchLearnsOfGroups(t *testing.T) {
	t.Parallel()
	nettest.Require(t)
	node, hub, client := nettest.New(t, "node"), nettest.New(t, "switch"), nettest.New(t, "client")
	nettest.Cable(t, nettest.End{In: node, Link: "eth0", Addrs: []string{"2001:db8::2/64"}}, nettest.End{In: hub, Link: "p1"})
	nettest.Cable(t, nettest.End{In: client, Link: "eth0", Addrs: []string{"2001:db8::1/64"}}, nettest.End{In: hub, Link: "p2"})
	hub.Bridge(t, "br0", "p1", "p2")
	hub.Run(t, "ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "1", "mcast_mld_version", "2")
	if !strings.Contains(hub.Run(t, "ip", "-details", "link", "show", "br0"), "mcast_snooping 1") {
		t.Skip("bridges of this kernel do not look for listeners")
	}

	a := New(l2.Options{NetNS: &node.Handle})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	<-a.Started()
	if err := a.Sync(t.Context(), claims("2001:db8::10")); err != nil {
		t.Fatal(err)
	}
	l2test.WaitFor(t, "the switch to learn of the group", func() bool {
		for line := range strings.Lines(hub.Run(t, "bridge", "mdb", "show", "dev", "br0")) {
			if f := strings.Fields(line); slices.Contains(f, group("2001:db8::10")) {
				return slices.Contains(f, "p1")
			}
		}
		return false
	})
	knock(t, client, "2001:db8::10")
	l2test.WaitFor(t, "the client to find the address", reachable(t, client, "2001:db8::10", l2test.MACOf(t, node, "eth0")))
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v", err)
	}
}

// Nothing of an address is ever in the kernel of the node but its group, and
// nothing is left in the end.
func TestLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	nettest.Require(t)
	node, client := nettest.New(t, "node"), nettest.New(t, "client")
	nettest.Cable(t,
		nettest.End{In: node, Link: "eth0", Addrs: []string{"2001:db8::2/64"}},
		nettest.End{In: client, Link: "eth0", Addrs: []string{"2001:db8::1/64"}})
	kernel := func() string {
		addrs := strings.ReplaceAll(node.Run(t, "ip", "-6", "addr"), " tentative", "")
		return addrs + node.Run(t, "ip", "-6", "route", "show", "table", "all") + node.Run(t, "ip", "-6", "neigh", "show", "proxy")
	}
	maddr := func() string { return node.Run(t, "ip", "maddr") }
	ready(t, node, "2001:db8::2")
	before, groups := kernel(), maddr()
	a := New(l2.Options{NetNS: &node.Handle})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	<-a.Started()
	if err := a.Sync(t.Context(), claims("2001:db8::10")); err != nil {
		t.Fatal(err)
	}
	knock(t, client, "2001:db8::10")
	l2test.WaitFor(t, "the client to find the address", reachable(t, client, "2001:db8::10", l2test.MACOf(t, node, "eth0")))
	if now := kernel(); now != before {
		t.Errorf("while it runs the kernel has\n%s\nbefore\n%s", now, before)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v", err)
	}
	l2test.WaitFor(t, "all groups to be left", func() bool { return maddr() == groups })
}
