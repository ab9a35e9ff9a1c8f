package ipam

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// world is a small world of pools and requests in which everything happens:
// pools that fill up, overlapping wishes, owners without a pool.
type world struct {
	pools []Pool
	reqs  []Request
}

func randomWorld(rnd *rand.Rand) world {
	var w world
	sets := make([][]Range, 1+rnd.IntN(4))
	for i := range sets {
		for range rnd.IntN(4) {
			sets[i] = append(sets[i], randomRange(rnd))
		}
	}
	sets, _ = Disjoin(sets)
	for i, ranges := range sets {
		w.pools = append(w.pools, Pool{
			Name: fmt.Sprintf("p%d", i), Priority: int32(rnd.IntN(2)), Auto: rnd.IntN(4) > 0, Ranges: ranges,
		})
	}
	for i := range rnd.IntN(12) {
		w.reqs = append(w.reqs, randomRequest(rnd, fmt.Sprintf("r%02d", i)))
	}
	return w
}

func randomRange(rnd *rand.Rand) Range {
	a, b := randomAddr(rnd, IPv4), randomAddr(rnd, IPv4)
	if rnd.IntN(3) == 0 {
		a, b = randomAddr(rnd, IPv6), randomAddr(rnd, IPv6)
	}
	if b.Less(a) {
		a, b = b, a
	}
	return Range{a, b}
}

// randomAddr is one of sixteen addresses of a family.
func randomAddr(rnd *rand.Rand, f Family) netip.Addr {
	n := byte(rnd.IntN(16))
	if f == IPv4 {
		return netip.AddrFrom4([4]byte{192, 0, 2, n})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: n})
}

func randomRequest(rnd *rand.Rand, owner string) Request {
	r := Request{Owner: owner, Age: int64(rnd.IntN(4))}
	r.Families = [][]Family{{IPv4}, {IPv4}, {IPv6}, {IPv4, IPv6}, {IPv6, IPv4}}[rnd.IntN(5)]
	r.Require = len(r.Families) == 2 && rnd.IntN(2) == 0
	for i := range 5 { // p4 never exists
		if rnd.IntN(3) > 0 {
			r.Pools = append(r.Pools, fmt.Sprintf("p%d", i))
		}
	}
	if rnd.IntN(4) == 0 {
		r.Pool = fmt.Sprintf("p%d", rnd.IntN(5))
	}
	for _, f := range []Family{IPv4, IPv6} {
		if rnd.IntN(4) == 0 {
			r.Want = append(r.Want, randomAddr(rnd, f))
		}
		for range max(rnd.IntN(6)-3, 0) { // none, one or, rarely, two
			r.Held = append(r.Held, randomAddr(rnd, f))
		}
	}
	return r
}

func (w world) clone() world {
	c := world{pools: slices.Clone(w.pools), reqs: slices.Clone(w.reqs)}
	for i := range c.pools {
		c.pools[i].Ranges = slices.Clone(c.pools[i].Ranges)
	}
	for i := range c.reqs {
		r := &c.reqs[i]
		r.Held, r.Families = slices.Clone(r.Held), slices.Clone(r.Families)
		r.Pools, r.Want = slices.Clone(r.Pools), slices.Clone(r.Want)
	}
	return c
}

func (w world) shuffle(rnd *rand.Rand) {
	rnd.Shuffle(len(w.pools), func(i, j int) { w.pools[i], w.pools[j] = w.pools[j], w.pools[i] })
	rnd.Shuffle(len(w.reqs), func(i, j int) { w.reqs[i], w.reqs[j] = w.reqs[j], w.reqs[i] })
}

// mutate changes pools and requests as users do.
func (w *world) mutate(rnd *rand.Rand) {
	next := randomWorld(rnd)
	switch rnd.IntN(4) {
	case 0:
		w.pools = next.pools
	case 1:
		for i := range min(len(w.reqs), len(next.reqs)) {
			if rnd.IntN(3) == 0 {
				next.reqs[i].Held, next.reqs[i].Owner = w.reqs[i].Held, w.reqs[i].Owner
				w.reqs[i] = next.reqs[i]
			}
		}
	case 2:
		w.reqs = slices.DeleteFunc(w.reqs, func(Request) bool { return rnd.IntN(4) == 0 })
	}
}

// write writes grants into the statuses that the next plan reads. A write that
// fails leaves the old status.
func (w *world) write(grants []Grant, fails func() bool) {
	for _, g := range grants {
		i := slices.IndexFunc(w.reqs, func(r Request) bool { return r.Owner == g.Owner })
		if fails() {
			continue
		}
		w.reqs[i].Held = nil
		for _, a := range g.Addrs {
			w.reqs[i].Held = append(w.reqs[i].Held, a.Addr)
		}
	}
}

// From any start, through edits of everything and writes that fail, every plan
// keeps its promises.
func TestPromisesHoldOnARandomWalk(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for walk := range 250 {
		w := randomWorld(rnd)
		for step := range 8 {
			before := w.clone()
			grants := Plan(w.pools, w.reqs)
			if diff := gocmp.Diff(before.reqs, w.reqs, sameAddr); diff != "" {
				t.Fatalf("walk %d step %d: Plan edited its requests:\n%s", walk, step, diff)
			}
			before.shuffle(rnd)
			if diff := gocmp.Diff(grants, Plan(before.pools, before.reqs), sameAddr); diff != "" {
				t.Fatalf("walk %d step %d: order of input matters:\n%s", walk, step, diff)
			}
			if diff := gocmp.Diff(naive(w), lines(grants)); diff != "" {
				t.Fatalf("walk %d step %d: %+v\nnaive plan says (-want +got):\n%s", walk, step, w, diff)
			}
			for _, broken := range slices.Concat(w.doubled(grants), w.moved(grants), w.missed(grants)) {
				t.Fatalf("walk %d step %d: %s\n%+v", walk, step, broken, w)
			}
			w.write(grants, func() bool { return rnd.IntN(5) == 0 })
			w.mutate(rnd)
		}
	}
}

