package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

func (p Plan) String() string {
	var all []string
	for _, s := range p {
		all = append(all, s.String())
	}
	return strings.Join(all, "; ")
}

// A making is what is being made and is in no list yet: what each Service's costs.
// It keeps those apart that make something, so that limits are not passed by two that
// look at once.
type making struct {
	sync.Mutex // held from a look at what there is until what is made is noted

	mu sync.Mutex          // guards of, and is held over no call
	of map[types.UID]int64 // thousandths
}

// carryOut applies the plan for a Service's load balancer, and says what that was.
func (e *Engine) carryOut(ctx context.Context, svc *corev1.Service, w Wanted, f *Found, plan Plan, until time.Time) error {
	l, takes := laneOf(ctx), f != nil && !f.Owner.Same(w.Spec.Owner)
	if f == nil && l == Updating {
		l = Creation
	}
	ctx = WithLane(ctx, l)
	if f == nil || takes {
		if err := e.stillWanted(ctx, w.Spec.Owner); err != nil {
			return err
		}
	}
	if err := e.within(ctx, w.Spec.Owner, f, plan); err != nil {
		return err
	}
	accepted, err := e.applyTo(ctx, plan, until, len(w.Spec.Targets) > plan.count(AddTarget))
	if err != nil && accepted == 0 {
		e.making.forget(w.Spec.Owner.UID)
		return err
	}
	switch {
	case f == nil && plan[0].Order == Create: // also if it takes the cloud longer than we wait
		e.note(svc, ReasonCreated, cost(plan))
	case takes && plan[0].Order == Mark:
		e.note(svc, ReasonAdopted, fmt.Sprintf("load balancer %s (%s) is this Service's from now on", f.Name, f.ID))
	case l == Drifting && err == nil:
		e.note(svc, ReasonDriftRepaired, "it was not as it should be: "+plan.String())
		e.Count.repaired()
	default:
		e.Log.Info("load balancer changed", "service", w.Spec.Owner.Key(), "steps", plan[:accepted].String())
	}
	return err
}

// stillWanted asks the API server whether a Service is to have anything made for it:
// who has waited, or was given an old copy, may be too late.
func (e *Engine) stillWanted(ctx context.Context, o Owner) error {
	if e.Live == nil {
		return nil
	}
	live, err := e.Live(ctx, o.Namespace, o.Name)
	if err != nil {
		return err
	}
	if live == nil || live.UID != o.UID || live.DeletionTimestamp != nil || live.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return Refuse("", "Service %s is not there any more, or wants no load balancer: nothing is made for it", o.Key())
	}
	return nil
}

// cost says what was made, and what it costs.
func cost(plan Plan) string {
	if c := plan.cost(); c.Currency != "" {
		return fmt.Sprintf("%s (%s a month, net)", plan, c)
	}
	return plan.String()
}

// cost is what a plan adds to a month's bill.
func (p Plan) cost() (sum Money) {
	for _, s := range p {
		if sum.Milli += s.Cost.Milli; s.Cost.Currency != "" {
			sum.Currency = s.Cost.Currency
		}
	}
	return sum
}

// within is whether what a plan makes is within the limits. It reads what there is, and
// calls nothing that changes anything.
func (e *Engine) within(ctx context.Context, o Owner, f *Found, plan Plan) error {
	l, more := e.Config.Limits, plan.cost()
	if f == nil && len(l.AllowedNamespaces) > 0 && !slices.Contains(l.AllowedNamespaces, o.Namespace) {
		return &Error{Class: Quota, Reason: ReasonLimit, Text: fmt.Sprintf("namespace %s may have no load balancer of the cloud: limits.allowedNamespaces", o.Namespace)}
	}
	if l.MaxLoadBalancers == 0 && l.MaxMonthlyCost == 0 || f != nil && more.Milli <= 0 {
		return nil
	}
	e.making.Lock()
	defer e.making.Unlock()
	all, _, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
	if err != nil {
		return err
	}
	count, milli := e.making.sum(all, o.UID)
	_, addresses := e.book.bill(e.Cluster, o.UID) // as far as they are known: nobody is asked
	milli += addresses
	if most := l.MaxLoadBalancers; f == nil && most > 0 && count >= most {
		return &Error{Class: Quota, Reason: ReasonLimit, After: 5 * time.Minute, Text: fmt.Sprintf("there are %d load balancers, and limits.maxLoadBalancers is %d", count, most)}
	}
	if most := l.MaxMonthlyCost; most > 0 && float64(milli+more.Milli) > most*1000 {
		return &Error{Class: Quota, Reason: ReasonLimit, After: 5 * time.Minute, Text: fmt.Sprintf("what there is costs %s a month, this adds %s, and limits.maxMonthlyCost is %.2f", Money{milli, more.Currency}, more, most)}
	}
	if f == nil {
		e.making.note(o.UID, more.Milli)
	}
	return nil
}

// sum is how many load balancers there are and what all costs, with what is being made
// for others. What is in the list by now is not being made any more.
func (m *making) sum(all map[types.UID][]Found, me types.UID) (count int, milli int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.of, func(uid types.UID, _ int64) bool { return uid == me || len(all[uid]) > 0 })
	for _, found := range all {
		for _, f := range found {
			if milli += f.Cost.Milli; isBalancer(f) {
				count++
			}
		}
	}
	for _, cost := range m.of {
		count, milli = count+1, milli+cost
	}
	return count, milli
}

// note says what is being made for a Service costs.
func (m *making) note(uid types.UID, milli int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[types.UID]int64{}
	}
	m.of[uid] = milli
}

// forget takes back what was not made after all, or is in lists by now.
func (m *making) forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of, uid)
}

// count is how many steps there are of an order.
func (p Plan) count(o Order) (n int) {
	for _, s := range p {
		if s.Order == o {
			n++
		}
	}
	return n
}

// apply does steps one after another, each once the one before is done, until a time.
// Accepted is up to where the cloud has taken steps on, of which the last may not be done.
func (e *Engine) apply(ctx context.Context, plan Plan, until time.Time) (accepted int, err error) {
	return e.applyTo(ctx, plan, until, true)
}

// applyTo is apply for what has targets. One that the cloud refuses holds up no other
// step; serves is whether there is one already that is wanted: without, none is taken
// away, and nothing is done of what comes after that.
func (e *Engine) applyTo(ctx context.Context, plan Plan, until time.Time, serves bool) (accepted int, err error) {
	var refused []error
	for i, s := range plan {
		if s.Order == RemoveTarget && !serves && len(refused) > 0 {
			break
		}
		taken, err := e.do(ctx, s, until)
		if taken {
			accepted = i + 1
		}
		switch {
		case err == nil:
			serves = serves || s.Order == AddTarget
		case s.Order == AddTarget && Is(err, Terminal):
			refused = append(refused, fmt.Errorf("%s: %w", s, err))
		default:
			return accepted, errors.Join(append([]error{fmt.Errorf("%s: %w", s, err)}, refused...)...)
		}
	}
	return accepted, errors.Join(refused...)
}

// do does one step, and waits until it is done, and before that while the cloud is busy.
// Taken is whether the cloud has taken it on.
func (e *Engine) do(ctx context.Context, s Step, until time.Time) (taken bool, err error) {
	for {
		p, err := e.Driver.Apply(ctx, s)
		if err == nil {
			taken = true
			err = e.await(ctx, p, until)
		}
		if err == nil || !Is(err, Locked) || time.Now().After(until) || !pause(ctx, looks) {
			return taken, err
		}
	}
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
