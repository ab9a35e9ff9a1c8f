package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// nothingFree returns why no pool has an address of family f for audience a.
// It is the same for all of them: no address comes back during a Plan.
func (l *ledger) nothingFree(a *audience, f Family) *Refusal {
	memo := &a.refused[0]
	if f == IPv6 {
		memo = &a.refused[1]
	}
	if *memo != nil {
		return *memo
	}
	considered := make([]Considered, 0, len(l.pools))
	pools := make(map[Reason][]string)
	for i, p := range l.pools {
		why := PoolFull
		switch {
		case !a.admits[i]:
			why = NotEligible
		case !p.Auto:
			why = NotAuto
		case !l.has(i, f):
			why = WrongFamily
		}
		considered = append(considered, Considered{p.Name, why})
		pools[why] = append(pools[why], p.Name)
	}
	*memo = summary(f, pools)
	(*memo).Considered = considered
	return *memo
}

// summary returns the refusal for the pools that came closest to serving.
func summary(f Family, pools map[Reason][]string) *Refusal {
	r := &Refusal{Family: f}
	switch {
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

// emptyPool is for the pool that an owner named: full, or without addresses of
// the family.
func emptyPool(pool string, f Family, full bool) *Refusal {
	why := WrongFamily
	if full {
		why = PoolFull
	}
	r := summary(f, map[Reason][]string{why: {pool}})
	r.Considered = []Considered{{pool, why}}
	return r
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

func addressTaken(want netip.Addr, owner, pool string) *Refusal {
	return &Refusal{
		Family: FamilyOf(want), Reason: AddressTaken,
		Detail:     fmt.Sprintf("Address %s is held by %s: ask for another, or release it there.", want, owner),
		Considered: []Considered{{pool, AddressTaken}},
	}
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
