package kube

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// A DryRun asks the API server what objects would be like once applied, or
// takes them away. It changes nothing.
type DryRun struct {
	Client dynamic.Interface
	Delete bool
}

// resources are the kinds that addresses depend on, and what routers are told.
var resources = map[schema.GroupVersionKind]schema.GroupVersionResource{
	{Version: "v1", Kind: "Service"}:               {Version: "v1", Resource: "services"},
	{Version: "v1", Kind: "Namespace"}:             {Version: "v1", Resource: "namespaces"},
	v1alpha1.GroupVersion.WithKind("AddressPool"):  v1alpha1.AddressPools,
	v1alpha1.GroupVersion.WithKind("AddressClaim"): v1alpha1.AddressClaims,
	v1alpha1.GroupVersion.WithKind("BGPPeer"):      v1alpha1.BGPPeers,
}

// clusterWide are those of resources that have no namespace.
var clusterWide = []string{"namespaces", v1alpha1.AddressPools.Resource, v1alpha1.BGPPeers.Resource}

// Run returns what r would be with objects applied, and notes about objects
// that were passed over.
func (d DryRun) Run(ctx context.Context, r Reading, objects []*unstructured.Unstructured) (Reading, []string, error) {
	out := r
	out.Services, out.Namespaces = slices.Clone(r.Services), slices.Clone(r.Namespaces)
	out.Pools, out.Claims, out.Peers = slices.Clone(r.Pools), slices.Clone(r.Claims), slices.Clone(r.Peers)
	var notes []string
	for _, o := range objects {
		resource, ok := resources[o.GroupVersionKind()]
		if !ok {
			notes = append(notes, fmt.Sprintf("%s is passed over: no address and no route depends on it", title(o)))
			continue
		}
		if !slices.Contains(clusterWide, resource.Resource) && o.GetNamespace() == "" {
			o.SetNamespace(metav1.NamespaceDefault)
		}
		if d.Delete {
			out.remove(o)
			continue
		}
		applied, err := d.apply(ctx, resource, o)
		if err != nil {
			return Reading{}, nil, fmt.Errorf("applying %s, as a dry run: %w", title(o), err)
		}
		if err := out.put(applied); err != nil {
			return Reading{}, nil, fmt.Errorf("reading %s: %w", title(o), err)
		}
	}
	return out, notes, nil
}

// apply asks for a server-side apply as a dry run. An object in a namespace
// that is not there yet is taken as it is written: it may be in the same file.
func (d DryRun) apply(ctx context.Context, resource schema.GroupVersionResource, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	client := dynamic.ResourceInterface(d.Client.Resource(resource))
	if o.GetNamespace() != "" {
		client = d.Client.Resource(resource).Namespace(o.GetNamespace())
	}
	got, err := client.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{DryRun: []string{metav1.DryRunAll}, Force: true, FieldManager: "herald-plan"})
	if apierrors.IsNotFound(err) && o.GetNamespace() != "" {
		return o, nil
	}
	return got, err
}

func title(o *unstructured.Unstructured) string {
	if o.GetNamespace() == "" {
		return o.GetKind() + " " + o.GetName()
	}
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// put adds o, or replaces the one of its name.
func (r *Reading) put(o *unstructured.Unstructured) error {
	convert := runtime.DefaultUnstructuredConverter.FromUnstructured
	switch o.GetKind() {
	case "Service":
		var svc corev1.Service
		if err := convert(o.Object, &svc); err != nil {
			return err
		}
		if len(svc.Spec.IPFamilies) == 0 { // the API server's default, where it could not say so itself
			svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
		}
		r.Services = replace(r.Services, svc, func(s *corev1.Service) metav1.Object { return s })
	case "Namespace":
		var ns corev1.Namespace
		if err := convert(o.Object, &ns); err != nil {
			return err
		}
		r.Namespaces = replace(r.Namespaces, ns, func(n *corev1.Namespace) metav1.Object { return n })
	case "AddressPool":
		var p v1alpha1.AddressPool
		if err := convert(o.Object, &p); err != nil {
			return err
		}
		r.Pools = replace(r.Pools, p, func(p *v1alpha1.AddressPool) metav1.Object { return p })
	case "BGPPeer":
		var p v1alpha1.BGPPeer
		if err := convert(o.Object, &p); err != nil {
			return err
		}
		r.Peers = replace(r.Peers, p, func(p *v1alpha1.BGPPeer) metav1.Object { return p })
	case "AddressClaim":
		var c v1alpha1.AddressClaim
		if err := convert(o.Object, &c); err != nil {
			return err
		}
		r.Claims = replace(r.Claims, c, func(c *v1alpha1.AddressClaim) metav1.Object { return c })
	}
	return nil
}

// remove takes o away. Of a Namespace all that is in it goes as well.
func (r *Reading) remove(o *unstructured.Unstructured) {
	gone := func(x metav1.Object) bool {
		return x.GetName() == o.GetName() && x.GetNamespace() == o.GetNamespace()
	}
	switch o.GetKind() {
	case "Service":
		r.Services = slices.DeleteFunc(r.Services, func(s corev1.Service) bool { return gone(&s) })
	case "AddressPool":
		r.Pools = slices.DeleteFunc(r.Pools, func(p v1alpha1.AddressPool) bool { return gone(&p) })
	case "BGPPeer":
		r.Peers = slices.DeleteFunc(r.Peers, func(p v1alpha1.BGPPeer) bool { return gone(&p) })
	case "AddressClaim":
		r.Claims = slices.DeleteFunc(r.Claims, func(c v1alpha1.AddressClaim) bool { return gone(&c) })
	case "Namespace":
		r.Namespaces = slices.DeleteFunc(r.Namespaces, func(n corev1.Namespace) bool { return gone(&n) })
		r.Services = slices.DeleteFunc(r.Services, func(s corev1.Service) bool { return s.Namespace == o.GetName() })
		r.Claims = slices.DeleteFunc(r.Claims, func(c v1alpha1.AddressClaim) bool { return c.Namespace == o.GetName() })
	}
}

// replace puts one into all, in the place of the one of its name if there is
// one.
func replace[T any](all []T, one T, meta func(*T) metav1.Object) []T {
	id := meta(&one)
	for i := range all {
		if m := meta(&all[i]); m.GetName() == id.GetName() && m.GetNamespace() == id.GetNamespace() {
			all[i] = one
			return all
		}
	}
	return append(all, one)
}
