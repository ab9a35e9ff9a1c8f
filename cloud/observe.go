package cloud

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// fresh is for how long a list of all that is the cluster's is good to plan changes
// with. Before anything is made or removed, the cloud is asked.
const fresh = 10 * time.Second

// A snapshot is the last list of all that is the cluster's.
type snapshot struct {
	mu     sync.Mutex // never held during a call
	at     time.Time  // when it was asked for
	all    map[types.UID][]Found
	asking chan struct{}         // closed when who asks has an answer; nil while nobody asks
	newer  map[types.UID][]Found // what was shown meanwhile
}

// list returns all that is the cluster's, asked for within the time that is given, and
// when that was. Those who ask at once ask once.
func (s *snapshot) list(ctx context.Context, d Driver, cluster string, within time.Duration) (map[types.UID][]Found, time.Time, error) {
	for {
		all, at, asking := s.begin(within)
		if all != nil {
			return all, at, nil
		}
		if asking == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil, time.Time{}, context.Cause(ctx)
		case <-asking:
		}
	}
	at := time.Now()
	found, err := d.List(ctx, cluster)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.asking)
	newer := s.newer
	s.asking, s.newer = nil, nil
	if err != nil {
		return nil, time.Time{}, err
	}
	all := map[types.UID][]Found{}
	for _, f := range found {
		all[f.Owner.UID] = append(all[f.Owner.UID], f)
	}
	for uid, f := range newer {
		set(all, uid, f)
	}
	s.all, s.at = all, at
	return all, at, nil
}

// begin returns what was asked for within a time, or what to wait for while others ask. It
// returns neither to who is to ask.
func (s *snapshot) begin(within time.Duration) (all map[types.UID][]Found, at time.Time, asking chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all != nil && time.Since(s.at) < within {
		return s.all, s.at, nil
	}
	if s.asking == nil {
		s.asking, s.newer = make(chan struct{}), map[types.UID][]Found{}
		return nil, time.Time{}, nil
	}
	return nil, time.Time{}, s.asking
}

// put notes what the cloud has shown of one Service.
func (s *snapshot) put(o Owner, found []Found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking != nil {
		s.newer[o.UID] = found
	}
	if s.all == nil {
		return
	}
	all := maps.Clone(s.all) // others may be reading it
	set(all, o.UID, found)
	s.all = all
}

func set(all map[types.UID][]Found, uid types.UID, found []Found) {
	if all[uid] = found; len(found) == 0 {
		delete(all, uid)
	}
}

// observe returns the load balancer that is a Service's or is to be; nil for none.
// A list of a moment ago is good for one that is there; all else, the cloud is asked:
// that there is none, that there are several, that something is left of one.
func (e *Engine) observe(ctx context.Context, svc *corev1.Service, w Wanted, changed bool) (*Found, error) {
	o, began := w.Spec.Owner, time.Now()
	if !changed {
		all, at, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
		if err != nil {
			return nil, err
		}
		found := all[o.UID]
		if i := slices.IndexFunc(found, isBalancer); i >= 0 && !slices.ContainsFunc(found[i+1:], isBalancer) {
			return &found[i], nil
		}
		if len(found) == 0 && !at.Before(began) {
			return e.adopted(ctx, svc, w, all)
		}
	}
	found, err := e.Driver.Find(ctx, o)
	if err != nil {
		return nil, err
	}
	e.seen.put(o, found)
	if len(found) > 0 {
		return e.best(ctx, svc, w, found)
	}
	all, _, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
	if err != nil {
		return nil, err
	}
	return e.adopted(ctx, svc, w, all)
}

func isBalancer(f Found) bool { return f.Kind == LoadBalancer }

// best returns the one of several load balancers that is kept: one that serves, that
// has the address clients know, and that is the oldest. What else there is, is
// removed: it bears this Service's marks, and nobody else's.
func (e *Engine) best(ctx context.Context, svc *corev1.Service, w Wanted, found []Found) (*Found, error) {
	all := slices.DeleteFunc(slices.Clone(found), func(f Found) bool { return !isBalancer(f) })
	if len(all) == 0 {
		return nil, nil // an address that is left is found again by the driver
	}
	known := func(f Found) int {
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if slices.ContainsFunc(f.Addrs, func(a netip.Addr) bool { return a.String() == in.IP }) {
				return 0
			}
		}
		return 1
	}
	rank := map[State]int{Ready: 0, Busy: 1, Failed: 2, Deleting: 3}
	slices.SortStableFunc(all, func(a, b Found) int {
		return cmp.Or(cmp.Compare(rank[a.State]/2, rank[b.State]/2), cmp.Compare(known(a), known(b)), a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	for _, extra := range all[1:] {
		if extra.State == Deleting {
			continue
		}
		e.warn(svc, ReasonDuplicate, fmt.Sprintf("there is a second load balancer for this Service, %s (%s): it is removed", extra.Name, extra.ID))
		p := PolicyDelete
		if extra.Adopted || extra.Protected {
			p = PolicyRelease
		}
		if e.dry(w.Asked) {
			continue
		}
		if _, err := e.apply(WithLane(ctx, Deletion), e.Driver.PlanRemoval(extra, p), time.Now().Add(waits)); err != nil {
			return nil, err
		}
	}
	return &all[0], nil
}
