package stories

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
)

func TestPoolAndServiceMeetInEitherOrder(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	steps := []struct {
		name          string
		first, second string
	}{
		{"the pool comes first", pool("lan", addrs), service{name: "web"}.String()},
		{"the service comes first", service{name: "web"}.String(), pool("lan", addrs)},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			l.Apply(s.first)
			l.Apply(s.second)
			addr := l.WaitAddress("web")
			for _, from := range []*lab.Host{l.Client, l.Far} {
				waitAnswer(t, l, from, url(addr))
				askAll(t, from, url(addr), pods...)
			}
			// The client may have known it from before, and need not have asked.
			l.Eventually("one node answers", func() error { return oneAnswer(l, addr) })
			if c := l.Condition("web"); c.Status != "True" {
				t.Errorf("condition AddressAssigned is %+v", c)
			}
			if mode := l.Service("web").Status.LoadBalancer.Ingress[0].IPMode; mode == nil || *mode != corev1.LoadBalancerIPModeProxy {
				t.Errorf("ipMode is %v, want Proxy: Herald steers", mode)
			}
			l.Delete(s.first)
			l.Delete(s.second)
			waitGone(t, l, addr)
		})
	}
}

func TestAFullPoolSaysSoAndServesTheMomentItCan(t *testing.T) {
	l := lab.Start(t, lab.Options{Nodes: 1})
	l.Apply(pool("tiny", "192.168.50.200-192.168.50.201"))
	l.Apply(objects(service{name: "a"}, service{name: "b"}))
	a, b := l.WaitAddress("a"), l.WaitAddress("b")
	if a == b {
		t.Fatalf("a and b both have %s", a)
	}
	l.Apply(service{name: "c"}.String())
	l.Eventually("c says that pool tiny is full", func() error {
		if c := l.Condition("c"); c.Status != "False" || c.Reason != "PoolFull" || !strings.Contains(c.Message, "tiny") {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	l.Eventually("an event says so, too", func() error {
		events := l.Events("c")
		if !slices.ContainsFunc(events, func(e string) bool { return strings.Contains(e, "tiny") }) {
			return fmt.Errorf("the events are %q", events)
		}
		return nil
	})
	l.DeleteService("a")
	if c := l.WaitAddress("c"); c != a {
		t.Errorf("c has %s, want %s, which a has left", c, a)
	}
	if got := l.WaitAddress("b"); got != b {
		t.Errorf("b moved from %s to %s", b, got)
	}
}

func TestAPoolThatCannotBeReadIsRefused(t *testing.T) {
	l := lab.Start(t, lab.Options{Nodes: 1, Idle: true})
	for _, tt := range []struct{ name, addresses, field string }{
		{"an address with a number beyond 255", "192.168.50.300", "spec.addresses[0]"},
		{"a range that ends before it starts", "192.168.50.9-192.168.50.2", "spec.addresses[0]"},
		{"a range over both families", "192.168.50.2-fd50::9", "spec.addresses[0]"},
		{"words", "the office network", "spec.addresses[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := l.TryApply(pool("bad", tt.addresses))
			if err == nil || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("the API server says %v, want an error that names %s", err, tt.field)
			}
		})
	}
}

func TestAPoolDeletedAndMadeAgainLosesNoAddress(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	pods := onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	traffic := l.Client.Ask(url(addr), pace)

	l.Delete(pool("lan", addrs))
	// Another Service finds no pool: Herald has seen the deletion by then.
	l.Apply(service{name: "late", app: "web"}.String())
	l.Eventually("a later service finds no pool", func() error {
		if c := l.Condition("late"); c.Status != "False" {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	if now := lab.Addresses(l.Service("web")); !slices.Equal(now, []netip.Addr{addr}) {
		t.Errorf("without its pool the service has %v, want %s as before", now, addr)
	}
	l.Apply(pool("lan", addrs))
	if late := l.WaitAddress("late"); late == addr {
		t.Errorf("both services have %s", addr)
	}
	askAll(t, l.Client, url(addr), pods...)
	traffic.Stop()
	noneLost(t, l, traffic)
}

func TestAServiceThatGoesLeavesNothingBehind(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	l.Apply(pool("lan", addrs))
	begin := func() netip.Addr {
		l.Apply(service{name: "web"}.String())
		addr := l.WaitAddress("web")
		waitAnswer(t, l, l.Client, url(addr))
		return addr
	}
	t.Run("when it is deleted", func(t *testing.T) {
		addr := begin()
		l.DeleteService("web")
		waitGone(t, l, addr)
	})
	t.Run("when its type is changed", func(t *testing.T) {
		addr := begin()
		l.Edit("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
		waitGone(t, l, addr)
		l.WaitNoAddress("web")
		l.Eventually("the condition is gone", func() error {
			if c := l.Condition("web"); c.Type != "" {
				return fmt.Errorf("there is %+v", c)
			}
			return nil
		})
		l.DeleteService("web")
	})
	t.Run("when it is deleted while the controller is away", func(t *testing.T) {
		addr := begin()
		l.Controller.Kill()
		l.DeleteService("web")
		waitGone(t, l, addr)
		l.Controller.Start()
		l.Apply(service{name: "next", app: "web"}.String())
		if got := l.WaitAddress("next"); got != addr {
			t.Errorf("the next service has %s, want the free %s", got, addr)
		}
		l.DeleteService("next")
		waitGone(t, l, addr)
	})
	t.Run("when its type is changed while the controller is away", func(t *testing.T) {
		addr := begin()
		l.Controller.Kill()
		l.Edit("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
		waitGone(t, l, addr)
		l.Controller.Start()
		l.WaitNoAddress("web")
	})
}

func TestOtherServicesAreLeftAlone(t *testing.T) {
	l := lab.Start(t, lab.Options{Nodes: 1})
	l.Pod(1, "web", lab.PodSpec{Labels: lab.App("web")})
	l.Apply(pool("lan", addrs))
	others := []service{
		{name: "clusterip", app: "web", kind: "ClusterIP"},
		{name: "headless", app: "web", kind: "ClusterIP", more: "clusterIP: None"},
		{name: "nodeport", app: "web", kind: "NodePort"},
		{name: "external", app: "none", kind: "ExternalName", more: "externalName: example.org"},
		{name: "foreign", app: "web", more: "loadBalancerClass: example.org/other"},
	}
	before := map[string]string{}
	for _, s := range others {
		l.Apply(s.String())
		before[s.name] = l.Service(s.name).ResourceVersion
	}
	l.Apply(service{name: "ours", app: "web", more: "loadBalancerClass: herald-lb.io/herald"}.String())
	addr := l.WaitAddress("ours")
	waitAnswer(t, l, l.Client, url(addr))
	l.DeleteService("ours")
	waitGone(t, l, addr)
	for _, s := range others {
		now := l.Service(s.name)
		if now.ResourceVersion != before[s.name] {
			t.Errorf("service %s was changed: %+v", s.name, now)
		}
		if ip, err := netip.ParseAddr(now.Spec.ClusterIP); err == nil {
			if err := l.NoRows(ip); err != nil {
				t.Errorf("service %s: %v", s.name, err)
			}
		}
	}
}

func TestAnAddressMayBeAskedFor(t *testing.T) {
	l := lab.Start(t, lab.Options{Nodes: 1})
	l.Apply(pool("lan", addrs))
	l.Apply(strings.Replace(service{name: "web"}.String(), "{name: web}",
		`{name: web, annotations: {herald-lb.io/addresses: "192.168.50.207"}}`, 1))
	if addr := l.WaitAddress("web"); addr.String() != "192.168.50.207" {
		t.Errorf("the service has %s", addr)
	}
	l.Apply(strings.Replace(service{name: "late"}.String(), "{name: late}",
		`{name: late, annotations: {herald-lb.io/addresses: "192.168.50.207"}}`, 1))
	l.Eventually("who asks for an address that is taken is told so", func() error {
		if c := l.Condition("late"); c.Status != "False" || !strings.Contains(c.Message, "192.168.50.207") {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	l.DeleteService("web")
	if addr := l.WaitAddress("late"); addr.String() != "192.168.50.207" {
		t.Errorf("the late service has %s", addr)
	}
}
