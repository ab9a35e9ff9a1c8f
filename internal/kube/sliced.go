package kube

import (
	"net/netip"
	"slices"
	"sync"
	"unique"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A sliced is an EndpointSlice as it is kept: converted, at a quarter of the
// memory, of which speakers with thousands of Services have most in them.
type sliced struct {
	metav1.ObjectMeta        // namespace, name and version
	service           string // namespace/name; "" if it belongs to none
	endpoints         []snapshot.Endpoint
}

// sliceOf is the informer's transformation. It may be called with what it has
// returned.
func sliceOf(obj any) (any, error) {
	es, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj, nil
	}
	s := &sliced{
		ObjectMeta: metav1.ObjectMeta{Namespace: es.Namespace, Name: es.Name, UID: es.UID, ResourceVersion: es.ResourceVersion},
		endpoints:  convertSlice(es),
	}
	if name := es.Labels[discoveryv1.LabelServiceName]; name != "" {
		s.service = es.Namespace + "/" + name
	}
	return s, nil
}

// convertSlice returns the endpoints of es in the order of addresses.
func convertSlice(es *discoveryv1.EndpointSlice) []snapshot.Endpoint {
	if es.AddressType == discoveryv1.AddressTypeFQDN {
		return nil
	}
	out := make([]snapshot.Endpoint, 0, len(es.Endpoints))
	ports := targets(es.Ports)
	for _, e := range es.Endpoints {
		for _, text := range e.Addresses {
			if addr, err := netip.ParseAddr(text); err == nil {
				ep := endpoint(e)
				ep.Addr, ep.Ports = addr, ports
				out = append(out, ep)
			}
		}
	}
	return unite(out)
}

// unite sorts endpoints by address and makes those of one address one, as they
// may stand in two slices while these are rebalanced.
func unite(all []snapshot.Endpoint) []snapshot.Endpoint {
	slices.SortStableFunc(all, func(a, b snapshot.Endpoint) int { return a.Addr.Compare(b.Addr) })
	out := all[:0]
	for _, ep := range all {
		last := len(out) - 1
		if last < 0 || out[last].Addr != ep.Addr {
			out = append(out, ep)
			continue
		}
		ep.Ports = merge(out[last].Ports, ep.Ports)
		ep.Ready, ep.Draining = ep.Ready || out[last].Ready, ep.Draining || out[last].Draining
		out[last] = ep
	}
	return slices.Clip(out)
}

// endpoints returns those of all slices of one Service. They are not to be edited.
func endpoints(all []*sliced) []snapshot.Endpoint {
	if len(all) == 1 {
		return all[0].endpoints
	}
	var out []snapshot.Endpoint
	for _, s := range all {
		out = append(out, s.endpoints...)
	}
	return unite(out)
}

// interned returns one string for all that are equal: there are few nodes and
// ports, and many endpoints.
func interned(s string) string { return unique.Make(s).Value() }

// sliceIndex finds slices by the Service that they belong to.
type sliceIndex struct {
	mu        sync.Mutex
	byService map[string][]*sliced // never edited in place
}

// change puts now in the place of was, either of which may be nil.
func (x *sliceIndex) change(was, now *sliced) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.byService == nil {
		x.byService = map[string][]*sliced{}
	}
	if was != nil {
		x.set(was.service, nil, was.Name)
	}
	if now != nil {
		x.set(now.service, now, now.Name)
	}
}

func (x *sliceIndex) set(service string, s *sliced, name string) {
	if service == "" {
		return
	}
	next := make([]*sliced, 0, 1)
	for _, other := range x.byService[service] {
		if other.Name != name {
			next = append(next, other)
		}
	}
	if s != nil {
		next = append(next, s)
	}
	if len(next) == 0 {
		delete(x.byService, service)
		return
	}
	x.byService[service] = next
}

// of returns the slices of a Service.
func (x *sliceIndex) of(service string) []*sliced {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.byService[service]
}

// asSliced returns obj as the informer keeps it; nil if it is gone or another kind.
func asSliced(obj any) *sliced {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	s, _ := obj.(*sliced)
	return s
}
