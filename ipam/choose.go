package ipam

import (
	"net/netip"
	"slices"
)

// find returns an address for s, or why there is none.
func (l *ledger) find(b *bid, s *slot, t turn) (netip.Addr, *Refusal) {
	switch {
	case b.usesClaim():
		return l.claimed(b, s)
	case s.want.IsValid():
		return l.named(b, s, s.want)
	case s.adrift:
		return l.anew(b, s, t), nil
	}
	if addr := l.restore(b, s); addr.IsValid() {
		return addr, nil
	}
	if addr := l.anew(b, s, t); addr.IsValid() {
		return addr, nil
	}
	return netip.Addr{}, l.nothingFree(b, s, t)
}

// restore returns the first address of b's past that is free and lawful.
func (l *ledger) restore(b *bid, s *slot) netip.Addr {
	if s.adrift || b.usesClaim() {
		return netip.Addr{}
	}
	for _, addr := range b.past {
		if !addr.IsValid() || FamilyOf(addr) != s.family || s.want.IsValid() && addr != s.want {
			continue
		}
		i := l.poolAt(addr)
		byName := addr == s.want && i >= 0 && l.audience(b).admits[i] && (b.Pool == "" || b.Pool == l.pools[i].Name)
		if byName || l.mayServe(b, s, addr, i) {
			if l.bar(b, s, addr) == "" {
				return addr
			}
		}
	}
	return netip.Addr{}
}

// mayServe reports whether addr, of pool i, is one of those to give b if any
// will do. What a claim keeps is for those who ask for it.
func (l *ledger) mayServe(b *bid, s *slot, addr netip.Addr, i int) bool {
	if i < 0 || l.claimant[addr] != nil || s.adrift && !l.pools[i].Shrink {
		return false
	}
	return l.audience(b).serves(i) && l.handsOut(i, addr)
}

// anew returns an address that b shares with others of its key or, if there is
// none, the lowest free one of the first pool that has one; else the zero Addr.
func (l *ledger) anew(b *bid, s *slot, t turn) netip.Addr {
	if c := l.circles[circleKey{b.Share, s.family}]; c != nil && b.Kind == Service && b.Share != "" {
		sh := c.first(b, func(sh *share) bool {
			inTurn := !t.passesOver() || !l.wishes[sh.addr]
			return inTurn && l.mayServe(b, s, sh.addr, l.poolAt(sh.addr)) && l.bar(b, s, sh.addr) == ""
		})
		if sh != nil {
			return sh.addr
		}
	}
	for _, i := range l.audience(b).serving {
		if s.adrift && !l.pools[i].Shrink || l.exceeds(b, s, i, netip.Addr{}) {
			continue
		}
		if addr := l.free(i, s.family, t); addr.IsValid() {
			return addr
		}
	}
	return netip.Addr{}
}

// named returns want if b may have it.
func (l *ledger) named(b *bid, s *slot, want netip.Addr) (netip.Addr, *Refusal) {
	i := l.poolAt(want)
	kept := l.claimant[want] != nil && l.claimant[want].Namespace == b.Namespace && b.Kind == Service
	if b.Pool != "" {
		if _, ok := l.byName[b.Pool]; !ok {
			return netip.Addr{}, poolUnknown(b.Pool, s.family)
		}
	}
	switch {
	case i < 0 && !kept:
		return netip.Addr{}, l.inNoPool(b, want)
	case b.Pool != "" && l.nameOf(want) != b.Pool:
		return netip.Addr{}, inOtherPool(b, want, l.nameOf(want))
	case !kept && !l.audience(b).admits[i]:
		return netip.Addr{}, notEligible(b, l.pools[i].Name, s.family)
	case !kept && !l.handsOut(i, want):
		return netip.Addr{}, edge(want, l.pools[i].Name)
	}
	if why := l.bar(b, s, want); why != "" {
		return netip.Addr{}, l.barred(b, want, why)
	}
	return want, nil
}

// claimed returns the address of the claim that b names, if b may have it.
func (l *ledger) claimed(b *bid, s *slot) (netip.Addr, *Refusal) {
	addr := l.addrOfClaim(b, s)
	switch {
	case l.claims[ClaimOwner(b.Namespace, b.Claim)] == nil:
		return netip.Addr{}, claimUnknown(b, s.family)
	case !addr.IsValid():
		return netip.Addr{}, claimEmpty(b, s.family)
	case s.want.IsValid() && s.want != addr:
		return netip.Addr{}, notOfClaim(b, s.want)
	}
	if why := l.bar(b, s, addr); why != "" {
		return netip.Addr{}, l.barred(b, addr, why)
	}
	return addr, nil
}

// addrOfClaim returns the address of s's family that the claim which b names
// has; the zero Addr if there is none.
func (l *ledger) addrOfClaim(b *bid, s *slot) netip.Addr {
	c := l.claims[ClaimOwner(b.Namespace, b.Claim)]
	if c == nil {
		return netip.Addr{}
	}
	i := slices.IndexFunc(c.slots, func(o slot) bool { return o.family == s.family })
	if i < 0 {
		return netip.Addr{}
	}
	return c.slots[i].addr
}

// hasClaimed reports whether b has in s what it asks for of a claim.
func (l *ledger) hasClaimed(b *bid, s *slot) bool {
	return s.addr.IsValid() && s.addr == l.addrOfClaim(b, s) && (!s.want.IsValid() || s.want == s.addr)
}

// bar returns why b may not have addr anew, though its pool serves b; "" if it
// may.
func (l *ledger) bar(b *bid, s *slot, addr netip.Addr) Reason {
	_, reserved := l.reserved[addr]
	i := l.limited(addr)
	switch {
	case reserved:
		return ReservedAddress
	case !l.fits(b, addr) && b.Share != "" && l.owner[addr] != nil && l.keptFor(b, addr):
		return ShareRefused
	case !l.fits(b, addr), slices.Contains(b.Held, addr): // what b gives up does not come back
		return AddressTaken
	case !l.taken(addr) && l.rests.keeps(addr, b.Owner) != 0:
		return Resting
	case i >= 0 && l.exceeds(b, s, i, addr):
		return QuotaExceeded
	}
	return ""
}

// fits reports whether b gets on with all who have addr, or give it up in this
// Plan.
func (l *ledger) fits(b *bid, addr netip.Addr) bool {
	switch sh := l.shares[addr]; {
	case !l.keptFor(b, addr):
		return false
	case b.Kind == Claim:
		return l.stranger(b, addr) == nil
	case l.owner[addr] == nil:
		return true
	default:
		return sh != nil && sh.lets(b)
	}
}

// stranger returns a Service of another namespace than b's that has addr, or
// gives it up in this Plan; nil if there is none.
func (l *ledger) stranger(b *bid, addr netip.Addr) *bid {
	foreign := func(g *bid) bool { return g.Namespace != b.Namespace }
	if sh := l.shares[addr]; sh != nil && sh.in.guests[seat{sh.at, b.Namespace}] < len(sh.guests) {
		return sh.guests[slices.IndexFunc(sh.guests, foreign)]
	}
	if i := slices.IndexFunc(l.leavers[addr], foreign); i >= 0 {
		return l.leavers[addr][i]
	}
	if owner := l.owner[addr]; owner != nil && foreign(owner) {
		return owner
	}
	return nil
}

// keptFor reports whether no claim keeps addr from b.
func (l *ledger) keptFor(b *bid, addr netip.Addr) bool {
	c := l.claimant[addr]
	return c == nil || c == b || b.Kind == Service && c.Namespace == b.Namespace
}
