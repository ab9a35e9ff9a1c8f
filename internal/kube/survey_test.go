package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestASurveyHasAddressesAndArchitectures(t *testing.T) {
	svc := lb("ns", "a")
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	svc.Status.Conditions = []metav1.Condition{{Type: markCondition, Status: "True"}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	node.Status.NodeInfo.Architecture = "arm64"
	services, nodes, err := Survey(t.Context(), fake.NewClientset(svc, node), Classes{Default: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(services) != 1 || !services[0].Served || !services[0].Ours || services[0].Addrs()[0].String() != "192.0.2.1" {
		t.Errorf("Services %+v", services)
	}
	if len(nodes) != 1 || nodes["n1"] != "arm64" {
		t.Errorf("nodes %v", nodes)
	}
}
