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

// A book is the addresses that are the cluster's, and those lent to it: reserved by
// somebody else, who has named them for a Service.
type book struct {
	mu   sync.Mutex
	at   time.Time               // when all was asked for
	all  map[string]FoundAddress // by ID
	lent map[string]time.Time    // those without our marks, by ID: when each was asked for
	refs map[string]string       // what they are called by Services: their IDs
	uses map[types.UID][]string  // the IDs of those that Services are served with
	sent map[string]time.Time    // when each was last routed, by ID
}

// list returns all addresses, by ID, asked for within the time that is given.
func (b *book) list(ctx context.Context, d AddressDriver, cluster string, within time.Duration) ([]FoundAddress, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all == nil || time.Since(b.at) >= within {
		at := time.Now()
		found, err := d.ListAddresses(ctx, cluster)
		if err != nil {
			return nil, err
		}
		all := map[string]FoundAddress{}
		for id := range b.lent {
			all[id] = b.all[id]
		}
		for _, a := range found {
			if b.sent[a.ID].After(at) { // the list may be older
				a.Instance = b.all[a.ID].Instance
			}
			all[a.ID] = a
		}
		b.all, b.at = all, at
	}
	return b.sorted(), nil
}

// sorted is all, by ID.
func (b *book) sorted() []FoundAddress {
	return slices.SortedFunc(maps.Values(b.all), func(a, b FoundAddress) int { return cmp.Compare(a.ID, b.ID) })
}

// used returns those that Services are served with, by ID.
func (b *book) used() []FoundAddress {
	b.mu.Lock()
	defer b.mu.Unlock()
	uses := map[string]bool{}
	for _, ids := range b.uses {
		for _, id := range ids {
			uses[id] = true
		}
	}
	return slices.DeleteFunc(b.sorted(), func(a FoundAddress) bool { return !uses[a.ID] })
}

// look returns an address by what it is called, asked for a moment ago.
func (b *book) look(ctx context.Context, d AddressDriver, ref string) (FoundAddress, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if id, ok := b.refs[ref]; ok && time.Since(b.lent[id]) < fresh {
		return b.all[id], nil
	}
	at := time.Now()
	a, err := d.LookupAddress(ctx, ref)
	if err != nil {
		return FoundAddress{}, err
	}
	b.make()
	b.all[a.ID], b.lent[a.ID], b.refs[ref] = a, at, a.ID
	return a, nil
}

func (b *book) make() {
	if b.all == nil {
		b.all = map[string]FoundAddress{} // as of the zero time
	}
	if b.lent == nil {
		b.lent, b.refs, b.uses, b.sent = map[string]time.Time{}, map[string]string{}, map[types.UID][]string{}, map[string]time.Time{}
	}
}

// put notes what the cloud has shown of one Service.
func (b *book) put(o Owner, found []FoundAddress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.make()
	maps.DeleteFunc(b.all, func(_ string, a FoundAddress) bool { return a.Owner.Same(o) })
	for _, a := range found {
		b.all[a.ID] = a
	}
}

// add notes one more.
func (b *book) add(a FoundAddress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.make()
	b.all[a.ID] = a
}

// routed notes where an address is routed.
func (b *book) routed(id string, to Instance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, ok := b.all[id]; ok {
		a.Instance = to
		b.make()
		b.all[id], b.sent[id] = a, time.Now()
	}
}

// doubt has the cloud be asked anew.
func (b *book) doubt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = time.Time{}
	for id := range b.lent {
		b.lent[id] = time.Time{}
	}
}

// use notes with which addresses a Service is served.
func (b *book) use(uid types.UID, all []FoundAddress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.make()
	ids := make([]string, 0, len(all))
	for _, a := range all {
		ids = append(ids, a.ID)
	}
	b.uses[uid] = ids
}

// leave notes that a Service is not served with any.
func (b *book) leave(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.uses, uid)
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
	addrs, err := d.FindAddresses(ctx, o)
	if err != nil {
		return nil, err
	}
	e.book.put(o, addrs)
	for _, a := range addrs {
		found = append(found, a.Found)
	}
	return found, nil
}

// Floating is whether a Service is to be served with addresses that are routed to a node.
func (e *Engine) Floating(svc *corev1.Service) bool {
	a, err := asked(svc.Annotations, e.Config.Compat)
	return err == nil && floating(a, e.Config)
}

