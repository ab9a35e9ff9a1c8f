package ipam

import (
	"cmp"
	"math"
	"slices"
)

// A Usage says how much of a pool is in use.
type Usage struct {
	Pool   string
	V4, V6 Tally
}

// A Tally counts addresses of one family. Total and Free are at most
// [math.MaxInt64].
type Tally struct{ Total, Assigned, Free int64 }

// Count returns how many addresses of family p has, at most [math.MaxInt64].
func Count(p Pool, family Family) int64 {
	var total int64
	for _, r := range p.Ranges {
		if r.Family() != family {
			continue
		}
		n := r.Len()
		if total > math.MaxInt64-n {
			return math.MaxInt64
		}
		total += n
	}
	return total
}

// Use returns the usage of every pool under grants, by Pool.
func Use(pools []Pool, grants []Grant) []Usage {
	type key struct {
		pool   string
		family Family
	}
	assigned := make(map[key]int64)
	for _, g := range grants {
		for _, a := range g.Addrs {
			assigned[key{a.Pool, FamilyOf(a.Addr)}]++
		}
	}
	tally := func(p Pool, f Family) Tally {
		t := Tally{Total: Count(p, f), Assigned: assigned[key{p.Name, f}]}
		t.Free = max(t.Total-t.Assigned, 0)
		return t
	}
	uses := make([]Usage, 0, len(pools))
	for _, p := range pools {
		uses = append(uses, Usage{p.Name, tally(p, IPv4), tally(p, IPv6)})
	}
	slices.SortFunc(uses, func(a, b Usage) int { return cmp.Compare(a.Pool, b.Pool) })
	return uses
}
