package kube

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// reading is a cluster with one pool, one namespace and the Services named.
func reading(services ...string) Reading {
	r := Reading{
		Namespaces: []corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: map[string]string{"kubernetes.io/metadata.name": "ns"}}}},
		Pools: []v1alpha1.AddressPool{{
			ObjectMeta: metav1.ObjectMeta{Name: "lan"},
			Spec:       v1alpha1.AddressPoolSpec{Addresses: []v1alpha1.AddressRange{"192.0.2.1-192.0.2.9"}},
		}},
		Nodes: []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}},
	}
	for _, name := range services {
		r.Services = append(r.Services, *lb("ns", name))
	}
	return r
}

func TestAReadingConvertsAsAWatchWould(t *testing.T) {
	s, err := reading("b", "a").Snapshot(Classes{Default: true}, time.Unix(7, 0))
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Services) != 2 || s.Services[0].Key != "ns/a" || !s.Services[0].Served || len(s.Services[0].Pools) != 1 ||
		len(s.Config.Pools) != 1 || len(s.Nodes) != 1 || !s.Now.Equal(time.Unix(7, 0)) {
		t.Errorf("snapshot %+v", s)
	}
}

func TestADeletionDryRunTakesAwayWhatItNames(t *testing.T) {
	object := func(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
		o := &unstructured.Unstructured{}
		o.SetAPIVersion(apiVersion)
		o.SetKind(kind)
		o.SetNamespace(namespace)
		o.SetName(name)
		return o
	}
	r := reading("a", "b")
	got, notes, err := DryRun{Delete: true}.Run(t.Context(), r, []*unstructured.Unstructured{
		object("v1", "Service", "ns", "a"), object("v1", "ConfigMap", "ns", "c"), object("herald-lb.io/v1alpha1", "AddressPool", "", "lan"),
	})
	if err != nil || len(got.Services) != 1 || got.Services[0].Name != "b" || len(got.Pools) != 0 || len(notes) != 1 {
		t.Errorf("%d Services, %d pools, notes %q, %v", len(got.Services), len(got.Pools), notes, err)
	}
	if len(r.Services) != 2 || r.Services[0].Name != "a" {
		t.Error("the reading itself was edited")
	}
	got, _, err = DryRun{Delete: true}.Run(t.Context(), r, []*unstructured.Unstructured{object("v1", "Namespace", "", "ns")})
	if err != nil || len(got.Services) != 0 || len(got.Namespaces) != 0 {
		t.Errorf("the namespace's Services stay: %v, %v", got.Services, err)
	}
}

func TestPuttingReplacesTheObjectOfItsName(t *testing.T) {
	r := reading("a")
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"name": "a", "namespace": "ns"},
		"spec": map[string]any{"type": "LoadBalancer", "loadBalancerIP": "192.0.2.5"},
	}}
	if err := r.put(o); err != nil || len(r.Services) != 1 || r.Services[0].Spec.LoadBalancerIP != "192.0.2.5" {
		t.Errorf("%v: %+v", err, r.Services)
	}
	o.SetName("new")
	if err := r.put(o); err != nil || len(r.Services) != 2 {
		t.Errorf("%v: %d Services", err, len(r.Services))
	}
}
