package ccm

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// local asks on which nodes a Service has endpoints. That is seldom wanted, and not worth
// a cache of all endpoints there are; what the API server has in its own will do.
func (p *Provider) local(ctx context.Context, svc *corev1.Service) (map[string]bool, error) {
	slices, err := p.client.DiscoveryV1().EndpointSlices(svc.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + svc.Name, ResourceVersion: "0",
	})
	if err != nil {
		return nil, err
	}
	return nodesOf(slices.Items), nil
}

// nodesOf are the nodes with an endpoint that is ready, as health checks of nodes have
// it: one of which nothing is said is.
func nodesOf(slices []discoveryv1.EndpointSlice) map[string]bool {
	nodes := map[string]bool{}
	for _, s := range slices {
		for _, e := range s.Endpoints {
			if ready := e.Conditions.Ready; e.NodeName != nil && (ready == nil || *ready) {
				nodes[*e.NodeName] = true
			}
		}
	}
	return nodes
}
