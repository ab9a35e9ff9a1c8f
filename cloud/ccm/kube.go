package ccm

import (
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
)

func sink(client kubernetes.Interface) record.EventSink {
	return &typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")}
}

func scheme() *runtime.Scheme { return clientgoscheme.Scheme }

// Labels and taints that keep a node out of load balancers.
const (
	excluded  = corev1.LabelNodeExcludeBalancers
	goingAway = "ToBeDeletedByClusterAutoscaler"
)

// eligible is whether load balancers send to a node, as the service controller of
// k8s.io/cloud-provider has it: one that is not ready stays, its health is checked.
func eligible(n *corev1.Node) bool {
	if _, ok := n.Labels[excluded]; ok || n.DeletionTimestamp != nil {
		return false
	}
	for _, t := range n.Spec.Taints {
		if t.Key == goingAway {
			return false
		}
	}
	return true
}

// collector passes on what a registry has, to one of Kubernetes' own.
type collector struct{ *prometheus.Registry }

func (c collector) Describe(chan<- *prometheus.Desc) {} // unchecked

func (c collector) Collect(ch chan<- prometheus.Metric) { c.Registry.Collect(ch) }
