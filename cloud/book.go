package cloud

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// A book is the addresses that are the cluster's, and those lent to it: reserved by
// somebody else, who has named them for a Service. What is known is there at once,
// whatever is being asked for.
type book struct {
	asking sync.Mutex // held while the cloud is asked for all
	mu     sync.Mutex // what follows, never held during a call
	at     time.Time  // when all was asked for; zero for never
	all    map[string]FoundAddress
	sent   map[string]time.Time // when each was last routed, by ID
	lent   map[string]lent      // by what Services call them
	uses   map[types.UID]string // Services that are served with addresses, and the one that each names; "" for its own
	left   map[types.UID]bool   // Services whose addresses are being given back
}

// lent is an address that bears nobody's marks, and when it was asked for.
type lent struct {
	id string
	at time.Time
}

// fill makes the maps. The caller has the lock.
func (b *book) fill() {
	if b.all == nil {
		b.all, b.sent, b.lent = map[string]FoundAddress{}, map[string]time.Time{}, map[string]lent{}
		b.uses, b.left = map[types.UID]string{}, map[types.UID]bool{}
	}
}

// within is whether all was asked for within a time.
func (b *book) within(d time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.at.IsZero() && time.Since(b.at) < d
}

// asked is whether somebody is asking for what was known before.
func (b *book) asked() bool {
	if b.asking.TryLock() {
		defer b.asking.Unlock()
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all != nil
}

// list returns all addresses, by ID, asked for within the time that is given. Those who
// ask at once ask once.
func (b *book) list(ctx context.Context, d AddressDriver, cluster string, within time.Duration) ([]FoundAddress, error) {
	b.asking.Lock()
	defer b.asking.Unlock()
	if b.within(within) {
		return b.known(), nil
	}
	at := time.Now()
	found, err := d.ListAddresses(ctx, cluster)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	b.fill()
	b.replace(found, at, func(a FoundAddress) bool { return a.Owner.UID != "" })
	b.at = at
	b.mu.Unlock()
	return b.known(), nil
}

// replace has those that are so be what was found, asked for at a time. The caller has the
// lock.
func (b *book) replace(found []FoundAddress, at time.Time, so func(FoundAddress) bool) {
	was := maps.Clone(b.all)
	maps.DeleteFunc(b.all, func(_ string, a FoundAddress) bool { return so(a) })
	for _, a := range found {
		if b.sent[a.ID].After(at) { // the answer may be older than that
			a.Instance = was[a.ID].Instance
		}
		b.all[a.ID] = a
	}
	maps.DeleteFunc(b.sent, func(id string, _ time.Time) bool { return b.all[id].ID == "" })
}

// known returns all that are known, by ID.
func (b *book) known() []FoundAddress {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Values(b.all), func(a, b FoundAddress) int { return cmp.Compare(a.ID, b.ID) })
}

// movable returns those that are not being given back, by ID.
func (b *book) movable() []FoundAddress {
	all := b.known()
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(all, func(a FoundAddress) bool { return b.left[a.Owner.UID] || a.State == Failed })
}

// look returns an address by what it is called, asked for a moment ago.
func (b *book) look(ctx context.Context, d AddressDriver, ref string, within time.Duration) (FoundAddress, error) {
	b.mu.Lock()
	b.fill()
	had := b.lent[ref]
	a, ok := b.all[had.id]
	b.mu.Unlock()
	if ok && time.Since(had.at) < within {
		return a, nil
	}
	at := time.Now()
	a, err := d.LookupAddress(ctx, ref)
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case Is(err, NotFound):
		delete(b.lent, ref)
		delete(b.all, had.id)
		return FoundAddress{}, err
	case err != nil:
		return FoundAddress{}, err
	case a.Owner.UID == "":
		b.lent[ref] = lent{a.ID, at}
	}
	b.replace([]FoundAddress{a}, at, func(x FoundAddress) bool { return x.ID == a.ID })
	return b.all[a.ID], nil
}

// put notes what the cloud has shown of one Service, asked for at a time.
func (b *book) put(o Owner, found []FoundAddress, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	b.replace(found, at, func(a FoundAddress) bool { return a.Owner.Same(o) })
}

// add notes one more.
func (b *book) add(a FoundAddress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	b.all[a.ID] = a
}

// routed notes where an address is routed.
func (b *book) routed(id string, to Instance) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a, ok := b.all[id]; ok {
		a.Instance = to
		b.all[id], b.sent[id] = a, time.Now()
	}
}

// doubt has the cloud be asked anew.
func (b *book) doubt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = time.Time{}
	for ref, l := range b.lent {
		b.lent[ref] = lent{id: l.id}
	}
}

// called returns what Services call an address that is lent; "" for one that is not.
func (b *book) called(id string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ref, l := range b.lent {
		if l.id == id {
			return ref
		}
	}
	return ""
}

// use notes that a Service is served with addresses: with the one that it names, or its own.
func (b *book) use(uid types.UID, ref string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	b.uses[uid] = ref
	delete(b.left, uid)
	b.forget()
}

// leave notes that a Service is not served with any.
func (b *book) leave(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fill()
	delete(b.uses, uid)
	b.left[uid] = true
	b.forget()
}

// forget forgets the addresses that are lent and that nobody names any more, and the Services
// that have none. The caller has the lock.
func (b *book) forget() {
	named, owners := map[string]bool{}, map[types.UID]bool{}
	for _, ref := range b.uses {
		named[ref] = true
	}
	for ref, l := range b.lent {
		if !named[ref] {
			delete(b.lent, ref)
			delete(b.all, l.id)
		}
	}
	for _, a := range b.all {
		owners[a.Owner.UID] = true
	}
	maps.DeleteFunc(b.left, func(uid types.UID, _ bool) bool { return !owners[uid] })
}

// used is whether a Service is served with addresses.
func (b *book) used(uid types.UID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.uses[uid]
	return ok
}

// bill is how many addresses there are beside those of a Service, and what all cost, in
// thousandths.
func (b *book) bill(cluster string, beside types.UID) (count int, milli int64) {
	for _, a := range b.known() {
		if a.Owner.Cluster != cluster {
			continue
		}
		if milli += a.Cost.Milli; a.Owner.UID != beside {
			count++
		}
	}
	return count, milli
}
