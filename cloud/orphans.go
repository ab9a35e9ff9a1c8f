package cloud

import (
	"context"
	"fmt"
	"slices"
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
	wanted := map[types.UID]bool{}
	for _, svc := range services {
		wanted[svc.UID] = true
	}
	gone, err := e.gone(ctx, list, wanted)
	if err != nil {
		return err
	}
	e.Count.bill(list, len(gone), left)
	due := e.orphans.due(gone, e.Config.GC.Grace.Duration)
	for _, f := range gone {
		e.warn(ghost(f.Owner), ReasonOrphan, fmt.Sprintf("%s %s (%s) is paid for, and Service %s (UID %s) is gone", f.Kind, f.Name, f.ID, f.Owner.Key(), f.Owner.UID))
	}
	if e.Config.GC.Mode != GCDelete || e.Config.DryRun || len(due) == 0 {
		return nil
	}
	if len(services) == 0 || len(due) > e.Config.GC.MaxPerRun || 2*len(due) > len(list) {
		e.Log.Error("too much would be removed: look whether it is wanted, then remove it by hand", "orphans", len(due), "of", len(list), "services", len(services), "gc.maxPerRun", e.Config.GC.MaxPerRun)
		return nil
	}
	return e.collect(ctx, due)
}

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
		if live == nil || live.UID != f.Owner.UID {
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
// it, or that are protected, are released; addresses are kept, for others may know
// them.
func (e *Engine) collect(ctx context.Context, due []Found) error {
	for _, f := range due {
		if f.Kind != LoadBalancer {
			continue
		}
		p := PolicyDelete
		if f.Adopted || f.Protected {
			p = PolicyRelease
		}
		unlock := e.locks.lock(string(f.Owner.UID))
		again, err := e.Driver.Find(ctx, f.Owner)
		if err == nil && slices.ContainsFunc(again, func(a Found) bool { return a.ID == f.ID && a.Owner.Same(f.Owner) }) {
			err = e.apply(ctx, e.Driver.PlanRemoval(f, p), time.Now().Add(waits))
		}
		unlock()
		if err != nil {
			return err
		}
		e.note(ghost(f.Owner), ReasonDeleted, fmt.Sprintf("%s %s (%s), whose Service was gone", f.Kind, f.Name, f.ID))
	}
	return nil
}

// ghost is a Service that is not there any more, to say something of.
func ghost(o Owner) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, UID: o.UID},
	}
}
