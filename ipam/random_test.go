package ipam

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// From any start, through edits of everything, writes that fail and writes of
// a leader that was paused, every plan keeps its promises.
func TestPromisesHoldOnARandomWalk(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for walk := range 400 {
		w := randomWorld(rnd)
		var paused []Grant
		for step := range 8 {
			before := clone(w)
			grants := Plan(w)
			if diff := gocmp.Diff(before, w, sameAddr); diff != "" {
				t.Fatalf("walk %d step %d: Plan edited its argument:\n%s", walk, step, diff)
			}
			shuffle(rnd, before)
			if diff := gocmp.Diff(grants, Plan(before), sameAddr); diff != "" {
				t.Fatalf("walk %d step %d: order of input matters:\n%s", walk, step, diff)
			}
			if diff := gocmp.Diff(naive(w), lines(grants)); diff != "" {
				t.Fatalf("walk %d step %d: %s\nnaive plan says (-want +got):\n%s", walk, step, story(w), diff)
			}
			for _, broken := range slices.Concat(doubled(w, grants), moved(w, grants), beyondQuota(w, grants), forbidden(w, grants), missed(w, grants)) {
				t.Fatalf("walk %d step %d: %s\n%s", walk, step, broken, story(w))
			}
			write(&w, grants, func() bool { return rnd.IntN(5) == 0 })
			if rnd.IntN(4) == 0 {
				write(&w, paused, func() bool { return rnd.IntN(2) == 0 })
				paused = grants
			}
			mutate(rnd, &w)
		}
	}
}

// Once everything is written and nobody edits anything, nothing moves.
func TestPlansComeToRest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 400 {
		w := randomWorld(rnd)
		var last []Grant
		for range 20 { // a chain of moves ends when each has had its turn
			last = Plan(w)
			write(&w, last, func() bool { return false })
		}
		again := Plan(w)
		if diff := gocmp.Diff(last, again, sameAddr); diff != "" {
			t.Fatalf("round %d: still moving:\n%s", round, diff)
		}
		for _, broken := range doubled(w, again) {
			t.Fatalf("round %d: %s", round, broken)
		}
	}
}

// story prints w for whoever has to find out what went wrong in it.
func story(w World) string {
	s := fmt.Sprintf("now %d, reserved %v, resting %v\n", w.Now, w.Reserved, w.Resting)
	for _, p := range w.Pools {
		s += fmt.Sprintf("%+v\n", p)
	}
	for _, r := range w.Requests {
		s += fmt.Sprintf("%+v\n", r)
	}
	return s
}

// doubled: all who are granted one address are there lawfully, and a newcomer
// also gets on with all whose status still has it.
func doubled(w World, grants []Grant) (broken []string) {
	on := map[netip.Addr][]Request{}
	for _, g := range grants {
		r := request1(w, g.Owner)
		for _, a := range g.Addrs {
			for _, other := range on[a.Addr] {
				if !lawful(other, r) {
					broken = append(broken, fmt.Sprintf("%s and %s both got %s", other.Owner, g.Owner, a.Addr))
				}
			}
			on[a.Addr] = append(on[a.Addr], r)
			for _, other := range w.Requests {
				gone := other.Kind == Claim && !slices.ContainsFunc(grants, func(g Grant) bool {
					return g.Owner == other.Owner && addrOf(g, FamilyOf(a.Addr)) == a.Addr
				})
				if !slices.Contains(r.Held, a.Addr) && slices.Contains(other.Held, a.Addr) && !lawful(other, r) && !gone {
					broken = append(broken, fmt.Sprintf("%s got %s, which %s holds", g.Owner, a.Addr, other.Owner))
				}
			}
		}
	}
	return broken
}

// moved: an owner that asks for nothing keeps what it holds lawfully, and
// whoever asks keeps something.
func moved(w World, grants []Grant) (broken []string) {
	uncovered := func(a netip.Addr) bool {
		return !slices.ContainsFunc(w.Pools, func(p Pool) bool { return p.Contains(a) })
	}
	for _, g := range grants {
		r := request1(w, g.Owner)
		for _, f := range r.Families {
			undisputed := func(a netip.Addr) bool {
				return FamilyOf(a) == f && !slices.ContainsFunc(w.Requests, func(o Request) bool {
					return o.Owner != r.Owner && slices.Contains(o.Held, a) && !lawful(o, r)
				})
			}
			i := slices.IndexFunc(r.Held, undisputed)
			if i < 0 {
				continue
			}
			got := addrOf(g, f)
			content := r.Pool == "" && len(r.Want) == 0 && r.Claim == "" && !r.Move && (!slices.ContainsFunc(r.Held, uncovered) || !slices.ContainsFunc(w.Pools, func(p Pool) bool { return p.Shrink }))
			if !got.IsValid() || content && !slices.Contains(r.Held, got) {
				broken = append(broken, fmt.Sprintf("%s held %s and has %s", g.Owner, r.Held[i], got))
			}
		}
	}
	return broken
}

