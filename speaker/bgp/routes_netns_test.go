//go:build netns

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

var families46 = []string{"ipv4", "ipv6"}

// told are routes with all that can be said.
var told = []speaker.Route{
	{Prefix: prefix("203.0.113.1/32"), Communities: []uint32{65100<<16 | 1, 0xffff0000}, Large: [][3]uint32{{65100, 1, 2}, {4200000001, 3, 4}}, MED: number(7), LocalPref: number(250)},
	{Prefix: prefix("203.0.113.2/32")},
	{Prefix: prefix("203.0.113.128/25"), MED: number(0)},
	{Prefix: prefix("2001:db8:f::1/128"), Communities: []uint32{65100<<16 | 1}, Large: [][3]uint32{{65100, 1, 2}}, MED: number(9)},
	{Prefix: prefix("2001:db8:f:1::/64")},
}

// expected is how a judge sees routes that have these next hops.
func expected(w speaker.Session, routes []speaker.Route, hop4, hop6 string) map[netip.Prefix]heard {
	all := map[netip.Prefix]heard{}
	for _, r := range routes {
		h := heard{hop: hop6, path: fmt.Sprint(w.LocalASN), localPref: -1, med: -1}
		if r.Prefix.Addr().Is4() {
			h.hop = hop4
		}
		if h.hop == "" {
			continue
		}
		if w.LocalASN == w.PeerASN {
			h.path, h.localPref = "", 100
			if r.LocalPref != nil {
				h.localPref = int64(*r.LocalPref)
			}
		}
		if r.MED != nil {
			h.med = int64(*r.MED)
		}
		var c, l []string
		for _, n := range r.Communities {
			c = append(c, fmt.Sprintf("%d:%d", n>>16, n&0xffff))
		}
		for _, n := range r.Large {
			l = append(l, fmt.Sprintf("%d:%d:%d", n[0], n[1], n[2]))
		}
		h.communities, h.large = strings.Join(c, " "), strings.Join(l, " ")
		all[r.Prefix] = h
	}
	return all
}

// plain takes away what a judge adds of its own.
func plain(routes map[netip.Prefix]heard, w speaker.Session) map[netip.Prefix]heard {
	for p, h := range routes {
		if w.LocalASN != w.PeerASN {
			h.localPref = -1
		}
		if h.path == "Local" {
			h.path = ""
		}
		routes[p] = h
	}
	return routes
}

// awaitRoutes waits until a judge sees what it should, and shows the difference
// if it never does.
func awaitRoutes(t testing.TB, j judge, w speaker.Session, want map[netip.Prefix]heard) {
	t.Helper()
	var got map[netip.Prefix]heard
	for end := time.Now().Add(nettest.Long); time.Now().Before(end); time.Sleep(20 * ms) {
		if got = plain(j.routes(t), w); cmp.Equal(got, want, cmp.AllowUnexported(heard{}), cmp.Comparer(samePrefix)) {
			return
		}
	}
	t.Fatalf("the router's routes (-want +got):\n%s", cmp.Diff(want, got, cmp.AllowUnexported(heard{}), cmp.Comparer(samePrefix)))
}

func samePrefix(a, b netip.Prefix) bool { return a == b }

// ebgp is the peering of base.
func ebgp() peering {
	return peering{local: 65001, asn: 65100, neighbor: "192.0.2.10", families: slices.Clone(families46)}
}

// A feature is a kind of session, at both ends.
type feature struct {
	name       string
	at         func(p *peering, w *speaker.Session)
	hop4, hop6 string // as the router is to see them; "ll" for our link-local one
	err        string // what is said though the session is up
}

