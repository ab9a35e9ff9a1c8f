package ipam

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// A Usage says how much of a pool is in use.
type Usage struct {
	Pool   string
	V4, V6 Tally
}

// A Tally counts addresses of one family. Total and Free are at most
// [math.MaxInt64].
type Tally struct {
	Total    int64 // addresses that the pool hands out
	Assigned int64 // addresses that somebody has, each once
	Free     int64 // addresses that a newcomer may have: neither assigned, nor reserved, nor resting
}

// Count returns how many addresses of family p hands out, at most
// [math.MaxInt64].
func Count(p Pool, family Family) int64 {
	var total int64
	for _, r := range p.Ranges {
		if r.Family() != family {
			continue
		}
		n := r.Len()
		if p.SkipFirstLast {
			n -= r.edges()
		}
		if total > math.MaxInt64-n {
			return math.MaxInt64
		}
		total += n
	}
	return total
}

// Use returns the usage of every pool of w under grants, by Pool.
func Use(w World, grants []Grant) []Usage {
	l := newLedger(World{Pools: w.Pools}) // to find pools by address
	u := usage{
		seen:     make(map[netip.Addr]bool, len(grants)),
		assigned: make([][2]int64, len(l.pools)), unfree: make([][2]int64, len(l.pools)),
	}
	for _, g := range grants {
		for _, a := range g.Addrs {
			u.note(l, a.Addr, 1)
		}
	}
	for a := range w.Reserved {
		u.note(l, a, 0)
	}
	for _, r := range w.Resting {
		if r.Until > w.Now {
			u.note(l, r.Addr, 0)
		}
	}
	uses := make([]Usage, 0, len(l.pools))
	for i, p := range l.pools {
		uses = append(uses, Usage{p.Name, u.tally(i, p, IPv4), u.tally(i, p, IPv6)})
	}
	slices.SortFunc(uses, func(a, b Usage) int { return cmp.Compare(a.Pool, b.Pool) })
	return uses
}

// usage is a Use while it is being counted, by pool and family.
type usage struct {
	seen     map[netip.Addr]bool
	assigned [][2]int64
	unfree   [][2]int64 // addresses that no newcomer may have
}

// note counts addr once.
func (u *usage) note(l *ledger, addr netip.Addr, assigned int64) {
	i, f := l.poolAt(addr), FamilyOf(addr).index()
	if i < 0 || u.seen[addr] {
		return
	}
	u.seen[addr] = true
	u.assigned[i][f] += assigned
	if l.handsOut(i, addr) {
		u.unfree[i][f]++
	}
}

func (u *usage) tally(i int, p Pool, f Family) Tally {
	total := Count(p, f)
	return Tally{Total: total, Assigned: u.assigned[i][f.index()], Free: max(total-u.unfree[i][f.index()], 0)}
}
