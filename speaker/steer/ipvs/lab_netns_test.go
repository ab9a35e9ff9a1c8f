//go:build netns

package ipvs

import (
	"context"
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// A lab is one segment with a client, a router with a client far behind it,
// and two nodes. Node one steers; it has two pods on a bridge, node two one.
//
//	client .100 ─┐                 ┌─ one .11 ─ cni0 ─ pods a 10.244.1.10, b 10.244.1.11
//	router .1   ─┼─ 192.168.50.0/24 ┤
//	  └ far      ┘                 └─ two .12 ─ cni0 ─ pod  c 10.244.2.10
//
// IPv6 likewise: fd50::, fd10:244:1::, far is fd99::7. Every path filter of
// node one is strict, and it drops what conntrack calls invalid, as kube-proxy
// does.
type lab struct {
	client, router, far, one, two, a, b, c *nettest.Namespace
	k                                      *Kernel
}

// addresses of a namespace, to tell whether a server saw them.
var addressOf = map[string][]netip.Addr{
	"client": {ip("192.168.50.100"), ip("fd50::100")},
	"far":    {ip("198.51.100.7"), ip("fd99::7")},
	"one": {ip("192.168.50.11"), ip("fd50::11"), ip("10.244.1.1"), ip("fd10:244:1::1"),
		single.inside4.Addr(), single.inside6.Addr()},
	"two": {ip("192.168.50.12"), ip("fd50::12")},
	"a":   {ip("10.244.1.10"), ip("fd10:244:1::10")},
	"b":   {ip("10.244.1.11"), ip("fd10:244:1::11")},
	"c":   {ip("10.244.2.10"), ip("fd10:244:2::10")},
}

const (
	vip4 = "192.168.50.200"
	vip6 = "fd50::200"
	// Of a second Service, where a test has one.
	other4 = "192.168.50.201"
	other6 = "fd50::201"
)

func newLab(t testing.TB) *lab {
	t.Helper()
	nettest.RequireIPVS(t)
	l := &lab{}
	for name, n := range map[string]**nettest.Namespace{
		"client": &l.client, "router": &l.router, "far": &l.far,
		"one": &l.one, "two": &l.two, "a": &l.a, "b": &l.b, "c": &l.c,
	} {
		*n = nettest.New(t, name)
	}
	l.segment(t)
	l.pods(t, l.one, "1", map[string]*nettest.Namespace{"10": l.a, "11": l.b})
	l.pods(t, l.two, "2", map[string]*nettest.Namespace{"10": l.c})
	for _, via := range []struct {
		in                    *nettest.Namespace
		prefix4, via4, p6, v6 string
	}{
		{l.one, "10.244.2.0/24", "192.168.50.12", "fd10:244:2::/64", "fd50::12"},
		{l.two, "10.244.1.0/24", "192.168.50.11", "fd10:244:1::/64", "fd50::11"},
		// In place of a speaker that answers ARP.
		{l.client, vip4 + "/32", "192.168.50.11", vip6 + "/128", "fd50::11"},
		{l.router, vip4 + "/32", "192.168.50.11", vip6 + "/128", "fd50::11"},
		{l.two, vip4 + "/32", "192.168.50.11", vip6 + "/128", "fd50::11"},
	} {
		via.in.Route(t, via.prefix4, via.via4)
		via.in.Route(t, via.p6, via.v6)
	}
	l.one.Sysctl(t, "net/ipv4/conf/all/rp_filter", "1")
	l.one.Run(t, "nft", "add table inet proxy; "+
		"add chain inet proxy forward { type filter hook forward priority filter; }; "+
		"add rule inet proxy forward ct state invalid counter drop")
	l.k = newKernel(t, l.one)
	if err := l.k.Prepare(context.Background()); err != nil {
		t.Fatalf("Prepare() = %v", err)
	}
	return l
}

// segment joins everything that is on 192.168.50.0/24.
func (l *lab) segment(t testing.TB) {
	lan := nettest.New(t, "lan")
	var ports []string
	for _, host := range []struct {
		n      *nettest.Namespace
		number string
	}{{l.client, "100"}, {l.router, "1"}, {l.one, "11"}, {l.two, "12"}} {
		port := "p" + host.number
		nettest.Cable(t,
			nettest.End{In: host.n, Link: "eth0", Addrs: []string{"192.168.50." + host.number + "/24", "fd50::" + host.number + "/64"}},
			nettest.End{In: lan, Link: port})
		ports = append(ports, port)
		if host.n != l.router {
			host.n.Route(t, "default", "192.168.50.1")
			host.n.Route(t, "default", "fd50::1")
		}
	}
	lan.Bridge(t, "br0", ports...)
	nettest.Cable(t,
		nettest.End{In: l.far, Link: "eth0", Addrs: []string{"198.51.100.7/24", "fd99::7/64"}},
		nettest.End{In: l.router, Link: "eth1", Addrs: []string{"198.51.100.1/24", "fd99::1/64"}})
	l.far.Route(t, "default", "198.51.100.1")
	l.far.Route(t, "default", "fd99::1")
}

// pods gives node the pods of its prefix, with their servers.
func (l *lab) pods(t testing.TB, node *nettest.Namespace, number string, pods map[string]*nettest.Namespace) {
	var ports []string
	net4, net6 := "10.244."+number+".", "fd10:244:"+number+"::"
	for last, pod := range pods {
		nettest.Cable(t,
			nettest.End{In: pod, Link: "eth0", Addrs: []string{net4 + last + "/24", net6 + last + "/64"}},
			nettest.End{In: node, Link: "v" + last})
		ports = append(ports, "v"+last)
		pod.Route(t, "default", net4+"1")
		pod.Route(t, "default", net6+"1")
		pod.Serve(t, "tcp", ":8080")
		pod.Serve(t, "udp", ":8080")
	}
	node.Bridge(t, "cni0", ports...)
	node.Addr(t, "cni0", net4+"1/24", net6+"1/64")
}

// The services of the lab, by port.
const (
	kept      = "80" // pods of node one, the client's address is kept
	snatted   = "81" // pods of both nodes, SNAT
	hostKept  = "82" // an endpoint in the network of node one, address kept
	hostSNAT  = "83" // the same, SNAT
	noBackend = "90"
)

// rows are what steers all services of the lab.
func rows() steer.Table {
	t := steer.NewTable()
	for _, f := range []struct{ vip, a, b, c, one, pods string }{
		{vip4, "10.244.1.10", "10.244.1.11", "10.244.2.10", "192.168.50.11", "10.244.1.0/24"},
		{"[" + vip6 + "]", "[fd10:244:1::10]", "[fd10:244:1::11]", "[fd10:244:2::10]", "[fd50::11]", "fd10:244:1::/64"},
	} {
		t.Pods[netip.MustParsePrefix(f.pods)] = true
		for _, proto := range []string{"tcp", "udp"} {
			for port, s := range map[string]struct {
				snat  bool
				dests []string
			}{
				kept:      {false, []string{f.a + ":8080", f.b + ":8080"}},
				snatted:   {true, []string{f.a + ":8080", f.c + ":8080"}},
				hostKept:  {false, []string{f.one + ":9090"}},
				hostSNAT:  {true, []string{f.one + ":9090"}},
				noBackend: {false, nil},
			} {
				v := kerneltest.Virtual(f.vip + ":" + port + "/" + proto)
				t.Servers[v] = steer.Server{Scheduler: "rr", SNAT: s.snat}
				t.Addrs[v.Addr.Addr()] = true
				for _, d := range s.dests {
					t.Dests[steer.Dest{Virtual: v, Real: netip.MustParseAddrPort(d)}] = 1
				}
			}
		}
	}
	return t
}

// settle brings the kernel to want and checks that it then lists it.
func (l *lab) settle(t testing.TB, want steer.Table) {
	t.Helper()
	ctx := context.Background()
	have, err := l.k.Table(ctx)
	if err != nil {
		t.Fatalf("Table() = %v", err)
	}
	join, leave := steer.Diff(have, want)
	if err := l.k.Apply(ctx, append(join, leave...)); err != nil {
		t.Fatalf("Apply() = %v", err)
	}
	l.holds(t, want)
}

// holds fails t unless the kernel lists exactly want.
func (l *lab) holds(t testing.TB, want steer.Table) {
	t.Helper()
	have, err := l.k.Table(context.Background())
	if err != nil {
		t.Fatalf("Table() = %v", err)
	}
	if join, leave := steer.Diff(have, want); len(join)+len(leave) > 0 {
		t.Errorf("Table() differs from what is wanted by %v, %v", join, leave)
	}
}
