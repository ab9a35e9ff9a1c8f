package stories

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// fast has BFD miss somebody after 0.6 s: less than the second that a speaker leaves
// routers when it stops, and more than a busy machine keeps a program from running.
// What may take longer is slow, which is 0.9 s.
const (
	fast = 200 * time.Millisecond
	slow = 300 * time.Millisecond
)

// watchedBy is what a BGPPeer says of BFD.
func watchedBy(interval time.Duration) string {
	return fmt.Sprintf(", bfd: {interval: %s}", interval)
}

// A node whose cable is pulled is missed by BFD, and its paths are gone long before the
// hold time; the node misses the router as soon, and says so. Once the cable is
// back all is as before.
func TestANodeThatDiesIsMissedByBFD(t *testing.T) {
	aboutRouters(t)
	onTalks(t, twoTalks, func(t *testing.T, start func(*lab.Lab, lab.Neighbours) lab.RoutingDaemon, over6 bool) {
		for _, asn := range []uint32{lab.RouterASN, lab.NodeASN} {
			t.Run(fmt.Sprintf("AS %d", asn), func(t *testing.T) { unplugged(t, start, over6, asn) })
		}
	})
}

func unplugged(t *testing.T, start func(*lab.Lab, lab.Neighbours) lab.RoutingDaemon, over6 bool, asn uint32) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	router := l.Router.Addr(!over6)
	daemon := start(l, lab.Neighbours{ASN: asn, Over6: over6, BFD: slow, HoldTime: 90 * time.Second})
	l.Apply(routedPool)
	l.Apply(bgpPeerOf(asn, "router", router, watchedBy(slow)))
	l.Apply(service{name: "web", more: twoFamilies}.String())
	all, addrs := l.Nodes(), bothAddresses(l, "web")
	l.Eventually("all nodes have told it", allHops(l, addrs, all...))
	l.Eventually("BFD is up", bothUp(l, "router", router, daemon))

	began := time.Now()
	all[2].Unplug()
	l.Eventually("the others have it", allHops(l, addrs, all[0], all[1]))
	t.Logf("its paths are gone after %s", time.Since(began).Round(time.Millisecond))
	l.Eventually("the node misses the router", func() error {
		if all[2].Speaker.Said("BFD has lost a router") == 0 {
			return fmt.Errorf("%s has not said so", all[2].Name)
		}
		return nil
	})
	all[2].Replug()
	l.Eventually("all have it again", allHops(l, addrs, all...))
	l.Eventually("BFD is up again", bothUp(l, "router", router, daemon))
	if lost := all[0].Speaker.Said("BFD has lost a router"); lost > 0 {
		t.Errorf("%s has lost the router %d times", all[0].Name, lost)
	}
}

// A speaker that stops ends its sessions when routers have had a second to find other
// ways, and BFD does not end them before.
func TestASpeakerThatStopsIsNotMissedByBFD(t *testing.T) {
	aboutRouters(t)
	onTalks(t, twoTalks, func(t *testing.T, start func(*lab.Lab, lab.Neighbours) lab.RoutingDaemon, over6 bool) {
		l := lab.Start(t, lab.Options{})
		onePodEach(l, "web")
		router := l.Router.Addr(!over6)
		daemon := start(l, lab.Neighbours{Over6: over6, BFD: fast})
		l.Apply(routedPool)
		l.Apply(bgpPeer("router", router, watchedBy(fast)))
		l.Apply(service{name: "web", more: twoFamilies}.String())
		all, addrs := l.Nodes(), bothAddresses(l, "web")
		l.Eventually("all nodes have told it", allHops(l, addrs, all...))
		l.Eventually("BFD is up", bothUp(l, "router", router, daemon))

		began, stopped := time.Now(), make(chan struct{})
		go func() {
			defer close(stopped)
			all[0].Stop()
		}()
		l.Eventually("the session ends", func() error {
			said, err := daemon.Sessions()
			if err == nil && said[lab.Ends{Router: router, Node: all[0].Addr(!over6)}].Up {
				err = fmt.Errorf("it is up")
			}
			return err
		})
		if after := time.Since(began); after < time.Second {
			t.Errorf("the session ends after %s", after)
		}
		<-stopped
		l.Eventually("the others have it", allHops(l, addrs, all[1:]...))
	})
}

// A router that is not on the segment is told all the same, and watched over several
// hops.
func TestARouterMayBeFarAway(t *testing.T) {
	aboutRouters(t)
	for _, over6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[over6], func(t *testing.T) {
			l := lab.Start(t, lab.Options{})
			onePodEach(l, "web")
			router := l.Far.Addr(!over6)
			daemon := l.Bird(lab.Neighbours{On: l.Far, Over6: over6, Multihop: true, BFD: 300 * time.Millisecond})
			l.Apply(routedPool)
			l.Apply(bgpPeer("router", router, ", ebgpMultihop: true, bfd: {interval: 300ms}"))
			l.Apply(service{name: "web", more: twoFamilies}.String())
			bothAddresses(l, "web")
			l.Eventually("all nodes have told it", func() error {
				all, err := daemon.Sessions()
				for _, s := range all {
					if err == nil && s.Prefixes != 2 {
						err = fmt.Errorf("it says %+v", all)
					}
				}
				return err
			})
			l.Eventually("BFD is up", bothUp(l, "router", router, daemon))
		})
	}
}

