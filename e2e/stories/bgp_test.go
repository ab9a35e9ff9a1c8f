package stories

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/e2e/lab"
)

// routedPool is a pool that routers are told, and that is in no subnet.
const routedPool = `
apiVersion: herald-lb.io/v1alpha1
kind: AddressPool
metadata: {name: routed}
spec:
  addresses: [203.0.113.0/28, "2001:db8:113::/124"]
  announce: {bgp: [{}]}
`

// twoFamilies is what a Service of both families says.
const twoFamilies = "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6]"

// bgpPeer is the lab's router, with more fields.
func bgpPeer(name string, addr netip.Addr, more string) string {
	return bgpPeerOf(lab.RouterASN, name, addr, more)
}

// bgpPeerOf is it as a router of an autonomous system.
func bgpPeerOf(asn uint32, name string, addr netip.Addr, more string) string {
	return fmt.Sprintf("{apiVersion: herald-lb.io/v1alpha1, kind: BGPPeer, metadata: {name: %s}, spec: {myASN: %d, peerASN: %d, address: %q%s}}",
		name, lab.NodeASN, asn, addr, more)
}

// A talk is a routing daemon, and over which family it is talked to.
type talk struct {
	daemon string
	over6  bool
}

// everyTalk is what a story of what routers are told is held against; two are
// enough for one of what goes wrong on the way.
var (
	everyTalk = []talk{{"BIRD", false}, {"FRR", true}, {"BIRD", true}, {"FRR", false}}
	twoTalks  = everyTalk[:2]
)

// onTalks runs a story on each; in the guest, which is slow, on the first.
func onTalks(t *testing.T, talks []talk, story func(t *testing.T, start func(*lab.Lab, lab.Neighbours) lab.RoutingDaemon, over6 bool)) {
	if lab.InGuest() {
		talks = talks[:1]
	}
	for _, c := range talks {
		family := map[bool]string{false: "IPv4", true: "IPv6"}[c.over6]
		t.Run(c.daemon+" over "+family, func(t *testing.T) { story(t, lab.RoutingDaemons[c.daemon], c.over6) })
	}
}

// aboutRouters skips a story in the guest, which has another way to steer, and is slow.
func aboutRouters(t *testing.T) {
	t.Helper()
	if lab.InGuest() {
		t.Skip("this is about routers, and not about how the kernel steers")
	}
}

// hops is nil once the router's kernel sends what is for addr to these nodes, by
// addresses of either family.
func hops(l *lab.Lab, addr netip.Addr, nodes ...*lab.Node) error {
	got, err := l.Router.Hops(addr)
	if err != nil {
		return err
	}
	var by []string
	for _, hop := range got {
		by = append(by, nodeAt(l, hop))
	}
	slices.Sort(by)
	var want []string
	for _, n := range nodes {
		want = append(want, n.Name)
	}
	if !slices.Equal(by, want) {
		return fmt.Errorf("%s is routed by %v to %v, want %v", addr, got, by, want)
	}
	return nil
}

// nodeAt returns the name of the node that has an address on the segment.
func nodeAt(l *lab.Lab, addr netip.Addr) string {
	for _, n := range l.Nodes() {
		if addr == n.Addr(addr.Is4()) {
			return n.Name
		}
	}
	return addr.String()
}

// bothUp is agree, and BFD watches all sessions.
func bothUp(l *lab.Lab, peer string, router netip.Addr, d lab.RoutingDaemon) func() error {
	return func() error {
		if err := agree(l, peer, router, d); err != nil {
			return err
		}
		for _, n := range l.Nodes() {
			ours, err := routers(l, n)
			if err != nil {
				return err
			}
			if r := ours[peer]; r.BFD != "up" {
				return fmt.Errorf("%s says %+v", n.Name, r)
			}
		}
		return nil
	}
}

// allHops is hops for several addresses.
func allHops(l *lab.Lab, addrs []netip.Addr, nodes ...*lab.Node) func() error {
	return func() error {
		for _, addr := range addrs {
			if err := hops(l, addr, nodes...); err != nil {
				return err
			}
		}
		return nil
	}
}

