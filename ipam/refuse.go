package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// nothingFree returns why no address will do for s. It is the same for all
// newcomers of an audience: no address comes back during a Plan.
func (l *ledger) nothingFree(b *bid, s *slot, t turn) *Refusal {
	a := l.audience(b)
	if b.Pool != "" {
		switch _, known := l.byName[b.Pool]; {
		case !known:
			return poolUnknown(b.Pool, s.family)
		case !a.admits[a.named]:
			return notEligible(b, b.Pool, s.family)
		}
	}
	by := 0
	if t.passesOver() {
		by = 1
	}
	memo := &a.refused[s.family.index()][by]
	if s.addr.IsValid() { // who moves has a quota of its own
		memo = new(*Refusal)
	}
	if *memo == nil {
		*memo = l.survey(b, s, t)
	}
	return *memo
}

// survey looks at every pool that could serve b, if it would.
func (l *ledger) survey(b *bid, s *slot, t turn) *Refusal {
	a := l.audience(b)
	pools := l.pools
	first := 0
	if a.named >= 0 {
		first, pools = a.named, l.pools[a.named:a.named+1]
	}
	considered := make([]Considered, 0, len(pools))
	by := make(map[Reason][]string)
	var until int64
	for n, p := range pools {
		why := l.unable(b, s, t, first+n)
		if end := l.soonest(first+n, s.family); why == Resting && (until == 0 || end < until) {
			until = end
		}
		considered = append(considered, Considered{p.Name, why})
		by[why] = append(by[why], p.Name)
	}
	r := summary(b.Request, s.family, by, until)
	r.Considered = considered
	return r
}

// unable returns why pool i has no address for s.
func (l *ledger) unable(b *bid, s *slot, t turn, i int) Reason {
	a := l.audience(b)
	switch {
	case !a.admits[i]:
		return NotEligible
	case !a.serves(i):
		return NotAuto
	case !l.has(i, s.family):
		return WrongFamily
	case l.free(i, s.family, t).IsValid():
		return QuotaExceeded // or it would have been given
	case l.soonest(i, s.family) != 0:
		return Resting
	}
	return PoolFull
}

// summary returns the refusal for the pools that came closest to serving.
func summary(b *Request, f Family, pools map[Reason][]string, until int64) *Refusal {
	r := &Refusal{Family: f}
	switch {
	case len(pools[QuotaExceeded]) > 0:
		r.Reason = QuotaExceeded
		r.Detail = overQuota(b.Namespace, list(pools[QuotaExceeded]))
	case len(pools[Resting]) > 0:
		r.Reason = Resting
		r.Detail = fmt.Sprintf("Every free %s address in %s rests after its last use, the first until %s: wait, lower spec.reuseAfter, or add addresses to a pool.",
			f, list(pools[Resting]), moment(until))
	case len(pools[PoolFull]) > 0:
		r.Reason = PoolFull
		r.Detail = fmt.Sprintf("No %s address is free in %s: add addresses to a pool, or release one that is held.", f, list(pools[PoolFull]))
	case len(pools[WrongFamily]) > 0:
		r.Reason = WrongFamily
		r.Detail = fmt.Sprintf("No %s address is in %s: add some to a pool, or do without %s.", f, list(pools[WrongFamily]), f)
	case len(pools[NotAuto]) > 0:
		r.Reason = NotAuto
		r.Detail = fmt.Sprintf("Only %s may serve, and only on request: name the pool or an address of it, or set the pool to Auto.", list(pools[NotAuto]))
	case len(pools[NotEligible]) > 0:
		r.Reason = NotEligible
		r.Detail = fmt.Sprintf("The selectors of %s do not match: change them, or add a pool that admits this owner.", list(pools[NotEligible]))
	default:
		r.Reason = NoPool
		r.Detail = "There is no pool: create one."
	}
	return r
}

func overQuota(namespace, pools string) string {
	return fmt.Sprintf("Namespace %q has as many addresses of %s as spec.quotaPerNamespace allows: release one, or raise the quota.", namespace, pools)
}

// moment renders a time of World.
func moment(nano int64) string { return time.Unix(0, nano).UTC().Format(time.RFC3339) }

// list names pools in a sentence; of many only the first few.
func list(names []string) string {
	const most = 5
	quoted := make([]string, 0, most)
	for _, n := range names[:min(len(names), most)] {
		quoted = append(quoted, fmt.Sprintf("%q", n))
	}
	switch n := len(quoted); {
	case len(names) > most:
		return fmt.Sprintf("pools %s and %d more", strings.Join(quoted, ", "), len(names)-most)
	case n == 1:
		return "pool " + quoted[0]
	default:
		return fmt.Sprintf("pools %s and %s", strings.Join(quoted[:n-1], ", "), quoted[n-1])
	}
}

func poolUnknown(pool string, f Family) *Refusal {
	return &Refusal{
		Family: f, Reason: PoolUnknown,
		Detail:     fmt.Sprintf("There is no pool %q: create it, or name another.", pool),
		Considered: []Considered{{pool, PoolUnknown}},
	}
}

func notEligible(b *bid, pool string, f Family) *Refusal {
	return &Refusal{
		Family: f, Reason: NotEligible,
		Detail:     fmt.Sprintf("The selectors of pool %q do not match %s: change them, or name another pool.", pool, b.Owner),
		Considered: []Considered{{pool, NotEligible}},
	}
}

