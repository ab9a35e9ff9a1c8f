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
					awaitRoute(b, routes, p)
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

func awaitRoute(b testing.TB, routes <-chan netlink.RouteUpdate, p netip.Prefix) {
	b.Helper()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case u := <-routes:
			if u.Type == unix.RTM_NEWROUTE && u.Dst != nil && u.Dst.String() == p.String() {
				return
			}
		case <-deadline:
			b.Fatalf("%s is not in the router's kernel", p)
		}
	}
}

// 10,000 routes to four routers: from Sync to all of them in each.
func BenchmarkManyRoutes(b *testing.B) {
	const n, routers = 10_000, 4
	var routes []speaker.Route
	for i := range n {
		routes = append(routes, speaker.Route{
			Prefix:      netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32),
			Communities: []uint32{65100<<16 | 1},
		})
	}
	var sessions []speaker.Session
	var birds []*bird
	for i := range routers {
		in := cable(b, node(b), []string{fmt.Sprintf("192.0.%d.10/24", 10+i), fmt.Sprintf("2001:db8:%d::10/64", 10+i)},
			[]string{fmt.Sprintf("192.0.%d.1/24", 10+i), fmt.Sprintf("2001:db8:%d::1/64", 10+i)})
		p := ebgp()
		p.neighbor = fmt.Sprintf("192.0.%d.10", 10+i)
		birds = append(birds, startBIRD(b, in, p))
		sessions = append(sessions, base(fmt.Sprint("r", i), fmt.Sprintf("192.0.%d.1", 10+i)))
	}
	s, _ := run(b)
	want(b, s, sessions...)
	for i := range sessions {
		awaitUp(b, s, sessions[i].Name)
	}
	for b.Loop() {
		before, cpu := rss(b), processCPU()
		for i := range sessions {
			sessions[i].Routes = routes
		}
		began := time.Now()
		want(b, s, sessions...)
		synced := time.Since(began)
		for _, r := range birds {
			await(b, "all routes", func() bool {
				return strings.Contains(r.birdc(b, "show", "route", "count"), fmt.Sprintf("%d routes for %d networks in table master4", n+1, n+1))
			})
		}
		b.ReportMetric(synced.Seconds(), "s-sync")
		b.ReportMetric(time.Since(began).Seconds(), "s-all")
		b.ReportMetric((processCPU() - cpu).Seconds(), "s-cpu")
		b.ReportMetric(float64(before)/1024, "MB-before")
		b.ReportMetric(float64(rss(b))/1024, "MB-after")
		one := slices.Clone(routes)
		one[0].MED = number(1)
		began = time.Now()
		for i := range sessions {
			sessions[i].Routes = one
		}
		want(b, s, sessions...)
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "ms-one-change")
		for i := range sessions {
			sessions[i].Routes = nil
		}
		want(b, s, sessions...)
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