// routers returns what a node says of its BGP sessions, by the name of the peer.
func routers(l *lab.Lab, n *lab.Node) (map[string]v1alpha1.SpeakerRouter, error) {
	text, err := l.Object("speakerstatuses", n.Name)
	if err != nil {
		return nil, err
	}
	var s v1alpha1.SpeakerStatus
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, err
	}
	all := map[string]v1alpha1.SpeakerRouter{}
	for _, r := range s.Status.Routers {
		all[r.Peer] = r
	}
	return all, nil
}

// agree is nil once what the router says of its sessions is what all nodes say.
func agree(l *lab.Lab, peer string, router netip.Addr, d lab.RoutingDaemon) error {
	said, err := d.Sessions()
	if err != nil {
		return err
	}
	for _, n := range l.Nodes() {
		ours, err := routers(l, n)
		if err != nil {
			return err
		}
		r, theirs := ours[peer], said[lab.Ends{Router: router, Node: n.Addr(router.Is4())}]
		bfd := r.BFD == "up"
		if (r.State == "established") != theirs.Up || int(r.Routes) != theirs.Prefixes || bfd != (theirs.BFD == "up") || theirs.Up && r.ASN != int64(d.ASN()) {
			return fmt.Errorf("%s says %+v, and the router %+v", n.Name, r, theirs)
		}
	}
	return nil
}

// established is nil once the peer has a session with so many nodes of all.
func established(l *lab.Lab, peer, of string) error {
	text, err := l.Object("bgppeers", peer)
	if err == nil && !strings.Contains(text, fmt.Sprintf(`"established":%q`, of)) {
		err = errors.New(text)
	}
	return err
}

// bothAddresses waits until a Service has its addresses, of both families.
func bothAddresses(l *lab.Lab, name string) (addrs []netip.Addr) {
	l.WaitAddress(name)
	for _, in := range l.Service(name).Status.LoadBalancer.Ingress {
		addrs = append(addrs, netip.MustParseAddr(in.IP))
	}
	return addrs
}

func stopWatch(t testing.TB, w *lab.RouteWatch) {
	t.Helper()
	if err := w.Stop(); err != nil {
		t.Errorf("watching routes: %v", err)
	}
}

func TestRoutersSpreadWhatTheyAreToldOverAllNodes(t *testing.T) {
	onTalks(t, everyTalk, func(t *testing.T, start func(*lab.Lab, lab.Neighbours) lab.RoutingDaemon, over6 bool) {
		l := lab.Start(t, lab.Options{})
		onePodEach(l, "web")
		router := l.Router.Addr(!over6)
		daemon := start(l, lab.Neighbours{Over6: over6})
		l.Apply(routedPool)
		l.Apply(bgpPeer("router", router, ""))
		l.Apply(service{name: "web", more: twoFamilies}.String())
		// Who has the pods answers for them: which pod answers tells which node was
		// chosen.
		l.Apply(service{name: "near", app: "web", more: twoFamilies + ", externalTrafficPolicy: Local"}.String())
		all := l.Nodes()
		web, near := bothAddresses(l, "web"), bothAddresses(l, "near")
		both := slices.Concat(web, near)
		l.Eventually("all nodes have told all", allHops(l, both, all...))
		for _, addr := range near {
			waitAnswer(t, l, l.Far, url(addr))
			askAll(t, l.Far, url(addr), "web-1", "web-2", "web-3")
		}
		l.Eventually("the peer says so", func() error { return established(l, "router", "3/3") })
		l.Eventually("the router and the nodes say the same", func() error { return agree(l, "router", router, daemon) })

		// A speaker that is killed has no connection any more.
		all[0].Kill()
		l.Eventually("the others have it", allHops(l, both, all[1], all[2]))
		all[0].StartSpeaker()
		l.Eventually("all have it again", allHops(l, both, all...))

		// What has no endpoint any more is withdrawn, and a Service that is gone; for
		// that no session is closed.
		l.DeleteService("web")
		l.Eventually("it is withdrawn", allHops(l, web))
		l.Eventually("the router and the nodes say the same", func() error { return agree(l, "router", router, daemon) })
		l.Eventually("the peer says so", func() error { return established(l, "router", "3/3") })
		for _, n := range all[1:] {
			if down := n.Speaker.Said("a BGP session is down") + n.Speaker.Said("a BGP session is ended"); down > 0 {
				t.Errorf("%s has closed its session", n.Name)
			}
		}
	})
}

