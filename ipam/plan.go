package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// Plan answers every request, in Owner order. The order of its arguments does
// not matter, and it does not edit them.
//
// An owner keeps what it holds, also where no pool covers the address any more
// or admits the owner. It loses an address in three cases only: an older owner
// holds it too, its family is no longer wanted, or the request asks for another
// address or pool and that can be had. Of several held addresses of one family
// the first stays.
//
// A request that asks for addresses by name gets no other ones. With Require,
// whoever cannot have all that is missing gets nothing new. Without it, each
// family is served by itself.
func Plan(pools []Pool, reqs []Request) []Grant {
	l := newLedger(pools, reqs)
	l.keepHeld()
	for _, b := range l.bids {
		if len(b.Want) > 0 {
			l.serve(b, byName)
		}
	}
	for _, b := range l.bids {
		l.serve(b, anyAddress)
	}
	return l.grants()
}

// A turn is one of the two times that Plan hands out addresses.
type turn int

const (
	byName turn = iota
	anyAddress
)

// A bid is a Request while it is being answered.
type bid struct {
	*Request
	slots []slot    // one for each family wanted
	stray []Refusal // of addresses asked for whose family is not wanted
}

// A slot is the place for one address of a bid.
type slot struct {
	family Family
	want   netip.Addr // asked for by name; the zero Addr if none is
	addr   netip.Addr // what the owner has
	open   bool       // it wants one, or another one than it has
	why    *Refusal   // why the last turn did not close it
}

// newBids returns the bids for reqs, the oldest owner first.
func newBids(reqs []Request) []*bid {
	bids := make([]bid, len(reqs))
	slots := make([]slot, 0, 2*len(reqs))
	out := make([]*bid, len(reqs))
	for i := range reqs {
		start := len(slots)
		slots = appendSlots(slots, &reqs[i])
		bids[i] = bid{Request: &reqs[i], slots: slots[start:len(slots):len(slots)]}
		bids[i].stray = strays(&bids[i])
		out[i] = &bids[i]
	}
	slices.SortFunc(out, func(a, b *bid) int {
		return cmp.Or(cmp.Compare(a.Age, b.Age), cmp.Compare(a.Owner, b.Owner))
	})
	return out
}

func appendSlots(slots []slot, r *Request) []slot {
	start := len(slots)
	for _, f := range r.Families {
		known := slices.ContainsFunc(slots[start:], func(s slot) bool { return s.family == f })
		if known || f != IPv4 && f != IPv6 {
			continue
		}
		s := slot{family: f, open: true}
		if i := slices.IndexFunc(r.Want, func(a netip.Addr) bool { return FamilyOf(a) == f }); i >= 0 {
			s.want = r.Want[i]
		}
		slots = append(slots, s)
	}
	return slots
}

// keepHeld enters what every owner keeps, then what is given up: an address
// that one owner gives up may be the one that another keeps.
func (l *ledger) keepHeld() {
	for _, b := range l.bids {
		for i := range b.slots {
			s := &b.slots[i]
			s.addr = l.keep(b, s)
			if s.addr.IsValid() {
				l.owner[s.addr] = b
				s.open = !l.content(b, s)
			}
		}
	}
	for _, b := range l.bids {
		for _, a := range b.Held {
			if l.owner[a] == nil {
				l.owner[a] = b
			}
		}
		b.abstain()
	}
}

// keep returns which of its held addresses b keeps in s.
func (l *ledger) keep(b *bid, s *slot) (kept netip.Addr) {
	for _, a := range b.Held {
		if !a.IsValid() || FamilyOf(a) != s.family || l.owner[a] != nil {
			continue
		}
		if a == s.want {
			return a
		}
		if !kept.IsValid() {
			kept = a
		}
	}
	return kept
}

// content reports whether what b has in s is what it asks for.
//
// An address that no pool covers is no reason to move: nobody can tell a user
// who named another pool from one whose pool was edited or deleted, and an
// edit of a pool must not move an address.
func (l *ledger) content(b *bid, s *slot) bool {
	if s.want.IsValid() && s.want != s.addr {
		return false
	}
	pool := l.poolOf(s.addr)
	return b.Pool == "" || pool == nil || pool.Name == b.Pool
}

