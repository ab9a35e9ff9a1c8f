package stories

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/e2e/lab"
)

// BenchmarkRoute measures when the router's kernel knows: from the moment that the
// API says which address a Service has, as a watch sees it, to its route; and from
// the failure of a node to the route that leaves it out.
func BenchmarkRoute(b *testing.B) {
	const interval = 100 * time.Millisecond
	for _, name := range slices.Sorted(maps.Keys(lab.RoutingDaemons)) {
		b.Run(name, func(b *testing.B) {
			l := lab.Start(b, lab.Options{})
			onePodEach(l, "web")
			daemon := lab.RoutingDaemons[name](l, lab.Neighbours{BFD: interval, HoldTime: 9 * time.Second})
			router := l.Router.Addr(true)
			l.Apply(manyRouted)
			l.Apply(bgpPeer("router", router, watchedBy(interval)))
			l.Apply(service{name: "first", app: "web"}.String())
			first := l.WaitAddress("first")
			l.Eventually("all nodes have told it", func() error { return hops(l, first, l.Nodes()...) })
			l.Eventually("BFD is up", bothUp(l, "router", router, daemon))
			for b.Loop() {
				report(b, "told", toldAfter(b, l))
				report(b, "killed", missedAfter(b, l, first, (*lab.Node).Kill, (*lab.Node).StartSpeaker))
				report(b, "cut", missedAfter(b, l, first, (*lab.Node).Unplug, (*lab.Node).Replug))
				b.ReportMetric(0, "ns/op") // says nothing
			}
		})
	}
}

// manyRouted is a pool that routers are told, with room for thousands.
const manyRouted = `{apiVersion: herald-lb.io/v1alpha1, kind: AddressPool, metadata: {name: routed}, spec: {addresses: [10.200.0.0/16], announce: {bgp: [{}]}}}`

// toldAfter creates one Service after the other, and returns how long after its status
// the router's kernel has the first way to it.
func toldAfter(b *testing.B, l *lab.Lab) (times []time.Duration) {
	b.Helper()
	events, err := l.API().CoreV1().Services(l.Namespace).Watch(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer events.Stop()
	watch, err := l.Router.WatchRoutes()
	if err != nil {
		b.Fatal(err)
	}
	defer stopWatch(b, watch)
	for i := range runs() {
		s, began := service{name: fmt.Sprintf("web-%d", i), app: "web"}, time.Now()
		l.Apply(s.String())
		addr := awaitAddress(b, events, s.name)
		assigned := time.Now()
		l.Eventually("it is routed", func() error { return hops(l, addr, l.Nodes()...) })
		l.Eventually("that was seen", func() error {
			for _, c := range watch.Changes(addr) {
				if c.At.After(began) && !c.Gone {
					times = append(times, c.At.Sub(assigned))
					return nil
				}
			}
			return errors.New("it was not")
		})
		l.DeleteService(s.name)
		l.Eventually("it is not any more", func() error { return hops(l, addr) })
	}
	return times
}

// missedAfter lets the third node fail over and over, and returns after how long the
// router's kernel has no way by it.
func missedAfter(b *testing.B, l *lab.Lab, addr netip.Addr, fail, end func(*lab.Node)) (times []time.Duration) {
	b.Helper()
	n := l.Node(3)
	for range runs() {
		watch, err := l.Router.WatchRoutes()
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		fail(n)
		l.Eventually("the others have it", func() error { return hops(l, addr, l.Node(1), l.Node(2)) })
		stopWatch(b, watch)
		for _, c := range watch.Changes(addr) {
			if !slices.ContainsFunc(c.Hops, func(hop netip.Addr) bool { return nodeAt(l, hop) == n.Name }) {
				times = append(times, c.At.Sub(began))
				break
			}
		}
		end(n)
		l.Eventually("all have it again", func() error { return hops(l, addr, l.Nodes()...) })
		<-time.After(2 * time.Second) // BFD is up again, at its pace
	}
	return times
}

// BenchmarkThousandsOfRoutes measures from the start of a speaker until the router's
// kernel has the way to thousands of Services.
func BenchmarkThousandsOfRoutes(b *testing.B) {
	services := number(b, "HERALD_BENCH_SERVICES", 5000)
	l := lab.Start(b, lab.Options{Idle: true})
	l.Apply(manyRouted)
	daemon := l.Bird(lab.Neighbours{})
	l.Apply(bgpPeer("router", l.Router.Addr(true), ""))
	if _, err := createAll(l, "web", services); err != nil {
		b.Fatal(err)
	}
	if err := sliceAll(l, "web", services); err != nil {
		b.Fatal(err)
	}
	l.Controller.Start()
	l.Within(5*time.Minute, "the pool counts them all", func() error {
		got, err := l.PoolCount("routed")
		if err == nil && got.Assigned < int64(services) {
			err = fmt.Errorf("it counts %d of %d", got.Assigned, services)
		}
		return err
	})
	speaker, all := l.Node(1).Speaker, netip.MustParsePrefix("10.200.0.0/16")
	for b.Loop() {
		watch, err := l.Router.WatchRoutes()
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		speaker.Start()
		l.Within(5*time.Minute, "all are routed", func() error {
			if n := watch.Count(all); n < services {
				return fmt.Errorf("%d of %d are", n, services)
			}
			return nil
		})
		took, cpu, rss := time.Since(began), speaker.CPU(), float64(speaker.RSS())/1e6
		b.Logf("all are routed after %s, with %s of CPU and %.0f MB", took, cpu, rss)
		b.ReportMetric(took.Seconds(), "routed-s")
		b.ReportMetric(cpu.Seconds(), "CPU-s")
		b.ReportMetric(rss, "RSS-MB")
		stopWatch(b, watch)
		speaker.Stop()
		l.Eventually("none are any more", func() error {
			said, err := daemon.Sessions()
			for _, s := range said {
				if err == nil && s.Prefixes > 0 {
					err = fmt.Errorf("%d are", s.Prefixes)
				}
			}
			return err
		})
	}
}
