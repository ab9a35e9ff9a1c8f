//go:build netns

package nft

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// A lab is a client, a node with two pods on a bridge, and a second node with
// one more pod. The pods know no way back to the client but through a node.
//
//	client 198.51.100.1 --- .2 node 10.244.1.1 --- pods 10.244.1.{10,11}
//	                          172.16.0.1 --- .2 other 10.244.2.1 --- pod 10.244.2.10
type lab struct {
	client, node, other *nettest.Namespace
	pods                []*nettest.Namespace // two local ones, a remote one
	kernel              *Kernel
}

// A world is what one family calls its addresses.
type world struct {
	name, vip, client string
	second            string // another address of the client, for those who add it
	node              string // an address of the node, as the client sees it
	gateway           string // the node, as its pods see it
	targets           []string
}

var worlds = []world{
	{"v4", "203.0.113.1", "198.51.100.1", "198.51.100.3", "198.51.100.2", "10.244.1.1",
		[]string{"10.244.1.10", "10.244.1.11", "10.244.2.10"}},
	{"v6", "2001:db8:f::1", "2001:db8:1::1", "2001:db8:1::3", "2001:db8:1::2", "fd10:244:1::1",
		[]string{"fd10:244:1::10", "fd10:244:1::11", "fd10:244:2::10"}},
}

// at returns "address:port", with brackets where they belong.
func at(addr string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port).String()
}

func newLab(t testing.TB) *lab {
	t.Helper()
	nettest.Require(t)
	l := &lab{client: nettest.New(t, "client"), node: nettest.New(t, "node"), other: nettest.New(t, "other")}
	nettest.Cable(t,
		nettest.End{In: l.client, Link: "eth0", Addrs: []string{"198.51.100.1/24", "2001:db8:1::1/64"}},
		nettest.End{In: l.node, Link: "eth0", Addrs: []string{"198.51.100.2/24", "2001:db8:1::2/64"}})
	nettest.Cable(t,
		nettest.End{In: l.node, Link: "eth1", Addrs: []string{"172.16.0.1/24", "fd16::1/64"}},
		nettest.End{In: l.other, Link: "eth1", Addrs: []string{"172.16.0.2/24", "fd16::2/64"}})
	l.node.Route(t, "10.244.2.0/24", "172.16.0.2")
	l.node.Route(t, "fd10:244:2::/64", "fd16::2")
	for _, w := range worlds {
		for _, addr := range []string{w.vip, w.gateway} {
			a := netip.MustParseAddr(addr)
			l.client.Route(t, netip.PrefixFrom(a, a.BitLen()).String(), w.node)
		}
		// A node has a default route, which is how it finds a source.
		l.node.Route(t, "default", w.client)
	}
	l.bridge(t, l.node, 1, "10", "11")
	l.bridge(t, l.other, 2, "10")
	l.kernel = New(Options{NetNS: l.node.FD()})
	t.Cleanup(func() { l.kernel.Close() })
	l.prepare(t)
	return l
}

// bridge gives a node pods with the given last parts of their addresses.
func (l *lab) bridge(t testing.TB, n *nettest.Namespace, net int, hosts ...string) {
	t.Helper()
	var ports []string
	for _, host := range hosts {
		pod, port := nettest.New(t, fmt.Sprintf("pod%d-%s", net, host)), "p"+host
		nettest.Cable(t,
			nettest.End{In: n, Link: port},
			nettest.End{In: pod, Link: "eth0", Addrs: []string{
				fmt.Sprintf("10.244.%d.%s/24", net, host), fmt.Sprintf("fd10:244:%d::%s/64", net, host)}})
		pod.Route(t, "default", fmt.Sprintf("10.244.%d.1", net))
		pod.Route(t, "default", fmt.Sprintf("fd10:244:%d::1", net))
		pod.Serve(t, "tcp", ":8080")
		pod.Serve(t, "udp", ":8080")
		ports, l.pods = append(ports, port), append(l.pods, pod)
	}
	n.Bridge(t, "cni0", ports...)
	n.Addr(t, "cni0", fmt.Sprintf("10.244.%d.1/24", net), fmt.Sprintf("fd10:244:%d::1/64", net))
	if net == 2 {
		n.Route(t, "10.244.1.0/24", "172.16.0.1")
		n.Route(t, "fd10:244:1::/64", "fd16::1")
	}
}

func (l *lab) prepare(t testing.TB) {
	t.Helper()
	if err := l.kernel.Prepare(context.Background()); err != nil {
		t.Fatalf("Prepare() = %v", err)
	}
}

func (l *lab) apply(t testing.TB, changes ...steer.Change) {
	t.Helper()
	if err := l.kernel.Apply(context.Background(), changes); err != nil {
		t.Fatalf("Apply() = %v", err)
	}
}

// serve adds servers on port 80, tcp and udp, of w's address, with targets.
func (l *lab) serve(t testing.TB, w world, scheduler string, snat bool, targets ...string) {
	t.Helper()
	l.apply(t, kerneltest.Addr(steer.Add, w.vip))
	for _, proto := range []string{"/tcp", "/udp"} {
		l.apply(t, kerneltest.Server(steer.Add, at(w.vip, 80)+proto, scheduler, snat))
		for _, target := range targets {
			l.apply(t, kerneltest.Dest(steer.Add, at(w.vip, 80)+proto, at(target, 8080), 1))
		}
	}
}

// set adds a server, tcp and udp, with all that can be set on it.
func (l *lab) set(t testing.TB, addr string, port uint16, s steer.Server, targets ...string) {
	t.Helper()
	for _, proto := range []string{"/tcp", "/udp"} {
		l.apply(t, kerneltest.Set(steer.Add, at(addr, port)+proto, s))
		for _, target := range targets {
			l.apply(t, kerneltest.Dest(steer.Add, at(addr, port)+proto, at(target, 8080), 1))
		}
	}
}

// from asks once from a source address, and returns who answers.
func from(n *nettest.Namespace, source, network, addr string) (nettest.Reply, error) {
	c, err := n.DialFrom(network, at(source, 0), addr)
	if err != nil {
		return nettest.Reply{}, err
	}
	defer c.Close()
	return c.Ask()
}

// ask gets n answers and counts them by the name of the pod. It checks that
// each saw the client as want, unless that is "".
func ask(t testing.TB, from *nettest.Namespace, network, addr string, n int, want string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for range n {
		r, err := from.Get(network, addr)
		if err != nil {
			t.Errorf("%s asks %s %s: %v", from.Name, network, addr, err)
			continue
		}
		if want != "" && r.Peer.String() != want {
			t.Errorf("%s asks %s %s: %s sees %s, want %s", from.Name, network, addr, r.Name, r.Peer, want)
		}
		counts[r.Name]++
	}
	return counts
}
