package kubetest

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/snapshot"
)

// The API server, not only a fake, takes the selectors of a speaker's watches
// and lets its role read what they select.
func TestASpeakerSeesWhatItSteersAndNothingElse(t *testing.T) {
	c := newCluster(t, "speaker")
	port := []corev1.ServicePort{{Name: "web", Port: 80}}
	made := map[string]corev1.ServiceSpec{
		"balancer": {Type: corev1.ServiceTypeLoadBalancer, Ports: port, LoadBalancerSourceRanges: []string{"192.0.2.0/24"}},
		"inner":    {Ports: port, SessionAffinity: corev1.ServiceAffinityClientIP},
		"headless": {Ports: port, ClusterIP: corev1.ClusterIPNone},
		"outside":  {Type: corev1.ServiceTypeExternalName, ExternalName: "a.example.com"},
	}
	for name, spec := range made {
		c.make(name, spec)
	}
	for serviceProxy, want := range map[bool][]string{false: {"balancer"}, true: {"balancer", "inner"}} {
		t.Run(fmt.Sprintf("instead of kube-proxy: %t", serviceProxy), func(t *testing.T) {
			take := speak(t, serviceProxy)
			c.eventually(func() error {
				var names []string
				for _, s := range take() {
					if s.Namespace != c.namespace {
						continue // the API server's own
					}
					names = append(names, s.Name)
					if s.Proxied != serviceProxy || len(s.Endpoints) != 1 {
						return fmt.Errorf("%s: proxied %t, endpoints %v", s.Name, s.Proxied, s.Endpoints)
					}
					if s.Name == "balancer" && !slices.Equal(s.Sources, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}) {
						return fmt.Errorf("sources %v", s.Sources)
					}
				}
				if !slices.Equal(names, want) {
					return fmt.Errorf("Services %v, want %v", names, want)
				}
				return nil
			})
		})
	}
}

// make makes a Service with one endpoint.
func (c *cluster) make(name string, spec corev1.ServiceSpec) {
	c.t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	if _, err := c.api.CoreV1().Services(c.namespace).Create(c.t.Context(), svc, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	es := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.9"}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("web"), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	if _, err := c.api.DiscoveryV1().EndpointSlices(c.namespace).Create(c.t.Context(), es, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// speak runs a Source with the rights of a speaker until the test ends, and
// returns what reads the Services of its newest Snapshot.
func speak(t *testing.T, serviceProxy bool) (take func() []snapshot.Service) {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", shared.cp.Kubeconfig("speaker"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host = shared.config.Host
	clients, err := kube.NewClients(cfg)
	if err != nil {
		t.Fatal(err)
	}
	source, err := kube.NewSource(clients, kube.Options{
		Classes: kube.Classes{Default: true}, Namespace: heraldNamespace, Node: "n1", ServiceProxy: serviceProxy,
		Ring: func() {}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = source.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return func() []snapshot.Service {
		s, _ := source.Take()
		return s.Services
	}
}
