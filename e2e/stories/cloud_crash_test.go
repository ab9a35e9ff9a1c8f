package stories

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	"github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

// A crash is what a plugin is at when it is killed.
type crash struct {
	name   string
	before func()       // while the plugin runs; nil for nothing
	event  func()       // of which it learns when it starts
	done   func() error // what there is once it has dealt with it
}

// everyCall has the plugin be killed after each call that it makes of what has
// happened, and before each that changes something, and started again: to be killed
// before another is to be killed after the one before. After each time, clean takes
// away what there is.
func (v *vendor) everyCall(t *testing.T, l *lab.Lab, plugin *lab.Daemon, c crash, clean func()) {
	killed := 0
	for _, point := range []struct {
		name string
		at   func(n int, hook func())
	}{
		{"after call", func(n int, hook func()) { v.chaos.CrashAtCall(n, chaos.After, hook) }},
		{"before change", func(n int, hook func()) { v.chaos.CrashAt(n, chaos.Before, hook) }},
	} {
		for n, more := 1, true; more; n++ {
			if c.before != nil {
				c.before()
			}
			plugin.Kill()
			c.event()
			var decided atomic.Bool // whether it is killed, by who comes first
			dead := make(chan struct{})
			point.at(n, func() {
				if decided.CompareAndSwap(false, true) {
					plugin.Kill()
					close(dead)
				}
			})
			plugin.Start()
			l.Eventually(fmt.Sprintf("%s: it is killed %s %d, or has done all", c.name, point.name, n), func() error {
				if decided.Load() {
					return nil
				}
				return c.done()
			})
			more = !decided.CompareAndSwap(false, true)
			v.chaos.Calm()
			if more {
				<-dead
				killed++
				plugin.Start()
				l.Eventually(fmt.Sprintf("%s: it was killed %s %d, and all is as it should be", c.name, point.name, n), c.done)
			}
			clean()
		}
	}
	t.Logf("killed %d times", killed)
	if killed < 4 {
		t.Errorf("killed %d times only", killed)
	}
}

// Services without a class are the business of the service controller of Kubernetes,
// which the plugin serves. Killed at any of its calls, it leaves one load balancer of
// a Service, and none of one that is gone.
func TestACloudPluginKilledAtAnyCallLeavesOneLoadBalancer(t *testing.T) {
	if lab.InGuest() {
		t.Skip("this is about a cloud, and not about how the kernel steers")
	}
	l := lab.Start(t, lab.Options{Nodes: 2, Idle: true})
	v := newVendor(t, l)
	plugin := l.Cloud(v.config, "--leader-elect=false")
	plugin.Start()
	web := service{name: "web", ports: "{name: web, port: 80, targetPort: 8080, nodePort: 30080}"}
	serves := func(listeners ...string) func() error {
		return func() error {
			all := v.LoadBalancers()
			if len(all) != 1 {
				return fmt.Errorf("there are %d load balancers", len(all))
			}
			in := l.Service("web").Status.LoadBalancer.Ingress
			if len(in) == 0 || in[0].IP != all[0].PublicNet.IPv4.IP {
				return fmt.Errorf("the Service has %v, the load balancer %s", in, all[0].PublicNet.IPv4.IP)
			}
			if listeners == nil {
				return nil
			}
			return with(2, listeners...)(all[0])
		}
	}
	var gone <-chan struct{}
	end := func() {
		l.DeleteService("web")
		forgotten(t, gone)
		if all := v.LoadBalancers(); len(all) != 0 {
			t.Fatalf("the Service is gone, and there are %v", all)
		}
	}
	apply := func(s service) func() {
		return func() {
			// A port that was just given back may not be free at once.
			l.Eventually("it is made", func() error { return l.TryApply(s.String()) })
			gone = whenGone(t, l, "web")
		}
	}
	served := func() {
		apply(web)()
		l.Eventually("it is served", serves("80→30080"))
	}
	adopting := web
	adopting.meta = "annotations: {herald-lb.io/adopt: by-hand, herald-lb.io/deletion-policy: Delete}"
	for _, c := range []crash{
		{"create", nil, apply(web), serves("80→30080")},
		{"update", served, func() {
			l.Edit("web", func(s *corev1.Service) {
				s.Spec.Ports[0].NodePort = 30081
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "more", Port: 443, NodePort: 30443})
			})
		}, serves("443→30443", "80→30081")},
		{"adopt", nil, func() {
			v.addByHand(t, "by-hand")
			apply(adopting)()
		}, serves("80→30080")},
	} {
		t.Run(c.name, func(t *testing.T) { v.everyCall(t, l, plugin, c, end) })
	}
	t.Run("delete", func(t *testing.T) {
		anyPort := func() { // one that was just given back may not be free at once
			apply(service{name: "web"})()
			l.Eventually("it is served", serves())
		}
		v.everyCall(t, l, plugin, crash{"delete", anyPort, func() { l.DeleteService("web") }, func() error {
			select {
			case <-gone:
				return nil
			default:
				return errors.New("it is not gone")
			}
		}}, func() {
			if all := v.LoadBalancers(); len(all) != 0 {
				t.Fatalf("the Service is gone, and there are %v", all)
			}
		})
	})
}

