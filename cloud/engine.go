package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// An Engine makes one cloud serve Services. All its methods may be called at once;
// those for one Service wait for each other.
type Engine struct {
	Driver  Driver
	Config  Config
	Cluster string // marks what is this cluster's
	// Live returns a Service as the API server has it now, nil if there is none. Without
	// it, nothing is taken over from a Service that may be gone.
	Live func(ctx context.Context, namespace, name string) (*corev1.Service, error)
	// Local returns the nodes on which a Service has endpoints that are ready. It is asked
	// only where not all nodes can be targets; without it, all are alike.
	Local func(ctx context.Context, svc *corev1.Service) (map[string]bool, error)
	Tell  Tell
	Log   *slog.Logger
	Count *Metrics // may be nil

	locks  locks
	seen   snapshot
	book   book
	making making
	// reserving keeps those apart that reserve an address.
	reserving sync.Mutex
	said      said
	orphans   orphans
}

// Tell tells people something about a Service, as an Event.
type Tell func(svc *corev1.Service, warning bool, reason, text string)

// How long one call of the engine waits for a cloud, how often it looks, and when it
// wants to be called again if that was not enough.
const (
	waits     = 25 * time.Second
	looks     = time.Second
	ComeAgain = 15 * time.Second
)

// rounds is how often a load balancer is planned for in one call. Some clouds need
// one thing to be there before the next can be asked for.
const rounds = 3

// ErrElsewhere is returned for a Service that asks for another provider.
var ErrElsewhere = errors.New("another provider is asked for")

// ErrDryRun is returned where all that was to be done is to be said only. The status
// stays as it is.
var ErrDryRun = errors.New("dry run: nothing was done")

// Ensure makes a Service's load balancer what it should be, and returns what its
// status is to say.
func (e *Engine) Ensure(ctx context.Context, svc *corev1.Service, nodes []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	return e.converge(ctx, svc, nodes, true)
}

// Update makes a Service's load balancer what it should be, if there is one.
func (e *Engine) Update(ctx context.Context, svc *corev1.Service, nodes []*corev1.Node) error {
	_, err := e.converge(ctx, svc, nodes, false)
	return err
}

// converge is Ensure, and Update if nothing may be made.
func (e *Engine) converge(ctx context.Context, svc *corev1.Service, nodes []*corev1.Node, may bool) (*corev1.LoadBalancerStatus, error) {
	defer e.locks.lock(e.owner(svc).Key())()
	e.said.begin(svc.UID)
	st, err := e.serve(ctx, svc, nodes, may)
	e.complain(svc, err)
	return st, err
}

func (e *Engine) serve(ctx context.Context, svc *corev1.Service, nodes []*corev1.Node, may bool) (*corev1.LoadBalancerStatus, error) {
	if svc.DeletionTimestamp != nil {
		return nil, Refuse("", "Service %s/%s is being deleted: nothing is made for it", svc.Namespace, svc.Name)
	}
	if e.Cluster == "" {
		return nil, &Error{Class: Retryable, After: ComeAgain, Text: "it is not known yet which cluster this is"}
	}
	can, err := e.Driver.Capabilities(ctx)
	if err != nil {
		return nil, err
	}
	w, err := BuildSpec(svc, e.owner(svc), e.Config, can)
	if err != nil {
		return nil, err
	}
	if p := w.Asked.Provider; p != "" && p != e.Config.Provider {
		return nil, ErrElsewhere
	}
	keeps, err := e.keepsBalancer(ctx, svc, w)
	if err != nil {
		return nil, err
	}
	if keeps {
		e.warn(svc, ReasonRecreate, fmt.Sprintf("Service %s keeps its load balancer, though defaults.serveWith is floating-ip: its address would be another one; set annotation %sserve-with to have it so", w.Spec.Owner.Key(), Prefix))
		c := e.Config
		c.Defaults.ServeWith = WithLoadBalancer
		if w, err = BuildSpec(svc, e.owner(svc), c, can); err != nil {
			return nil, err
		}
	}
	e.warnOfPorts(svc, w.Problems)
	if w.Floating {
		return e.serveAddresses(ctx, svc, w, may)
	}
	if w.Spec.Targets, err = e.targets(ctx, svc, w, nodes); err != nil {
		return nil, err
	}
	f, err := e.settle(ctx, svc, w, may)
	if f == nil || err != nil && !Is(err, Unsafe) {
		return nil, err
	}
	if e.book.used(svc.UID) {
		e.book.leave(svc.UID)
	}
	if may && can.Addresses && laneOf(ctx) == Drifting {
		if err := e.leaveAddresses(ctx, svc, w, nil); err != nil {
			return nil, err
		}
	}
	st := BuildStatus(svc, w, *f, can.Delivery)
	if st == nil && err == nil {
		err = &Error{Class: Retryable, After: ComeAgain, Text: fmt.Sprintf("load balancer %s has no address yet", f.Name)}
	}
	return st, err
}

