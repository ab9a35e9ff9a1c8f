package stories

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/herald-lb/herald/e2e/lab"
)

// The figures of Herald, each measured several times within one iteration: run
// them with -benchtime 1x. They are of this machine, with everything on it.

// report reports the best, the median and the worst of some times, and the 99th
// percentile where there are enough of them for one.
func report(b *testing.B, what string, times []time.Duration) {
	b.Helper()
	slices.Sort(times)
	at := func(p int) float64 {
		return float64(times[(len(times)-1)*p/100].Microseconds()) / 1000
	}
	b.ReportMetric(at(0), what+"-min-ms")
	b.ReportMetric(at(50), what+"-p50-ms")
	if len(times) >= 50 {
		b.ReportMetric(at(99), what+"-p99-ms")
	}
	b.ReportMetric(at(100), what+"-max-ms")
}

// BenchmarkServiceCreated measures from the request that creates a Service: until its address stands in the status, as a watch sees it, and
// until a client's first request is answered.
func BenchmarkServiceCreated(b *testing.B) {
	const services = 50
	l := lab.Start(b, lab.Options{})
	onePodEach(l, "web")
	l.Apply(pool("lan", "192.168.50.128-192.168.50.250"))
	events, err := l.API().CoreV1().Services(l.Namespace).Watch(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer events.Stop()
	for b.Loop() {
		var assigned, answered []time.Duration
		for i := range services {
			s := service{name: fmt.Sprintf("web-%d", i), app: "web"}
			began := time.Now()
			l.Apply(s.String())
			addr := awaitAddress(b, events, s.name)
			assigned = append(assigned, time.Since(began))
			for {
				if _, err := l.Client.GetWithin(url(addr), 100*time.Millisecond); err == nil {
					break
				}
			}
			answered = append(answered, time.Since(began))
		}
		report(b, "address", assigned)
		report(b, "answer", answered)
		for i := range services {
			l.DeleteService(fmt.Sprintf("web-%d", i))
		}
	}
	b.ReportMetric(float64(l.Controller.RSS())/(1<<20), "controller-RSS-MB")
	b.ReportMetric(float64(l.Node(1).Speaker.RSS())/(1<<20), "speaker-RSS-MB")
}

func awaitAddress(b *testing.B, events watch.Interface, name string) netip.Addr {
	b.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case e := <-events.ResultChan():
			if s, ok := e.Object.(*corev1.Service); ok && s.Name == name {
				if addrs := lab.Addresses(s); len(addrs) > 0 {
					return addrs[0]
				}
			}
		case <-timeout:
			b.Fatalf("service %s gets no address", name)
		}
	}
}

// failoverRuns is how often each failure is played; HERALD_BENCH_RUNS overrides.
const failoverRuns = 10

// BenchmarkFailover measures how long it takes until all addresses of a node that
// has failed are announced by others: from the failure until the last of them is
// greeted by another; and how long a client that asks one of them all the time
// went without an answer, where the pods of the node are still there.
func BenchmarkFailover(b *testing.B) {
	failures := []struct {
		name      string
		fail, end func(n *lab.Node)
		pods      bool   // whether they are there still
		failback  string // of the pool
	}{
		{"killed", (*lab.Node).Kill, func(n *lab.Node) { n.StartSpeaker(); n.Speaker.WaitReady() }, true, "Immediate"},
		{"frozen", (*lab.Node).Freeze, (*lab.Node).Thaw, true, "Immediate"},
		// A link that was cut some times is left in reserve for a while; and BFD sends
		// a packet a second until both ends have met.
		{"cut", (*lab.Node).Unplug, func(n *lab.Node) { n.Replug(); time.Sleep(2 * time.Second) }, false, "Never"},
		{"stopped", (*lab.Node).Stop, func(n *lab.Node) { n.StartSpeaker(); n.Speaker.WaitReady() }, true, "Immediate"},
	}
	for _, services := range []int{1, 500} {
		for _, f := range failures {
			b.Run(fmt.Sprintf("%s/addresses=%d", f.name, services), func(b *testing.B) {
				l := lab.Start(b, lab.Options{})
				onePodEach(l, "web")
				l.Apply(fmt.Sprintf("apiVersion: herald-lb.io/v1alpha1\nkind: AddressPool\nmetadata: {name: lan}\n"+
					"spec: {addresses: [\"fd50::1:0/112\"], announce: {layer2: {failback: %s}}}", f.failback))
				addrs := sixes(b, l, services)
				seen, err := l.Client.Observe(addrs...)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = seen.Stop() })
				for b.Loop() {
					var taken, silent []time.Duration
					for range runs() {
						t, s := failover(b, l, seen, addrs, f.fail, f.end, f.pods, f.failback == "Immediate")
						taken, silent = append(taken, t), append(silent, s)
					}
					report(b, "takeover", taken)
					if f.pods {
						report(b, "client-silence", silent)
					}
				}
			})
		}
	}
}

