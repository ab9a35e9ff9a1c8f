package cloud

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Adopter is a Driver that knows the marks of another controller.
type Adopter interface {
	// LookupFrom returns what another controller has made for a Service; nil for
	// nothing.
	LookupFrom(ctx context.Context, other string, o Owner) (*Found, error)
}

// adopted returns what was there before the Service and is to be its: what its
// annotations name, or what a Service of its name had that is gone.
func (e *Engine) adopted(ctx context.Context, svc *corev1.Service, w Wanted, all map[types.UID][]Found) (*Found, error) {
	o := w.Spec.Owner
	switch {
	case w.Asked.Adopt != "":
		f, err := e.Driver.Lookup(ctx, w.Asked.Adopt)
		if err != nil {
			return nil, fmt.Errorf("annotation %sadopt: %w", Prefix, err)
		}
		return e.mayAdopt(ctx, &f, o)
	case w.Asked.AdoptFrom != "":
		a, ok := e.Driver.(Adopter)
		if !ok {
			return nil, Refuse(ReasonInvalidAnnotation, "annotation %sadopt-from: there is no other controller for this cloud that is known", Prefix)
		}
		f, err := a.LookupFrom(ctx, w.Asked.AdoptFrom, o)
		if f == nil || err != nil {
			return nil, err
		}
		return e.mayAdopt(ctx, f, o)
	}
	for _, uid := range slices.Sorted(maps.Keys(all)) { // of several the same each time
		for _, f := range all[uid] {
			if f.Kind == LoadBalancer && f.Owner.Key() == o.Key() && f.State != Deleting {
				return e.mayAdopt(ctx, &f, o)
			}
		}
	}
	return nil, nil
}

// mayAdopt is whether a resource may become a Service's: it is nobody's, or that of
// a Service of the same name that is not there any more.
func (e *Engine) mayAdopt(ctx context.Context, f *Found, o Owner) (*Found, error) {
	if f.Owner == (Owner{}) || f.Owner.Same(o) {
		return f, nil
	}
	theirs := &Error{Class: Conflict, Reason: ReasonConflict, Text: fmt.Sprintf("load balancer %s (%s) belongs to Service %s (UID %s) of cluster %s: nothing is done to it", f.Name, f.ID, f.Owner.Key(), f.Owner.UID, f.Owner.Cluster)}
	if f.Owner.Cluster != o.Cluster || f.Owner.Key() != o.Key() {
		return nil, theirs
	}
	if e.Live == nil {
		return nil, theirs
	}
	live, err := e.Live(ctx, o.Namespace, o.Name)
	if err != nil {
		return nil, err
	}
	if live == nil || live.UID != o.UID {
		return nil, theirs
	}
	return f, nil
}
