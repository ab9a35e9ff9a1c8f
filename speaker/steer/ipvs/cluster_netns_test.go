//go:build netns

package ipvs

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
	"github.com/herald-lb/herald/speaker/steer"
)

// A cluster is one segment with a client, a router with a client far behind it,
// and nodes that all steer, each with two pods on a bridge.
//
//	client .100 ─┐                  ┌─ n1 .11 ─ cni0 ─ pods n1a 10.244.1.10, n1b .11
//	router .1   ─┼─ 192.168.50.0/24 ┼─ n2 .12 ─ cni0 ─ pods n2a 10.244.2.10, n2b .11
//	  └ far      ┘                  └─ …
//
// IPv6 likewise: fd50::, fd10:244:1::, far is fd99::7. Every path filter of the
// nodes is strict, and they drop what conntrack calls invalid, as kube-proxy
// does. The tables are planned, as a speaker plans them.
type cluster struct {
	client, router, far *nettest.Namespace
	nodes               []*host
	pods                map[string]*nettest.Namespace
	services            []snapshot.Service
	config              config.Config
	lost                map[string]bool
	late                map[string]bool // nodes that do not learn what is served
}

// A host is one node of a cluster.
type host struct {
	*nettest.Namespace
	name string
	k    *Kernel
	want steer.Table
}

func newCluster(t testing.TB, nodes int) *cluster {
	t.Helper()
	nettest.RequireIPVS(t)
	c := &cluster{
		client: nettest.New(t, "client"), router: nettest.New(t, "router"), far: nettest.New(t, "far"),
		pods: map[string]*nettest.Namespace{}, lost: map[string]bool{}, late: map[string]bool{},
	}
	lan := nettest.New(t, "lan")
	var cables []string
	plug := func(n *nettest.Namespace, number int) {
		port := fmt.Sprintf("p%d", number)
		nettest.Cable(t,
			nettest.End{In: n, Link: "eth0", Addrs: []string{fmt.Sprintf("192.168.50.%d/24", number), fmt.Sprintf("fd50::%d/64", number)}},
			nettest.End{In: lan, Link: port})
		cables = append(cables, port)
		if n != c.router {
			n.Route(t, "default", "192.168.50.1")
			n.Route(t, "default", "fd50::1")
		}
	}
	plug(c.client, 100)
	plug(c.router, 1)
	for i := 1; i <= nodes; i++ {
		n := &host{Namespace: nettest.New(t, fmt.Sprintf("n%d", i)), name: fmt.Sprintf("n%d", i)}
		c.nodes = append(c.nodes, n)
		plug(n.Namespace, 10+i)
	}
	lan.Bridge(t, "br0", cables...)
	nettest.Cable(t,
		nettest.End{In: c.far, Link: "eth0", Addrs: []string{"198.51.100.7/24", "fd99::7/64"}},
		nettest.End{In: c.router, Link: "eth1", Addrs: []string{"198.51.100.1/24", "fd99::1/64"}})
	c.far.Route(t, "default", "198.51.100.1")
	c.far.Route(t, "default", "fd99::1")
	for i, n := range c.nodes {
		c.equip(t, n, i+1)
	}
	return c
}

// equip gives node number i its pods, its routes to the pods of the others, and
// a Kernel.
func (c *cluster) equip(t testing.TB, n *host, i int) {
	t.Helper()
	var cables []string
	for j, letter := range []string{"a", "b"} {
		pod := nettest.New(t, n.name+letter)
		nettest.Cable(t,
			nettest.End{In: pod, Link: "eth0", Addrs: []string{fmt.Sprintf("10.244.%d.%d/24", i, 10+j), fmt.Sprintf("fd10:244:%d::%d/64", i, 10+j)}},
			nettest.End{In: n.Namespace, Link: "v" + letter})
		cables = append(cables, "v"+letter)
		pod.Route(t, "default", fmt.Sprintf("10.244.%d.1", i))
		pod.Route(t, "default", fmt.Sprintf("fd10:244:%d::1", i))
		pod.Serve(t, "tcp", ":8080")
		pod.Serve(t, "udp", ":8080")
		c.pods[n.name+letter] = pod
	}
	n.Bridge(t, "cni0", cables...)
	n.Addr(t, "cni0", fmt.Sprintf("10.244.%d.1/24", i), fmt.Sprintf("fd10:244:%d::1/64", i))
	for other := range c.nodes {
		if other+1 != i {
			n.Route(t, fmt.Sprintf("10.244.%d.0/24", other+1), fmt.Sprintf("192.168.50.%d", 11+other))
			n.Route(t, fmt.Sprintf("fd10:244:%d::/64", other+1), fmt.Sprintf("fd50::%d", 11+other))
		}
	}
	n.Sysctl(t, "net/ipv4/conf/all/rp_filter", "1")
	n.Run(t, "nft", "add table inet proxy; "+
		"add chain inet proxy forward { type filter hook forward priority filter; }; "+
		"add rule inet proxy forward ct state invalid counter drop")
	n.k = newKernel(t, n.Namespace)
	n.k.opts.Tunnels = n.addrs(i)
	if err := n.k.Prepare(context.Background()); err != nil {
		t.Fatalf("Prepare() of %s = %v", n.name, err)
	}
	if got := n.k.Self().Tunnels; !slices.Equal(got, n.addrs(i)) {
		t.Fatalf("%s takes tunnels at %v, want %v: %v", n.name, got, n.addrs(i), n.k.Lacks())
	}
	n.want = steer.NewTable()
}

