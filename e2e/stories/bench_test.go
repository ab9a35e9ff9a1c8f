package stories

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/herald-lb/herald/e2e/lab"
)

// The figures of Herald, each measured several times within one iteration: run
// them with -benchtime 1x. They are of this machine, with everything on it.

// report reports the median and the worst of some times, and the 99th
// percentile where there are enough of them for one.
func report(b *testing.B, what string, times []time.Duration) {
	b.Helper()
	slices.Sort(times)
	at := func(p int) float64 {
		return float64(times[(len(times)-1)*p/100].Microseconds()) / 1000
	}
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

// BenchmarkSpeakerKilled measures from kill -9 of the announcing speaker until
// another node answers for the address, and how long a client that asks all the
// time went without an answer: the rows of the old node steer on meanwhile.
func BenchmarkSpeakerKilled(b *testing.B) {
	const runs = 5
	l := lab.Start(b, lab.Options{})
	onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(b, l, l.Client, url(addr))
	for b.Loop() {
		var taken, silent []time.Duration
		for range runs {
			owner, err := l.Owner(addr)
			if err != nil {
				b.Fatal(err)
			}
			traffic := l.Client.Ask(url(addr), pace)
			owner.Kill()
			began := time.Now()
			l.Eventually("another node answers", func() error {
				now, err := l.Owner(addr)
				if err == nil && now == owner {
					err = fmt.Errorf("%s answers", now.Name)
				}
				return err
			})
			taken = append(taken, time.Since(began))
			traffic.Stop()
			silent = append(silent, traffic.Longest)
			owner.StartSpeaker()
			owner.Speaker.WaitReady()
			l.Eventually("one node answers, and only one", func() error { return oneAnswer(l, addr) })
		}
		report(b, "takeover", taken)
		report(b, "client-silence", silent)
	}
}