// With policy Local only who has an endpoint tells the address, and an address that
// Services share is withdrawn when none of them can be served.
func TestAnAddressIsToldByWhoCanServeIt(t *testing.T) {
	aboutRouters(t)
	l := lab.Start(t, lab.Options{})
	a1 := l.Pod(1, "a-1", lab.PodSpec{Labels: lab.App("a")})
	l.Pod(2, "a-2", lab.PodSpec{Labels: lab.App("a")})
	b3 := l.Pod(3, "b-3", lab.PodSpec{Labels: lab.App("b")})
	l.Bird(lab.Neighbours{})
	l.Apply(routedPool)
	l.Apply(bgpPeer("router", l.Router.Addr(true), ""))
	l.Apply(service{name: "local", app: "a", more: "externalTrafficPolicy: Local"}.String())
	local := l.WaitAddress("local")
	n1, n2, n3 := l.Node(1), l.Node(2), l.Node(3)
	l.Eventually("those with an endpoint tell it", func() error { return hops(l, local, n1, n2) })
	a1.Ready(false)
	l.Eventually("not the one whose endpoint is not ready", func() error { return hops(l, local, n2) })
	a1.Ready(true)
	l.Eventually("and again", func() error { return hops(l, local, n1, n2) })

	share := `annotations: {herald-lb.io/share: "x"}`
	l.Apply(service{name: "one", app: "b", meta: share, ports: "{port: 80, targetPort: 8080}"}.String())
	l.Apply(service{name: "two", app: "c", meta: share, ports: "{port: 81, targetPort: 8080}"}.String())
	one := l.WaitAddress("one")
	if two := l.WaitAddress("two"); two != one {
		t.Fatalf("they have %s and %s", one, two)
	}
	l.Eventually("it is told though one has no endpoint", func() error { return hops(l, one, n1, n2, n3) })
	b3.Ready(false)
	l.Eventually("it is withdrawn when none has", func() error { return hops(l, one) })
	b3.Ready(true)
	l.Eventually("it is told again", func() error { return hops(l, one, n1, n2, n3) })
}

// What a pool says of its routes is what routers read, each what it is to be told: one
// inside the nodes' own system, with a number of four bytes, has all of it as an
// aggregate; one outside hears only one node, which is a neighbour, from an
// address of its own; one is at the other end of a cable, without an address.
func TestRoutersReadWhatThePoolSays(t *testing.T) {
	aboutRouters(t)
	const ours = 4200000001
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	inside := l.Bird(lab.Neighbours{ASN: ours, NodeASN: ours})
	above := l.Bird(lab.Neighbours{On: l.Uplink(l.Node(2), "above", 61), NodeASN: ours, Unnumbered: true})
	host := l.Guest("outside", 60)
	outside := l.Bird(lab.Neighbours{On: host, Over6: true, NodeASN: ours, TTL: true})
	l.Apply(`
apiVersion: herald-lb.io/v1alpha1
kind: AddressPool
metadata: {name: routed}
spec:
  addresses: [203.0.113.0/28, "2001:db8:113::/124"]
  announce:
    bgp:
      - {peers: [inside], aggregationLength: 28, aggregationLengthV6: 124, localPref: 250, med: 5, communities: ["65000:100", "4200000001:1:2"]}
      - {peers: [outside], communities: [no-export], med: 7}
      - {peers: [above]}
`)
	peer := "{apiVersion: herald-lb.io/v1alpha1, kind: BGPPeer, metadata: {name: %s}, spec: {myASN: %d, address: %q, %s}}"
	l.Apply(fmt.Sprintf(peer, "inside", uint32(ours), l.Router.Addr(true), "internal: true"))
	l.Apply(fmt.Sprintf(peer, "outside", uint32(ours), host.Addr(false),
		fmt.Sprintf(`external: true, ttlSecurity: true, sourceAddress: %q, routerID: 192.0.2.77, nodeSelector: {matchLabels: {kubernetes.io/hostname: n1}}`, l.Node(1).Addr(false))))
	l.Apply(fmt.Sprintf("{apiVersion: herald-lb.io/v1alpha1, kind: BGPPeer, metadata: {name: above}, spec: {myASN: %d, peerASN: %d, interface: up0, nodeSelector: {matchLabels: {kubernetes.io/hostname: n2}}}}",
		uint32(ours), lab.RouterASN))
	l.Apply(service{name: "web", more: twoFamilies}.String())
	addrs := bothAddresses(l, "web")
	l.Eventually("all nodes have a session with one, and one each with the others", func() error {
		return errors.Join(established(l, "inside", "3/3"), established(l, "outside", "1/1"), established(l, "above", "1/1"))
	})
	for _, read := range []struct {
		by    *lab.Bird
		what  string
		words []string
	}{
		{inside, "203.0.113.0/28", []string{"BGP.local_pref: 250", "BGP.med: 5", "(65000,100)", "(4200000001, 1, 2)", "BGP.next_hop: 192.168.50.13"}},
		{inside, "2001:db8:113::/124", []string{"BGP.local_pref: 250", "BGP.med: 5", "(65000,100)", "(4200000001, 1, 2)"}},
		{outside, addrs[0].String() + "/32", []string{"BGP.as_path: 4200000001", "BGP.med: 7", "(65535,65281)"}},
		{outside, addrs[1].String() + "/128", []string{"BGP.as_path: 4200000001", "BGP.med: 7", "(65535,65281)", "via fd50::11"}},
		{above, addrs[0].String() + "/32", []string{"BGP.as_path: 4200000001", "via fe80:"}},
		{above, addrs[1].String() + "/128", []string{"BGP.as_path: 4200000001", "via fe80:"}},
	} {
		l.Eventually(read.what+" is read", func() error {
			said, err := read.by.Ask("show route " + read.what + " all")
			for _, w := range read.words {
				if err == nil && !strings.Contains(said, w) {
					err = fmt.Errorf("no %s in %s", w, said)
				}
			}
			return err
		})
	}
	if said, err := outside.Ask("show protocols all n1"); err != nil || !strings.Contains(said, "192.0.2.77") {
		t.Errorf("the node has another router ID: %v in %s", err, said)
	}
}

