package stories

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/e2e/lab"
)

// The figures of the controller, against a real API server and without nodes.
// The API server shares the machine, and sets the pace.
//
//	HERALD_BENCH_SERVICES  how many are "thousands" (5000)
//	HERALD_BENCH_BURST     one more burst, beside those of 100 and 1000

// peer holds what MetalLB (July 2026, native mode) needs for the same in a lab
// of the same kind: two cores that it shares with its API server.
var peer = map[string]string{
	"paced":   "p50 11-12 ms, p99 18-25 ms",
	"waiting": "53-88 s, 35-42 CPU s, 124-155 MB",
	"one":     "29-77 ms",
	"restart": "24-36 s, 7-8 CPU s",
	"pool":    "8.4-13 s",
}

// bigPool has more addresses than any benchmark needs.
const bigPool = "10.128.0.0/16"

// A stage is a part of a benchmark: what the controller has used meanwhile.
type stage struct {
	l      *lab.Lab
	began  time.Time
	cpu    time.Duration
	writes lab.Writes
}

// begin starts a stage. The controller may not run yet.
func begin(l *lab.Lab) stage {
	s := stage{l: l, writes: l.StatusWrites()}
	if l.Controller.Alive() {
		s.cpu = l.Controller.CPU()
	}
	s.began = time.Now()
	return s
}

// end ends the stage, and prints and reports what it took. Services is how
// many should have been written.
func (s stage) end(b *testing.B, name, took string, services int) {
	b.Helper()
	cpu := (s.l.Controller.CPU() - s.cpu).Seconds()
	peak := float64(s.l.Controller.PeakRSS()) / (1 << 20)
	now := s.l.StatusWrites()
	done, refused := now.Done-s.writes.Done, now.Refused-s.writes.Refused
	kind, _, _ := strings.Cut(name, "-")
	beside := ""
	if p := peer[kind]; p != "" {
		beside = "; MetalLB: " + p
	}
	b.Logf("%s: %s; %.2f CPU s, peak %.0f MB, %d writes for %d services, %d refused%s",
		name, took, cpu, peak, done, services, refused, beside)
	b.ReportMetric(cpu, name+"-CPU-s")
	b.ReportMetric(peak, name+"-peak-MB")
	if services > 0 {
		b.ReportMetric(float64(done)/float64(services), name+"-writes/service")
	} else {
		b.ReportMetric(float64(done), name+"-writes")
	}
}

// latencies returns how long each Service waited for its address, once all
// have one.
func latencies(b *testing.B, l *lab.Lab, r *register, asked map[types.UID]time.Time) (times []time.Duration, last time.Time) {
	b.Helper()
	l.Within(5*time.Minute, "all have an address", func() error {
		times, last = times[:0], time.Time{}
		for uid, began := range asked {
			at, ok := r.seen(uid)
			if !ok {
				return fmt.Errorf("%d of %d have", len(times), len(asked))
			}
			times = append(times, at.Sub(began))
			if at.After(last) {
				last = at
			}
		}
		return nil
	})
	return times, last
}

// BenchmarkServicesAt20ASecond measures from the request that creates a
// Service until a watch sees its address, at a pace of 20 a second for 30 s.
func BenchmarkServicesAt20ASecond(b *testing.B) {
	const services, pace = 600, time.Second / 20
	l := lab.Start(b, lab.Options{NoNodes: true})
	l.Apply(pool("lan", bigPool))
	r := keepRegister(b, l)
	for b.Loop() {
		s, asked := begin(l), map[types.UID]time.Time{}
		tick := time.NewTicker(pace)
		for i := range services {
			<-tick.C
			began := time.Now()
			made, err := create(l, plain(fmt.Sprintf("web-%d", i)))
			if err != nil {
				b.Fatal(err)
			}
			asked[made.UID] = began
		}
		tick.Stop()
		times, _ := latencies(b, l, r, asked)
		report(b, "paced", times)
		s.end(b, "paced", fmt.Sprintf("p50 %s, p99 %s", percentile(times, 50), percentile(times, 99)), services)
	}
	r.check(b)
}

// percentile returns the p-th of sorted times, as report does.
func percentile(times []time.Duration, p int) time.Duration {
	return times[(len(times)-1)*p/100].Round(10 * time.Microsecond)
}

// BenchmarkServicesAtOnce measures bursts: from the first request until the
// last address is seen.
func BenchmarkServicesAtOnce(b *testing.B) {
	bursts := []int{100, 1000}
	if n := number(b, "HERALD_BENCH_BURST", 0); n > 0 {
		bursts = append(bursts, n)
	}
	for _, services := range bursts {
		b.Run(strconv.Itoa(services), func(b *testing.B) {
			l := lab.Start(b, lab.Options{NoNodes: true})
			l.Apply(pool("lan", bigPool))
			r := keepRegister(b, l)
			for b.Loop() {
				s := begin(l)
				asked, err := createAll(l, "web", services)
				if err != nil {
					b.Fatal(err)
				}
				created := time.Since(s.began)
				times, last := latencies(b, l, r, asked)
				took := last.Sub(s.began)
				report(b, "burst", times)
				b.ReportMetric(took.Seconds(), "burst-s")
				s.end(b, "burst", fmt.Sprintf("created within %s, the last has its address after %s", tenth(created), tenth(took)), services)
			}
			r.check(b)
		})
	}
}

func tenth(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

func number(b *testing.B, name string, otherwise int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		b.Fatalf("$%s is %q, want a number", name, text)
	}
	return n
}

