package openstack

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
	sim "github.com/herald-lb/herald/internal/cloudsim/openstack"
)

// servers are started by the first test that needs them.
var servers = sync.OnceValues(sim.Start)
var started bool

func TestMain(m *testing.M) {
	os.Setenv("OS_APPLICATION_CREDENTIAL_ID", "herald")
	os.Setenv("OS_APPLICATION_CREDENTIAL_SECRET", sim.Secret)
	code := m.Run()
	if started {
		if s, err := servers(); err == nil {
			s.Stop()
		}
	}
	os.Exit(code)
}

// A world is a project of OpenStack's, and a driver for it.
type world struct {
	*sim.Project
	cloud.Driver
	config cloud.Config
	http   *http.Client // nil for the default
	line   *outside     // of a bubble
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if !sim.Required() {
		t.Skip("needs OpenStack's servers: make test-cloud starts them")
	}
	started = true
	s, err := servers()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Project: s.NewProject(t)}
	w.config = cloud.Config{Provider: "openstack", Endpoint: w.AuthURL,
		Defaults: cloud.Defaults{Subnet: "nodes4"}, OpenStack: cloud.OpenStackConfig{FloatingNetwork: "public"}}
	w.restart(t)
	return w
}

// restart makes a driver that remembers nothing.
func (w *world) restart(t *testing.T) {
	t.Helper()
	var err error
	if w.Driver, err = cloud.OpenDriver(w.config, cloud.Env{HTTP: w.http}); err != nil {
		t.Fatal(err)
	}
}

func owner(name string) cloud.Owner {
	return cloud.Owner{Cluster: "c1", UID: types.UID("uid-" + name), Namespace: "shop", Name: name}
}

// want is a load balancer with ports of TCP, for some nodes.
func want(name string, nodes int, ports ...int32) cloud.LBSpec {
	spec := cloud.LBSpec{Owner: owner(name), Families: []corev1.IPFamily{corev1.IPv4Protocol}, Targets: targets(1, nodes)}
	for _, p := range ports {
		spec.Listeners = append(spec.Listeners, tcp(p))
	}
	return spec
}

func tcp(port int32) cloud.Listener {
	return cloud.Listener{Protocol: corev1.ProtocolTCP, Port: port, NodePort: 30000 + port,
		Health: cloud.HealthCheck{Port: 30000 + port, Interval: 5 * time.Second, Timeout: 3 * time.Second, Retries: 2}}
}

func targets(first, last int) (all []cloud.Target) {
	for i := first; i <= last; i++ {
		name := fmt.Sprintf("n%d", i)
		all = append(all, cloud.Target{Node: name, Instance: cloud.Instance{ID: name}, Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + i)})})
	}
	return all
}

// settle does what an engine does until nothing is left to do, and returns what was
// found then, and the steps that were not allowed.
func (w *world) settle(t *testing.T, spec cloud.LBSpec) (*cloud.Found, cloud.Plan) {
	t.Helper()
	for range 4 {
		f, refused, err := w.pass(t, spec)
		if err != nil {
			t.Fatalf("%s: %v", spec.Owner.Key(), err)
		}
		if f != nil {
			return f, refused
		}
	}
	t.Fatalf("%s: it does not settle", spec.Owner.Key())
	return nil, nil
}

