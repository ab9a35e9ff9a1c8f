//go:build netns

package bgp

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// From Sync to the route in the router's kernel, as netlink tells it.
func BenchmarkRouteInTheRoutersKernel(b *testing.B) {
	const samples = 20
	for _, j := range judges {
		b.Run(j.name, func(b *testing.B) {
			in := lan(b)
			j.start(b, in, ebgp())
			s, _ := run(b)
			w := base("a", "192.0.2.1")
			w.Routes = told
			want(b, s, w)
			awaitUp(b, s, "a")
			routes, done := make(chan netlink.RouteUpdate, 64), make(chan struct{})
			defer close(done)
			if err := netlink.RouteSubscribeAt(in.Handle, routes, done); err != nil {
				b.Fatal(err)
			}
			time.Sleep(2 * time.Second) // what FRR delays at the start of a session
			for b.Loop() {
				var took []time.Duration
				for i := range samples {
					p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 0, byte(i)}), 32)
					w.Routes = append(w.Routes[:len(told):len(told)], speaker.Route{Prefix: p})
					began := time.Now()
					want(b, s, w)
					awaitRoute(b, routes, unix.RTM_NEWROUTE, p)
					took = append(took, time.Since(began))
					time.Sleep(100 * ms)
				}
				want(b, s, base("a", "192.0.2.1"))
				slices.Sort(took)
				b.ReportMetric(float64(took[0].Microseconds())/1000, "min-ms")
				b.ReportMetric(float64(took[samples/2].Microseconds())/1000, "median-ms")
				b.ReportMetric(float64(took[samples-1].Microseconds())/1000, "max-ms")
			}
		})
	}
}

// awaitRoute waits until a route comes to the router's kernel, or leaves it.
func awaitRoute(b testing.TB, routes <-chan netlink.RouteUpdate, kind uint16, p netip.Prefix) {
	b.Helper()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case u := <-routes:
			if u.Type == kind && u.Dst != nil && u.Dst.String() == p.String() {
				return
			}
		case <-deadline:
			b.Fatalf("nothing happens to %s in the router's kernel", p)
		}
	}
}

// One withdrawal: from Sync until the kernel of each router is without the route.
// It takes no longer among 10,000.
func BenchmarkOneWithdrawal(b *testing.B) {
	for _, peers := range []int{1, 4} {
		for _, n := range []int{1, 10_000} {
			b.Run(fmt.Sprintf("from %d among %d", peers, n), func(b *testing.B) { benchmarkOneWithdrawal(b, peers, n) })
		}
	}
}

func benchmarkOneWithdrawal(b *testing.B, peers, n int) {
	const samples = 50
	routers, sessions := birds(b, peers)
	s, _ := run(b)
	with := func(routes []speaker.Route) []speaker.Session {
		all := slices.Clone(sessions)
		for i := range all {
			all[i].Routes = routes
		}
		return all
	}
	all := manyRoutes(n, ipv4)
	want(b, s, with(all)...)
	var watches []<-chan netlink.RouteUpdate
	done := make(chan struct{})
	defer close(done)
	for i, r := range routers {
		awaitUp(b, s, sessions[i].Name)
		awaitCount(b, r, ipv4, n)
		routes := make(chan netlink.RouteUpdate, 64)
		if err := netlink.RouteSubscribeAt(r.in.Handle, routes, done); err != nil {
			b.Fatal(err)
		}
		watches = append(watches, routes)
	}
	// sync returns how long it takes until all have heard of p.
	sync := func(routes []speaker.Route, kind uint16, p netip.Prefix) time.Duration {
		next, began := with(routes), time.Now()
		want(b, s, next...)
		for _, w := range watches {
			awaitRoute(b, w, kind, p)
		}
		return time.Since(began)
	}
	for b.Loop() {
		var took []time.Duration
		for i := range samples {
			at := i * n / samples
			took = append(took, sync(slices.Concat(all[:at], all[at+1:]), unix.RTM_DELROUTE, all[at].Prefix))
			sync(all, unix.RTM_NEWROUTE, all[at].Prefix)
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[0].Microseconds())/1000, "min-ms")
		b.ReportMetric(float64(took[samples/2].Microseconds())/1000, "median-ms")
		b.ReportMetric(float64(took[samples-1].Microseconds())/1000, "max-ms")
	}
}

// manyRoutes are n of a family that have something to say.
func manyRoutes(n int, f family) []speaker.Route {
	routes := make([]speaker.Route, 0, n)
	for i := range n {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32)
		if f == ipv6 {
			p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0xff, 14: byte(i >> 8), 15: byte(i)}), 128)
		}
		routes = append(routes, speaker.Route{Prefix: p, Communities: []uint32{65100<<16 | 1}})
	}
	return routes
}

// awaitCount waits until a router has as many of our routes.
func awaitCount(b testing.TB, r *bird, f family, n int) {
	b.Helper()
	want := fmt.Sprintf(" %d routes for", n+1) // with that of its own link
	table := map[family]string{ipv4: "master4", ipv6: "master6"}[f]
	nettest.Await(b, fmt.Sprintf("%d routes", n), func() bool {
		return strings.Contains(r.birdc(b, "show", "route", "count", "table", table), want)
	})
}

// 10,000 routes to four routers, from Sync to all of them in each: as sessions
// start, added to sessions that are up, and withdrawn from them.
func BenchmarkManyRoutes(b *testing.B) {
	const n = 10_000
	for _, f := range []family{ipv4, ipv6} {
		b.Run(f.String(), func(b *testing.B) {
			routers, sessions := birds(b, 4)
			s, _ := run(b)
			all := manyRoutes(n, f)
			step := func(name string, count int, routes []speaker.Route) {
				began, cpu := time.Now(), processCPU()
				for i := range sessions {
					sessions[i].Routes = routes
				}
				want(b, s, sessions...)
				synced := time.Since(began)
				for _, r := range routers {
					awaitCount(b, r, f, count)
				}
				b.ReportMetric(time.Since(began).Seconds(), "s-"+name)
				b.ReportMetric(synced.Seconds(), "s-"+name+"-sync")
				b.ReportMetric((processCPU() - cpu).Seconds(), "s-"+name+"-cpu")
			}
			for b.Loop() {
				before := rss(b)
				step("start", n, all)
				step("withdrawn", 0, nil)
				step("added", n, all)
				step("withdrawn", 0, nil)
				b.ReportMetric(float64(before)/1024, "MB-before")
				b.ReportMetric(float64(rss(b))/1024, "MB-after")
				want(b, s)
			}
		})
	}
}

// rss returns the resident set of this process, in KiB.
func rss(b testing.TB) int {
	b.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

func processCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
