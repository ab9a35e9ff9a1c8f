package ccm

import (
	"maps"
	"slices"
	"strings"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/cloud/cloudtest"
)

// Nodes with an endpoint of the Service that is ready, in any of its slices (P4).
func TestWhichNodesHaveEndpoints(t *testing.T) {
	slice := func(name, service string, nodes ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}}, Endpoints: nodes}
	}
	on := func(node string, ready *bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: ready}}
	}
	client := fake.NewClientset(
		slice("web-1", "web", on("n1", ptr.To(true)), on("n2", ptr.To(false)), on("n2", nil), on("n3", ptr.To(false)), discoveryv1.Endpoint{Addresses: []string{"10.1.0.9"}}),
		slice("web-2", "web", on("n4", ptr.To(true))),
		slice("other-1", "other", on("n5", ptr.To(true))))
	p := &Provider{client: client}
	svc := cloudtest.Service("web", "uid-web", 80)
	nodes, err := p.local(t.Context(), svc)
	if got := strings.Join(slices.Sorted(maps.Keys(nodes)), " "); err != nil || got != "n1 n2 n4" {
		t.Errorf("local() = %s, %v", got, err)
	}
}
