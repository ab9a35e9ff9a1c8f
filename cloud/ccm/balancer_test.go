package ccm

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

// What is asked after an update has failed is not whether a Service goes: one that is
// served with an address that is lent, of which nothing in the cloud bears marks, goes on to
// be steered, and the update is tried again.
func TestAfterAnUpdateThatFailed(t *testing.T) {
	now, foreign := metav1.Now(), "example.com/lb"
	for name, c := range map[string]struct {
		edit  func(*corev1.Service)
		stays bool
	}{
		"it is wanted":        {func(*corev1.Service) {}, true},
		"it is being deleted": {func(s *corev1.Service) { s.DeletionTimestamp = &now }, false},
		"of another type":     {func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, false},
		"of another's class":  {func(s *corev1.Service) { s.Spec.LoadBalancerClass = &foreign }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New(strings.NewReader("provider: made-up\nclusterID: c1"), "", testLog())
			if err != nil {
				t.Fatal(err)
			}
			lent := p.engine.Driver.(*cloudtest.Fake).AddAddress("lent")
			svc := cloudtest.Service("web", "uid-web", 80)
			svc.Annotations[cloud.Prefix+"serve-with"] = string(cloud.WithFloatingIP)
			svc.Annotations[cloud.Prefix+"address"] = lent.ID
			client := fake.NewClientset(svc)
			p.client = client
			b, nodes := balancer{p}, []*corev1.Node{cloudtest.Node("n1", "10.0.0.1")}
			if _, err := b.EnsureLoadBalancer(t.Context(), "", svc, nodes); err != nil {
				t.Fatal(err)
			}
			get := func() *corev1.Service {
				svc, err := client.CoreV1().Services("shop").Get(t.Context(), "web", metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return svc
			}
			svc = get()
			if !marked(svc) {
				t.Fatalf("it has conditions %v", svc.Status.Conditions)
			}
			c.edit(svc)
			_, exists, err := b.GetLoadBalancer(t.Context(), "", svc)
			if err != nil || exists != c.stays || p.engine.Floats(svc) != c.stays || marked(get()) != (c.stays || svc.DeletionTimestamp != nil) {
				t.Errorf("GetLoadBalancer() = %t, %v; it floats: %t; conditions %v", exists, err, p.engine.Floats(svc), get().Status.Conditions)
			}
		})
	}
}
