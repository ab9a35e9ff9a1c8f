package cloud

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// addresses returns the driver of a cloud's addresses; nil if there are none.
func (e *Engine) addresses(ctx context.Context) AddressDriver {
	d, ok := e.Driver.(AddressDriver)
	if !ok {
		return nil
	}
	if can, err := e.Driver.Capabilities(ctx); err != nil || !can.Addresses {
		return nil
	}
	return d
}

// balancers returns what the driver finds of a Service: its load balancers and, of a cloud
// that has no addresses without one, what belongs to them.
func (e *Engine) balancers(ctx context.Context, o Owner) ([]Found, error) {
	found, err := e.Driver.Find(ctx, o)
	if err == nil {
		e.seen.put(o, found)
	}
	return found, err
}

// all returns all that bears the marks of a Service.
func (e *Engine) all(ctx context.Context, o Owner) ([]Found, error) {
	found, err := e.balancers(ctx, o)
	d := e.addresses(ctx)
	if err != nil || d == nil {
		return found, err
	}
	at := time.Now()
	addrs, err := d.FindAddresses(ctx, o)
	if err != nil {
		return nil, err
	}
	e.book.put(o, addrs, at)
	for _, a := range addrs {
		found = append(found, a.Found)
	}
	return found, nil
}

// Floats is whether a Service is served with addresses that are routed to a node.
func (e *Engine) Floats(svc *corev1.Service) bool { return e.book.used(svc.UID) }

// Gone notes that nothing is a Service's any more.
func (e *Engine) Gone(svc *corev1.Service) {
	e.book.leave(svc.UID)
	e.making.forget(svc.UID)
}

// keepsBalancer is whether a Service that would be served with addresses only because that
// is the default goes on to be served by the load balancer that it has: its address would be
// lost.
func (e *Engine) keepsBalancer(ctx context.Context, svc *corev1.Service, w Wanted) (bool, error) {
	if !w.Floating || w.Asked.ServeWith != "" || w.Spec.AllowRecreate {
		return false, nil
	}
	lbs, _, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
	return len(lbs[svc.UID]) > 0, err
}

// serveAddresses gives a Service an address of each of its families, or the one that it
// names, and returns what its status is to say. To which node they are routed is the
// business of a Mover.
func (e *Engine) serveAddresses(ctx context.Context, svc *corev1.Service, w Wanted, may bool) (*corev1.LoadBalancerStatus, error) {
	d, ok := e.Driver.(AddressDriver)
	if !ok {
		return nil, Refuse("", "the driver %s says that its cloud has addresses, and knows none", e.Config.Provider)
	}
	if ns := e.Config.Limits.AllowedNamespaces; len(ns) > 0 && !slices.Contains(ns, svc.Namespace) {
		return nil, &Error{Class: Quota, Reason: ReasonLimit, Text: fmt.Sprintf("namespace %s may have no address of the cloud: limits.allowedNamespaces", svc.Namespace)}
	}
	have, missing, err := e.addressesOf(ctx, d, &w)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 && !may {
		return nil, &Error{Class: NotFound, Text: fmt.Sprintf("there is no %v address for Service %s", missing, w.Spec.Owner.Key())}
	}
	if e.dry(w.Asked) {
		return e.wouldServe(ctx, d, svc, w, have, missing)
	}
	for _, f := range missing {
		a, err := e.reserve(ctx, d, svc, w, f)
		if err != nil {
			return nil, err
		}
		have = append(have, a)
	}
	f := Found{}
	for _, a := range have {
		if err := usable(a, w.Spec.Owner); err != nil {
			return nil, err
		}
		f.Addrs = append(f.Addrs, a.Addrs...)
	}
	e.book.use(svc.UID, w.Spec.Address)
	st := BuildStatus(svc, w, f, ToNodePort) // Proxy: kube-proxy leaves it to Herald's speakers
	if !may {
		return st, nil
	}
	if served(svc, have) {
		if err := e.leaveBalancer(ctx, svc, w); err != nil {
			return nil, err
		}
	}
	return st, e.leaveAddresses(ctx, svc, w, have)
}

// usable is whether an address can be published.
func usable(a FoundAddress, o Owner) error {
	switch {
	case a.State == Failed:
		return &Error{Class: Retryable, Reason: ReasonAddressFailed, After: time.Minute, Text: fmt.Sprintf("address %s (%s) of Service %s cannot be used: the cloud has given up on it, or has nodes see it as another one: release it in the cloud, and another one is reserved", a.Name, a.ID, o.Key())}
	case a.State != Ready || len(a.Addrs) == 0:
		return &Error{Class: Retryable, After: ComeAgain, Text: fmt.Sprintf("address %s (%s) of Service %s is still being reserved", a.Name, a.ID, o.Key())}
	}
	return nil
}