// pass is one round; what was found is returned when nothing was left to do.
func (w *world) pass(t *testing.T, spec cloud.LBSpec) (*cloud.Found, cloud.Plan, error) {
	t.Helper()
	all, err := w.Find(t.Context(), spec.Owner)
	if err != nil {
		return nil, nil, err
	}
	var f *cloud.Found
	if i := slices.IndexFunc(all, func(f cloud.Found) bool { return f.Kind == cloud.LoadBalancer }); i >= 0 {
		f = &all[i]
	}
	if f != nil && f.State == cloud.Deleting {
		return nil, nil, w.wait(t, cloud.Pending{ID: f.ID, Resource: f.ID})
	}
	plan, err := w.Plan(spec, f)
	if err != nil {
		return nil, nil, err
	}
	if !slices.IsSortedFunc(plan, func(a, b cloud.Step) int { return cmp.Compare(a.Order, b.Order) }) {
		t.Errorf("the plan is not in order: %v", plan)
	}
	var refused, allowed cloud.Plan
	for _, s := range plan {
		if s.Destructive && !spec.AllowRecreate {
			refused = append(refused, s)
		} else {
			allowed = append(allowed, s)
		}
	}
	if len(allowed) == 0 && f != nil {
		return f, refused, nil
	}
	return nil, nil, w.apply(t, allowed)
}

// apply does steps, each once the one before is done.
func (w *world) apply(t *testing.T, plan cloud.Plan) error {
	t.Helper()
	for _, s := range plan {
		p, err := w.Apply(t.Context(), s)
		for tries := 0; cloud.Is(err, cloud.Locked) && tries < 100; tries++ {
			time.Sleep(100 * time.Millisecond)
			p, err = w.Apply(t.Context(), s)
		}
		if err == nil {
			err = w.wait(t, p)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

func (w *world) wait(t *testing.T, p cloud.Pending) error {
	t.Helper()
	left := []cloud.Pending{p}
	if p == (cloud.Pending{}) {
		return nil
	}
	for until := time.Now().Add(time.Minute); len(left) > 0; {
		var err error
		if left, err = w.Poll(t.Context(), left); err != nil {
			return err
		}
		if time.Now().After(until) {
			t.Fatalf("%v is not done after a minute", left)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// remove does what an engine does when a Service is gone.
func (w *world) remove(t *testing.T, o cloud.Owner, policy cloud.Policy) error {
	t.Helper()
	for range 4 {
		all, err := w.Find(t.Context(), o)
		if err != nil {
			return err
		}
		var plan cloud.Plan
		for _, f := range all {
			if f.State == cloud.Deleting {
				if err := w.wait(t, cloud.Pending{ID: f.ID}); err != nil {
					return err
				}
			}
			plan = append(plan, w.PlanRemoval(f, policy)...)
		}
		slices.SortStableFunc(plan, func(a, b cloud.Step) int { return cmp.Compare(a.Order, b.Order) })
		if len(all) == 0 || len(plan) == 0 && policy != cloud.PolicyDelete {
			return nil
		}
		if err := w.apply(t, plan); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: it does not go away", o.Key())
}

func (w *world) end(t *testing.T, o cloud.Owner) {
	t.Helper()
	if err := w.remove(t, o, cloud.PolicyDelete); err != nil {
		t.Fatal(err)
	}
}

// counted is how many calls f makes, polls aside, and how many of them change
// something. None may be refused for what is still being changed.
func (w *world) counted(t *testing.T, f func()) (reads int, changes []string) {
	t.Helper()
	w.Reset()
	f()
	for _, c := range w.Calls() {
		switch {
		case c.Status == 409:
			t.Errorf("%s", c)
		case c.Changes():
			changes = append(changes, c.Method+" "+c.Path)
		case c.Service != "keystone" && !strings.Contains(c.Path, "fields="):
			reads++
		}
	}
	return reads, changes
}

// floatingIPs are those of the project, as Neutron has them.
func (w *world) floatingIPs(t *testing.T) (all []map[string]any) {
	t.Helper()
	for _, f := range w.Neutron(t, "GET", "/floatingips", nil)["floatingips"].([]any) {
		all = append(all, f.(map[string]any))
	}
	return all
}

// balancers are those of the project, as Octavia has them.
func (w *world) balancers(t *testing.T) (all []map[string]any) {
	t.Helper()
	for _, lb := range w.Octavia(t, "GET", "/loadbalancers", nil)["loadbalancers"].([]any) {
		all = append(all, lb.(map[string]any))
	}
	return all
}
