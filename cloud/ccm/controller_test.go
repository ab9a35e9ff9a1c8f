//go:build !race

// The service controller of k8s.io/cloud-provider reads and writes what it has cached of
// a Service from two goroutines (processServiceCreateOrUpdate and allServices), which the
// race detector rightly reports. Nothing of it is Herald's.

package ccm

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	restclient "k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"
	servicecontroller "k8s.io/cloud-provider/controllers/service"
	"k8s.io/cloud-provider/service/helpers"
	"k8s.io/component-base/featuregate"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

// builder gives a plugin a client.
type builder struct{ client kubernetes.Interface }

func (b builder) Config(string) (*restclient.Config, error)   { return nil, errors.New("none") }
func (b builder) ConfigOrDie(string) *restclient.Config       { return nil }
func (b builder) Client(string) (kubernetes.Interface, error) { return b.client, nil }
func (b builder) ClientOrDie(string) kubernetes.Interface     { return b.client }

// A cluster is the real service controller and Herald's loop, with an API server that
// is made up, and a cloud that is.
type cluster struct {
	client *fake.Clientset
	cloud  *cloudtest.Fake
	p      *Provider
}

func newCluster(t *testing.T, config string) *cluster {
	t.Helper()
	c := &cluster{client: fake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: cloudtest.Cluster}},
		cloudtest.Node("n1", "10.0.0.1"), cloudtest.Node("n2", "10.0.0.2"))}
	c.client.PrependReactor("patch", "services", c.refuseFinalizers)
	var err error
	if c.p, err = New(strings.NewReader("provider: made-up\n"+config), "", testLog()); err != nil {
		t.Fatal(err)
	}
	c.cloud = c.p.engine.Driver.(*cloudtest.Fake)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	factory := informers.NewSharedInformerFactory(c.client, 0)
	upstream, err := servicecontroller.New(c.p, c.client, factory.Core().V1().Services(), factory.Core().V1().Nodes(), "kubernetes", featuregate.NewFeatureGate())
	if err != nil {
		t.Fatal(err)
	}
	c.p.Initialize(builder{c.client}, ctx.Done())
	c.p.SetInformers(factory)
	factory.Start(ctx.Done())
	done := make(chan struct{})
	go func() {
		defer close(done)
		upstream.Run(ctx, 10, controllersmetrics.NewControllerManagerMetrics("test"))
	}()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// refuseFinalizers does what the API server does: an object that is being deleted gets
// no finalizer more.
func (c *cluster) refuseFinalizers(a clienttesting.Action) (bool, runtime.Object, error) {
	patch := a.(clienttesting.PatchAction)
	obj, err := c.client.Tracker().Get(a.GetResource(), a.GetNamespace(), patch.GetName())
	if err != nil {
		return true, nil, err
	}
	svc := obj.(*corev1.Service)
	text := string(patch.GetPatch())
	if svc.DeletionTimestamp != nil && strings.Contains(text, `"finalizers":[`) && !strings.Contains(text, "$deleteFromPrimitiveList") {
		return true, nil, errors.New("Forbidden: no new finalizers can be added if the object is being deleted")
	}
	return false, nil, nil
}