// A pool may be announced both ways at once.
func TestAnAddressIsAnnouncedByBGPAndOnTheSegmentAtOnce(t *testing.T) {
	aboutRouters(t)
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Bird(lab.Neighbours{})
	l.Apply(`{apiVersion: herald-lb.io/v1alpha1, kind: AddressPool, metadata: {name: both}, spec: {addresses: ["` + addrs + `"], announce: {layer2: {}, bgp: [{}]}}}`)
	l.Apply(bgpPeer("router", l.Router.Addr(true), ""))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	l.Eventually("all nodes have told it", func() error { return hops(l, addr, l.Nodes()...) })
	l.Eventually("one has it on the segment", func() error {
		_, err := l.Owner(addr)
		return err
	})
	for _, from := range []*lab.Host{l.Client, l.Far} {
		waitAnswer(t, l, from, url(addr))
		askAll(t, from, url(addr), "web-1", "web-2", "web-3")
	}
}

// What is wrong is said in words, disturbs nobody else, and once it is mended the
// session comes up by itself.
func TestWhatIsWrongWithASessionIsSaidAndMendsItself(t *testing.T) {
	aboutRouters(t)
	onTalks(t, twoTalks, func(t *testing.T, start func(*lab.Lab, lab.Neighbours) lab.RoutingDaemon, over6 bool) {
		l := lab.Start(t, lab.Options{})
		onePodEach(l, "web")
		// The witness is a router that nothing is wrong with.
		witness := l.Guest("witness", 60)
		other := l.Bird(lab.Neighbours{On: witness})
		router := l.Router.Addr(!over6)
		good := lab.Neighbours{Over6: over6}
		daemon := start(l, good)
		l.Apply(routedPool)
		l.Apply(bgpPeer("router", router, ", connectRetry: 2s"))
		l.Apply(bgpPeer("witness", witness.Addr(true), ""))
		l.Apply(service{name: "web", more: twoFamilies}.String())
		addrs := bothAddresses(l, "web")
		l.Eventually("the witness is told", func() error { return agree(l, "witness", witness.Addr(true), other) })
		l.Eventually("all nodes have told it", allHops(l, addrs, l.Nodes()...))
		before, err := routers(l, l.Node(1))
		if err != nil {
			t.Fatal(err)
		}
		daemon.Kill()
		l.Eventually("nothing listens", func() error { return ofSession(l, "router", "nothing listens at") })
		daemon.Start()
		l.Eventually("it listens again", allHops(l, addrs, l.Nodes()...))
		for _, wrong := range []struct {
			name  string
			edit  func(*lab.Neighbours)
			words string // of a node
		}{
			{"another number", func(n *lab.Neighbours) { n.NodeASN = 64999 }, "another number for this node than spec.myASN"},
			{"no IPv6", func(n *lab.Neighbours) { n.No6 = true }, "IPv6"},
			{"a password that nodes do not have", func(n *lab.Neighbours) { n.Password = "swordfish" }, "or it wants a password"},
		} {
			with := good
			wrong.edit(&with)
			daemon.Reconfigure(with)
			l.Eventually(wrong.name+" is said", func() error { return ofSession(l, "router", wrong.words) })
			daemon.Reconfigure(good)
			l.Eventually(wrong.name+" is mended", allHops(l, addrs, l.Nodes()...))
		}

		// A password is set at both ends, is another one, and is changed while the
		// session is up.
		secret := "{apiVersion: v1, kind: Secret, metadata: {name: bgp, namespace: herald-system}, stringData: {password: %s}}"
		l.Apply(bgpPeer("router", router, ", passwordSecretRef: {name: bgp}, connectRetry: 2s"))
		l.Eventually("there is no Secret", func() error { return ofSession(l, "router", "there is no Secret bgp") })
		for _, password := range []string{"sesame", "swordfish"} {
			l.Apply(fmt.Sprintf(secret, password))
			l.Eventually("it differs", func() error { return ofSession(l, "router", "the password differs") })
			with := good
			with.Password = password
			daemon.Reconfigure(with)
			l.Eventually("the password is used", allHops(l, addrs, l.Nodes()...))
		}

		l.Eventually("the witness agrees", func() error { return agree(l, "witness", witness.Addr(true), other) })
		after, err := routers(l, l.Node(1))
		if err != nil {
			t.Fatal(err)
		}
		if was, is := before["witness"], after["witness"]; was.Losses != is.Losses || !was.Since.Equal(&is.Since) {
			t.Errorf("the session with another router was %+v and is %+v", was, is)
		}
	})
}