// Without BFD a speaker that stands still is missed after the hold time.
func TestASpeakerThatStandsStillIsMissedByTheHoldTime(t *testing.T) {
	aboutRouters(t)
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Bird(lab.Neighbours{HoldTime: 3 * time.Second})
	l.Apply(routedPool)
	l.Apply(bgpPeer("router", l.Router.Addr(true), ", holdTime: 3s"))
	l.Apply(service{name: "web", more: twoFamilies}.String())
	all, addrs := l.Nodes(), bothAddresses(l, "web")
	l.Eventually("all nodes have told it", allHops(l, addrs, all...))
	began := time.Now()
	all[2].Freeze()
	l.Eventually("the others have it", allHops(l, addrs, all[0], all[1]))
	t.Logf("its paths are gone after %s", time.Since(began).Round(time.Millisecond))
	all[2].Thaw()
	l.Eventually("all have it again", allHops(l, addrs, all...))
}

// A router that takes BFD down on purpose keeps its sessions, and so does one that
// does not speak it.
func TestASessionDoesNotNeedBFD(t *testing.T) {
	aboutRouters(t)
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	router := l.Router.Addr(true)
	daemon := l.FRR(lab.Neighbours{BFD: slow})
	l.Apply(routedPool)
	l.Apply(bgpPeer("router", router, watchedBy(slow)))
	l.Apply(service{name: "web", more: twoFamilies}.String())
	addrs := bothAddresses(l, "web")
	l.Eventually("all nodes have told it", allHops(l, addrs, l.Nodes()...))
	l.Eventually("BFD is up", bothUp(l, "router", router, daemon))
	before, err := routers(l, l.Node(1))
	if err != nil {
		t.Fatal(err)
	}
	watch, err := l.Router.WatchRoutes()
	if err != nil {
		t.Fatal(err)
	}
	daemon.ShutBFD(true)
	l.Eventually("it is said", func() error { return ofSession(l, "router", "the router has taken it down") })
	after, err := routers(l, l.Node(1))
	if err != nil {
		t.Fatal(err)
	}
	if was, is := before["router"], after["router"]; is.State != "established" || is.Losses != was.Losses {
		t.Errorf("the session was %+v, and is %+v", was, is)
	}
	daemon.ShutBFD(false)
	l.Eventually("BFD is up again", bothUp(l, "router", router, daemon))
	stopWatch(t, watch)
	for _, addr := range addrs {
		if changes := watch.Changes(addr); len(changes) > 0 {
			t.Errorf("the route to %s has changed: %+v", addr, changes)
		}
	}

	daemon.Reconfigure(lab.Neighbours{})
	l.Eventually("all nodes have told it", allHops(l, addrs, l.Nodes()...))
	l.Eventually("what is missing is said", func() error { return ofSession(l, "router", "for its neighbour") })
}

// Connections to pods of other nodes go on when a node dies and when one joins, for
// every node chooses the same pod for a client.
func TestConnectionsGoOnWhenTheNodesOfAnAddressChange(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	if l.Node(1).DataPath() != "ipvs" {
		t.Skip("nftables knows only the connections that began at its node")
	}
	onePodEach(l, "web")
	daemon := l.Bird(lab.Neighbours{BFD: slow})
	l.Apply(routedPool)
	l.Apply(bgpPeer("router", l.Router.Addr(true), watchedBy(slow)))
	l.Apply(service{name: "web", more: twoFamilies}.String())
	all, addrs := l.Nodes(), bothAddresses(l, "web")
	l.Eventually("all nodes have told it", allHops(l, addrs, all...))
	l.Eventually("BFD is up", bothUp(l, "router", l.Router.Addr(true), daemon))
	type client struct {
		*lab.Session
		pod string
	}
	var clients []client
	for _, addr := range addrs {
		waitAnswer(t, l, l.Far, url(addr))
		for range 30 {
			s, err := l.Far.Connect(netip.AddrPortFrom(addr, 80))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			body, err := s.Ask()
			if err != nil {
				t.Fatal(err)
			}
			clients = append(clients, client{s, lab.PodOf(body)})
		}
	}
	goOn := func(when string, dead string) {
		for i, k := range clients {
			if k.pod == dead {
				continue
			}
			if body, err := k.Ask(); err != nil || lab.PodOf(body) != k.pod {
				t.Errorf("%s: connection %d with %s: %q, %v", when, i, k.pod, body, err)
			}
		}
	}
	goOn("before", "")
	all[2].Unplug()
	l.Eventually("the others have it", allHops(l, addrs, all[0], all[1]))
	goOn("a node has died", "web-3")
	all[2].Replug()
	l.Eventually("all have it again", allHops(l, addrs, all...))
	goOn("a node has joined", "web-3")
	for _, k := range clients {
		if !strings.HasPrefix(k.pod, "web-") {
			t.Errorf("answered by %q", k.pod)
		}
	}
}
