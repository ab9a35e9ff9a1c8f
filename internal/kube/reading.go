package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A Reading is what assigning addresses depends on, as the API had it at one
// time; one of traffic is also what announcing and steering depend on, and a whole
// one has what speakers have reported, too. What people ask is answered from a
// Reading: nothing is watched for it.
type Reading struct {
	Services   []corev1.Service
	Namespaces []corev1.Namespace
	Nodes      []corev1.Node
	Pools      []v1alpha1.AddressPool
	Claims     []v1alpha1.AddressClaim
	Peers      []v1alpha1.BGPPeer
	Slices     []discoveryv1.EndpointSlice // of traffic only
	Speakers   []coordinationv1.Lease      // of traffic only
	Reports    []snapshot.Report           // of a whole one only
	// ServiceProxy is whether the speakers stand in for kube-proxy.
	ServiceProxy bool
}

// Read reads the cluster once.
func Read(ctx context.Context, c Clients) (Reading, error) {
	var r Reading
	core := c.Core.CoreV1()
	services, err := core.Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return r, fmt.Errorf("listing Services: %w", err)
	}
	namespaces, err := core.Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return r, fmt.Errorf("listing Namespaces: %w", err)
	}
	nodes, err := core.Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return r, fmt.Errorf("listing Nodes: %w", err)
	}
	var pools v1alpha1.AddressPoolList
	if err := c.Herald.Get().Resource("addresspools").Do(ctx).Into(&pools); err != nil {
		return r, fmt.Errorf("listing AddressPools: %w", err)
	}
	var claims v1alpha1.AddressClaimList
	if err := c.Herald.Get().Resource("addressclaims").Do(ctx).Into(&claims); err != nil {
		return r, fmt.Errorf("listing AddressClaims: %w", err)
	}
	var peers v1alpha1.BGPPeerList
	if err := c.Herald.Get().Resource("bgppeers").Do(ctx).Into(&peers); err != nil {
		return r, fmt.Errorf("listing BGPPeers: %w", err)
	}
	return Reading{
		Services: services.Items, Namespaces: namespaces.Items, Nodes: nodes.Items,
		Pools: pools.Items, Claims: claims.Items, Peers: peers.Items,
	}, nil
}

// ReadTraffic reads the cluster once, with its endpoints and the speakers, whose
// Leases are in namespace.
func ReadTraffic(ctx context.Context, c Clients, namespace string) (Reading, error) {
	r, err := Read(ctx, c)
	if err != nil {
		return r, err
	}
	err = r.addTraffic(ctx, c.Core, namespace)
	return r, err
}

// ReadWhole is ReadTraffic, with what speakers have reported.
func ReadWhole(ctx context.Context, c Clients, namespace string) (Reading, error) {
	r, err := ReadTraffic(ctx, c, namespace)
	if err != nil {
		return r, err
	}
	r.Reports, err = ReadReports(ctx, c)
	return r, err
}

func (r *Reading) addTraffic(ctx context.Context, core kubernetes.Interface, namespace string) error {
	slices, err := core.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("listing EndpointSlices: %w", err)
	}
	leases, err := speakerLeases(ctx, core, namespace)
	if err != nil {
		return err
	}
	r.Slices, r.Speakers = slices.Items, leases
	return nil
}

func speakerLeases(ctx context.Context, core kubernetes.Interface, namespace string) ([]coordinationv1.Lease, error) {
	leases, err := core.CoordinationV1().Leases(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(labels.Set{labelComponent: componentSpeaker}).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("listing the Leases of speakers in namespace %s: %w", namespace, err)
	}
	return leases.Items, nil
}

// ReadLeader returns who leads the controllers whose Lease is in namespace.
func ReadLeader(ctx context.Context, core kubernetes.Interface, namespace string) (controller.Leader, error) {
	l, err := core.CoordinationV1().Leases(namespace).Get(ctx, ControllerLease, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return controller.Leader{}, nil
	case err != nil:
		return controller.Leader{}, fmt.Errorf("reading Lease %s/%s: %w", namespace, ControllerLease, err)
	}
	out := controller.Leader{Name: ptr.Deref(l.Spec.HolderIdentity, "")}
	if l.Spec.RenewTime != nil {
		out.Renewed = l.Spec.RenewTime.Time
		out.Expires = out.Renewed.Add(time.Duration(ptr.Deref(l.Spec.LeaseDurationSeconds, 0)) * time.Second)
	}
	return out, nil
}

// ReadReports returns what all speakers have reported last, by Node.
func ReadReports(ctx context.Context, c Clients) ([]snapshot.Report, error) {
	var list v1alpha1.SpeakerStatusList
	if err := c.Herald.Get().Resource(speakerStatuses).Do(ctx).Into(&list); err != nil {
		return nil, fmt.Errorf("listing SpeakerStatuses: %w", err)
	}
	all := make([]snapshot.Report, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, readReport(&list.Items[i]))
	}
	return all, nil
}

// Snapshot converts r as a Source would that has watched it.
func (r Reading) Snapshot(classes Classes, now time.Time) (snapshot.Snapshot, error) {
	o := Options{Classes: classes, ServiceProxy: r.ServiceProxy, Ring: func() {}, Log: slog.New(slog.DiscardHandler)}
	source := newSource(informers{
		services: reader(&corev1.Service{}), namespaces: reader(&corev1.Namespace{}), nodes: reader(&corev1.Node{}),
		pools: reader(&v1alpha1.AddressPool{}), claims: reader(&v1alpha1.AddressClaim{}),
		slices: reader(&discoveryv1.EndpointSlice{}), peers: reader(&v1alpha1.BGPPeer{}),
	}, o)
	i := source.informers
	for _, err := range []error{
		fill(i.services, r.Services), fill(i.namespaces, r.Namespaces), fill(i.nodes, r.Nodes),
		fill(i.pools, r.Pools), fill(i.claims, r.Claims), fill(i.peers, r.Peers),
	} {
		if err != nil {
			return snapshot.Snapshot{}, err
		}
	}
	for n := range r.Slices {
		one, err := sliceOf(&r.Slices[n])
		if err != nil {
			return snapshot.Snapshot{}, err
		}
		source.sliceChanged(nil, one)
	}
	s := source.take()
	s.Now = now
	s.Speakers, s.Lost = rollCall(r.Speakers)
	s.Reports = r.Reports
	return s, nil
}

// reader returns an informer that never runs.
func reader(of runtime.Object) cache.SharedIndexInformer {
	return cache.NewSharedIndexInformer(&cache.ListWatch{}, of, 0, cache.Indexers{})
}

// fill puts objects where a watch would have put them.
func fill[T any](i cache.SharedIndexInformer, objects []T) error {
	for n := range objects {
		if err := i.GetStore().Add(&objects[n]); err != nil {
			return fmt.Errorf("reading an object: %w", err)
		}
	}
	return nil
}
