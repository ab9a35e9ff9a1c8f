//go:build netns

package look

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/doctor"
)

// newNode is a node on 192.0.2.0/24 that forwards.
func newNode(t *testing.T) *nettest.Namespace {
	t.Helper()
	nettest.Require(t)
	node, other := nettest.New(t, "node"), nettest.New(t, "other")
	addrs := []string{"192.0.2.11/24"}
	if node.HasIPv6() {
		addrs = append(addrs, "2001:db8::11/64")
	}
	nettest.Cable(t, nettest.End{In: node, Link: "eth0", Addrs: addrs}, nettest.End{In: other, Link: "eth0", Addrs: []string{"192.0.2.1/24"}})
	return node
}

// facts are what is to be known of node, with one Service of Herald's.
func facts(t *testing.T, node *nettest.Namespace) doctor.Facts {
	t.Helper()
	var f doctor.Facts
	err := node.Do(func() (err error) {
		f, err = Node(context.Background())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Cluster = doctor.Cluster{
		Services: []snapshot.Service{{Key: "ns/a", Served: true, Ours: true, Ingress: []snapshot.Ingress{{Addr: netip.MustParseAddr("192.0.2.240"), Mode: "Proxy"}}}},
		Nodes:    map[string]string{"n1": "amd64"},
	}
	return f
}

// complaints are the findings about node that are not OK, but for those that
// only a kernel without IPVS makes.
func complaints(t *testing.T, node *nettest.Namespace) (lines []string) {
	t.Helper()
	for _, f := range doctor.Judge(facts(t, node)) {
		if f.Level != doctor.OK && f.What != "IPVS" {
			lines = append(lines, f.String())
		}
	}
	return lines
}

func TestAFitNodeIsFoundFit(t *testing.T) {
	if got := complaints(t, newNode(t)); got != nil {
		t.Errorf("found %q", got)
	}
}

func TestAKernelWithAllThatHeraldNeedsIsFoundFit(t *testing.T) {
	nettest.RequireIPVS(t)
	f := facts(t, newNode(t))
	for _, finding := range doctor.Judge(f) {
		if finding.Level != doctor.OK || finding.Remedy != "" {
			t.Errorf("found %s", finding)
		}
	}
	if len(f.Schedulers) != len(schedulers) || len(f.Tunnels) != 2 {
		t.Errorf("schedulers %v, tunnels %v", f.Schedulers, f.Tunnels)
	}
}

func TestWhatIsWrongIsFound(t *testing.T) {
	tests := []struct {
		name string
		harm func(*testing.T, *nettest.Namespace)
		want string
	}{
		{"the host does not forward", func(t *testing.T, n *nettest.Namespace) { n.Sysctl(t, "net/ipv4/ip_forward", "0") },
			"FAIL forwarding of IPv4: net.ipv4.ip_forward is 0"},
		{"nor IPv6", func(t *testing.T, n *nettest.Namespace) {
			if !n.HasIPv6() {
				t.Skip("there is no IPv6 here")
			}
			n.Sysctl(t, "net/ipv6/conf/all/forwarding", "0")
		}, "WARN forwarding of IPv6: net.ipv6.conf.all.forwarding is 0"},
		{"somebody has bound the address", func(t *testing.T, n *nettest.Namespace) { n.Addr(t, "eth0", "192.0.2.240/32") },
			"FAIL owners of addresses: 192.0.2.240 of ns/a is bound on eth0"},
		{"somebody routes it", func(t *testing.T, n *nettest.Namespace) { n.Route(t, "192.0.2.240/32", "192.0.2.1") },
			"FAIL owners of addresses: a route of somebody else leads 192.0.2.240 of ns/a past Herald: via 192.0.2.1 dev eth0"},
		{"a link of Herald's name", func(t *testing.T, n *nettest.Namespace) { n.Bridge(t, "herald-front") },
			"FAIL names and numbers of Herald: link herald-front is a bridge"},
		{"a routing table of Herald's number", func(t *testing.T, n *nettest.Namespace) {
			n.Run(t, "ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.1", "table", "7273")
		}, "FAIL names and numbers of Herald: routing table 7273 has routes of others (IPv4)"},
		{"a rule for Herald's mark", func(t *testing.T, n *nettest.Namespace) {
			n.Run(t, "ip", "rule", "add", "fwmark", "0x1000/0xf000", "lookup", "7280", "priority", "100")
		}, "WARN names and numbers of Herald: routing rule 100 of IPv4 looks at mark 0x1000/0xf000"},
		{"a strict filter where there are two links", func(t *testing.T, n *nettest.Namespace) {
			other := nettest.New(t, "third")
			nettest.Cable(t, nettest.End{In: n, Link: "eth1", Addrs: []string{"198.51.100.11/24"}}, nettest.End{In: other, Link: "eth0", Addrs: []string{"198.51.100.1/24"}})
			n.Sysctl(t, "net/ipv4/conf/all/rp_filter", "1")
		}, "WARN reverse path filtering: it is strict on eth0 eth1"},
		{"no link", func(t *testing.T, n *nettest.Namespace) { n.Down(t, "eth0") }, "FAIL links: none is up"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := newNode(t)
			tt.harm(t, node)
			got := complaints(t, node)
			if len(got) != 1 || !strings.HasPrefix(got[0], tt.want) {
				t.Errorf("found %q\nwant  %q", got, tt.want)
			}
		})
	}
}

func TestLookingChangesNothing(t *testing.T) {
	node := newNode(t)
	state := func() []string {
		var lines []string
		links, err := node.Link.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			lines = append(lines, "link "+l.Attrs().Name)
		}
		rules, err := node.Link.RuleList(netlink.FAMILY_ALL)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			lines = append(lines, r.String())
		}
		return append(lines, node.Run(t, "nft", "list", "ruleset"))
	}
	before := state()
	facts(t, node)
	if after := state(); !slices.Equal(before, after) {
		t.Errorf("before %q\nafter  %q", before, after)
	}
}
