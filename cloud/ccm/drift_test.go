package ccm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/cloud-provider/service/helpers"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

// A cached is a host that has Services and nodes as they are put into its caches, and serves nobody
// unasked.
type cached struct {
	*host
	cloud              *cloudtest.Fake
	services, machines cache.Indexer
}

func newCached(t *testing.T, config string, nodes ...string) cached {
	t.Helper()
	p, err := New(strings.NewReader("provider: made-up\nclusterID: c1\n"+config), "", testLog())
	if err != nil {
		t.Fatal(err)
	}
	p.client = fake.NewClientset()
	factory := informers.NewSharedInformerFactory(p.client, 0)
	p.host = newHost(p, factory)
	c := cached{p.host, p.engine.Driver.(*cloudtest.Fake), factory.Core().V1().Services().Informer().GetIndexer(), factory.Core().V1().Nodes().Informer().GetIndexer()}
	for i, name := range nodes {
		put(t, c.machines, cloudtest.Node(name, []string{"10.0.0.1", "10.0.0.2"}[i]))
	}
	return c
}

func put(t *testing.T, to cache.Indexer, obj any) {
	t.Helper()
	if err := to.Update(obj); err != nil {
		t.Fatal(err)
	}
}

// serve serves a Service that the service controller has taken.
func (c cached) serve(t *testing.T, name string) *corev1.Service {
	t.Helper()
	svc := cloudtest.Service(name, types.UID("uid-"+name), 80)
	svc.Finalizers = []string{helpers.LoadBalancerCleanupFinalizer}
	nodes, err := c.eligible()
	if err != nil {
		t.Fatal(err)
	}
	st, err := c.engine.Ensure(t.Context(), svc, nodes)
	if err != nil {
		t.Fatal(err)
	}
	svc.Status.LoadBalancer = *st
	put(t, c.services, svc)
	return svc
}

// spec is what the cloud has of a Service.
func (c cached) spec(svc *corev1.Service) (spec cloud.LBSpec) {
	for _, f := range c.cloud.All() {
		if f.Owner.UID == svc.UID {
			spec = f.Raw.(cloud.LBSpec)
		}
	}
	return spec
}

