package ipam

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// randomWorld is a small world in which everything happens: pools that fill
// up, overlapping wishes, owners without a pool, keys, claims, quotas.
func randomWorld(rnd *rand.Rand) World {
	w := World{Now: 100, Reserved: map[netip.Addr]string{}}
	sets := make([][]Range, 1+rnd.IntN(4))
	for i := range sets {
		for range rnd.IntN(4) {
			sets[i] = append(sets[i], randomRange(rnd))
		}
	}
	sets, _ = Disjoin(sets)
	for i, ranges := range sets {
		w.Pools = append(w.Pools, Pool{
			Name: fmt.Sprintf("p%d", i), Priority: int32(rnd.IntN(2)), Auto: rnd.IntN(4) > 0, Ranges: ranges,
			SkipFirstLast: rnd.IntN(3) == 0, Quota: int32(max(rnd.IntN(6)-2, 0)), Shrink: rnd.IntN(3) == 0,
		})
	}
	for i := range rnd.IntN(14) {
		w.Requests = append(w.Requests, randomRequest(rnd, fmt.Sprintf("r%02d", i)))
	}
	for i := range rnd.IntN(4) {
		w.Requests = append(w.Requests, randomClaim(rnd, fmt.Sprintf("c%d", i)))
	}
	for range max(rnd.IntN(4)-1, 0) {
		w.Reserved[randomAddr(rnd, randomFamily(rnd))] = "node n1"
	}
	for range max(rnd.IntN(6)-2, 0) {
		w.Resting = append(w.Resting, Rest{
			Addr: randomAddr(rnd, randomFamily(rnd)), Owner: fmt.Sprintf("%s/r%02d", randomNamespace(rnd), rnd.IntN(14)), Until: int64(98 + rnd.IntN(6)),
		})
	}
	return w
}

func randomFamily(rnd *rand.Rand) Family { return []Family{IPv4, IPv4, IPv6}[rnd.IntN(3)] }

func randomNamespace(rnd *rand.Rand) string { return []string{"x", "y", "y"}[rnd.IntN(3)] }

func randomRange(rnd *rand.Rand) Range {
	f := randomFamily(rnd)
	a, b := randomAddr(rnd, f), randomAddr(rnd, f)
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

// randomRequest is a request of a Service. Every name lies in one namespace.
func randomRequest(rnd *rand.Rand, name string) Request {
	ns := []string{"x", "y"}[int(name[2])%2]
	r := Request{Owner: ns + "/" + name, Namespace: ns, Age: int64(rnd.IntN(4))}
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
		if rnd.IntN(4) == 0 {
			r.Prefer = append(r.Prefer, randomAddr(rnd, f))
		}
		for range max(rnd.IntN(6)-3, 0) { // none, one or, rarely, two
			r.Held = append(r.Held, randomAddr(rnd, f))
		}
	}
	if rnd.IntN(2) == 0 {
		r.Share = []string{"k", "k", "l"}[rnd.IntN(3)]
		r.ShareWith = [][]string{nil, nil, {"x"}, {"y", "y"}, {"*"}}[rnd.IntN(5)]
	}
	for n := range uint16(4) {
		if rnd.IntN(4) == 0 {
			r.Ports = append(r.Ports, Port{6, 80 + n})
		}
	}
	if rnd.IntN(5) == 0 {
		r.Claim = fmt.Sprintf("c%d", rnd.IntN(4))
	}
	r.Move = rnd.IntN(8) == 0
	return r
}

func randomClaim(rnd *rand.Rand, name string) Request {
	r := randomRequest(rnd, "r0"+name[1:])
	r.Kind, r.Owner = Claim, ClaimOwner(r.Namespace, name)
	return r
}

func clone(w World) World {
	w.Pools, w.Requests, w.Resting = slices.Clone(w.Pools), slices.Clone(w.Requests), slices.Clone(w.Resting)
	for i := range w.Pools {
		w.Pools[i].Ranges = slices.Clone(w.Pools[i].Ranges)
	}
	for i := range w.Requests {
		r := &w.Requests[i]
		r.Held, r.Families, r.Prefer = slices.Clone(r.Held), slices.Clone(r.Families), slices.Clone(r.Prefer)
		r.Pools, r.Want = slices.Clone(r.Pools), slices.Clone(r.Want)
		r.Ports, r.ShareWith = slices.Clone(r.Ports), slices.Clone(r.ShareWith)
	}
	return w
}

func shuffle(rnd *rand.Rand, w World) {
	rnd.Shuffle(len(w.Pools), func(i, j int) { w.Pools[i], w.Pools[j] = w.Pools[j], w.Pools[i] })
	rnd.Shuffle(len(w.Requests), func(i, j int) { w.Requests[i], w.Requests[j] = w.Requests[j], w.Requests[i] })
	rnd.Shuffle(len(w.Resting), func(i, j int) { w.Resting[i], w.Resting[j] = w.Resting[j], w.Resting[i] })
}

// mutate changes the world as users, nodes and time do.
func mutate(rnd *rand.Rand, w *World) {
	next := randomWorld(rnd)
	switch rnd.IntN(6) {
	case 0:
		w.Pools = next.Pools
	case 1:
		for i := range w.Requests {
			j := slices.IndexFunc(next.Requests, func(r Request) bool { return r.Owner == w.Requests[i].Owner })
			if j >= 0 && rnd.IntN(3) == 0 {
				next.Requests[j].Held = w.Requests[i].Held
				w.Requests[i] = next.Requests[j]
			}
		}
	case 2:
		w.Requests = slices.DeleteFunc(w.Requests, func(Request) bool { return rnd.IntN(4) == 0 })
	case 3:
		for _, r := range next.Requests {
			if !slices.ContainsFunc(w.Requests, func(o Request) bool { return o.Owner == r.Owner }) && rnd.IntN(2) == 0 {
				r.Held = nil
				w.Requests = append(w.Requests, r)
			}
		}
	case 4:
		w.Reserved, w.Resting = next.Reserved, next.Resting
	}
	w.Now++
}

// write writes grants into the statuses that the next plan reads. A write that
// fails leaves the old status, one for an owner that is gone does nothing. Whoever has moved on purpose stays from then on.
func write(w *World, grants []Grant, fails func() bool) {
	for _, g := range grants {
		i := slices.IndexFunc(w.Requests, func(r Request) bool { return r.Owner == g.Owner })
		if i < 0 || fails() {
			continue
		}
		r := &w.Requests[i]
		var held []netip.Addr
		for _, a := range g.Addrs {
			held = append(held, a.Addr)
			r.Move = r.Move && (len(r.Held) == 0 || slices.Contains(r.Held, a.Addr))
		}
		r.Held = held
	}
}

func request1(w World, owner string) Request {
	return w.Requests[slices.IndexFunc(w.Requests, func(r Request) bool { return r.Owner == owner })]
}

func addrOf(g Grant, f Family) netip.Addr {
	for _, a := range g.Addrs {
		if FamilyOf(a.Addr) == f {
			return a.Addr
		}
	}
	return netip.Addr{}
}
