package stories

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/herald-lb/herald/e2e/lab"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	"github.com/herald-lb/herald/internal/cloudsim/hetzner"
	"github.com/herald-lb/herald/internal/cloudsim/referee"
)

// A vendor is a cloud with the lab's nodes as its machines, whose API the lab's plugin
// calls. Each call and answer is judged by the cloud's own document.
type vendor struct {
	*hetzner.Cloud
	chaos  *chaos.Proxy
	url    string
	config string
}

func newVendor(t testing.TB, l *lab.Lab) *vendor {
	t.Helper()
	v := &vendor{Cloud: hetzner.New(hetzner.Options{})}
	for _, n := range l.Nodes() {
		v.AddServer(hetzner.ServerSpec{Name: n.Name, IPv4: n.Addr(true)})
	}
	v.chaos = chaos.New(referee.Watch(t, v.Cloud))
	v.url = l.ServeHTTP(v.chaos)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(hetzner.DefaultToken), 0o600); err != nil {
		t.Fatal(err)
	}
	v.config = fmt.Sprintf("provider: hetzner\nendpoint: %s\ntokenFile: %s\ndefaults: {location: fsn1, type: lb11}\ndrift: {interval: 10s}\n", v.url, token)
	return v
}

// one waits until there is one load balancer that is so.
func (v *vendor) one(l *lab.Lab, what string, is func(schema.LoadBalancer) error) (lb schema.LoadBalancer) {
	l.Eventually("the cloud has one load balancer, "+what, func() error {
		all := v.LoadBalancers()
		if len(all) != 1 {
			return fmt.Errorf("it has %d", len(all))
		}
		lb = all[0]
		return is(lb)
	})
	return lb
}

// quiet waits until nobody has called the cloud for a second.
func (v *vendor) quiet(l *lab.Lab) {
	l.Eventually("the plugin is done", func() error {
		before := len(v.Journal())
		time.Sleep(time.Second)
		if more := len(v.Journal()) - before; more > 0 {
			return fmt.Errorf("%d calls in the last second", more)
		}
		return nil
	})
}

// with is whether a load balancer has listeners, as port→nodePort, and so many targets.
func with(targets int, listeners ...string) func(schema.LoadBalancer) error {
	return func(lb schema.LoadBalancer) error {
		var have []string
		for _, s := range lb.Services {
			have = append(have, fmt.Sprintf("%d→%d", s.ListenPort, s.DestinationPort))
		}
		slices.Sort(have)
		if len(lb.Targets) != targets || !slices.Equal(have, listeners) {
			return fmt.Errorf("it has %d targets and %v", len(lb.Targets), have)
		}
		return nil
	}
}

const ofHetzner = `loadBalancerClass: herald-lb.io/hetzner, allocateLoadBalancerNodePorts: true`

// A Service of the cloud's class gets the cloud's address and the nodes for targets; a
// Service without a class one of a pool. When it goes, nothing is left to pay for before
// the API server has forgotten it.
func TestAServiceOfTheCloudsClass(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	v := newVendor(t, l)
	l.Apply(pool("lan", addrs))
	plugin := l.Cloud(v.config + "classOnly: true\n")
	plugin.Start()
	l.Pod(1, "web", lab.PodSpec{Labels: lab.App("web")})
	l.Apply(objects(
		service{name: "web", more: ofHetzner, ports: "{name: web, port: 80, targetPort: 8080, nodePort: 30080}"},
		service{name: "local", app: "web"}))

	lb := v.one(l, "as the Service is", with(3, "80→30080"))
	at := netip.MustParseAddr(lb.PublicNet.IPv4.IP)
	if got := l.WaitAddress("web"); got != at {
		t.Errorf("the Service has %s, and the load balancer %s", got, at)
	}
	if in := l.Service("web").Status.LoadBalancer.Ingress[0]; *in.IPMode != corev1.LoadBalancerIPModeProxy {
		t.Errorf("ipMode is %s", *in.IPMode)
	}
	if addr := l.WaitAddress("local"); !netip.MustParsePrefix("192.168.50.0/24").Contains(addr) {
		t.Errorf("the Service without a class has %s", addr)
	}
	if err := l.NoRows(at); err != nil { // S6
		t.Errorf("a node takes the cloud's address for its own: %v", err)
	}

	t.Run("edits and nodes", func(t *testing.T) {
		l.Edit("web", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 30081 })
		v.one(l, "with the new nodePort", with(3, "80→30081"))
		l.DeleteNode("n3")
		v.one(l, "with two targets", with(2, "80→30081"))
	})
	t.Run("what somebody changes in the console is changed back", func(t *testing.T) {
		v.quiet(l) // or else it is part of the last change
		v.EditLoadBalancer(lb.ID, func(lb *schema.LoadBalancer) { lb.Targets = lb.Targets[:1] })
		v.one(l, "with two targets again", with(2, "80→30081"))
		l.Eventually("it is said", func() error { return happened(l, "web", "DriftRepaired") })
	})
	t.Run("deleted", func(t *testing.T) {
		gone := whenGone(t, l, "web")
		l.DeleteService("web")
		forgotten(t, gone)
		if all := v.LoadBalancers(); len(all) != 0 || v.MonthlyRate(hetzner.LoadBalancer) != 0 {
			t.Errorf("the Service is gone, and there are %v", all)
		}
	})
	t.Run("the token is nowhere", func(t *testing.T) { noToken(t, l, plugin) })
}

// whenGone is closed when the API server has forgotten a Service, however late that is
// deleted: who waits for it does so within a time, by forgotten.
func whenGone(t *testing.T, l *lab.Lab, name string) <-chan struct{} {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w, err := l.API().CoreV1().Services(l.Namespace).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer cancel()
		for e := range w.ResultChan() {
			if e.Type == watch.Deleted {
				close(done)
				return
			}
		}
	}()
	return done
}

// forgotten waits until the API server has forgotten a Service, as whenGone says.
func forgotten(t *testing.T, gone <-chan struct{}) {
	t.Helper()
	select {
	case <-gone:
	case <-time.After(time.Minute):
		t.Fatal("the Service is not gone")
	}
}

func happened(l *lab.Lab, name, reason string) error {
	events := l.Events(name)
	if !slices.ContainsFunc(events, func(e string) bool { return strings.HasPrefix(e, reason+":") }) {
		return fmt.Errorf("no %s in %q", reason, events)
	}
	return nil
}

// noToken looks for the token in what the plugin has said, and in what it has written.
func noToken(t *testing.T, l *lab.Lab, plugin *lab.Daemon) {
	t.Helper()
	log, err := os.ReadFile(plugin.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	objects, err := l.Kubectl("get", "services,events", "-A", "-o", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{"its log": log, "what it has written": []byte(objects)} {
		if bytes.Contains(text, []byte(hetzner.DefaultToken)) {
			t.Errorf("the token is in %s", what)
		}
	}
}