// Once everything is written and nobody edits anything, nothing moves.
func TestPlansComeToRest(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 300 {
		w := randomWorld(rnd)
		var last []Grant
		for range 20 { // a chain of moves ends when each has had its turn
			last = Plan(w.pools, w.reqs)
			w.write(last, func() bool { return false })
		}
		if diff := gocmp.Diff(last, Plan(w.pools, w.reqs), sameAddr); diff != "" {
			t.Fatalf("round %d: still moving:\n%s", round, diff)
		}
	}
}

// doubled: no address is granted twice, nor handed out while somebody holds it.
func (w world) doubled(grants []Grant) (broken []string) {
	granted := map[netip.Addr]string{}
	for _, g := range grants {
		for _, a := range g.Addrs {
			if other, ok := granted[a.Addr]; ok {
				broken = append(broken, fmt.Sprintf("%s and %s both got %s", other, g.Owner, a.Addr))
			}
			granted[a.Addr] = g.Owner
			i := slices.IndexFunc(w.reqs, func(r Request) bool { return slices.Contains(r.Held, a.Addr) })
			if i >= 0 && !slices.Contains(w.request(g.Owner).Held, a.Addr) {
				broken = append(broken, fmt.Sprintf("%s got %s, which %s holds", g.Owner, a.Addr, w.reqs[i].Owner))
			}
		}
	}
	return broken
}

// moved: an owner that asks for nothing by name keeps what it alone holds, and
// whoever asks keeps something.
func (w world) moved(grants []Grant) (broken []string) {
	for _, g := range grants {
		r := w.request(g.Owner)
		for _, f := range r.Families {
			i := slices.IndexFunc(r.Held, func(a netip.Addr) bool { return FamilyOf(a) == f && w.holders(a) == 1 })
			if i < 0 {
				continue
			}
			got := addrOf(g, f)
			if !got.IsValid() || r.Pool == "" && len(r.Want) == 0 && !slices.Contains(r.Held, got) {
				broken = append(broken, fmt.Sprintf("%s held %s and has %s", g.Owner, r.Held[i], got))
			}
		}
	}
	return broken
}

// missed: nobody waits for an address that is free in a pool that would serve.
func (w world) missed(grants []Grant) (broken []string) {
	granted := map[netip.Addr]bool{}
	for _, g := range grants {
		for _, a := range g.Addrs {
			granted[a.Addr] = true
		}
	}
	for _, g := range grants {
		r := w.request(g.Owner)
		var could []netip.Addr // one for each family that is missing
		missing := 0
		for _, f := range r.Families {
			if addrOf(g, f).IsValid() {
				continue
			}
			missing++
			i := slices.IndexFunc(w.offers(r, f), func(a netip.Addr) bool { return !granted[a] && w.holders(a) == 0 })
			if i >= 0 {
				could = append(could, w.offers(r, f)[i])
			}
		}
		if len(could) > 0 && (!r.Require || len(could) == missing) && !waitsForMore(g, r) {
			broken = append(broken, fmt.Sprintf("%s waits, though %v is free", g.Owner, could))
		}
	}
	return broken
}

// waitsForMore reports whether g is of a Require request that also waits to
// move an address it has.
func waitsForMore(g Grant, r Request) bool {
	return r.Require && slices.ContainsFunc(g.Refusals, func(f Refusal) bool { return addrOf(g, f.Family).IsValid() })
}

// offers are all addresses that r may get of family f, in the order of choice.
func (w world) offers(r Request, f Family) (out []netip.Addr) {
	ps := slices.SortedFunc(slices.Values(w.pools), func(a, b Pool) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
	})
	want := slices.IndexFunc(r.Want, func(a netip.Addr) bool { return FamilyOf(a) == f })
	for _, p := range ps {
		asked := r.Pool == p.Name || r.Pool == "" && (p.Auto || want >= 0)
		if !asked || !slices.Contains(r.Pools, p.Name) {
			continue
		}
		for _, rg := range p.Ranges {
			for a := rg.First; a.IsValid() && a.Compare(rg.Last) <= 0; a = a.Next() {
				if FamilyOf(a) == f && (want < 0 || r.Want[want] == a) {
					out = append(out, a)
				}
			}
		}
	}
	if want < 0 && len(r.Want) > 0 && !slices.ContainsFunc(r.Want, func(a netip.Addr) bool { return slices.Contains(r.Families, FamilyOf(a)) }) {
		return nil // asked by name, for none of a wanted family
	}
	return out
}

func (w world) request(owner string) Request {
	return w.reqs[slices.IndexFunc(w.reqs, func(r Request) bool { return r.Owner == owner })]
}

func (w world) holders(a netip.Addr) (n int) {
	for _, r := range w.reqs {
		if slices.Contains(r.Held, a) {
			n++
		}
	}
	return n
}

func addrOf(g Grant, f Family) netip.Addr {
	for _, a := range g.Addrs {
		if FamilyOf(a.Addr) == f {
			return a.Addr
		}
	}
	return netip.Addr{}
}
