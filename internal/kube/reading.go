package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A Reading is what assigning addresses depends on, as the API had it at one
// time. What people ask is answered from a Reading: nothing is watched for it.
type Reading struct {
	Services   []corev1.Service
	Namespaces []corev1.Namespace
	Nodes      []corev1.Node
	Pools      []v1alpha1.AddressPool
	Claims     []v1alpha1.AddressClaim
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
	return Reading{services.Items, namespaces.Items, nodes.Items, pools.Items, claims.Items}, nil
}

// Snapshot converts r as a Source would that has watched it.
func (r Reading) Snapshot(classes Classes, now time.Time) (snapshot.Snapshot, error) {
	o := Options{Classes: classes, Ring: func() {}, Log: slog.New(slog.DiscardHandler)}
	shelf := func(of runtime.Object) cache.SharedIndexInformer { // it never runs
		return cache.NewSharedIndexInformer(&cache.ListWatch{}, of, 0, cache.Indexers{})
	}
	source := newSource(informers{
		services: shelf(&corev1.Service{}), namespaces: shelf(&corev1.Namespace{}), nodes: shelf(&corev1.Node{}),
		pools: shelf(&v1alpha1.AddressPool{}), claims: shelf(&v1alpha1.AddressClaim{}),
	}, o)
	i := source.informers
	for _, err := range []error{
		fill(i.services, r.Services), fill(i.namespaces, r.Namespaces), fill(i.nodes, r.Nodes),
		fill(i.pools, r.Pools), fill(i.claims, r.Claims),
	} {
		if err != nil {
			return snapshot.Snapshot{}, err
		}
	}
	s := source.take()
	s.Now = now
	return s, nil
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
