package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// naive is Plan as one would write it without a thought for speed: for every
// choice it lists all addresses of all pools again and compares every owner
// with every other. It gives the lines that the grants would print, with the
// reasons taken from Plan's own words: what it checks is who gets which
// address, and who waits.
func naive(w World) []string {
	n := naivePlan{World: w, on: map[netip.Addr][]*naiveBid{}, charged: map[netip.Addr][]string{}}
	for _, r := range slices.SortedFunc(slices.Values(w.Requests), func(a, b Request) int {
		return cmp.Or(cmp.Compare(a.Age, b.Age), cmp.Compare(a.Owner, b.Owner))
	}) {
		n.bids = append(n.bids, &naiveBid{Request: r, has: map[Family]netip.Addr{}})
	}
	for _, b := range n.bids {
		n.keep(b)
	}
	for _, b := range n.bids {
		for _, a := range b.Held {
			if !slices.Contains(n.on[a], b) {
				n.on[a] = append(n.on[a], b)
			}
		}
	}
	for a := range n.on {
		n.order = append(n.order, a)
	}
	slices.SortFunc(n.order, netip.Addr.Compare)
	n.handing = true
	for t := restored; t <= anyAddress; t++ {
		for _, b := range n.bids {
			n.serve(b, t)
		}
	}
	return n.lines()
}

type naivePlan struct {
	World
	bids    []*naiveBid
	on      map[netip.Addr][]*naiveBid // who has an address, or had it when the plan began
	order   []netip.Addr               // of on, as people join
	handing bool                       // what is held has been entered
	charged map[netip.Addr][]string    // namespaces, once for each owner
}

type naiveBid struct {
	Request
	has map[Family]netip.Addr
}

func (b *naiveBid) usesClaim() bool { return b.Kind == Service && b.Claim != "" }

// lawful is the law in one sentence: who may be on one address with whom.
func lawful(a, b Request) bool {
	if a.Kind == Claim || b.Kind == Claim {
		return a.Kind != b.Kind && a.Namespace == b.Namespace
	}
	knows := func(x, y Request) bool {
		return slices.Contains(x.ShareWith, "*") || slices.Contains(x.ShareWith, y.Namespace)
	}
	clash := slices.ContainsFunc(a.Ports, func(p Port) bool { return slices.Contains(b.Ports, p) })
	return a.Share != "" && a.Share == b.Share && !clash && (a.Namespace == b.Namespace || knows(a, b) && knows(b, a))
}

func (n *naivePlan) keep(b *naiveBid) {
	for _, f := range b.Families {
		var mine []netip.Addr
		for _, a := range b.Held {
			if FamilyOf(a) == f && !slices.ContainsFunc(n.on[a], func(o *naiveBid) bool { return !lawful(o.Request, b.Request) }) {
				mine = append(mine, a)
			}
		}
		if len(mine) == 0 {
			continue
		}
		kept := mine[0]
		if w := wanted(b.Request, f); slices.Contains(mine, w) {
			kept = w
		}
		n.give(b, f, kept)
	}
}

// give gives a to b. An address of the same pool that b leaves counts no more
// for the quota.
func (n *naivePlan) give(b *naiveBid, f Family, a netip.Addr) {
	if old := b.has[f]; old.IsValid() && n.poolOf(old) == n.poolOf(a) {
		i := slices.Index(n.charged[old], b.Namespace)
		n.charged[old] = slices.Delete(slices.Clone(n.charged[old]), i, i+1)
	}
	b.has[f] = a
	if len(n.on[a]) == 0 && n.handing {
		n.order = append(n.order, a)
	}
	n.on[a] = append(n.on[a], b)
	n.charged[a] = append(n.charged[a], b.Namespace)
}

func (n *naivePlan) poolOf(a netip.Addr) string {
	for _, p := range n.Pools {
		if slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.Contains(a) }) {
			return p.Name
		}
	}
	return ""
}

// serve gives b what it lacks, if it is there.
func (n *naivePlan) serve(b *naiveBid, t turn) {
	mine := map[turn]bool{
		restored: len(n.past(b)) > 0 && !b.usesClaim(), byName: len(b.Want) > 0 && !b.usesClaim(),
		toClaims: b.Kind == Claim, fromClaims: b.usesClaim(), anyAddress: !b.usesClaim(),
	}
	if !mine[t] {
		return
	}
	give := map[Family]netip.Addr{}
	complete := true
	for _, f := range b.Families {
		if give[f].IsValid() || !n.lacks(b, f) || t == byName && !b.Require && !wanted(b.Request, f).IsValid() {
			continue
		}
		for _, a := range n.choices(b, f, t) {
			if n.may(b, f, a) && !n.tooMany(b, f, a, give) {
				give[f] = a
				break
			}
		}
		if !give[f].IsValid() && !n.adrift(b, f) {
			complete = false
		}
	}
	for _, f := range b.Families {
		if a := give[f]; a.IsValid() && b.has[f] != a && (complete || !b.Require || n.adrift(b, f)) {
			n.give(b, f, a)
		}
	}
}

