package stories

import (
	"fmt"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
)

// classed returns a Service of a loadBalancerClass.
func classed(name, class string) service {
	s := asking(name)
	s.more += ", loadBalancerClass: " + class
	return s
}

func TestOnlyTheClassesThatAreNamedAreServed(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true, Flags: []string{"--default-class=false", "--class=example.org/one,example.org/two"}})
	l.Apply(pool("lan", "192.0.2.0/28"))
	others := []service{asking("class-less"), classed("usual", "herald-lb.io/herald"), classed("foreign", "example.org/three")}
	before := map[string]string{}
	for _, s := range others {
		l.Apply(s.String())
		before[s.name] = l.Service(s.name).ResourceVersion
	}
	l.Apply(objects(classed("one", "example.org/one"), classed("two", "example.org/two")))
	waitAddrs(l, "one", "192.0.2.0")
	waitAddrs(l, "two", "192.0.2.1")
	for _, s := range others {
		if now := l.Service(s.name); now.ResourceVersion != before[s.name] {
			t.Errorf("service %s was changed: %+v", s.name, now.Status)
		}
	}
}

// leaveHerald gives a Service the class of another controller. The API server
// lets a class change only together with the type.
func leaveHerald(l *lab.Lab, name string) {
	l.Edit(name, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	l.Edit(name, func(s *corev1.Service) {
		class := "example.org/other"
		s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, &class
	})
}

func TestAClassChangedAwayReleasesTheAddress(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0"))
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("while the controller is away: %t", away), func(t *testing.T) {
			l.Apply(asking("web").String())
			waitAddrs(l, "web", "192.0.2.0")
			if away {
				l.Controller.Kill()
			}
			leaveHerald(l, "web")
			if away {
				l.Controller.Start()
			}
			l.Apply(asking("next").String())
			waitAddrs(l, "next", "192.0.2.0")
			waitSeen(l)
			if s := l.Service("web"); len(s.Status.LoadBalancer.Ingress) > 0 || len(s.Status.Conditions) > 0 {
				t.Errorf("something of Herald's has stayed: %+v", s.Status)
			}
			l.DeleteService("web")
			l.DeleteService("next")
		})
	}
}

func TestTheControllerOfTheNewClassMayBeFaster(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/28"))
	for _, theirs := range []corev1.LoadBalancerIngress{{IP: "192.0.2.9"}, {Hostname: "lb.example.org"}} {
		l.Apply(asking("web").String())
		l.WaitAddress("web")
		l.Controller.Kill()
		leaveHerald(l, "web")
		editStatus(t, l, "web", func(s *corev1.ServiceStatus) {
			s.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{theirs}
		})
		want := l.Service("web").Status.LoadBalancer
		l.Controller.Start()
		waitSeen(l)
		if s := l.Service("web").Status; !reflect.DeepEqual(s.LoadBalancer, want) || len(s.Conditions) > 0 {
			t.Errorf("the status is %+v, want %+v and no condition", s, want)
		}
		l.DeleteService("web")
	}
}

func TestWhatCannotBeReadIsSaidAndNeverGuessed(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/28", "2001:db8::/124"))
	sourced := func(spec string) service {
		s := asking("web")
		s.more += ", " + spec
		return s
	}
	for _, tt := range []struct {
		name    string
		service service
		text    string // of the message
	}{
		{"an annotation that nobody knows", asking("web", "adresses", "192.0.2.9"), "herald-lb.io/adresses"},
		{"an address with a number beyond 255", asking("web", "addresses", "192.0.2.300"), `"192.0.2.300"`},
		{"a range of addresses", asking("web", "addresses", "192.0.2.1-192.0.2.9"), "herald-lb.io/addresses"},
		{"two addresses of one family", asking("web", "addresses", "192.0.2.1,192.0.2.2"), "two addresses of one family"},
		{"an address and a stray comma", asking("web", "addresses", "192.0.2.1,"), "herald-lb.io/addresses"},
		{"namespaces to share with, but no key", asking("web", "share-with", "default"), "herald-lb.io/share"},
		{"a scheduler that the kernel has not", asking("web", "scheduler", "maglev"), "herald-lb.io/scheduler"},
		{"a flag of another scheduler", asking("web", "scheduler", "sh,mh-port"), `"mh-port" is no flag of scheduler sh`},
		{"a loadBalancerIP that is none", sourced("loadBalancerIP: office"), "spec.loadBalancerIP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.Apply(tt.service.String())
			waitVerdict(l, "web", refusal("InvalidRequest", tt.text))
			if err := hasAddrs(l.Service("web")); err != nil {
				t.Errorf("it was given an address although it asks for what cannot be read: %v", err)
			}
			l.Eventually("an event says so", hasEvent(l, "web", "InvalidRequest", tt.text))
			l.Edit("web", func(s *corev1.Service) { s.Annotations, s.Spec.LoadBalancerIP = nil, "" })
			waitAddrs(l, "web", "192.0.2.0")
			waitVerdict(l, "web", assigned())
			annotate(l, "web", "pol", "lan")
			waitVerdict(l, "web", kept("InvalidRequest", "192.0.2.0", "herald-lb.io/pol"))
			if err := stays(l, "web", "192.0.2.0"); err != nil {
				t.Error(err)
			}
			l.DeleteService("web")
		})
	}
}

