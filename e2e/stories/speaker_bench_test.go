package stories

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/e2e/lab"
)

// BenchmarkASpeakerAmongThousands measures what one speaker costs where there
// are thousands of Services with three endpoints each: from its start until all
// of their rows stand, and its memory. Making them takes longest, and is not
// measured.
func BenchmarkASpeakerAmongThousands(b *testing.B) {
	services := number(b, "HERALD_BENCH_SERVICES", 5000)
	l := lab.Start(b, lab.Options{Idle: true})
	l.Apply(pool("lan", bigPool))
	began := time.Now()
	if _, err := createAll(l, "web", services); err != nil {
		b.Fatal(err)
	}
	if err := sliceAll(l, "web", services); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d services with three endpoints each made within %s", services, tenth(time.Since(began)))
	l.Controller.Start()
	l.Within(5*time.Minute, "the pool counts them all", func() error {
		got, err := l.PoolCount("lan")
		if err == nil && got.Assigned < int64(services) {
			err = fmt.Errorf("it counts %d of %d", got.Assigned, services)
		}
		return err
	})
	speaker := l.Node(1).Speaker
	for b.Loop() {
		began := time.Now()
		speaker.Start()
		l.Within(5*time.Minute, "the rows of all stand", speaker.Ready)
		took, cpu, rss := time.Since(began), speaker.CPU(), speaker.RSS()
		for range 30 { // what the first pass took is given back in a moment
			<-time.After(100 * time.Millisecond)
			rss = min(rss, speaker.RSS())
		}
		b.Logf("settled after %s with %s of CPU; RSS %d MB, at most %d MB", tenth(took), tenth(cpu), rss>>20, speaker.PeakRSS()>>20)
		b.ReportMetric(float64(rss)/1e6, "RSS-MB")
		b.ReportMetric(cpu.Seconds(), "CPU-s")
		speaker.Stop()
	}
}

// sliceAll gives each of n Services three endpoints, one on each node.
func sliceAll(l *lab.Lab, prefix string, n int) error {
	var mu sync.Mutex
	var errs []error
	next := make(chan int)
	var g sync.WaitGroup
	for range 16 {
		g.Go(func() {
			for i := range next {
				if err := slice(l, fmt.Sprintf("%s-%d", prefix, i), i); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	g.Wait()
	return errors.Join(errs...)
}

func slice(l *lab.Lab, service string, i int) error {
	es := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("web"), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	for j := range 3 {
		addr := netip.AddrFrom4([4]byte{10, byte(101 + j), byte(i >> 8), byte(i)})
		es.Endpoints = append(es.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{addr.String()}, NodeName: ptr.To(fmt.Sprintf("n%d", j+1)),
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		})
	}
	_, err := l.API().DiscoveryV1().EndpointSlices(l.Namespace).Create(context.Background(), es, metav1.CreateOptions{})
	return err
}