func (e *Engine) owner(svc *corev1.Service) Owner {
	return Owner{Cluster: e.Cluster, UID: svc.UID, Namespace: svc.Namespace, Name: svc.Name}
}

// settle plans and applies until there is nothing to plan, and returns what the
// cloud has then.
func (e *Engine) settle(ctx context.Context, svc *corev1.Service, w Wanted, may bool) (*Found, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*waits)
	defer cancel()
	until := time.Now().Add(waits)
	for round := range rounds {
		f, err := e.observe(ctx, svc, w, round > 0)
		if err != nil {
			return nil, err
		}
		if f != nil && !may && !f.Owner.Same(w.Spec.Owner) {
			f = nil // an update takes nothing over
		}
		if f != nil && f.Owner.Same(w.Spec.Owner) {
			e.making.forget(svc.UID) // it is in lists by now
		}
		fit, err := e.trimmed(ctx, svc, w, f)
		if err != nil {
			return nil, err
		}
		plan, unsafe, err := e.plan(fit, f, may)
		if err != nil {
			return nil, err
		}
		if len(plan) == 0 {
			if f == nil {
				return nil, cmp.Or(unsafe, error(&Error{Class: NotFound, Text: "there is no load balancer for Service " + w.Spec.Owner.Key()}))
			}
			return f, unsafe
		}
		if e.dry(w.Asked) {
			return nil, e.wouldDo(svc, plan)
		}
		if err := e.carryOut(ctx, svc, w, f, plan, until); err != nil {
			return nil, err
		}
	}
	return nil, &Error{Class: Retryable, After: ComeAgain, Text: fmt.Sprintf("load balancer of Service %s: it does not become what it was told to be", w.Spec.Owner.Key())}
}

// plan is what the driver plans, without what may not be done now; why is the reason.
func (e *Engine) plan(w Wanted, f *Found, may bool) (plan Plan, why, err error) {
	if f == nil && !may {
		return nil, nil, nil
	}
	if f == nil && len(w.Spec.Targets) == 0 {
		return nil, &Error{Class: Retryable, After: ComeAgain, Text: fmt.Sprintf("Service %s: there is no node yet to which a load balancer could send", w.Spec.Owner.Key())}, nil
	}
	if f != nil && f.State == Deleting {
		return nil, &Error{Class: Locked, After: ComeAgain, Text: fmt.Sprintf("load balancer %s is being deleted", f.Name)}, nil
	}
	all, err := e.Driver.Plan(w.Spec, f)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range all {
		switch {
		case w.Open != nil && s.Exposes:
			why = w.Open
		case s.Destructive && !(w.Spec.AllowRecreate && may):
			why = &Error{Class: Unsafe, Reason: ReasonRecreate, Text: fmt.Sprintf("%s would replace the load balancer, and perhaps its address: set annotation %sallow-recreate: \"true\" to have it done", s, Prefix)}
		default:
			plan = append(plan, s)
		}
	}
	slices.SortStableFunc(plan, func(a, b Step) int { return cmp.Compare(a.Order, b.Order) })
	return plan, why, nil
}

// Exists is whether there is anything in the cloud that is a Service's, and what its
// status may say.
func (e *Engine) Exists(ctx context.Context, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	ctx = WithLane(ctx, Deletion)
	found, err := e.all(ctx, e.owner(svc))
	if err == nil && len(found) == 0 {
		err = e.nothing(ctx, svc)
	}
	if err != nil || len(found) == 0 {
		return nil, false, err
	}
	return svc.Status.LoadBalancer.DeepCopy(), true, nil
}

// Delete removes all that is a Service's, or releases it, and returns nil once
// nothing is left.
func (e *Engine) Delete(ctx context.Context, svc *corev1.Service) error {
	defer e.locks.lock(e.owner(svc).Key())()
	err := e.remove(WithLane(ctx, Deletion), svc)
	e.complain(svc, err)
	if err == nil {
		e.said.forget(svc.UID)
		e.Gone(svc)
	}
	return err
}

func (e *Engine) remove(ctx context.Context, svc *corev1.Service) error {
	ctx, cancel := context.WithTimeout(ctx, 2*waits)
	defer cancel()
	until := time.Now().Add(waits)
	asked, err := e.askedOfRemoval(ctx, svc)
	if err != nil {
		return err
	}
	if !e.dry(asked) {
		e.book.leave(svc.UID)
	}
	look := e.all
	for round := range rounds {
		found, err := look(ctx, e.owner(svc))
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(found, func(f Found) bool { return f.Kind == Address }) {
			look = e.balancers // nobody reserves an address meanwhile
		}
		if round == 0 && len(found) == 0 {
			return e.nothing(ctx, svc)
		}
		plan := e.removal(svc, found, asked.Deletion)
		if len(plan) == 0 && !slices.ContainsFunc(found, func(f Found) bool { return f.State == Deleting }) {
			return nil
		}
		if e.dry(asked) {
			return e.wouldDo(svc, plan)
		}
		if _, err := e.apply(ctx, plan, until); err != nil {
			return err
		}
		if len(plan) == 0 && !pause(ctx, looks) {
			return context.Cause(ctx)
		}
	}
	return &Error{Class: Retryable, After: ComeAgain, Text: fmt.Sprintf("what Service %s/%s had in the cloud is being deleted", svc.Namespace, svc.Name)}
}

