package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"github.com/herald-lb/herald/internal/snapshot"
)

// Survey reads what a speaker may read of the cluster to judge its node: the
// Services of type LoadBalancer, without endpoints, and the architectures of
// the nodes as their kubelets have them, by name.
func Survey(ctx context.Context, core kubernetes.Interface, classes Classes) ([]snapshot.Service, map[string]string, error) {
	found, err := core.CoreV1().Services("").List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)).String(),
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listing Services: %w", err)
	}
	nodes, err := core.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("listing Nodes: %w", err)
	}
	services := make([]snapshot.Service, 0, len(found.Items))
	for i := range found.Items {
		services = append(services, service(&found.Items[i], classes))
	}
	architectures := make(map[string]string, len(nodes.Items))
	for _, n := range nodes.Items {
		architectures[n.Name] = n.Status.NodeInfo.Architecture
	}
	return services, architectures, nil
}