var features = []feature{
	{"both families over IPv4", func(*peering, *speaker.Session) {}, "192.0.2.10", "2001:db8::10", ""},
	{"both families over IPv6", func(p *peering, w *speaker.Session) {
		p.neighbor, w.Addr = "2001:db8::10", ip("2001:db8::1")
	}, "2001:db8::10", "2001:db8::10", ""},
	{"numbers of four bytes", func(p *peering, w *speaker.Session) {
		p.local, p.asn, w.PeerASN, w.LocalASN = 4200000001, 4200000100, 4200000001, 4200000100
	}, "192.0.2.10", "2001:db8::10", ""},
	{"internal, with local preferences", func(p *peering, w *speaker.Session) {
		p.asn, w.LocalASN, w.Relation = 65001, 65001, speaker.Internal
	}, "192.0.2.10", "2001:db8::10", ""},
	{"any external number", func(_ *peering, w *speaker.Session) {
		w.PeerASN, w.Relation = 0, speaker.External
	}, "192.0.2.10", "2001:db8::10", ""},
	{"a password", func(p *peering, w *speaker.Session) { p.password, w.Password = "secret", "secret" }, "192.0.2.10", "2001:db8::10", ""},
	{"a password over IPv6", func(p *peering, w *speaker.Session) {
		p.neighbor, w.Addr = "2001:db8::10", ip("2001:db8::1")
		p.password, w.Password = "secret", "secret"
	}, "2001:db8::10", "2001:db8::10", ""},
	{"TTL security", func(p *peering, w *speaker.Session) { p.ttl, w.TTLSecurity = true, true }, "192.0.2.10", "2001:db8::10", ""},
	{"TTL security over IPv6", func(p *peering, w *speaker.Session) {
		p.neighbor, w.Addr = "2001:db8::10", ip("2001:db8::1")
		p.ttl, w.TTLSecurity = true, true
	}, "2001:db8::10", "2001:db8::10", ""},
	{"several hops between loopback addresses", func(p *peering, w *speaker.Session) {
		p.neighbor, p.source, p.multihop = "198.51.100.10", "198.51.100.1", 3
		w.Addr, w.Source, w.Hops = ip("198.51.100.1"), ip("198.51.100.10"), 3
	}, "198.51.100.10", "2001:db8:10::10", ""},
	{"a source address", func(p *peering, w *speaker.Session) {
		p.neighbor, w.Source = "192.0.2.11", ip("192.0.2.11")
	}, "192.0.2.11", "2001:db8::10", ""},
	{"another port", func(p *peering, w *speaker.Session) { p.port, w.Port = 1790, 1790 }, "192.0.2.10", "2001:db8::10", ""},
	{"a router that dials as well", func(p *peering, _ *speaker.Session) { p.active = true }, "192.0.2.10", "2001:db8::10", ""},
	{"no keepalives", func(p *peering, w *speaker.Session) { p.hold, w.HoldTime, w.Keepalive = "0 0", 0, 0 }, "192.0.2.10", "2001:db8::10", ""},
	{"IPv4 alone", func(p *peering, w *speaker.Session) { p.families, w.V6 = families46[:1], false }, "192.0.2.10", "", ""},
	{"IPv6 alone over IPv4", func(p *peering, w *speaker.Session) { p.families, w.V4 = families46[1:], false }, "", "2001:db8::10", ""},
	{"a family that the router refuses", func(p *peering, _ *speaker.Session) { p.families = families46[:1] }, "192.0.2.10", "",
		"the router does not take IPv6 routes in this session: activate the family there, or take it out of spec.families"},
	{"a link-local address", func(p *peering, w *speaker.Session) {
		p.neighbor, w.Addr, w.Interface = "ll", ip("fe80::1"), "link"
	}, "ll", "ll", ""},
	{"unnumbered", func(p *peering, w *speaker.Session) {
		p.neighbor, w.Addr, w.Interface = "", netip.Addr{}, "link"
	}, "ll", "ll", ""},
}

// What a router of another make says it was told is what Sync was told.
func TestRoutersAreTold(t *testing.T) {
	for _, j := range judges {
		for _, f := range features {
			t.Run(j.name+" "+f.name, func(t *testing.T) {
				in := cable(t, node(t), []string{"192.0.2.10/24", "192.0.2.11/24", "2001:db8::10/64"}, []string{"192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"})
				loopbacks(t, in)
				p, w := ebgp(), base("a", "192.0.2.1")
				w.Routes = told
				f.at(&p, &w)
				ll := linkLocal(t, in)
				hop := func(h string) string { return strings.Replace(h, "ll", ll, 1) }
				p.neighbor, w.Interface = hop(p.neighbor), strings.Replace(w.Interface, "link", in.link, 1)
				r := j.start(t, in, p)
				s, _ := run(t)
				want(t, s, w)
				awaitUp(t, s, "a")
				awaitRoutes(t, r, w, expected(w, told, hop(f.hop4), hop(f.hop6)))
				if st := state(s, "a"); st.Err != f.err {
					t.Errorf("the session says %q, want %q", st.Err, f.err)
				}
			})
		}
	}
}

// loopbacks gives both ends an address that is on no link, and a way to it.
func loopbacks(t testing.TB, in site) {
	t.Helper()
	n := node(t)
	if link, err := n.Link.LinkByName("lo"); err == nil {
		for family, a := range map[int]string{unix.AF_INET: "198.51.100.10/32", unix.AF_INET6: "2001:db8:10::10/128"} {
			addrs, _ := n.Link.AddrList(link, family)
			if !slices.ContainsFunc(addrs, func(have netlink.Addr) bool { return have.IPNet.String() == a }) {
				n.Addr(t, "lo", a)
			}
		}
	}
	in.Addr(t, "lo", "198.51.100.1/32")
	n.Route(t, "198.51.100.1/32", "192.0.2.1")
	in.Route(t, "198.51.100.10/32", "192.0.2.10")
	in.Route(t, "2001:db8:10::10/128", "2001:db8::10")
}

// linkLocal returns the node's address on the cable.
func linkLocal(t testing.TB, in site) string {
	t.Helper()
	n := node(t)
	link, err := n.Link.LinkByName(in.link)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := n.Link.AddrList(link, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a.IP.IsLinkLocalUnicast() {
			return a.IP.String()
		}
	}
	t.Fatalf("%s has no link-local address", in.link)
	return ""
}