// abstain closes what b may not fill: who asked for addresses by name, though
// for none of a wanted family, gets no other ones instead.
func (b *bid) abstain() {
	if len(b.stray) == 0 || slices.ContainsFunc(b.slots, func(s slot) bool { return s.want.IsValid() }) {
		return
	}
	for i := range b.slots {
		b.slots[i].open = false
	}
}

// serve closes the open slots of b for which there are addresses: with Require
// all of them or none.
//
// An address that is given stays given and none comes back during a Plan. So
// what was refused once cannot be had later either, with one exception: in the
// turn by name, the automatic half of a Require bid passes over addresses that
// others ask for by name. The last turn tries it again.
func (l *ledger) serve(b *bid, t turn) {
	var found [2]netip.Addr // at most one slot per family
	complete := true
	for i := range b.slots {
		s := &b.slots[i]
		if !s.open || t == byName && !b.Require && !s.want.IsValid() {
			continue
		}
		found[i], s.why = l.find(b, s, t)
		complete = complete && s.why == nil
	}
	if b.Require && !complete {
		return
	}
	for i, addr := range found {
		if !addr.IsValid() {
			continue
		}
		l.owner[addr] = b
		b.slots[i].addr, b.slots[i].open = addr, false
	}
}

// find returns an address for s, or why there is none.
func (l *ledger) find(b *bid, s *slot, t turn) (netip.Addr, *Refusal) {
	switch {
	case s.want.IsValid():
		return l.named(b, s.want)
	case b.Pool != "":
		return l.fromPool(b, s.family, t)
	}
	a := l.audience(b.Pools)
	for _, i := range a.auto {
		if addr := l.free(i, s.family, t); addr.IsValid() {
			return addr, nil
		}
	}
	return netip.Addr{}, l.nothingFree(a, s.family)
}

// named returns want if b may have it.
func (l *ledger) named(b *bid, want netip.Addr) (netip.Addr, *Refusal) {
	pool := l.poolOf(want)
	if b.Pool != "" {
		if _, ok := l.byName[b.Pool]; !ok {
			return netip.Addr{}, poolUnknown(b.Pool, FamilyOf(want))
		}
	}
	switch {
	case pool == nil:
		return netip.Addr{}, l.inNoPool(b, want)
	case b.Pool != "" && pool.Name != b.Pool:
		return netip.Addr{}, inOtherPool(b, want, pool.Name)
	case !slices.Contains(b.Pools, pool.Name):
		return netip.Addr{}, notEligible(b, pool.Name, FamilyOf(want))
	}
	if owner := l.owner[want]; owner != nil {
		return netip.Addr{}, addressTaken(want, owner.Owner, pool.Name)
	}
	return want, nil
}

// fromPool returns the lowest free address of the pool that b names.
func (l *ledger) fromPool(b *bid, f Family, t turn) (netip.Addr, *Refusal) {
	i, ok := l.byName[b.Pool]
	switch {
	case !ok:
		return netip.Addr{}, poolUnknown(b.Pool, f)
	case !slices.Contains(b.Pools, b.Pool):
		return netip.Addr{}, notEligible(b, b.Pool, f)
	}
	if addr := l.free(i, f, t); addr.IsValid() {
		return addr, nil
	}
	return netip.Addr{}, emptyPool(b.Pool, f, l.has(i, f))
}

// grants returns the answer to every bid, by Owner.
func (l *ledger) grants() []Grant {
	slices.SortFunc(l.bids, func(a, b *bid) int { return cmp.Compare(a.Owner, b.Owner) })
	grants := make([]Grant, 0, len(l.bids))
	all := make([]Assigned, 0, 2*len(l.bids)) // one allocation for the Addrs of all
	for _, b := range l.bids {
		g := Grant{Owner: b.Owner}
		start := len(all)
		for _, s := range b.slots {
			if s.addr.IsValid() {
				all = append(all, Assigned{Addr: s.addr, Pool: l.nameOf(s.addr)})
			}
			if s.open && s.why != nil {
				g.Refusals = append(g.Refusals, *s.why)
			}
		}
		if len(all) > start {
			g.Addrs = all[start:len(all):len(all)]
		}
		g.Refusals = append(g.Refusals, b.stray...)
		grants = append(grants, g)
	}
	return grants
}