// served is whether clients can reach a Service at its addresses: its status says so, and
// they are routed.
func served(svc *corev1.Service, have []FoundAddress) bool {
	for _, a := range have {
		shown := slices.ContainsFunc(svc.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool { return in.IP == addrOf(a).String() })
		if !shown || a.Instance.ID == "" {
			return false
		}
	}
	return len(have) > 0
}

// wouldServe says what would be done, and does none of it.
func (e *Engine) wouldServe(ctx context.Context, d AddressDriver, svc *corev1.Service, w Wanted, have []FoundAddress, missing []corev1.IPFamily) (*corev1.LoadBalancerStatus, error) {
	var plan Plan
	for _, f := range missing {
		plan = append(plan, Step{Order: Create, Kind: "reserve address", Detail: string(f)})
	}
	f := Found{}
	for _, a := range have {
		f.Addrs = append(f.Addrs, a.Addrs...)
	}
	lbs, _, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
	if err != nil {
		return nil, err
	}
	extra, err := e.extra(ctx, d, w, have)
	if err != nil {
		return nil, err
	}
	plan = append(plan, e.removal(svc, append(slices.Clone(lbs[svc.UID]), extra...), w.Asked.Deletion)...)
	st := BuildStatus(svc, w, f, ToNodePort)
	if len(plan) == 0 && st != nil && e.Floats(svc) {
		return st, nil
	}
	if len(plan) == 0 {
		plan = Plan{{Order: Change, Kind: "serve with", Detail: fmt.Sprint(f.Addrs)}}
	}
	return nil, e.wouldDo(svc, plan)
}

// addressesOf returns the addresses that serve a Service, and the families of which there
// is none yet. One that the Service names is all there is.
func (e *Engine) addressesOf(ctx context.Context, d AddressDriver, w *Wanted) (have []FoundAddress, missing []corev1.IPFamily, err error) {
	if ref := w.Spec.Address; ref != "" {
		a, err := e.book.look(ctx, d, ref, fresh)
		switch {
		case Is(err, NotFound):
			return nil, nil, Refuse(ReasonInvalidAnnotation, "annotation %saddress: there is no floating IP %s", Prefix, ref)
		case err != nil:
			return nil, nil, err
		case a.Owner.UID != "" && !a.Owner.Same(w.Spec.Owner):
			return nil, nil, &Error{Class: Conflict, Reason: ReasonConflict, After: 5 * time.Minute, Text: fmt.Sprintf("floating IP %s was reserved for %s (UID %s): nothing is changed", ref, a.Owner.Key(), a.Owner.UID)}
		}
		w.Spec.Families = slices.DeleteFunc(slices.Clone(w.Spec.Families), func(f corev1.IPFamily) bool { return !speaks(a, f) })
		if len(w.Spec.Families) == 0 {
			return nil, nil, Refuse(ReasonInvalidAnnotation, "annotation %saddress: floating IP %s is of none of the families of the Service", Prefix, ref)
		}
		return []FoundAddress{a}, nil, nil
	}
	all, err := e.book.list(ctx, d, e.Cluster, fresh)
	if err != nil {
		return nil, nil, err
	}
	for _, f := range w.Spec.Families {
		i := slices.IndexFunc(all, func(a FoundAddress) bool {
			return a.Owner.Same(w.Spec.Owner) && a.State != Deleting && speaks(a, f)
		})
		if i < 0 {
			missing = append(missing, f)
			continue
		}
		have = append(have, all[i])
	}
	return have, missing, nil
}

// taken returns the address that a Service of the same name had which is gone, marked anew;
// nil if there is none, or the cloud cannot mark it.
func (e *Engine) taken(ctx context.Context, d AddressDriver, svc *corev1.Service, w Wanted, f corev1.IPFamily) (*FoundAddress, error) {
	all, err := e.book.list(ctx, d, e.Cluster, fresh)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(a FoundAddress) bool {
		return a.Owner.Cluster == e.Cluster && a.Owner.Key() == w.Spec.Owner.Key() && a.State == Ready && speaks(a, f)
	})
	if i < 0 {
		return nil, nil
	}
	was := all[i].Owner
	a, err := d.Remark(ctx, all[i], w.Spec.Owner)
	switch {
	case Is(err, Terminal):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("taking over address %s of Service %s (UID %s): %w", all[i].Name, was.Key(), was.UID, err)
	}
	e.book.add(a)
	e.note(svc, ReasonAdopted, fmt.Sprintf("floating IP %s, %s, is this Service's from now on", a.Name, addrOf(a)))
	return &a, nil
}

func speaks(a FoundAddress, f corev1.IPFamily) bool {
	return slices.ContainsFunc(a.Addrs, func(addr netip.Addr) bool { return familyOf(addr) == f })
}

