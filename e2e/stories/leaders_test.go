package stories

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/e2e/lab"
)

// The Lease of a leader that says nothing more runs out after 15 s.
const leaseRunsOutWithin = 40 * time.Second

// replicas returns the controller that leads, and the other one.
func replicas(t testing.TB, l *lab.Lab) (leader, other *lab.Daemon) {
	t.Helper()
	l.Eventually("a controller leads", func() (err error) {
		leader, err = l.Leader()
		return err
	})
	i := slices.Index(l.Controllers, leader)
	return leader, l.Controllers[1-i]
}

func TestTwoControllersThatBothBelieveToLeadGiveEachAddressOnce(t *testing.T) {
	const services, before = 60, 10
	l := lab.Start(t, lab.Options{NoNodes: true, Controllers: 2})
	l.Apply(pool("lan", "192.0.2.0/24"))
	leader, other := replicas(t, l)
	r := keepRegister(t, l)

	made := make(chan error)
	go func() {
		_, err := createAll(l, "web", services)
		made <- err
	}()
	l.Eventually("the leader is in the middle of it", func() error {
		if have, _ := r.assigned(); have < before {
			return fmt.Errorf("%d have an address", have)
		}
		return nil
	})
	leader.Freeze()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	frozen, _ := r.assigned()
	l.Within(leaseRunsOutWithin, "the other one has assigned the rest", r.allAssigned(services))
	r.check(t)
	had, writes := addressesOf(t, r, services), l.StatusWrites()

	// The first one wakes up in the middle of a pass, and does not know for a
	// while that its Lease is gone: both assign what comes now.
	leader.Thaw()
	if _, err := createAll(l, "late", services); err != nil {
		t.Fatal(err)
	}
	both := leader.Said("leading no more") == 0
	l.Within(leaseRunsOutWithin, "the one that was frozen knows that it leads no more", func() error {
		if leader.Said("leading no more") == 0 {
			return errors.New("it has not said so")
		}
		return nil
	})
	l.Eventually("all have an address", r.allAssigned(2*services))
	l.Eventually("each address is at one service", func() error { return eachOnce(t, l) })
	if now := addressesOf(t, r, services); !maps.Equal(now, had) {
		t.Errorf("the older services have %v, and had %v", now, had)
	}
	if now, err := l.Leader(); err != nil || now != other {
		t.Errorf("the leader is %v, %v; want %s", now, err, other.Name())
	}
	now := l.StatusWrites()
	t.Logf("%d of %d had an address when %s was frozen; when it awoke, both led: %t; of the writes since, %d were done and %d refused; seen meanwhile: %q",
		frozen, services, leader.Name(), both, now.Done-writes.Done, now.Refused-writes.Refused, r.complaints())
}

func TestOfTwoServicesWithOneAddressTheOlderKeepsIt(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true, Controllers: 2})
	l.Apply(pool("lan", "192.0.2.0/25"))
	leader, _ := replicas(t, l)
	// Names that sort either way: age decides, which the API server knows to
	// the second.
	for _, name := range []string{"b-old", "c-old"} {
		l.Apply(plainManifest(name))
	}
	<-time.After(1100 * time.Millisecond)
	l.Apply(plainManifest("a-young"))
	l.Apply(plainManifest("d-young"))
	had, heard := map[string]netip.Addr{}, map[string]int{}
	for _, name := range []string{"a-young", "b-old", "c-old", "d-young"} {
		had[name] = l.WaitAddress(name)
	}
	double := func(t *testing.T) {
		for _, name := range []string{"a-young", "d-young"} {
			heard[name] = 1
			l.Eventually("an event tells of its first address", func() error { return told(l, name, had[name], 1) })
		}
		forge(t, l, "a-young", had["b-old"])
		forge(t, l, "d-young", had["c-old"])
	}
	settled := func(t *testing.T) {
		l.Within(leaseRunsOutWithin, "each address is at one service", func() error { return eachOnce(t, l) })
		for _, name := range []string{"b-old", "c-old"} {
			if now := l.WaitAddress(name); now != had[name] {
				t.Errorf("%s, the older, went from %s to %s", name, had[name], now)
			}
		}
		for _, name := range []string{"a-young", "d-young"} {
			addr, times := l.WaitAddress(name), 1
			if addr == had[name] {
				times = heard[name] + 1
			}
			l.Eventually("an event tells where "+name+" is now", func() error { return told(l, name, addr, times) })
		}
	}
	t.Run("while one leads", func(t *testing.T) {
		double(t)
		settled(t)
	})
	t.Run("while the one that leads is frozen", func(t *testing.T) {
		leader.Freeze()
		double(t)
		l.Apply(plainManifest("newcomer"))
		settled(t)
		l.WaitAddress("newcomer")
		leader.Thaw()
		l.Eventually("the one that was frozen knows that it leads no more", func() error {
			if leader.Said("leading no more") == 0 {
				return errors.New("it has not said so")
			}
			return nil
		})
		settled(t)
	})
}

