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
	u := usage{pools: make(map[string]Pool, len(w.Pools)), seen: make(map[netip.Addr]bool, len(grants))}
	for _, p := range w.Pools {
		u.pools[p.Name] = p
		u.sets = append(u.sets, p)
	}
	slices.SortFunc(u.sets, func(a, b Pool) int { return cmp.Compare(a.Name, b.Name) })
	u.assigned, u.unfree = make(map[tallyKey]int64), make(map[tallyKey]int64)
	for _, g := range grants {
		for _, a := range g.Addrs {
			u.note(a.Addr, a.Pool, true)
		}
	}
	var l ledger // only to find pools by address
	if len(w.Reserved)+len(w.Resting) > 0 {
		l = *newLedger(World{Pools: w.Pools})
	}
	for a := range w.Reserved {
		u.note(a, l.nameOf(a), false)
	}
	for _, r := range w.Resting {
		if r.Until > w.Now {
			u.note(r.Addr, l.nameOf(r.Addr), false)
		}
	}
	uses := make([]Usage, 0, len(u.sets))
	for _, p := range u.sets {
		uses = append(uses, Usage{p.Name, u.tally(p, IPv4), u.tally(p, IPv6)})
	}
	return uses
}

// usage is a Use while it is being counted.
type usage struct {
	sets             []Pool // by Name
	pools            map[string]Pool
	seen             map[netip.Addr]bool
	assigned, unfree map[tallyKey]int64
}

type tallyKey struct {
	pool   string
	family Family
}

// note counts addr, of pool, once.
func (u *usage) note(addr netip.Addr, pool string, assigned bool) {
	if pool == "" || u.seen[addr] {
		return
	}
	u.seen[addr] = true
	k := tallyKey{pool, FamilyOf(addr)}
	if assigned {
		u.assigned[k]++
	}
	if !u.pools[pool].SkipFirstLast || !isEdge(addr) {
		u.unfree[k]++
	}
}

func (u *usage) tally(p Pool, f Family) Tally {
	k := tallyKey{p.Name, f}
	t := Tally{Total: Count(p, f), Assigned: u.assigned[k]}
	t.Free = max(t.Total-u.unfree[k], 0)
	return t
}