// beyondQuota: where a namespace has more of a pool than it may, it got nothing
// new there.
func beyondQuota(w World, grants []Grant) (broken []string) {
	for _, p := range w.Pools {
		has, had := map[string]map[netip.Addr]bool{"x": {}, "y": {}}, map[string]map[netip.Addr]bool{"x": {}, "y": {}}
		for _, g := range grants {
			r := request1(w, g.Owner)
			for _, a := range g.Addrs {
				if a.Pool == p.Name {
					has[r.Namespace][a.Addr] = true
				}
			}
			for _, a := range r.Held {
				had[r.Namespace][a] = true
			}
		}
		for ns, addrs := range has {
			for a := range addrs {
				if p.Quota > 0 && len(addrs) > int(p.Quota) && !had[ns][a] {
					broken = append(broken, fmt.Sprintf("namespace %s has %d of %s and got %s", ns, len(addrs), p.Name, a))
				}
			}
		}
	}
	return broken
}

// forbidden: nobody gets anew what is reserved, rests for another, or is not
// handed out.
func forbidden(w World, grants []Grant) (broken []string) {
	for _, g := range grants {
		r := request1(w, g.Owner)
		for _, a := range g.Addrs {
			if slices.Contains(r.Held, a.Addr) {
				continue
			}
			held := slices.ContainsFunc(w.Requests, func(o Request) bool { return slices.Contains(o.Held, a.Addr) })
			mine := slices.ContainsFunc(w.Resting, func(o Rest) bool { return o.Addr == a.Addr && o.Until > w.Now && o.Owner == g.Owner })
			for _, rest := range w.Resting {
				if rest.Addr == a.Addr && rest.Until > w.Now && !mine && !held && !sharesNow(grants, g, a.Addr) {
					broken = append(broken, fmt.Sprintf("%s got %s, which rests for %s", g.Owner, a.Addr, rest.Owner))
				}
			}
			if whose, ok := w.Reserved[a.Addr]; ok {
				broken = append(broken, fmt.Sprintf("%s got %s of %s", g.Owner, a.Addr, whose))
			}
			i := slices.IndexFunc(w.Pools, func(p Pool) bool { return p.Contains(a.Addr) })
			if !held && (i < 0 || !handedOut(w.Pools[i], a.Addr)) {
				broken = append(broken, fmt.Sprintf("%s got %s, which no pool hands out", g.Owner, a.Addr))
			}
		}
	}
	return broken
}

// missed: nobody to whom any address will do waits while one is free in a pool
// that serves it and has quota left.
func missed(w World, grants []Grant) (broken []string) {
	inUse, of := map[netip.Addr]bool{}, map[[2]string]map[netip.Addr]bool{}
	use := func(r Request, a netip.Addr) {
		inUse[a] = true
		for _, p := range w.Pools {
			k := [2]string{p.Name, r.Namespace}
			if of[k] == nil {
				of[k] = map[netip.Addr]bool{}
			}
			of[k][a] = of[k][a] || p.Contains(a)
			if !of[k][a] {
				delete(of[k], a)
			}
		}
	}
	for _, g := range grants {
		r := request1(w, g.Owner)
		for _, a := range g.Addrs {
			use(r, a.Addr)
		}
		for _, a := range r.Held {
			use(r, a)
		}
	}
	for _, g := range grants {
		r := request1(w, g.Owner)
		for _, f := range r.Families {
			if addrOf(g, f).IsValid() || r.Require || len(r.Want) > 0 || r.Claim != "" {
				continue
			}
			for a := range eachAddr(f) {
				_, reserved := w.Reserved[a]
				rests := slices.ContainsFunc(w.Resting, func(o Rest) bool { return o.Addr == a && o.Until > w.Now && o.Owner != r.Owner })
				i := slices.IndexFunc(w.Pools, func(p Pool) bool { return p.Contains(a) })
				if i < 0 || inUse[a] || reserved || rests || !handedOut(w.Pools[i], a) || !slices.Contains(r.Pools, w.Pools[i].Name) {
					continue
				}
				p := w.Pools[i]
				if (r.Pool == p.Name || r.Pool == "" && p.Auto) && (p.Quota == 0 || len(of[[2]string{p.Name, r.Namespace}]) < int(p.Quota)) {
					broken = append(broken, fmt.Sprintf("%s waits, though %s is free", g.Owner, a))
				}
			}
		}
	}
	return broken
}

// eachAddr are all addresses of family f that randomAddr knows.
func eachAddr(f Family) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		a := map[Family]netip.Addr{IPv4: netip.MustParseAddr("192.0.2.0"), IPv6: netip.MustParseAddr("2001:db8::")}[f]
		for range 16 {
			if !yield(a) {
				return
			}
			a = a.Next()
		}
	}
}

// sharesNow reports whether somebody else got addr in this plan, too: then it
// rests no more.
func sharesNow(grants []Grant, g Grant, addr netip.Addr) bool {
	return slices.ContainsFunc(grants, func(o Grant) bool { return o.Owner != g.Owner && addrOf(o, FamilyOf(addr)) == addr })
}