// lacks reports whether b is still to get an address of family f, or another.
func (n *naivePlan) lacks(b *naiveBid, f Family) bool {
	has, w := b.has[f], wanted(b.Request, f)
	inVain := len(b.Want) > 0 && !slices.ContainsFunc(b.Families, func(f Family) bool { return wanted(b.Request, f).IsValid() })
	switch {
	case b.usesClaim():
		return !has.IsValid() || has != n.claimed(b, f) || w.IsValid() && w != has
	case inVain:
		return false
	case !has.IsValid(), w.IsValid() && w != has:
		return true
	case b.Move && !w.IsValid():
		return slices.Contains(b.Held, has)
	}
	in := n.poolOf(has)
	return n.adrift(b, f) || b.Pool != "" && in != "" && in != b.Pool
}

// adrift reports whether b has an address that no pool covers and may move by
// itself.
func (n *naivePlan) adrift(b *naiveBid, f Family) bool {
	has := b.has[f]
	if b.usesClaim() || b.Move || wanted(b.Request, f).IsValid() || !has.IsValid() || n.poolOf(has) != "" {
		return false
	}
	return slices.ContainsFunc(n.Pools, func(p Pool) bool { return p.Shrink && n.serves(b, p) })
}

// serves reports whether any address of p may go to b.
func (n *naivePlan) serves(b *naiveBid, p Pool) bool {
	return slices.Contains(b.Pools, p.Name) && (b.Pool == p.Name || b.Pool == "" && p.Auto)
}

// past is what b prefers and what rests for it, the latest first.
func (n *naivePlan) past(b *naiveBid) []netip.Addr {
	mine := slices.DeleteFunc(slices.Clone(n.Resting), func(r Rest) bool { return r.Owner != b.Owner || r.Until <= n.Now })
	slices.SortFunc(mine, func(a, b Rest) int { return cmp.Or(cmp.Compare(b.Until, a.Until), a.Addr.Compare(b.Addr)) })
	out := slices.Clone(b.Prefer)
	for _, r := range mine {
		out = append(out, r.Addr)
	}
	return out
}

// choices are the addresses that b would like, in that order; most of them it
// may not have.
func (n *naivePlan) choices(b *naiveBid, f Family, t turn) (out []netip.Addr) {
	w := wanted(b.Request, f)
	if b.usesClaim() {
		if a := n.claimed(b, f); a.IsValid() && (!w.IsValid() || w == a) {
			out = append(out, a)
		}
		return out
	}
	past := n.past(b)
	if w.IsValid() {
		if (t != restored || b.Require || slices.Contains(past, w)) && n.offered(b, w) {
			out = append(out, w)
		}
		return out
	}
	automatic := func(a netip.Addr) bool {
		i := slices.IndexFunc(n.Pools, func(p Pool) bool { return p.Name == n.poolOf(a) })
		kept := slices.ContainsFunc(n.on[a], func(o *naiveBid) bool { return o.Kind == Claim })
		return FamilyOf(a) == f && i >= 0 && !kept && n.serves(b, n.Pools[i]) && handedOut(n.Pools[i], a) && (n.Pools[i].Shrink || !n.adrift(b, f))
	}
	if !n.adrift(b, f) {
		out = append(out, past...)
	}
	if t > restored || b.Require {
		out = append(out, n.later(b, f, t)...)
	}
	return slices.DeleteFunc(out, func(a netip.Addr) bool { return !automatic(a) })
}