// addrs are the addresses of node number i.
func (n *host) addrs(i int) []netip.Addr {
	return []netip.Addr{ip(fmt.Sprintf("192.168.50.%d", 10+i)), ip(fmt.Sprintf("fd50::%d", 10+i))}
}

// service is a Service on vip4 and vip6, port 80 over TCP and UDP, with the
// pods of these names as endpoints.
func (c *cluster) service(pods ...string) snapshot.Service {
	s := snapshot.Service{
		Key: "default/web", Served: true, Ours: true,
		Ingress: []snapshot.Ingress{{Addr: ip(vip4)}, {Addr: ip(vip6)}},
	}
	var targets []snapshot.Target
	for _, proto := range []snapshot.Proto{snapshot.TCP, snapshot.UDP} {
		s.Ports = append(s.Ports, snapshot.Port{Name: "web", Proto: proto, Number: 80, Node: 30080})
		targets = append(targets, snapshot.Target{Name: "web", Proto: proto, Number: 8080})
	}
	for _, pod := range pods {
		for _, addr := range c.addrsOf(pod) {
			s.Endpoints = append(s.Endpoints, snapshot.Endpoint{Addr: addr, Node: pod[:2], Ready: true, Ports: targets})
		}
	}
	return s
}

// addrsOf returns the addresses of a pod, a node or a client.
func (c *cluster) addrsOf(name string) []netip.Addr {
	switch name {
	case "client":
		return []netip.Addr{ip("192.168.50.100"), ip("fd50::100")}
	case "far":
		return []netip.Addr{ip("198.51.100.7"), ip("fd99::7")}
	}
	i, _ := strconv.Atoi(name[1:2])
	if len(name) == 2 { // of the segment, of the bridge, of the namespaces
		return append((&host{}).addrs(i), ip(fmt.Sprintf("10.244.%d.1", i)), ip(fmt.Sprintf("fd10:244:%d::1", i)),
			single.inside4.Addr(), single.inside6.Addr())
	}
	last := 10 + int(name[2]-'a')
	return []netip.Addr{ip(fmt.Sprintf("10.244.%d.%d", i, last)), ip(fmt.Sprintf("fd10:244:%d::%d", i, last))}
}

// serve makes all nodes steer these Services.
func (c *cluster) serve(t testing.TB, services ...snapshot.Service) {
	t.Helper()
	c.services = services
	s := snapshot.Snapshot{Services: services, Config: c.config}
	for i, n := range c.nodes {
		node := snapshot.Node{Name: n.name, Ready: true, Internal: n.addrs(i + 1), Addrs: n.addrs(i + 1), PodCIDRs: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i+1)), netip.MustParsePrefix(fmt.Sprintf("fd10:244:%d::/64", i+1))}}
		s.Nodes = append(s.Nodes, node)
		sp := snapshot.Speaker{Node: n.name, Tunnels: n.k.Self().Tunnels}
		if c.lost[n.name] {
			sp.Dead = true
			s.Lost = append(s.Lost, sp)
		} else {
			s.Speakers = append(s.Speakers, sp)
		}
	}
	for _, n := range c.nodes {
		if c.late[n.name] {
			continue
		}
		self := n.k.Self()
		self.Node = n.name
		want := steer.Plan(s, self)
		join, leave := steer.Diff(n.want, want)
		if err := n.k.Apply(context.Background(), append(join, leave...)); err != nil {
			t.Fatalf("Apply() on %s = %v", n.name, err)
		}
		n.want = want
	}
}

// withoutTunnels serves addresses of IPv4 as nodes do that cannot send by tunnel.
func (c *cluster) withoutTunnels(t testing.TB, services ...snapshot.Service) {
	t.Helper()
	c.forgo(t, []ipam.Range{{First: ip(vip4), Last: ip(other4)}}, services...)
}

// forgo serves with a pool of ranges that forgoes the client's address.
func (c *cluster) forgo(t testing.TB, ranges []ipam.Range, services ...snapshot.Service) {
	t.Helper()
	pool := config.Default()
	pool.Pool = ipam.Pool{Name: "lan", Ranges: ranges}
	pool.KeepClientIP = false
	c.config.Pools = []config.Pool{pool}
	c.serve(t, services...)
}

// enter makes everything outside reach the addresses through a node.
func (c *cluster) enter(t testing.TB, n *host) {
	t.Helper()
	i := slices.Index(c.nodes, n) + 1
	for _, from := range []*nettest.Namespace{c.client, c.router} {
		for _, vip := range []string{vip4, other4} {
			from.Run(t, "ip", "route", "replace", vip+"/32", "via", n.addrs(i)[0].String())
		}
		for _, vip := range []string{vip6, other6} {
			from.Run(t, "ip", "-6", "route", "replace", vip+"/128", "via", n.addrs(i)[1].String())
		}
	}
}

// tell asks once and returns who answered, and by which address the client was
// seen.
func tell(t testing.TB, client *nettest.Namespace, network, vip, port string) nettest.Reply {
	t.Helper()
	r, err := client.Get(network, net.JoinHostPort(vip, port))
	if err != nil {
		t.Errorf("%s asks %s over %s: %v", client.Name, vip, network, err)
	}
	return r
}

// nothingInvalid fails t if conntrack of a node has called a packet invalid.
func (c *cluster) nothingInvalid(t testing.TB) {
	t.Helper()
	for _, n := range c.nodes {
		if out := n.Run(t, "nft", "list", "chain", "inet", "proxy", "forward"); !strings.Contains(out, "packets 0 ") {
			t.Errorf("conntrack of %s calls packets invalid:\n%s", n.name, out)
		}
	}
}