func (l *ledger) inNoPool(b *bid, want netip.Addr) *Refusal {
	r := &Refusal{Family: FamilyOf(want), Reason: NotInPool}
	if b.Pool != "" {
		r.Detail = fmt.Sprintf("Address %s does not lie in pool %q: add it there, or ask for one that does.", want, b.Pool)
		r.Considered = []Considered{{b.Pool, NotInPool}}
		return r
	}
	if l.nowhere == nil {
		l.nowhere = make([]Considered, 0, len(l.pools))
		for _, p := range l.pools {
			l.nowhere = append(l.nowhere, Considered{p.Name, NotInPool})
		}
	}
	r.Detail = fmt.Sprintf("Address %s lies in no pool: add it to one, or ask for one that does.", want)
	r.Considered = l.nowhere
	return r
}

func inOtherPool(b *bid, want netip.Addr, pool string) *Refusal {
	return &Refusal{
		Family: FamilyOf(want), Reason: NotInPool,
		Detail:     fmt.Sprintf("Address %s lies in pool %q, not in pool %q: ask for the pool or for the address, or make them agree.", want, pool, b.Pool),
		Considered: []Considered{{b.Pool, NotInPool}},
	}
}

// edge is for an address that its pool covers and does not hand out.
func edge(want netip.Addr, pool string) *Refusal {
	return &Refusal{
		Family: FamilyOf(want), Reason: NotInPool,
		Detail:     fmt.Sprintf("Address %s ends in .0 or .255, and pool %q has spec.skipFirstLast: ask for another, or unset it.", want, pool),
		Considered: []Considered{{pool, NotInPool}},
	}
}

// barred puts into words what bar has found.
func (l *ledger) barred(b *bid, want netip.Addr, why Reason) *Refusal {
	pool := l.nameOf(want)
	r := &Refusal{Family: FamilyOf(want), Reason: why, Considered: []Considered{{pool, why}}}
	switch why {
	case ReservedAddress:
		r.Detail = fmt.Sprintf("Address %s belongs to %s: ask for another, or exclude it from pool %q.", want, l.reserved[want], pool)
	case Resting:
		r.Detail = fmt.Sprintf("Address %s rests after its last use until %s: wait, ask for another, or lower spec.reuseAfter of pool %q.",
			want, moment(l.rests.keeps(want, b.Owner)), pool)
	case QuotaExceeded:
		r.Detail = overQuota(b.Namespace, list([]string{pool}))
	default:
		r.Detail = l.taker(b, want)
	}
	return r
}

// taker returns who has addr and why b cannot be there, too.
func (l *ledger) taker(b *bid, addr netip.Addr) string {
	who := l.owner[addr]
	switch {
	case !l.keptFor(b, addr) || who == nil:
		who = l.claimant[addr]
	case b.Kind == Claim:
		who = l.stranger(b, addr)
	case b.Share != "":
		guests := []*bid{who}
		if sh := l.shares[addr]; sh != nil {
			guests = sh.guests
		}
		for _, g := range slices.Concat(guests, l.leavers[addr]) {
			if q := quarrel(g.Request, b.Request); q != "" && g != b {
				return fmt.Sprintf("Address %s is held by %s, and %s, or ask for another address.", addr, g.Owner, q)
			}
		}
	}
	if who == nil {
		who = b // it gave addr up, and does not get it back at once
	}
	return fmt.Sprintf("Address %s is held by %s: ask for another, or release it there.", addr, who.Owner)
}

func claimUnknown(b *bid, f Family) *Refusal {
	return &Refusal{
		Family: f, Reason: ClaimUnknown,
		Detail: fmt.Sprintf("There is no AddressClaim %q in namespace %q: create it, or name another.", b.Claim, b.Namespace),
	}
}

func claimEmpty(b *bid, f Family) *Refusal {
	return &Refusal{
		Family: f, Reason: ClaimEmpty,
		Detail: fmt.Sprintf("AddressClaim %q has no %s address: see its conditions and its spec.families, or name another.", b.Claim, f),
	}
}

func notOfClaim(b *bid, want netip.Addr) *Refusal {
	return &Refusal{
		Family: FamilyOf(want), Reason: NotInPool,
		Detail: fmt.Sprintf("Address %s is not one of AddressClaim %q: ask for the claim or for the address, or make them agree.", want, b.Claim),
	}
}

// notes returns what is to be said of b's addresses beside refusals.
func (l *ledger) notes(b *bid) (out []Note) {
	for _, addr := range b.lost {
		why := AddressTaken
		if b.Share != "" && l.keptFor(b, addr) {
			why = ShareRefused
		}
		out = append(out, Note{why, "It had to leave an address to an older owner. " + l.taker(b, addr)})
	}
	if len(l.reserved) == 0 {
		return out
	}
	for _, s := range b.slots {
		if whose, ok := l.reserved[s.addr]; ok {
			out = append(out, Note{ReservedAddress, fmt.Sprintf(
				"Address %s belongs to %s, too, but is kept, for an assigned address never changes by itself: release it, or ask for another.", s.addr, whose)})
		}
	}
	return out
}

// strays returns a refusal for each address asked for whose family is not
// wanted.
func strays(b *bid) []Refusal {
	var out []Refusal
	for _, a := range b.Want {
		f := FamilyOf(a)
		if slices.ContainsFunc(b.slots, func(s slot) bool { return s.family == f }) {
			continue
		}
		out = append(out, Refusal{
			Family: f, Reason: WrongFamily,
			Detail: fmt.Sprintf("Address %s is asked for, but no %s address is wanted: ask for one of a wanted family, or want %s too.", a, f, f),
		})
	}
	return out
}