// plainManifest is plain as a manifest.
func plainManifest(name string) string {
	return service{name: name, app: "none", more: "allocateLoadBalancerNodePorts: false"}.String()
}

// forge writes what a leader could that does not know yet what another has
// written: the status of a Service with an address that is not its own.
func forge(t *testing.T, l *lab.Lab, name string, addr netip.Addr) {
	t.Helper()
	editStatus(t, l, name, func(s *corev1.ServiceStatus) {
		s.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}}
		for i := range s.Conditions {
			s.Conditions[i].Message = addr.String() + " from pool lan"
		}
	})
}

// editStatus changes the status of a Service, and again if somebody else
// changed it meanwhile.
func editStatus(t *testing.T, l *lab.Lab, name string, change func(*corev1.ServiceStatus)) {
	t.Helper()
	for {
		s := l.Service(name)
		change(&s.Status)
		_, err := l.API().CoreV1().Services(l.Namespace).UpdateStatus(t.Context(), s, metav1.UpdateOptions{})
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			t.Fatalf("writing the status of service %s: %v", name, err)
		}
	}
}

// eachOnce says whether every Service of the story has an address, and no two
// have the same.
func eachOnce(t testing.TB, l *lab.Lab) error {
	list, err := l.API().CoreV1().Services(l.Namespace).List(context.WithoutCancel(t.Context()), metav1.ListOptions{})
	if err != nil {
		return err
	}
	holder := map[netip.Addr]string{}
	var errs []error
	for _, s := range list.Items {
		addrs := lab.Addresses(&s)
		if len(addrs) == 0 {
			errs = append(errs, fmt.Errorf("%s has no address", s.Name))
		}
		for _, a := range addrs {
			if other := holder[a]; other != "" {
				errs = append(errs, fmt.Errorf("%s and %s both have %s", other, s.Name, a))
			}
			holder[a] = s.Name
		}
	}
	return errors.Join(errs...)
}

// told says whether events have told, so many times, that a Service has an
// address.
func told(l *lab.Lab, name string, addr netip.Addr, times int) error {
	events, err := l.API().CoreV1().Events(l.Namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return err
	}
	heard := 0
	for _, e := range events.Items {
		if e.InvolvedObject.Name == name && strings.Contains(e.Message, addr.String()) {
			heard += int(max(e.Count, 1))
		}
	}
	if heard < times {
		return fmt.Errorf("%d events about %s tell of %s, want %d", heard, name, addr, times)
	}
	return nil
}

func TestAControllerThatStopsHandsOver(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true, Controllers: 2})
	l.Apply(pool("lan", "192.0.2.0/25"))
	r := keepRegister(t, l)
	for i := range 3 {
		leader, other := replicas(t, l)
		began := time.Now()
		leader.Stop()
		stopped := time.Since(began)
		if _, err := create(l, plain(fmt.Sprintf("web-%d", i))); err != nil {
			t.Fatal(err)
		}
		l.Eventually("the other one assigns", r.allAssigned(i+1))
		t.Logf("%s ended after %s, %s assigned an address after %s", leader.Name(), stopped.Round(time.Millisecond),
			other.Name(), time.Since(began).Round(time.Millisecond))
		if now, err := l.Leader(); err != nil || now != other {
			t.Errorf("the leader is %v, %v; want %s", now, err, other.Name())
		}
		leader.Start()
		leader.WaitReady()
	}
	r.check(t)
}