// A pass through all Services takes long. A node that comes meanwhile is a target of those
// that are looked at then: it may be so already.
func TestDriftKeepsWhatHasChangedMeanwhile(t *testing.T) {
	c := newCached(t, "", "n1")
	a, b := c.serve(t, "a"), c.serve(t, "b")
	first := true
	c.cloud.Fault = func(call string, _ bool) error {
		if call == "Instances" && first {
			first = false
			put(t, c.machines, cloudtest.Node("n2", "10.0.0.2"))
		}
		return nil
	}
	if err := c.drift(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(c.spec(a).Targets) + len(c.spec(b).Targets); n < 3 {
		t.Errorf("targets %v and %v", c.spec(a).Targets, c.spec(b).Targets)
	}
}

// What a pass has found says nothing of a Service that has changed meanwhile: it may be of another
// type by now, and nobody would take back what is written to it.
func TestDriftWritesNothingToWhatHasChanged(t *testing.T) {
	for _, changed := range []bool{false, true} {
		c := newCached(t, "", "n1")
		svc := c.serve(t, "a").DeepCopy()
		svc.ResourceVersion, svc.Status.LoadBalancer = "1", corev1.LoadBalancerStatus{}
		put(t, c.services, svc)
		is := svc.ResourceVersion
		c.cloud.Fault = func(string, bool) error {
			if changed {
				is = "2"
			}
			return nil
		}
		written := 0
		c.client.(*fake.Clientset).PrependReactor("patch", "services", func(a clienttesting.Action) (bool, runtime.Object, error) {
			var patch corev1.Service
			if err := json.Unmarshal(a.(clienttesting.PatchAction).GetPatch(), &patch); err != nil {
				t.Error(err)
			}
			if patch.ResourceVersion != is && patch.ResourceVersion != "" { // as the API server has it
				return true, nil, apierrors.NewConflict(corev1.Resource("services"), svc.Name, errors.New("it has changed"))
			}
			written++
			return true, svc, nil
		})
		if err := c.drift(t.Context()); err != nil {
			t.Error(err)
		}
		if want := map[bool]int{false: 1, true: 0}[changed]; written != want {
			t.Errorf("changed %t: written %d times, want %d", changed, written, want)
		}
	}
}

// The service controller updates Services as they were when its pass began.
func TestAnUpdateTakesNothingBack(t *testing.T) {
	c := newCached(t, "", "n1")
	was := c.serve(t, "a")
	is := was.DeepCopy()
	is.Spec.Ports = append(is.Spec.Ports, corev1.ServicePort{Name: "tls", Port: 443, NodePort: 30443})
	put(t, c.services, is)
	nodes, err := c.eligible()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.engine.Ensure(t.Context(), is, nodes); err != nil {
		t.Fatal(err)
	}
	for _, now := range []struct {
		uid       string
		listeners int
	}{{"uid-a", 2}, {"uid-of-another", 1}} { // one made anew under its name
		is := is.DeepCopy()
		is.UID = types.UID(now.uid)
		put(t, c.services, is)
		if err := (balancer{c.Provider}).UpdateLoadBalancer(t.Context(), "", was, nodes); err != nil {
			t.Fatal(err)
		}
		if got := c.spec(was).Listeners; len(got) != now.listeners {
			t.Errorf("the cache has %s: listeners %v", now.uid, got)
		}
	}
}

// What the cloud refuses for one Service is that one's: all others are looked at, and what is
// nobody's. Where nobody may ask, nobody does.
func TestDriftGoesOn(t *testing.T) {
	for name, tt := range map[string]struct {
		err   error
		whole bool
	}{
		"the token may not do something": {&cloud.Error{Class: cloud.Auth, Text: "403"}, true},
		"one thing is limited":           {&cloud.Error{Class: cloud.RateLimited, Text: "429"}, true},
		"nobody may ask":                 {&cloud.Error{Class: cloud.RateLimited, Text: "resting", Err: cloud.ErrNotAsked}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCached(t, "", "n1")
				t.Cleanup(c.queue.ShutDown)
				reported := 0
				c.engine.Tell = func(_ *corev1.Service, _ bool, reason, _ string) {
					if reason == cloud.ReasonOrphan {
						reported++
					}
				}
				const others = 20
				for i := range others {
					c.serve(t, fmt.Sprint("other-", i))
				}
				bad := c.serve(t, "bad")
				c.cloud.Add("orphan", cloud.Owner{Cluster: "c1", UID: "gone", Namespace: "shop", Name: "gone"})
				for _, f := range c.cloud.All() {
					c.cloud.Edit(f.ID, func(f *cloud.Found, s *cloud.LBSpec) {
						if s.Targets = nil; f.Owner.UID == bad.UID {
							s.Listeners = nil
						}
					})
				}
				time.Sleep(time.Minute) // lists are older
				c.engine.Live = c.live
				refused, after := false, 0
				c.cloud.Fault = func(call string, _ bool) error {
					switch {
					case call == "add listener":
						refused = true
						return tt.err
					case call == "add target" && refused:
						after++
					}
					return nil
				}
				err := c.drift(t.Context())
				repaired := 0
				for _, f := range c.cloud.All() {
					repaired += len(f.Raw.(cloud.LBSpec).Targets)
				}
				if err == nil || tt.whole && repaired != others || !tt.whole && after > 0 || reported != 1 {
					t.Errorf("drift() = %v; %d of %d repaired, %d tried after it; %d orphans reported", err, repaired, others, after, reported)
				}
			})
		})
	}
}

// What is said of when to come again is heeded, whatever else an error is.
func TestWhenToComeAgain(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want time.Duration
	}{
		{errors.New("any"), 0},
		{&cloud.Error{Class: cloud.Terminal}, 0},
		{&cloud.Error{Class: cloud.Terminal, After: 2 * time.Minute}, 2 * time.Minute},
		{&cloud.Error{Class: cloud.Auth}, time.Minute},
		{&cloud.Error{Class: cloud.Auth, After: 7 * time.Second}, 7 * time.Second},
		{fmt.Errorf("add listener: %w", &cloud.Error{Class: cloud.Locked, After: time.Second}), time.Second},
	} {
		if got := comeAgain(tt.err); got < tt.want || got > tt.want+tt.want/10 {
			t.Errorf("%#v: in %s, not %s", tt.err, got, tt.want)
		}
	}
}
