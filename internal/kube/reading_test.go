package kube

import (
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/internal/snapshot"
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
		Peers: []v1alpha1.BGPPeer{{ObjectMeta: metav1.ObjectMeta{Name: "tor"}, Spec: v1alpha1.BGPPeerSpec{MyASN: 65000, PeerASN: 65001, Address: "192.0.2.1"}}},
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
		len(s.Config.Pools) != 1 || len(s.Nodes) != 1 || !s.Now.Equal(time.Unix(7, 0)) ||
		len(s.Config.Peers) != 1 || !slices.Equal(s.Nodes[0].Peers, []string{"tor"}) || s.Reports != nil {
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
		object("herald-lb.io/v1alpha1", "BGPPeer", "", "tor"),
	})
	if err != nil || len(got.Services) != 1 || got.Services[0].Name != "b" || len(got.Pools) != 0 || len(got.Peers) != 0 || len(notes) != 1 {
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
	peer := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "herald-lb.io/v1alpha1", "kind": "BGPPeer", "metadata": map[string]any{"name": "tor"},
		"spec": map[string]any{"myASN": int64(65000), "internal": true, "address": "192.0.2.1"},
	}}
	if err := r.put(peer); err != nil || len(r.Peers) != 1 || !r.Peers[0].Spec.Internal {
		t.Errorf("%v: %+v", err, r.Peers)
	}
}

// leaseOf is that of a speaker, last renewed some seconds after all began.
func leaseOf(node string, second int64, says string) coordinationv1.Lease {
	return coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: "herald-speaker-" + node, Namespace: "herald-system",
			Labels:      map[string]string{labelComponent: componentSpeaker},
			Annotations: map[string]string{annotationSpeaker: says},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(node), LeaseDurationSeconds: ptr.To(int32(3)), RenewTime: &metav1.MicroTime{Time: time.Unix(second, 0)},
		},
	}
}

func TestAReadingOfTrafficHasEndpointsAndSpeakers(t *testing.T) {
	r := reading("a", "b")
	r.Slices = []discoveryv1.EndpointSlice{{
		ObjectMeta:  metav1.ObjectMeta{Name: "a-1", Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: "a"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.10"}, NodeName: ptr.To("n1")}},
		Ports:       []discoveryv1.EndpointPort{{Port: ptr.To(int32(8080))}},
	}}
	r.Speakers = []coordinationv1.Lease{leaseOf("n1", 100, `{"dataPath":"ipvs"}`)}
	s, err := r.Snapshot(Classes{Default: true}, time.Unix(7, 0))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := s.Services[0].Endpoints, s.Services[1].Endpoints; len(a) != 1 || a[0].Node != "n1" || len(b) != 0 {
		t.Errorf("endpoints %v and %v", a, b)
	}
	if len(s.Speakers) != 1 || s.Speakers[0].Node != "n1" || s.Speakers[0].DataPath != "ipvs" {
		t.Errorf("speakers %v", s.Speakers)
	}
}

func TestAReadingOfTrafficInPlaceOfKubeProxyHasEveryService(t *testing.T) {
	r := reading("a")
	r.Services[0].Spec.Type, r.Services[0].Spec.ClusterIP, r.Services[0].Spec.ClusterIPs = corev1.ServiceTypeClusterIP, "10.96.0.1", []string{"10.96.0.1"}
	for _, proxy := range []bool{false, true} {
		r.ServiceProxy = proxy
		s, err := r.Snapshot(Classes{Default: true}, time.Unix(7, 0))
		if err != nil || s.Services[0].Proxied != proxy {
			t.Errorf("with ServiceProxy %v: Proxied is %v, %v", proxy, s.Services[0].Proxied, err)
		}
	}
}

func TestReadTrafficListsThem(t *testing.T) {
	other := leaseOf("n9", 1, "{}")
	other.Labels, other.Name = nil, "somebody-else"
	one := leaseOf("n1", 1, "{}")
	core := fake.NewClientset(&one, &other, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "a-1", Namespace: "ns"}})
	var r Reading
	if err := r.addTraffic(t.Context(), core, "herald-system"); err != nil {
		t.Fatal(err)
	}
	if len(r.Slices) != 1 || len(r.Speakers) != 1 || r.Speakers[0].Name != one.Name {
		t.Errorf("EndpointSlices %v, Leases %v", r.Slices, r.Speakers)
	}
}

func TestARollCallTellsWhoIsAliveByTheNewestOfThem(t *testing.T) {
	nobody := leaseOf("n5", 100, "{}")
	nobody.Spec.HolderIdentity = nil
	alive, lost := rollCall([]coordinationv1.Lease{
		leaseOf("n3", 100, `{"leaving":true}`), leaseOf("n1", 98, `{}`), leaseOf("n2", 97, `{}`),
		leaseOf("n4", 90, `{"leaving":true}`), nobody, leaseOf("n6", 100, "no JSON"),
	})
	if len(alive) != 2 || alive[0].Node != "n1" || alive[1].Node != "n3" || !alive[1].Leaving {
		t.Errorf("alive are %v, want n1 and n3", alive)
	}
	if len(lost) != 1 || lost[0].Node != "n2" {
		t.Errorf("lost are %v, want n2 only", lost)
	}
}

// The clock of one node is an hour off. What the API server has noted of when each
// Lease was written is of one clock.
func TestARollCallDoesNotCompareClocks(t *testing.T) {
	names := func(speakers []snapshot.Speaker) (names []string) {
		for _, sp := range speakers {
			names = append(names, sp.Node)
		}
		return names
	}
	for _, off := range []int{-3600, 0, 3600} {
		var leases []coordinationv1.Lease
		for i, node := range []string{"n1", "n2", "n3"} {
			renewed := 10000 - 60*(i/2) // n3 was silent for a minute
			l := lease(node, renewed)
			if node == "n1" {
				l = lease(node, renewed+off)
			}
			l.ManagedFields = []metav1.ManagedFieldsEntry{{Time: ptr.To(metav1.Unix(1, 0))}, {Time: ptr.To(metav1.Unix(int64(renewed), 0))}}
			leases = append(leases, *l)
		}
		alive, lost := rollCall(leases)
		if !slices.Equal(names(alive), []string{"n1", "n2"}) || !slices.Equal(names(lost), []string{"n3"}) {
			t.Errorf("n1 is %d s off: alive %v, lost %v", off, names(alive), names(lost))
		}
	}
}
