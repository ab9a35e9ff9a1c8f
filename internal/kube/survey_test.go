package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestASurveyHasAddressesArchitecturesAndTunnels(t *testing.T) {
	svc := lb("ns", "a")
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	svc.Status.Conditions = []metav1.Condition{{Type: markCondition, Status: "True"}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	node.Status.NodeInfo.Architecture = "arm64"
	hello := lease("n2", 1)
	hello.Labels = map[string]string{labelComponent: componentSpeaker}
	hello.Annotations[annotationSpeaker] = `{"tunnels":["192.0.2.12"]}`
	s, err := ReadSurvey(t.Context(), fake.NewClientset(svc, node, hello), Classes{Default: true}, "herald-system")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Services) != 1 || !s.Services[0].Served || !s.Services[0].Ours || s.Services[0].Addrs()[0].String() != "192.0.2.1" {
		t.Errorf("Services %+v", s.Services)
	}
	if len(s.Architectures) != 1 || s.Architectures["n1"] != "arm64" {
		t.Errorf("architectures %v", s.Architectures)
	}
	if len(s.Tunnels) != 1 || len(s.Tunnels["n2"]) != 1 || s.Tunnels["n2"][0].String() != "192.0.2.12" {
		t.Errorf("tunnels %v", s.Tunnels)
	}
}
