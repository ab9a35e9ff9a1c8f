package stories

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

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
		s, tick := begin(l), time.NewTicker(pace)
		asked, made := map[types.UID]time.Time{}, map[types.UID]time.Time{}
		for i := range services {
			<-tick.C
			began := time.Now()
			s, err := create(l, plain(fmt.Sprintf("web-%d", i)))
			if err != nil {
				b.Fatal(err)
			}
			asked[s.UID], made[s.UID] = began, time.Now()
		}
		tick.Stop()
		s.end(b, "paced", both(b, "paced", l, r, asked, made), services)
	}
	r.check(b)
}

// both reports how long Services waited for their addresses since they were
// asked for, and since the API server had made them, which is what Herald
// adds.
func both(b *testing.B, name string, l *lab.Lab, r *register, asked, made map[types.UID]time.Time) string {
	b.Helper()
	all, _ := latencies(b, l, r, asked)
	added, _ := latencies(b, l, r, made)
	report(b, name, all)
	report(b, name+"-added", added)
	return fmt.Sprintf("p50 %s, p99 %s, of which since the API server's answer %s and %s",
		percentile(all, 50), percentile(all, 99), percentile(added, 50), percentile(added, 99))
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
