package kube

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A Survey is what a speaker may read of the cluster to judge its node.
type Survey struct {
	Services      []snapshot.Service      // of type LoadBalancer, without endpoints
	Architectures map[string]string       // of the nodes as their kubelets have them, by name
	Tunnels       map[string][]netip.Addr // where nodes with a speaker that lives take tunnels, by name
}

// ReadSurvey reads the cluster once; the Leases of speakers are in namespace.
func ReadSurvey(ctx context.Context, core kubernetes.Interface, classes Classes, namespace string) (Survey, error) {
	var s Survey
	found, err := core.CoreV1().Services("").List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)).String(),
	})
	if err != nil {
		return s, fmt.Errorf("listing Services: %w", err)
	}
	nodes, err := core.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return s, fmt.Errorf("listing Nodes: %w", err)
	}
	leases, err := speakerLeases(ctx, core, namespace)
	if err != nil {
		return s, err
	}
	for i := range found.Items {
		s.Services = append(s.Services, service(&found.Items[i], classes))
	}
	s.Architectures = make(map[string]string, len(nodes.Items))
	for _, n := range nodes.Items {
		s.Architectures[n.Name] = n.Status.NodeInfo.Architecture
	}
	alive, _ := rollCall(leases)
	s.Tunnels = make(map[string][]netip.Addr, len(alive))
	for _, sp := range alive {
		s.Tunnels[sp.Node] = sp.Tunnels
	}
	return s, nil
}