// ofSession is nil once every node says these words of its session.
func ofSession(l *lab.Lab, peer, words string) error {
	for _, n := range l.Nodes() {
		all, err := routers(l, n)
		if err != nil {
			return err
		}
		if r := all[peer]; !strings.Contains(r.Error, words) {
			return fmt.Errorf("%s says %+v", n.Name, r)
		}
	}
	return nil
}

// Nine BGPPeers work, whatever is wrong with the tenth.
func TestOneBadPeerAmongTen(t *testing.T) {
	aboutRouters(t)
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	type good struct {
		peer   string
		addr   netip.Addr
		daemon lab.RoutingDaemon
	}
	var nine []good
	l.Apply(routedPool)
	for i := range 9 {
		host := l.Guest(fmt.Sprintf("router%d", i), 60+i)
		g := good{fmt.Sprintf("p%d", i), host.Addr(true), l.Bird(lab.Neighbours{On: host})}
		l.Apply(bgpPeer(g.peer, g.addr, ""))
		nine = append(nine, g)
	}
	l.Apply(service{name: "web", more: twoFamilies}.String())
	bothAddresses(l, "web")
	for i, bad := range []string{
		bgpPeer("p9", nine[0].addr, ", passwordSecretRef: {name: nowhere}"),
		bgpPeer("p9", nine[0].addr, ", port: 1"),
		bgpPeer("p9", netip.MustParseAddr("192.168.50.99"), ", bfd: {interval: 10ms}"),
		bgpPeer("p9", nine[0].addr, ", localASN: 64777"), // one that is there already
	} {
		l.Apply(bad)
		l.Eventually(fmt.Sprintf("nine work (%d)", i), func() error {
			for _, g := range nine {
				if err := errors.Join(established(l, g.peer, "3/3"), agree(l, g.peer, g.addr, g.daemon)); err != nil {
					return err
				}
			}
			return established(l, "p9", "0/3")
		})
	}
}