func runs() int {
	if n, err := strconv.Atoi(os.Getenv("HERALD_BENCH_RUNS")); err == nil {
		return n
	}
	return failoverRuns
}

// sixes makes so many Services of IPv6 and returns their addresses.
func sixes(b *testing.B, l *lab.Lab, services int) (addrs []netip.Addr) {
	_, err := createEach(l, services, func(i int) *corev1.Service {
		s := plain(fmt.Sprintf("web-%d", i))
		s.Spec.Selector, s.Spec.Ports[0].TargetPort = lab.App("web"), intstr.FromInt32(8080)
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
		return s
	})
	if err != nil {
		b.Fatal(err)
	}
	l.Within(2*time.Minute, "all have an address", func() error {
		list, err := l.API().CoreV1().Services(l.Namespace).List(b.Context(), metav1.ListOptions{})
		addrs = nil
		for _, s := range list.Items {
			addrs = append(addrs, lab.Addresses(&s)...)
		}
		if err == nil && len(addrs) < services {
			err = fmt.Errorf("%d have", len(addrs))
		}
		return err
	})
	waitAnswer(b, l, l.Client, url(addrs[0]))
	return addrs
}

// failover has the owner of the first of addrs fail, and returns how long it took
// until the last of his is another's, and for how long that one was not answered.
func failover(b *testing.B, l *lab.Lab, seen *lab.Observer, addrs []netip.Addr, fail, end func(*lab.Node), pods, back bool) (taken, silent time.Duration) {
	b.Helper()
	owners := func() (map[netip.Addr]lab.MAC, error) {
		all := map[netip.Addr]lab.MAC{}
		for _, a := range addrs {
			mac, err := seen.Record(a).Owner()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a, err)
			}
			all[a] = mac
		}
		return all, nil
	}
	var before map[netip.Addr]lab.MAC
	l.Within(time.Minute, "all have one owner", func() (err error) {
		before, err = owners()
		return err
	})
	owner := l.Nodes()[slices.IndexFunc(l.Nodes(), func(n *lab.Node) bool { return lab.MAC(n.MAC()) == before[addrs[0]] })]
	traffic := l.Client.Ask(url(addrs[0]), 5*time.Millisecond)
	time.Sleep(300 * time.Millisecond) // enough requests
	if !pods {
		traffic.Stop()
	}
	began := time.Now()
	fail(owner)
	l.Within(time.Minute, "all are greeted by others", func() error {
		taken = 0
		for _, a := range addrs {
			if before[a] != before[addrs[0]] {
				continue
			}
			greetings := seen.Record(a).Greetings
			i := slices.IndexFunc(greetings, func(v lab.Voice) bool { return v.At.After(began) && v.MAC != before[a] })
			if i < 0 {
				return fmt.Errorf("%s is not", a)
			}
			taken = max(taken, greetings[i].At.Sub(began))
		}
		return nil
	})
	if pods {
		traffic.Stop()
		silent = traffic.Longest
	}
	end(owner)
	l.Within(time.Minute, "all are as before, or stay", func() error {
		now, err := owners()
		if err == nil && back && !maps.Equal(now, before) {
			err = errElsewhere
		}
		return err
	})
	return taken, silent
}