// nothing is nil if there is nothing of a Service's where a list by its marks has shown
// nothing: what it would be called, and what its status publishes, is asked for, and its
// addresses by the names under which they would be reserved. One list that is wrongly
// empty would else leave behind what is paid for.
func (e *Engine) nothing(ctx context.Context, svc *corev1.Service) error {
	o := e.owner(svc)
	var published []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			published = append(published, in.IP)
		}
	}
	names := []string{o.ResourceName()}
	if title := strings.TrimSpace(svc.Annotations[Prefix+"name"]); title != "" {
		names = append(names, title) // which is the only one in some clouds
	}
	for _, ref := range append(names, published...) {
		f, err := e.Driver.Lookup(ctx, ref)
		if err := left(o, f, err); err != nil {
			return err
		}
	}
	d := e.addresses(ctx)
	if d == nil {
		return nil
	}
	for _, family := range []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} {
		published = append(published, AddressSpec{Owner: o, Family: family}.ResourceName())
	}
	for _, ref := range published {
		a, err := d.LookupAddress(ctx, ref)
		if err := left(o, a.Found, err); err != nil {
			return err
		}
	}
	return nil
}

// left is an error if what was looked up is a Service's, or cannot be told.
func left(o Owner, f Found, err error) error {
	switch {
	case Is(err, NotFound), Is(err, Conflict), Is(err, Terminal): // nothing is made here of a name that is another's too, or that the cloud refuses
		return nil
	case err == nil && f.Owner.Same(o):
		return &Error{Class: Retryable, After: ComeAgain, Text: fmt.Sprintf("the cloud lists nothing of Service %s, and has %s %s (%s): it is asked again", o.Key(), f.Kind, f.Name, f.ID)}
	}
	return err
}

// removal is what becomes of what a Service had.
func (e *Engine) removal(svc *corev1.Service, found []Found, policy Policy) (plan Plan) {
	for _, f := range found {
		if f.State == Deleting {
			continue
		}
		p := policy
		if p == "" {
			p = PolicyDelete
			if f.Adopted {
				p = PolicyRelease
			}
		}
		if p == PolicyDelete && f.Protected {
			e.warn(svc, ReasonProtected, fmt.Sprintf("%s %s is protected against deletion: it is kept, and is not Herald's any more", f.Kind, f.Name))
			p = PolicyRelease
		}
		plan = append(plan, e.Driver.PlanRemoval(f, p)...)
	}
	slices.SortStableFunc(plan, func(a, b Step) int { return cmp.Compare(a.Order, b.Order) })
	return plan
}

// askedOfRemoval is what a Service says of what becomes of its resources. Whatever
// else its annotations say wrongly, that does not hinder it.
func (e *Engine) askedOfRemoval(ctx context.Context, svc *corev1.Service) (Asked, error) {
	some := map[string]string{}
	for _, key := range []string{Prefix + "deletion-policy", Prefix + "dry-run"} {
		if value, ok := svc.Annotations[key]; ok {
			some[key] = value
		}
	}
	a, err := ParseAnnotations(some)
	if err != nil || a.Deletion != PolicyRetain {
		return a, err
	}
	can, err := e.Driver.Capabilities(ctx)
	if err == nil && !can.Retains {
		err = Refuse(ReasonInvalidAnnotation, "annotation %sdeletion-policy: Retain needs a mark that this cloud does not have: use Release, which keeps it without an owner", Prefix)
	}
	return a, err
}

func (e *Engine) dry(a Asked) bool { return e.Config.DryRun || a.DryRun }

// wouldDo says what would be done.
func (e *Engine) wouldDo(svc *corev1.Service, plan Plan) error {
	e.warnOnce(svc, false, ReasonDryRun, "would "+plan.String())
	return ErrDryRun
}

// warnOfPorts says of which ports nothing comes, all in one.
func (e *Engine) warnOfPorts(svc *corev1.Service, problems []PortProblem) {
	var texts []string
	for _, p := range problems {
		texts = append(texts, p.Text)
	}
	if len(texts) > 0 {
		e.warn(svc, ReasonProtocol, strings.Join(texts, "; "))
	}
}