// serveAddresses gives a Service an address of each of its families, or the one that it
// names, and returns what its status is to say. To which node they are routed is the
// business of a Mover.
func (e *Engine) serveAddresses(ctx context.Context, svc *corev1.Service, w Wanted, may bool) (*corev1.LoadBalancerStatus, error) {
	d, ok := e.Driver.(AddressDriver)
	if !ok {
		return nil, Refuse("", "the driver %s says that its cloud has addresses, and knows none", e.Config.Provider)
	}
	have, missing, err := e.addressesOf(ctx, d, &w)
	switch {
	case err != nil:
		return nil, err
	case len(missing) > 0 && !may:
		return nil, &Error{Class: NotFound, Text: fmt.Sprintf("there is no %v address for Service %s", missing, w.Spec.Owner.Key())}
	case len(missing) > 0 && e.dry(w.Asked):
		return nil, e.wouldDo(svc, Plan{{Order: Create, Kind: "reserve", Detail: fmt.Sprintf("an address of %v", missing)}})
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
		if len(a.Addrs) == 0 || a.State != Ready {
			return nil, &Error{Class: Retryable, After: looks, Text: fmt.Sprintf("address %s of Service %s is still being reserved", a.Name, w.Spec.Owner.Key())}
		}
		f.Addrs = append(f.Addrs, a.Addrs...)
	}
	e.book.use(svc.UID, have)
	if may {
		if err := e.leaveBalancer(ctx, svc, w); err != nil {
			return nil, err
		}
		if err := e.leaveAddresses(ctx, svc, w, have); err != nil {
			return nil, err
		}
	}
	return BuildStatus(svc, w, f, ToNodePort), nil // Proxy: kube-proxy leaves it to Herald's speakers
}

// addressesOf returns the addresses that serve a Service, and the families of which there
// is none yet. One that the Service names is all there is.
func (e *Engine) addressesOf(ctx context.Context, d AddressDriver, w *Wanted) (have []FoundAddress, missing []corev1.IPFamily, err error) {
	if ref := w.Spec.Address; ref != "" {
		a, err := e.book.look(ctx, d, ref)
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
		return FoundAddress{}, fmt.Errorf("reserving an %s address for Service %s: %w", f, spec.Owner.Key(), err)
	}
	e.book.add(a)
	text := "floating IP " + a.Name
	if len(a.Addrs) > 0 {
		text += fmt.Sprintf(", %s", a.Addrs[0])
	}
	if price.Currency != "" {
		text += fmt.Sprintf(" (%s a month, net)", price)
	}
	e.note(svc, ReasonReserved, text)
	return a, nil
}

// affordable is whether one more address is within the limits.
func (e *Engine) affordable(ctx context.Context, d AddressDriver, spec AddressSpec, price Money) error {
	l := e.Config.Limits
	if len(l.AllowedNamespaces) > 0 && !slices.Contains(l.AllowedNamespaces, spec.Owner.Namespace) {
		return &Error{Class: Quota, Reason: ReasonLimit, Text: fmt.Sprintf("namespace %s may have no address of the cloud: limits.allowedNamespaces", spec.Owner.Namespace)}
	}
	if l.MaxAddresses == 0 && l.MaxMonthlyCost == 0 {
		return nil
	}
	addrs, err := e.book.list(ctx, d, e.Cluster, fresh)
	if err != nil {
		return err
	}
	count, milli := 0, int64(0)
	for _, a := range addrs {
		if a.Owner.Cluster == e.Cluster {
			count, milli = count+1, milli+a.Cost.Milli
		}
	}
	if most := l.MaxAddresses; most > 0 && count >= most {
		return &Error{Class: Quota, Reason: ReasonLimit, After: 5 * time.Minute, Text: fmt.Sprintf("there are %d addresses, and limits.maxAddresses is %d", count, most)}
	}
	if most := l.MaxMonthlyCost; most > 0 {
		lbs, _, err := e.seen.list(ctx, e.Driver, e.Cluster, fresh)
		if err != nil {
			return err
		}
		for _, found := range lbs {
			for _, f := range found {
				milli += f.Cost.Milli
			}
		}
		if float64(milli+price.Milli) > most*1000 {
			return &Error{Class: Quota, Reason: ReasonLimit, After: 5 * time.Minute, Text: fmt.Sprintf("what there is costs %s a month, an address %s, and limits.maxMonthlyCost is %.2f", Money{milli, price.Currency}, price, most)}
		}
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
	all, err := e.book.list(ctx, d, e.Cluster, fresh)
	if err != nil {
		return err
	}
	var extra []Found
	for _, a := range all {
		if a.Owner.Same(w.Spec.Owner) && !slices.ContainsFunc(keep, func(k FoundAddress) bool { return k.ID == a.ID }) {
			extra = append(extra, a.Found)
		}
	}
	if len(keep) == 0 {
		e.book.leave(svc.UID)
	}
	return e.leaveAll(ctx, svc, w, extra)
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
