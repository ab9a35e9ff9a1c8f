package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// Plan answers every request of w, in Owner order. The order of what w holds
// does not matter, and Plan does not edit it.
//
// An owner keeps what it holds, also where no pool covers the address any more
// or admits the owner. It loses an address in five cases only: an older owner
// holds it too and cannot share it; its family is no longer wanted; the
// request asks for another address, pool or claim, and that can be had; it
// asks to Move, and another address can be had; or no pool covers it, and a
// pool with Shrink has a free one. Of several held
// addresses of one family the first stays.
//
// A request that asks for addresses by name gets no other ones. With Require,
// whoever cannot have all that is missing gets nothing new. Without it, each
// family is served by itself.
func Plan(w World) []Grant {
	l := newLedger(w)
	l.keepHeld()
	for t := restored; t <= anyAddress; t++ {
		for _, b := range l.bids {
			if t.serves(b) {
				l.serve(b, t)
			}
		}
	}
	return l.grants()
}

// A turn is one of the times that Plan hands out addresses, to all who are
// served then, the oldest owner first.
type turn int

const (
	restored   turn = iota // what an owner had before, to who has nothing else in mind
	byName                 // to those who ask for an address by name
	toClaims               // to claims that any address will do for
	fromClaims             // to those who name a claim
	anyAddress
)

func (t turn) serves(b *bid) bool {
	switch t {
	case restored:
		return len(b.past) > 0 && !b.usesClaim()
	case byName:
		return len(b.Want) > 0 && !b.usesClaim()
	case toClaims:
		return b.Kind == Claim
	case fromClaims:
		return b.usesClaim()
	}
	return !b.usesClaim()
}

// passesOver reports whether addresses that somebody asks for by name are not
// handed out to others yet.
func (t turn) passesOver() bool { return t < toClaims }

// keepHeld enters what every owner keeps, then what is given up: an address
// that one owner gives up may be the one that another keeps.
func (l *ledger) keepHeld() {
	for _, b := range l.bids {
		for i := range b.slots {
			s := &b.slots[i]
			if s.addr = l.keep(b, s); s.addr.IsValid() {
				l.settle(b, s.addr)
				s.open = !l.content(b, s)
			}
		}
	}
	for _, b := range l.bids {
		for _, a := range b.Held {
			if !b.has(a) {
				l.giveUp(b, a)
			}
		}
		b.abstain()
	}
	l.sortCircles()
}

// keep returns which of its held addresses b keeps in s.
func (l *ledger) keep(b *bid, s *slot) (kept netip.Addr) {
	for _, a := range b.Held {
		if !a.IsValid() || FamilyOf(a) != s.family {
			continue
		}
		if !l.fits(b, a) {
			b.lost = append(b.lost, a)
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

// content reports whether what b has in s is what it asks for. Of those who
// name a claim it can be said only once all claims have their addresses.
//
// An address that no pool covers is no reason to move by itself: nobody can
// tell a user who named another pool from one whose pool was edited or
// deleted, and an edit of a pool must not move an address unless the pool says
// so.
func (l *ledger) content(b *bid, s *slot) bool {
	switch {
	case b.usesClaim():
		return true
	case s.want.IsValid() && s.want != s.addr, b.Move && !s.want.IsValid():
		return false
	}
	pool := l.poolAt(s.addr)
	if pool < 0 {
		s.adrift = !s.want.IsValid() && slices.ContainsFunc(l.audience(b).serving, func(i int) bool { return l.pools[i].Shrink })
		return !s.adrift
	}
	return b.Pool == "" || l.pools[pool].Name == b.Pool
}

// serve closes the open slots of b for which there are addresses: with Require
// all of them or none. An owner that is adrift moves by itself in either case,
// and nothing waits for it.
//
// An address that is given stays given and none comes back during a Plan. So
// what was refused once cannot be had later either, with one exception: before
// claims are served, those to whom any address will do pass over addresses
// that others ask for by name. The last turn tries them again.
func (l *ledger) serve(b *bid, t turn) {
	complete := true
	for i := range b.slots {
		s := &b.slots[i]
		s.next = netip.Addr{}
		if t == fromClaims {
			s.open = !l.hasClaimed(b, s)
		}
		if !s.open || t == byName && !b.Require && !s.want.IsValid() {
			continue
		}
		if t == restored && !b.Require {
			s.next = l.restore(b, s)
			continue
		}
		s.next, s.why = l.find(b, s, t)
		complete = complete && s.why == nil
	}
	for i := range b.slots {
		s := &b.slots[i]
		if s.next.IsValid() && (complete || !b.Require || s.adrift) {
			l.move(b, s)
		}
		s.next = netip.Addr{}
	}
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
		g.Notes = l.notes(b)
		grants = append(grants, g)
	}
	return grants
}