// planned is how long the router keeps the routes of a speaker that restarts.
const planned = ", gracefulRestart: 30s, holdTime: 9s"

// The router keeps the routes of a speaker that restarts, and its node steers on:
// nobody sees anything of it.
func TestASpeakerRestartsGracefully(t *testing.T) {
	onTalks(t, twoTalks, func(t *testing.T, start func(*lab.Lab, lab.Neighbours) lab.RoutingDaemon, over6 bool) {
		l := lab.Start(t, lab.Options{})
		onePodEach(l, "web")
		router := l.Router.Addr(!over6)
		daemon := start(l, lab.Neighbours{Over6: over6, Graceful: true, BFD: 300 * time.Millisecond})
		l.Apply(routedPool)
		l.Apply(bgpPeer("router", router, planned+", bfd: {interval: 300ms}"))
		l.Apply(service{name: "web", more: twoFamilies}.String())
		addrs := bothAddresses(l, "web")
		l.Eventually("all nodes have told it", allHops(l, addrs, l.Nodes()...))
		l.Eventually("BFD is up", bothUp(l, "router", router, daemon))
		for _, restart := range []struct {
			name string
			do   func(*lab.Node)
		}{
			{"stopped", (*lab.Node).Stop},
			{"killed", (*lab.Node).Kill},
		} {
			watch, err := l.Router.WatchRoutes()
			if err != nil {
				t.Fatal(err)
			}
			var traffic []*lab.Traffic
			for _, addr := range addrs {
				traffic = append(traffic, l.Far.Ask(url(addr), pace))
			}
			n := l.Node(1)
			restart.do(n)
			n.StartSpeaker()
			l.Eventually("it is back", func() error { return agree(l, "router", router, daemon) })
			for _, tr := range traffic {
				tr.Stop()
				noFailures(t, tr)
			}
			stopWatch(t, watch)
			for _, addr := range addrs {
				for _, c := range watch.Changes(addr) {
					if addr.Is4() && (c.Gone || len(c.Hops) != 3) { // of IPv6, FRR takes away and adds
						t.Errorf("%s: the route to %s has changed: %+v", restart.name, addr, c)
					}
				}
			}
		}
	})
}

// A node that is drained tells routers to find other ways, waits, and goes: nobody
// notices.
func TestADrainedNodeIsRelievedByRouters(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	daemon := l.Bird(lab.Neighbours{})
	l.Apply(routedPool)
	l.Apply(bgpPeer("router", l.Router.Addr(true), ""))
	l.Apply(service{name: "web", more: twoFamilies}.String())
	all, addrs := l.Nodes(), bothAddresses(l, "web")
	l.Eventually("all nodes have told it", allHops(l, addrs, all...))
	var traffic []*lab.Traffic
	for _, addr := range addrs {
		traffic = append(traffic, l.Far.Ask(url(addr), pace))
	}
	drained := make(chan error, 1)
	go func() {
		out, code := l.Herald("", "drain", all[0].Name)
		if code == 0 && strings.Contains(out, "tells routers 0 routes") {
			drained <- nil
			return
		}
		drained <- fmt.Errorf("drain: %d\n%s", code, out)
	}()
	l.Eventually("the router finds the other ways", allHops(l, addrs, all[1], all[2]))
	said, err := daemon.Ask("show route for " + addrs[0].String() + " all")
	if err != nil || !strings.Contains(said, "(65535,0)") {
		t.Errorf("it is not told to: %v\n%s", err, said)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	l.Eventually("the router has heard it", func() error {
		sessions, err := daemon.Sessions()
		if n := sessions[lab.Ends{Router: l.Router.Addr(true), Node: all[0].Addr(true)}].Prefixes; err == nil && n > 0 {
			err = fmt.Errorf("a drained node tells %d routes", n)
		}
		return err
	})
	if out, code := l.Herald("", "drain", all[0].Name, "--undo"); code != 0 {
		t.Errorf("drain --undo: %d\n%s", code, out)
	}
	l.Eventually("all have it again", allHops(l, addrs, all...))
	for _, tr := range traffic {
		tr.Stop()
		handedOver(t, all[0], tr, 2*cutsOfAMove)
	}
}
