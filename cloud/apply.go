package cloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func (p Plan) String() string {
	var all []string
	for _, s := range p {
		all = append(all, s.String())
	}
	return strings.Join(all, "; ")
}

// A making keeps those who make things apart, so that limits are not passed by two
// that look at once.
type making struct {
	sync.Mutex
	count int   // of load balancers that are not in the list yet
	milli int64 // and what they cost
	since time.Time
}

// carryOut applies the plan for a Service's load balancer, and says what that was.
func (e *Engine) carryOut(ctx context.Context, svc *corev1.Service, w Wanted, f *Found, plan Plan, until time.Time) error {
	l := laneOf(ctx)
	if f == nil && l == Updating {
		l = Creation
	}
	ctx = WithLane(ctx, l)
	if i := slices.IndexFunc(plan, func(s Step) bool { return s.Order == Create }); i >= 0 {
		if err := e.within(ctx, w.Spec.Owner, plan[i]); err != nil {
			return err
		}
	}
	if err := e.apply(ctx, plan, until); err != nil {
		return err
	}
	switch {
	case f == nil:
		e.note(svc, ReasonCreated, cost(plan))
	case !f.Owner.Same(w.Spec.Owner):
		e.note(svc, ReasonAdopted, fmt.Sprintf("load balancer %s (%s) is this Service's from now on", f.Name, f.ID))
	case l == Drifting:
		e.note(svc, ReasonDriftRepaired, "it was not as it should be: "+plan.String())
		e.Count.repaired()
	default:
		e.Log.Info("load balancer changed", "service", w.Spec.Owner.Key(), "lb", f.ID, "steps", plan.String())
	}
	return nil
}

// cost says what was made, and what it costs.
func cost(plan Plan) string {
	text := plan.String()
	var milli int64
	currency := ""
	for _, s := range plan {
		if milli += s.Cost.Milli; s.Cost.Currency != "" {
			currency = s.Cost.Currency
		}
	}
	if currency == "" {
		return text
	}
	return fmt.Sprintf("%s (%s a month, net)", text, Money{milli, currency})
}

// within is whether one more load balancer is within the limits. It reads what there
// is, and calls nothing that changes anything.
func (e *Engine) within(ctx context.Context, o Owner, s Step) error {
	l := e.Config.Limits
	if len(l.AllowedNamespaces) > 0 && !slices.Contains(l.AllowedNamespaces, o.Namespace) {
		return &Error{Class: Quota, Reason: ReasonLimit, Text: fmt.Sprintf("namespace %s may have no load balancer of the cloud: limits.allowedNamespaces", o.Namespace)}
	}
	if l.MaxLoadBalancers == 0 && l.MaxMonthlyCost == 0 {
		return nil
	}
	e.making.Lock()
	defer e.making.Unlock()
	all, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
	if err != nil {
		return err
	}
	if listed := e.seen.since(); !listed.Equal(e.making.since) {
		e.making.count, e.making.milli, e.making.since = 0, 0, listed
	}
	count, milli := e.making.count, e.making.milli
	for _, found := range all {
		for _, f := range found {
			if milli += f.Cost.Milli; f.Kind == LoadBalancer {
				count++
			}
		}
	}
	if most := l.MaxLoadBalancers; most > 0 && count >= most {
		return &Error{Class: Quota, Reason: ReasonLimit, After: 5 * time.Minute, Text: fmt.Sprintf("there are %d load balancers, and limits.maxLoadBalancers is %d", count, most)}
	}
	if most := l.MaxMonthlyCost; most > 0 && float64(milli+s.Cost.Milli) > most*1000 {
		return &Error{Class: Quota, Reason: ReasonLimit, After: 5 * time.Minute, Text: fmt.Sprintf("what there is costs %s a month, this adds %s, and limits.maxMonthlyCost is %.2f", Money{milli, s.Cost.Currency}, s.Cost, most)}
	}
	e.making.count++
	e.making.milli += s.Cost.Milli
	return nil
}

func (s *snapshot) since() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// apply does steps one after another, each once the one before is done, until a time.
// What the cloud is busy with is waited for.
func (e *Engine) apply(ctx context.Context, plan Plan, until time.Time) error {
	for _, s := range plan {
		for {
			p, err := e.Driver.Apply(ctx, s)
			if err == nil {
				err = e.await(ctx, p, until)
			}
			if err == nil {
				break
			}
			if !Is(err, Locked) || time.Now().After(until) || !pause(ctx, looks) {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
	}
	return nil
}

// await waits until a change is done.
func (e *Engine) await(ctx context.Context, p Pending, until time.Time) error {
	if p == (Pending{}) {
		return nil
	}
	left := []Pending{p}
	for {
		var err error
		if left, err = e.Driver.Poll(ctx, left); err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(until) {
			return &Error{Class: Retryable, After: ComeAgain, Text: "the cloud is still at it"}
		}
		if !pause(ctx, max(looks, left[0].After)) {
			return context.Cause(ctx)
		}
	}
}

// pause waits, and returns whether nobody has ended it.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// complain says what is wrong with a Service, once until it is something else.
func (e *Engine) complain(svc *corev1.Service, err error) {
	var why *Error
	if err == nil {
		e.said.well(svc.UID)
		return
	}
	if errors.As(err, &why) && why.Reason != "" {
		e.warn(svc, why.Reason, err.Error())
	}
}