// addByHand makes a load balancer as people do, who are not in the plugin's way.
func (v *vendor) addByHand(t *testing.T, name string) {
	t.Helper()
	client := hcloud.NewClient(hcloud.WithEndpoint("http://cloud"), hcloud.WithToken(hetzner.DefaultToken), hcloud.WithHTTPClient(&http.Client{Transport: direct{v.Cloud}}))
	_, _, err := client.LoadBalancer.Create(t.Context(), hcloud.LoadBalancerCreateOpts{Name: name,
		LoadBalancerType: &hcloud.LoadBalancerType{Name: "lb11"}, Location: &hcloud.Location{Name: "fsn1"}})
	if err != nil {
		t.Fatal(err)
	}
}

// direct has a handler answer, without a network.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	d.ServeHTTP(answer, r)
	return answer.Result(), nil
}

// A plugin that is killed at any call of moving a floating IP has moved it, once it
// is started again, to a node that lives, and there is one.
func TestACloudPluginKilledAtAnyCallMovesAFloatingIP(t *testing.T) {
	if lab.InGuest() {
		t.Skip("this is about a cloud, and not about how the kernel steers")
	}
	l := lab.Start(t, lab.Options{})
	v := newVendor(t, l)
	plugin := l.Cloud(v.config+"classOnly: true\n", "--leader-elect=false")
	plugin.Start()
	onePodEach(l, "web")
	l.Apply(service{name: "web", more: "loadBalancerClass: herald-lb.io/hetzner",
		meta: "annotations: {herald-lb.io/serve-with: floating-ip}"}.String())
	addr := l.WaitAddress("web")
	holder := func() string {
		servers, ips := v.Servers(), v.FloatingIPs()
		if len(ips) != 1 || ips[0].IP != addr.String() {
			t.Fatalf("there are %v", ips)
		}
		if ips[0].Server == nil {
			return ""
		}
		for _, s := range servers {
			if s.ID == *ips[0].Server {
				return s.Name
			}
		}
		return ""
	}
	routed := func(except string) error {
		node := holder()
		if node == "" || node == except {
			return fmt.Errorf("it is routed to %q", node)
		}
		return saysRouted(l, "web", node)
	}
	var stopped *lab.Node
	v.everyCall(t, l, plugin, crash{"failover",
		func() { l.Eventually("it is routed", func() error { return routed("") }) },
		func() {
			stopped = named(l, holder())
			stopped.Stop()
		},
		func() error { return routed(stopped.Name) },
	}, func() {
		stopped.StartSpeaker()
		stopped.Speaker.WaitReady()
	})
	gone := whenGone(t, l, "web")
	l.DeleteService("web")
	forgotten(t, gone)
	if all := v.FloatingIPs(); len(all) != 0 {
		t.Errorf("the Service is gone, and there are %v", all)
	}
}