func TestLoadBalancerIPAndPoolAreHonoured(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/28"))
	l.Apply(poolSpec("shy", "addresses: [198.51.100.0/28], assign: OnRequest"))
	old := asking("old")
	old.more += ", loadBalancerIP: 192.0.2.5"
	l.Apply(objects(old, asking("by-pool", "pool", "shy"), asking("by-address", "addresses", "198.51.100.9")))
	waitAddrs(l, "old", "192.0.2.5")
	waitAddrs(l, "by-pool", "198.51.100.0")
	waitAddrs(l, "by-address", "198.51.100.9")
	// Who asks for another pool moves there.
	annotate(l, "by-pool", "pool", "lan")
	waitAddrs(l, "by-pool", "192.0.2.0")
}

func TestTheStatusOfAnotherControllerIsLeftAlone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ingress corev1.LoadBalancerIngress
	}{
		{"a host name", corev1.LoadBalancerIngress{Hostname: "lb.example.org"}},
		{"an address that no pool covers", corev1.LoadBalancerIngress{IP: "203.0.113.9"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := lab.Start(t, lab.Options{NoNodes: true})
			l.Apply(asking("web").String())
			waitVerdict(l, "web", refusal("NoPool"))
			editStatus(t, l, "web", func(s *corev1.ServiceStatus) {
				s.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{tt.ingress}
			})
			theirs := l.Service("web").Status.LoadBalancer
			waitVerdict(l, "web", refusal("ForeignAddress"))
			l.Apply(pool("lan", "192.0.2.0/28"))
			waitInUse(l, "lan")
			waitSeen(l)
			if now := l.Service("web").Status.LoadBalancer; !reflect.DeepEqual(now, theirs) {
				t.Errorf("the status was %+v, and is %+v", theirs, now)
			}
			// It is Herald's once the other one lets go.
			editStatus(t, l, "web", func(s *corev1.ServiceStatus) { s.LoadBalancer.Ingress = nil })
			waitAddrs(l, "web", "192.0.2.0")
		})
	}
}

func TestMetalLBsAnnotationsAreHonouredOnRequest(t *testing.T) {
	theirs := func() string {
		tls := asking("e-tls", "metallb.io/allow-shared-ip", "k")
		tls.ports = "{name: tls, port: 443}"
		return objects(
			asking("a-address", "metallb.io/loadBalancerIPs", "192.0.2.9"),
			asking("b-pool", "metallb.universe.tf/address-pool", "spare"),
			asking("c-ours-wins", "addresses", "192.0.2.10", "metallb.io/loadBalancerIPs", "192.0.2.11"),
			asking("d-plain", "metallb.io/allow-shared-ip", "k"), tls)
	}
	for _, tt := range []struct {
		name  string
		flags []string
		want  map[string]string
	}{
		{"with the flag", []string{"--metallb-annotations"}, map[string]string{
			"a-address": "192.0.2.9", "b-pool": "198.51.100.0", "c-ours-wins": "192.0.2.10", "d-plain": "192.0.2.0", "e-tls": "192.0.2.0",
		}},
		{"without it", nil, map[string]string{
			"a-address": "192.0.2.0", "b-pool": "192.0.2.1", "c-ours-wins": "192.0.2.10", "d-plain": "192.0.2.2", "e-tls": "192.0.2.3",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := lab.Start(t, lab.Options{NoNodes: true, Flags: tt.flags})
			l.Apply(theirs())
			waitVerdict(l, "e-tls", refusal("NoPool"))
			l.Apply(pool("lan", "192.0.2.0/28"))
			l.Apply(pool("spare", "198.51.100.0/28"))
			for name, addr := range tt.want {
				waitAddrs(l, name, addr)
			}
		})
	}
}