// later are the addresses to join, then the free ones.
func (n *naivePlan) later(b *naiveBid, f Family, t turn) (out []netip.Addr) {
	for _, a := range n.order {
		if slices.ContainsFunc(n.on[a], func(o *naiveBid) bool { return o.Kind == Service && o.Share == b.Share && b.Kind == Service }) {
			out = append(out, a)
		}
	}
	ps := slices.SortedFunc(slices.Values(n.Pools), func(a, b Pool) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range ps {
		for _, rg := range p.Ranges {
			for a := rg.First; a.IsValid() && a.Compare(rg.Last) <= 0; a = a.Next() {
				if len(n.on[a]) == 0 && n.rest(b, a) == 0 && !slices.ContainsFunc(n.Resting, func(r Rest) bool { return r.Addr == a && r.Until > n.Now }) {
					out = append(out, a)
				}
			}
		}
	}
	return slices.DeleteFunc(out, func(a netip.Addr) bool {
		return t < toClaims && slices.ContainsFunc(n.Requests, func(r Request) bool { return slices.Contains(r.Want, a) })
	})
}

// offered reports whether b may ask for a by name.
func (n *naivePlan) offered(b *naiveBid, a netip.Addr) bool {
	in := n.poolOf(a)
	if b.Pool != "" && (in != b.Pool) {
		return false
	}
	if i := slices.IndexFunc(n.on[a], func(o *naiveBid) bool { return o.Kind == Claim }); i >= 0 && b.Kind == Service && n.on[a][i].Namespace == b.Namespace {
		return true
	}
	i := slices.IndexFunc(n.Pools, func(p Pool) bool { return p.Name == in })
	return i >= 0 && slices.Contains(b.Pools, in) && handedOut(n.Pools[i], a)
}

func (n *naivePlan) claimed(b *naiveBid, f Family) netip.Addr {
	i := slices.IndexFunc(n.bids, func(o *naiveBid) bool { return o.Kind == Claim && o.Owner == ClaimOwner(b.Namespace, b.Claim) })
	if i < 0 || !slices.Contains(n.bids[i].Families, f) {
		return netip.Addr{}
	}
	return n.bids[i].has[f]
}

// may reports whether b gets on with everybody at a, and nothing else is
// against it but a quota.
func (n *naivePlan) may(b *naiveBid, f Family, a netip.Addr) bool {
	if _, reserved := n.Reserved[a]; reserved || slices.Contains(b.Held, a) {
		return false
	}
	services, stay := 0, 0
	for i, o := range n.on[a] {
		older := slices.ContainsFunc(n.on[a][:i], func(p *naiveBid) bool { return p.Kind == Claim })
		if o.Kind == Claim && older { // only who keeps it counts, or the oldest who gives it up
			continue
		}
		if !lawful(o.Request, b.Request) {
			return false
		}
		if o.Kind == Service {
			services++
			if o.has[f] == a {
				stay++
			}
		}
	}
	if b.Kind == Service && services > 0 && stay == 0 {
		return false
	}
	return len(n.on[a]) > 0 || n.rest(b, a) == 0
}

func (n *naivePlan) rest(b *naiveBid, a netip.Addr) (until int64) {
	for _, r := range n.Resting {
		if r.Addr != a || r.Until <= n.Now {
			continue
		}
		if r.Owner == b.Owner {
			return 0
		}
		until = max(until, r.Until)
	}
	return until
}

// tooMany reports whether the quota of a's pool forbids it to b, who is about
// to get give, too.
func (n *naivePlan) tooMany(b *naiveBid, f Family, a netip.Addr, give map[Family]netip.Addr) bool {
	i := slices.IndexFunc(n.Pools, func(p Pool) bool { return p.Name == n.poolOf(a) })
	if i < 0 || n.Pools[i].Quota == 0 || slices.Contains(n.charged[a], b.Namespace) {
		return false
	}
	after := map[netip.Addr]int{}
	for addr, who := range n.charged {
		for _, ns := range who {
			if ns == b.Namespace && n.poolOf(addr) == n.Pools[i].Name {
				after[addr]++
			}
		}
	}
	swap := func(f Family, a netip.Addr) {
		if n.poolOf(a) != n.Pools[i].Name {
			return
		}
		after[a]++
		if old := b.has[f]; old.IsValid() && n.poolOf(old) == n.Pools[i].Name {
			if after[old]--; after[old] == 0 {
				delete(after, old)
			}
		}
	}
	for g, other := range give {
		swap(g, other)
	}
	swap(f, a)
	return len(after) > int(n.Pools[i].Quota)
}

func handedOut(p Pool, a netip.Addr) bool {
	return !p.SkipFirstLast || !a.Is4() || a.As4()[3] != 0 && a.As4()[3] != 255
}

func (n *naivePlan) lines() (out []string) {
	grants := Plan(n.World)
	slices.SortFunc(n.bids, func(a, b *naiveBid) int { return cmp.Compare(a.Owner, b.Owner) })
	for i, b := range n.bids {
		g := Grant{Owner: b.Owner}
		waits := []Family{}
		for _, f := range b.Families {
			if a := b.has[f]; a.IsValid() {
				g.Addrs = append(g.Addrs, Assigned{a, n.poolOf(a)})
			}
			if n.lacks(b, f) && !n.adrift(b, f) {
				waits = append(waits, f)
			}
		}
		for _, refusal := range grants[i].Refusals {
			stray := !slices.Contains(b.Families, refusal.Family)
			if stray || slices.Contains(waits, refusal.Family) {
				g.Refusals = append(g.Refusals, refusal)
			}
		}
		if len(waits) > 0 && len(grants[i].Refusals) == 0 && (!b.Require || len(waits) == len(b.Families)) {
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