// reserve reserves an address for a Service, if it is still wanted and within the limits.
// One is reserved at a time, so that limits are not passed by two that look at once.
func (e *Engine) reserve(ctx context.Context, d AddressDriver, svc *corev1.Service, w Wanted, f corev1.IPFamily) (FoundAddress, error) {
	ctx = WithLane(ctx, Creation)
	e.reserving.Lock()
	defer e.reserving.Unlock()
	if err := e.stillWanted(ctx, w.Spec.Owner); err != nil {
		return FoundAddress{}, err
	}
	if e.Live != nil { // it has the name: whoever had it before is gone
		if a, err := e.taken(ctx, d, svc, w, f); err != nil {
			return FoundAddress{}, err
		} else if a != nil {
			return *a, nil
		}
	}
	spec := AddressSpec{Owner: w.Spec.Owner, Title: w.Spec.Title, Family: f, Location: w.Spec.Location}
	price, err := d.AddressPrice(ctx, spec)
	if err != nil {
		return FoundAddress{}, err
	}
	if err := e.affordable(ctx, d, spec, price); err != nil {
		return FoundAddress{}, err
	}
	a, err := d.Reserve(ctx, spec)
	if err != nil {
		e.book.doubt() // it may be there all the same
		return FoundAddress{}, fmt.Errorf("reserving an %s address for Service %s: %w", f, spec.Owner.Key(), err)
	}
	e.book.add(a)
	text := fmt.Sprintf("floating IP %s, %s", a.Name, addrOf(a))
	if price.Currency != "" {
		text += fmt.Sprintf(" (%s a month, net)", price)
	}
	e.note(svc, ReasonReserved, text)
	return a, nil
}

// affordable is whether one more address is within the limits.
func (e *Engine) affordable(ctx context.Context, d AddressDriver, spec AddressSpec, price Money) error {
	l := e.Config.Limits
	if l.MaxAddresses == 0 && l.MaxMonthlyCost == 0 {
		return nil
	}
	if _, err := e.book.list(ctx, d, e.Cluster, fresh); err != nil {
		return err
	}
	count, milli := e.book.bill(e.Cluster, spec.Owner.UID)
	if most := l.MaxAddresses; most > 0 && count >= most {
		return &Error{Class: Quota, Reason: ReasonLimit, After: 5 * time.Minute, Text: fmt.Sprintf("there are %d addresses, and limits.maxAddresses is %d", count, most)}
	}
	if l.MaxMonthlyCost == 0 {
		return nil
	}
	e.making.Lock()
	defer e.making.Unlock()
	lbs, _, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
	if err != nil {
		return err
	}
	_, more := e.making.sum(lbs, spec.Owner.UID)
	if milli += more; float64(milli+price.Milli) > l.MaxMonthlyCost*1000 {
		return &Error{Class: Quota, Reason: ReasonLimit, After: 5 * time.Minute, Text: fmt.Sprintf("what there is costs %s a month, an address %s, and limits.maxMonthlyCost is %.2f", Money{milli, price.Currency}, price, l.MaxMonthlyCost)}
	}
	return nil
}

// leaveBalancer removes, or releases, the load balancer that a Service had before it was
// served with addresses.
func (e *Engine) leaveBalancer(ctx context.Context, svc *corev1.Service, w Wanted) error {
	lbs, _, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
	if err != nil {
		return err
	}
	return e.leaveAll(ctx, svc, w, lbs[svc.UID])
}

// leaveAddresses removes, or releases, the addresses that a Service does not keep.
func (e *Engine) leaveAddresses(ctx context.Context, svc *corev1.Service, w Wanted, keep []FoundAddress) error {
	d := e.addresses(ctx)
	if d == nil {
		return nil
	}
	extra, err := e.extra(ctx, d, w, keep)
	if err != nil {
		return err
	}
	if len(keep) == 0 {
		e.book.leave(svc.UID)
	}
	return e.leaveAll(ctx, svc, w, extra)
}

// extra are the addresses that bear a Service's marks and are none of those that it keeps.
func (e *Engine) extra(ctx context.Context, d AddressDriver, w Wanted, keep []FoundAddress) (extra []Found, err error) {
	all, err := e.book.list(ctx, d, e.Cluster, fresh)
	for _, a := range all {
		if a.Owner.Same(w.Spec.Owner) && !slices.ContainsFunc(keep, func(k FoundAddress) bool { return k.ID == a.ID }) {
			extra = append(extra, a.Found)
		}
	}
	return extra, err
}

func (e *Engine) leaveAll(ctx context.Context, svc *corev1.Service, w Wanted, extra []Found) error {
	plan := e.removal(svc, extra, w.Asked.Deletion)
	if len(plan) == 0 || e.dry(w.Asked) {
		return nil
	}
	ctx = WithLane(ctx, Deletion)
	if _, err := e.apply(ctx, plan, time.Now().Add(waits)); err != nil {
		return err
	}
	_, err := e.all(ctx, w.Spec.Owner)
	return err
}
