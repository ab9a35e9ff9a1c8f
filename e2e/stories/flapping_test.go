package stories

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/herald-lb/herald/e2e/lab"
)

// What becomes of one Service is nothing to the others, however many they are.
// It takes the API server most of a minute to make a thousand, beside everything else.
func TestOneOfManyServicesFlapsAndTheOthersDoNotNotice(t *testing.T) {
	services := 300
	if lab.InGuest() {
		services = 1000 // whose API server has a processor of its own
	}
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", bigPool))
	asked := manyOf(t, l, services)
	flapping := l.Pod(1, "flaps", lab.PodSpec{Labels: lab.App("flapping")})
	l.Pod(2, "stays", lab.PodSpec{Labels: lab.App("flapping")})
	l.Apply(service{name: "flapping"}.String())
	reach(t, l, l.WaitAddress("flapping"))

	var traffic []*lab.Traffic
	for _, a := range asked {
		reach(t, l, a)
		// Ten at a time, beside the flapping, keep a small machine busy.
		traffic = append(traffic, l.Client.AskWithin(url(a), 50*time.Millisecond, 5*time.Second))
	}
	long := connections(t, l, asked[0], pods)
	end := time.After(4 * time.Second)
	for i, over := 0, false; !over; i++ {
		switch i % 4 {
		case 0:
			flapping.Ready(false)
		case 1:
			flapping.Ready(true)
		case 2:
			flapping.Delete()
		default:
			flapping = l.Pod(1, fmt.Sprintf("flaps-%d", i), lab.PodSpec{Labels: lab.App("flapping")})
		}
		select {
		case <-end:
			over = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	long.answer(t)
	requests, longest := 0, time.Duration(0)
	for _, tr := range traffic {
		tr.Stop()
		noFailures(t, tr)
		requests += tr.Requests
		longest = max(longest, tr.Longest)
	}
	t.Logf("%d requests, at most %v without an answer", requests, longest)
}

// manyOf makes so many Services of one app, and returns the addresses of ten.
func manyOf(t *testing.T, l *lab.Lab, services int) (some []netip.Addr) {
	t.Helper()
	_, err := createEach(l, services, func(i int) *corev1.Service {
		s := plain(fmt.Sprintf("web-%d", i))
		s.Spec.Selector, s.Spec.Ports[0].TargetPort = lab.App("web"), intstr.FromInt32(8080)
		return s
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Within(2*time.Minute, "all have an address", func() error {
		list, err := l.API().CoreV1().Services(l.Namespace).List(context.WithoutCancel(t.Context()), metav1.ListOptions{})
		if err != nil {
			return err
		}
		some = nil
		for i, s := range list.Items {
			addrs := lab.Addresses(&s)
			if len(addrs) == 0 {
				return errors.New(s.Name + " has none")
			}
			if i%(services/10) == 0 {
				some = append(some, addrs[0])
			}
		}
		return nil
	})
	return some
}

// reach leads the client to an address that is not of its segment, by node 3,
// and waits for an answer.
func reach(t *testing.T, l *lab.Lab, addr netip.Addr) {
	t.Helper()
	if err := l.Client.RouteVia(addr, l.Node(3).Host); err != nil {
		t.Fatal(err)
	}
	waitAnswer(t, l, l.Client, url(addr))
}