func (c *cluster) create(t *testing.T, name string, class *string) {
	t.Helper()
	svc := cloudtest.Service(name, types.UID("uid-"+name), 80)
	svc.Spec.LoadBalancerClass = class
	if _, err := c.client.CoreV1().Services("shop").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) edit(t *testing.T, name string, edit func(*corev1.Service)) {
	t.Helper()
	svc, err := c.client.CoreV1().Services("shop").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	edit(svc)
	if _, err := c.client.CoreV1().Services("shop").Update(t.Context(), svc, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// until waits for a Service to be so: for a minute, as the service controller tries again
// what has failed once after five seconds, and twice after ten.
func (c *cluster) until(t *testing.T, what, name string, is func(*corev1.Service) bool) *corev1.Service {
	t.Helper()
	var svc *corev1.Service
	for began := time.Now(); time.Since(began) < time.Minute; {
		var err error
		if svc, err = c.client.CoreV1().Services("shop").Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
		if is(svc) {
			return svc
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: not so: %v; status %v; cloud %v", what, svc.ObjectMeta, svc.Status, c.cloud.All())
	return nil
}

func served(svc *corev1.Service) bool { return len(svc.Status.LoadBalancer.Ingress) == 1 }

// Each Service is served by one host, has its finalizer while anything is in the cloud,
// and nothing is left when it goes, whichever way (C4, C8).
func TestHosts(t *testing.T) {
	class := "herald-lb.io/made-up"
	foreign := "example.com/lb"
	for _, tt := range []struct {
		name      string
		class     *string
		finalizer string
	}{
		{"without a class", nil, helpers.LoadBalancerCleanupFinalizer},
		{"of Herald's class", &class, cloud.Finalizer + "-made-up"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t, "")
			c.create(t, "foreign", &foreign)
			// As one whose class the configuration has named until now.
			c.edit(t, "foreign", func(s *corev1.Service) { s.Finalizers = []string{cloud.Finalizer + "-made-up"} })
			c.create(t, "web", tt.class)
			svc := c.until(t, "served", "web", served)
			if len(svc.Finalizers) != 1 || svc.Finalizers[0] != tt.finalizer {
				t.Errorf("finalizers %v", svc.Finalizers)
			}
			if all := c.cloud.All(); len(all) != 1 || all[0].Owner.Cluster != cloudtest.Cluster {
				t.Errorf("the cloud has %v", all)
			}
			c.edit(t, "web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
			c.until(t, "of another type", "web", func(s *corev1.Service) bool {
				return len(s.Finalizers) == 0 && len(s.Status.LoadBalancer.Ingress) == 0 && len(c.cloud.All()) == 0
			})
			c.edit(t, "web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer })
			c.until(t, "served again", "web", served)
			c.edit(t, "web", func(s *corev1.Service) { now := metav1.Now(); s.DeletionTimestamp = &now })
			c.until(t, "deleted", "web", func(s *corev1.Service) bool {
				return len(s.Finalizers) == 0 && len(c.cloud.All()) == 0
			})
			if svc := c.until(t, "foreign", "foreign", func(*corev1.Service) bool { return true }); len(svc.Finalizers) != 1 || served(svc) {
				t.Errorf("another's class: %v, %v", svc.Finalizers, svc.Status)
			}
		})
	}
}

// A node that comes is a target without anybody asking for it, at either host.
func TestNodesBecomeTargets(t *testing.T) {
	class := "herald-lb.io/made-up"
	for _, class := range []*string{nil, &class} {
		c := newCluster(t, "")
		c.create(t, "web", class)
		c.until(t, "served", "web", served)
		if _, err := c.client.CoreV1().Nodes().Create(t.Context(), cloudtest.Node("n3", "10.0.0.3"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.until(t, "three targets", "web", func(*corev1.Service) bool {
			return len(c.cloud.All()[0].Raw.(cloud.LBSpec).Targets) == 3
		})
	}
}

// A dry run leaves the status as it is, and says what would be done (O10, C10).
func TestDryRun(t *testing.T) {
	class := "herald-lb.io/made-up"
	for _, class := range []*string{nil, &class} {
		c := newCluster(t, "dryRun: true")
		c.create(t, "web", class)
		said := false
		for began := time.Now(); time.Since(began) < time.Minute; {
			events, err := c.client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			said = slices.ContainsFunc(events.Items, func(e corev1.Event) bool { return e.Reason == cloud.ReasonDryRun })
			if said {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if !said {
			t.Error("nothing says what would be done")
		}
		svc := c.until(t, "untouched", "web", func(*corev1.Service) bool { return true })
		if _, writes := c.cloud.Calls(); writes != 0 || served(svc) || len(svc.Finalizers) > 0 && class != nil {
			t.Errorf("%d writes, status %v, finalizers %v", writes, svc.Status, svc.Finalizers)
		}
	}
}

// A Service has the mark by which speakers steer as long as it is served with addresses, and
// no longer: whoever serves it next would have nodes steer what is not Herald's.
func TestTheMarkOfAddresses(t *testing.T) {
	ours := cloud.Prefix + "made-up"
	for name, class := range map[string]*string{"plain": nil, "classy": &ours} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "drift: {interval: 10s}")
			svc := cloudtest.Service(name, types.UID("uid-"+name), 80)
			svc.Spec.LoadBalancerClass = class
			svc.Annotations[cloud.Prefix+"serve-with"] = string(cloud.WithFloatingIP)
			if _, err := c.client.CoreV1().Services("shop").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			c.until(t, "served with an address", name, func(s *corev1.Service) bool { return served(s) && marked(s) })
			if n := len(c.cloud.Addresses()); n != 1 || len(c.cloud.All()) != 0 {
				t.Errorf("there are %d addresses and %v", n, c.cloud.All())
			}
			c.edit(t, name, func(s *corev1.Service) { delete(s.Annotations, cloud.Prefix+"serve-with") })
			c.until(t, "served with a load balancer", name, func(s *corev1.Service) bool {
				return served(s) && !marked(s) && len(c.cloud.All()) == 1
			})
			c.edit(t, name, func(s *corev1.Service) {
				s.Annotations = map[string]string{cloud.Prefix + "serve-with": string(cloud.WithFloatingIP)}
			})
			c.until(t, "served with an address again", name, marked)
			c.edit(t, name, func(s *corev1.Service) { s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil })
			c.until(t, "of another type", name, func(s *corev1.Service) bool {
				return !marked(s) && len(s.Finalizers) == 0 && len(c.cloud.Addresses())+len(c.cloud.All()) == 0
			})
		})
	}
}

// What has become another class's while nobody looked keeps its finalizer, for it is paid
// for, and not the mark.
func TestTheMarkOfAnotherClass(t *testing.T) {
	c, foreign := newCluster(t, ""), "example.com/lb"
	svc := cloudtest.Service("web", "uid-web", 80)
	svc.Spec.LoadBalancerClass, svc.Finalizers = &foreign, []string{cloud.Finalizer + "-made-up"}
	svc.Status.Conditions = []metav1.Condition{{Type: cloud.Prefix + "Routed", Status: metav1.ConditionTrue, Reason: reasonRouted}}
	if _, err := c.client.CoreV1().Services("shop").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if svc := c.until(t, "without the mark", "web", func(s *corev1.Service) bool { return !marked(s) }); len(svc.Finalizers) != 1 {
		t.Errorf("finalizers %v", svc.Finalizers)
	}
}
