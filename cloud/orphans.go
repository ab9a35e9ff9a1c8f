package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// orphans are resources whose Service is gone, and since when that is known.
type orphans struct {
	mu    sync.Mutex
	since map[string]time.Time // by Kind and ID
}

// Audit looks for resources that are this cluster's and no Service's. Those whose
// Service was gone for the time that the configuration says are removed, if it says
// so; else they are reported. services are those that the host of the engine knows;
// if it knows none, it knows nothing. left is the budget, for the metrics.
func (e *Engine) Audit(ctx context.Context, services []*corev1.Service, left int) error {
	ctx = WithLane(ctx, Collecting)
	list, err := e.Driver.List(ctx, e.Cluster)
	if err != nil {
		return err
	}
	if d := e.addresses(ctx); d != nil {
		all, err := e.book.list(ctx, d, e.Cluster, fresh)
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.Owner.Cluster == e.Cluster {
				list = append(list, a.Found)
			}
		}
	}
	wanted := map[types.UID]bool{}
	for _, svc := range services {
		if Holds(svc) {
			wanted[svc.UID] = true
		}
	}
	gone, err := e.gone(ctx, list, wanted)
	if err != nil {
		return err
	}
	e.Count.bill(list, len(gone), left)
	// Addresses that stand for themselves are reported only: others may know them. That of
	// a load balancer goes with it, as when its Service is deleted.
	balancers := func(all []Found) []Found {
		return slices.DeleteFunc(all, func(f Found) bool { return !isBalancer(f) })
	}
	due := balancers(e.orphans.due(gone, e.Config.GC.Grace.Duration))
	for _, f := range gone {
		e.warn(ghost(f.Owner), ReasonOrphan, fmt.Sprintf("%s %s (%s) is paid for, and Service %s (UID %s) is gone", f.Kind, f.Name, f.ID, f.Owner.Key(), f.Owner.UID))
	}
	if e.Config.GC.Mode != GCDelete || e.Config.DryRun || len(due) == 0 {
		return nil
	}
	if len(wanted) == 0 || len(due) > e.Config.GC.MaxPerRun || 2*len(due) > len(balancers(slices.Clone(list))) {
		e.Log.Error("too much would be removed: look whether it is wanted, then remove it by hand", "orphans", len(due), "of", len(list), "services", len(wanted), "gc.maxPerRun", e.Config.GC.MaxPerRun)
		return nil
	}
	return e.collect(ctx, due)
}

// Holds is whether a Service may have something in a cloud: it wants a load balancer,
// or its finalizer says that one is being removed.
func Holds(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer || slices.ContainsFunc(svc.Finalizers, func(f string) bool {
		return f == "service.kubernetes.io/load-balancer-cleanup" || strings.HasPrefix(f, Finalizer)
	})
}

// Finalizer begins the names of those that keep a Service of a class of Herald's until
// nothing of it is left in a cloud; the provider comes after it.
const Finalizer = "herald-lb.io/cloud-cleanup"

// gone are those of list of which the API server says that their Service is not there
// any more.
func (e *Engine) gone(ctx context.Context, list []Found, wanted map[types.UID]bool) (gone []Found, err error) {
	for _, f := range list {
		if wanted[f.Owner.UID] || f.Owner.Cluster != e.Cluster || f.Owner.UID == "" || f.State == Deleting || f.Retained {
			continue
		}
		live, err := e.Live(ctx, f.Owner.Namespace, f.Owner.Name)
		if err != nil {
			return nil, err
		}
		if live == nil || live.UID != f.Owner.UID || !Holds(live) {
			gone = append(gone, f)
		}
	}
	return gone, nil
}

// due notes what is gone, and returns what was gone for long enough.
func (o *orphans) due(gone []Found, grace time.Duration) (due []Found) {
	o.mu.Lock()
	defer o.mu.Unlock()
	since := map[string]time.Time{}
	for _, f := range gone {
		key := string(f.Kind) + "/" + f.ID
		if since[key] = o.since[key]; since[key].IsZero() {
			since[key] = time.Now()
			continue
		}
		if time.Since(since[key]) >= grace {
			due = append(due, f)
		}
	}
	o.since = since
	return due
}

// collect removes load balancers whose Service is gone. Those that were there before
// it, or that are protected, are released.
func (e *Engine) collect(ctx context.Context, due []Found) error {
	for _, f := range due {
		if err := e.collectOne(ctx, f); err != nil {
			return err
		}
		e.note(ghost(f.Owner), ReasonDeleted, fmt.Sprintf("%s %s (%s), whose Service was gone", f.Kind, f.Name, f.ID))
	}
	return nil
}

// collectOne removes one, if that is still so: a Service of its name may have come, and
// have taken it over.
func (e *Engine) collectOne(ctx context.Context, f Found) error {
	defer e.locks.lock(f.Owner.Key())()
	gone, err := e.gone(ctx, []Found{f}, nil)
	if err != nil || len(gone) == 0 {
		return err
	}
	again, err := e.Driver.Find(ctx, f.Owner)
	if err != nil || !slices.ContainsFunc(again, func(a Found) bool { return a.ID == f.ID && a.Owner.Same(f.Owner) }) {
		return err
	}
	p := PolicyDelete
	if f.Adopted || f.Protected {
		p = PolicyRelease
	}
	_, err = e.apply(ctx, e.Driver.PlanRemoval(f, p), time.Now().Add(waits))
	return err
}

// ghost is a Service that is not there any more, to say something of.
func ghost(o Owner) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID},
	}
}