// BenchmarkThousandsOfServices measures what is slow where there are many:
// thousands that wait when the controller starts, one more, a restart, a new
// pool, a label. Making them takes longest, and is not measured: the API
// server's allocator of cluster IPs is slower with each.
func BenchmarkThousandsOfServices(b *testing.B) {
	services := number(b, "HERALD_BENCH_SERVICES", 5000)
	l := lab.Start(b, lab.Options{NoNodes: true, Idle: true})
	l.Apply(pool("lan", bigPool))
	r := keepRegister(b, l)
	for b.Loop() {
		b.StopTimer()
		began := time.Now()
		if _, err := createAll(l, "web", services); err != nil {
			b.Fatal(err)
		}
		b.Logf("%d services made within %s", services, tenth(time.Since(began)))
		b.StartTimer()
		m := &many{b: b, l: l, r: r, services: services}
		m.waiting()
		m.oneMore()
		m.restart()
		m.newPool()
		m.newLabel()
	}
	r.check(b)
}

// many is a cluster with thousands of Services.
type many struct {
	b        *testing.B
	l        *lab.Lab
	r        *register
	services int
}

func (m *many) waiting() {
	s := begin(m.l)
	m.l.Controller.Start()
	m.l.Within(5*time.Minute, "all have an address", m.r.allAssigned(m.services))
	took := time.Since(s.began)
	m.b.ReportMetric(took.Seconds(), "waiting-s")
	s.end(m.b, "waiting", "all assigned after "+tenth(took).String(), m.services)
}

// single creates one Service and returns when its address was seen, counted
// from began or, if that is zero, from the request.
func (m *many) single(name string, began time.Time, edit func(*corev1.Service)) time.Duration {
	m.b.Helper()
	s := plain(name)
	edit(s)
	if began.IsZero() {
		began = time.Now()
	}
	made, err := create(m.l, s)
	if err != nil {
		m.b.Fatal(err)
	}
	times, _ := latencies(m.b, m.l, m.r, map[types.UID]time.Time{made.UID: began})
	return times[0]
}

func asItIs(*corev1.Service) {}

func (m *many) oneMore() {
	const more = 50
	s := begin(m.l)
	var times []time.Duration
	for i := range more {
		times = append(times, m.single(fmt.Sprintf("more-%d", i), time.Time{}, asItIs))
	}
	report(m.b, "one-more", times)
	s.end(m.b, "one-more", fmt.Sprintf("p50 %s, max %s", percentile(times, 50), percentile(times, 100)), more)
}

func (m *many) restart() {
	m.settle()
	m.l.Controller.Stop()
	s := begin(m.l)
	m.l.Controller.Start()
	took := m.single("after-restart", s.began, asItIs)
	m.b.ReportMetric(took.Seconds(), "restart-s")
	s.end(m.b, "restart", "first new address after "+tenth(took).String(), 1)
}

func (m *many) newPool() {
	waiting := plain("pool-waits")
	waiting.Annotations = map[string]string{"herald-lb.io/pool": "new"}
	made, err := create(m.l, waiting)
	if err != nil {
		m.b.Fatal(err)
	}
	m.decided(waiting.Name)
	s := begin(m.l)
	m.l.Apply(pool("new", "198.51.100.0/24"))
	times, _ := latencies(m.b, m.l, m.r, map[types.UID]time.Time{made.UID: s.began})
	m.b.ReportMetric(times[0].Seconds(), "pool-s")
	s.end(m.b, "pool", "first address from it after "+tenth(times[0]).String(), 1)
}

func (m *many) newLabel() {
	m.l.Apply(poolSpec("team", "addresses: [203.0.113.0/24], assign: OnRequest, namespaceSelector: {matchLabels: {team: shop}}"))
	waiting := plain("label-waits")
	waiting.Annotations = map[string]string{"herald-lb.io/pool": "team"}
	made, err := create(m.l, waiting)
	if err != nil {
		m.b.Fatal(err)
	}
	m.decided(waiting.Name)
	s := begin(m.l)
	label(m.b, m.l, "team", "shop")
	times, _ := latencies(m.b, m.l, m.r, map[types.UID]time.Time{made.UID: s.began})
	m.b.ReportMetric(times[0].Seconds(), "label-s")
	s.end(m.b, "label", "the one it concerns has its address after "+tenth(times[0]).String(), 1)
}

// decided waits until the controller has said why a Service has no address.
func (m *many) decided(name string) {
	m.b.Helper()
	m.l.Eventually(name+" is told why it waits", func() error {
		if c := m.l.Condition(name); c.Type == "" {
			return fmt.Errorf("it is not")
		}
		return nil
	})
	m.settle()
}

// settle waits until the status of the pool, too, has been written.
func (m *many) settle() {
	m.b.Helper()
	m.l.Eventually("the pool counts them all", func() error {
		have, _ := m.r.assigned()
		got, err := m.l.PoolCount("lan")
		if err == nil && got.Assigned < int64(have)-1 { // one may be from another pool
			err = fmt.Errorf("it counts %d of %d", got.Assigned, have)
		}
		return err
	})
}

// BenchmarkControllerStops measures how long nobody assigns addresses when the
// controller that leads is asked to end: from SIGTERM until the other one has
// assigned one.
func BenchmarkControllerStops(b *testing.B) {
	const runs = 10
	l := lab.Start(b, lab.Options{NoNodes: true, Controllers: 2})
	l.Apply(pool("lan", bigPool))
	r := keepRegister(b, l)
	for b.Loop() {
		var times []time.Duration
		for i := range runs {
			leader, _ := replicas(b, l)
			began := time.Now()
			leader.Stop()
			made, err := create(l, plain(fmt.Sprintf("web-%d", i)))
			if err != nil {
				b.Fatal(err)
			}
			took, _ := latencies(b, l, r, map[types.UID]time.Time{made.UID: began})
			times = append(times, took...)
			leader.Start()
			leader.WaitReady()
		}
		report(b, "hand-over", times)
	}
	r.check(b)
}
