package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// naive is Plan as one would write it without a thought for speed: it lists
// all addresses of all pools again for every choice. It gives the lines that
// the grants would print, with the reasons taken from Plan's own words: what it
// checks is who gets which address, and who waits.
func naive(w world) []string {
	n := naivePlan{world: w, owner: map[netip.Addr]string{}, has: map[string]map[Family]netip.Addr{}}
	reqs := slices.SortedFunc(slices.Values(w.reqs), func(a, b Request) int {
		return cmp.Or(cmp.Compare(a.Age, b.Age), cmp.Compare(a.Owner, b.Owner))
	})
	for _, r := range reqs {
		n.keep(r)
	}
	for _, r := range reqs {
		for _, a := range r.Held {
			if n.owner[a] == "" {
				n.owner[a] = r.Owner
			}
		}
	}
	for _, r := range reqs {
		n.serve(r, true)
	}
	for _, r := range reqs {
		n.serve(r, false)
	}
	return n.lines()
}

type naivePlan struct {
	world
	owner map[netip.Addr]string
	has   map[string]map[Family]netip.Addr
}

func (n *naivePlan) keep(r Request) {
	n.has[r.Owner] = map[Family]netip.Addr{}
	for _, f := range r.Families {
		var mine []netip.Addr
		for _, a := range r.Held {
			if FamilyOf(a) == f && n.owner[a] == "" {
				mine = append(mine, a)
			}
		}
		if len(mine) == 0 {
			continue
		}
		kept := mine[0]
		if w := wanted(r, f); slices.Contains(mine, w) {
			kept = w
		}
		n.has[r.Owner][f], n.owner[kept] = kept, r.Owner
	}
}

// serve gives r what it lacks, if it is there.
func (n *naivePlan) serve(r Request, byName bool) {
	give := map[Family]netip.Addr{}
	for _, f := range r.Families {
		if !n.lacks(r, f) || byName && !wanted(r, f).IsValid() && (!r.Require || len(r.Want) == 0) {
			continue
		}
		i := slices.IndexFunc(n.offers(r, f), func(a netip.Addr) bool {
			free := n.owner[a] == "" || n.owner[a] == r.Owner && a == wanted(r, f)
			return free && !(byName && !wanted(r, f).IsValid() && n.askedFor(a))
		})
		if i < 0 && r.Require {
			return
		}
		if i >= 0 {
			give[f] = n.offers(r, f)[i]
		}
	}
	for f, a := range give {
		n.has[r.Owner][f], n.owner[a] = a, r.Owner
	}
}

func (n *naivePlan) lacks(r Request, f Family) bool {
	has := n.has[r.Owner][f]
	inVain := len(r.Want) > 0 && !slices.ContainsFunc(r.Families, func(f Family) bool { return wanted(r, f).IsValid() })
	switch w := wanted(r, f); {
	case inVain:
		return false
	case !has.IsValid(), w.IsValid() && w != has:
		return true
	}
	in := n.poolOf(has)
	return r.Pool != "" && in != "" && in != r.Pool
}

func (n *naivePlan) askedFor(a netip.Addr) bool {
	return slices.ContainsFunc(n.reqs, func(r Request) bool { return slices.Contains(r.Want, a) })
}

func (n *naivePlan) poolOf(a netip.Addr) string {
	for _, p := range n.pools {
		if slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.Contains(a) }) {
			return p.Name
		}
	}
	return ""
}

func (n *naivePlan) lines() (out []string) {
	grants := Plan(n.pools, n.reqs)
	for i, r := range slices.SortedFunc(slices.Values(n.reqs), func(a, b Request) int { return cmp.Compare(a.Owner, b.Owner) }) {
		g := Grant{Owner: r.Owner}
		waits := []Family{}
		for _, f := range r.Families {
			if a := n.has[r.Owner][f]; a.IsValid() {
				g.Addrs = append(g.Addrs, Assigned{a, n.poolOf(a)})
			}
			if n.lacks(r, f) {
				waits = append(waits, f)
			}
		}
		for _, refusal := range grants[i].Refusals {
			stray := !slices.Contains(r.Families, refusal.Family)
			if stray || slices.Contains(waits, refusal.Family) {
				g.Refusals = append(g.Refusals, refusal)
			}
		}
		if len(waits) > 0 && len(grants[i].Refusals) == 0 {
			g.Refusals = []Refusal{{Family: waits[0], Reason: "should be refused"}}
		}
		out = append(out, g.line())
	}
	return out
}

func wanted(r Request, f Family) netip.Addr {
	for _, a := range r.Want {
		if FamilyOf(a) == f {
			return a
		}
	}
	return netip.Addr{}
}
