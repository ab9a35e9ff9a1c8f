package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"strings"
)

// A ledger is the state of one Plan.
type ledger struct {
	pools  []Pool // in the order they are tried
	byName map[string]int
	spans  []span // by First
	bids   []*bid // the oldest owner first

	// owner is who has an address, or had it and gives it up in this Plan.
	owner map[netip.Addr]*bid

	cursors   [][4]cursor // of each pool, by family and turn
	skip      [2]func(netip.Addr) bool
	audiences map[string]*audience
	nowhere   []Considered // every pool, none holding the address: see inNoPool
}

// A span is one range of a pool.
type span struct {
	Range
	pool int
}

func newLedger(pools []Pool, reqs []Request) *ledger {
	l := &ledger{
		pools: slices.SortedFunc(slices.Values(pools), func(a, b Pool) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
		}),
		byName:    make(map[string]int, len(pools)),
		bids:      newBids(reqs),
		owner:     make(map[netip.Addr]*bid, len(reqs)),
		cursors:   make([][4]cursor, len(pools)),
		audiences: make(map[string]*audience),
	}
	for i, p := range l.pools {
		l.byName[p.Name] = i
		for _, r := range p.Ranges {
			l.spans = append(l.spans, span{r, i})
		}
		six := slices.IndexFunc(p.Ranges, func(r Range) bool { return r.Family() == IPv6 })
		if six < 0 {
			six = len(p.Ranges)
		}
		v4, v6 := cursor{ranges: p.Ranges[:six]}, cursor{ranges: p.Ranges[six:]}
		l.cursors[i] = [4]cursor{v4, v4, v6, v6}
	}
	slices.SortFunc(l.spans, func(a, b span) int { return byFirst(a.Range, b.Range) })
	l.skip = skips(l.owner, reqs)
	return l
}

// skips returns which addresses each turn passes over when any address will
// do: those that are taken, and in the turn by name also those that somebody
// asks for by name.
func skips(owner map[netip.Addr]*bid, reqs []Request) [2]func(netip.Addr) bool {
	named := make(map[netip.Addr]bool)
	for _, r := range reqs {
		for _, a := range r.Want {
			named[a] = true
		}
	}
	taken := func(a netip.Addr) bool { return owner[a] != nil }
	return [2]func(netip.Addr) bool{
		byName:     func(a netip.Addr) bool { return taken(a) || named[a] },
		anyAddress: taken,
	}
}

// poolOf returns the pool that covers addr, or nil.
func (l *ledger) poolOf(addr netip.Addr) *Pool {
	i := sort.Search(len(l.spans), func(i int) bool { return addr.Less(l.spans[i].First) })
	if i == 0 || !l.spans[i-1].Contains(addr) {
		return nil
	}
	return &l.pools[l.spans[i-1].pool]
}

func (l *ledger) nameOf(addr netip.Addr) string {
	if p := l.poolOf(addr); p != nil {
		return p.Name
	}
	return ""
}

// has reports whether pool i has addresses of family f at all.
func (l *ledger) has(i int, f Family) bool {
	return slices.ContainsFunc(l.pools[i].Ranges, func(r Range) bool { return r.Family() == f })
}

// free returns the lowest address of pool i that may be handed out in turn t,
// or the zero Addr. It does not take it.
func (l *ledger) free(i int, f Family, t turn) netip.Addr {
	at := int(t)
	if f == IPv6 {
		at += 2
	}
	return l.cursors[i][at].seek(l.skip[t])
}

// A cursor stands at the lowest address that may be free. It never goes back:
// what is taken in a Plan stays taken.
type cursor struct {
	ranges []Range // what is left; sorted, of one family
	next   netip.Addr
}

// seek returns the first address at or above the cursor that is not to be
// skipped, and leaves the cursor there.
func (c *cursor) seek(skip func(netip.Addr) bool) netip.Addr {
	for len(c.ranges) > 0 {
		if !c.next.IsValid() {
			c.next = c.ranges[0].First
		}
		// Next after the last of all addresses is the zero Addr.
		for c.next.IsValid() && c.next.Compare(c.ranges[0].Last) <= 0 {
			if !skip(c.next) {
				return c.next
			}
			c.next = c.next.Next()
		}
		c.ranges, c.next = c.ranges[1:], netip.Addr{}
	}
	return netip.Addr{}
}

// An audience is all owners who may take from the same pools.
type audience struct {
	auto    []int        // the pools that serve them unasked, in order
	refused [2]*Refusal  // of each family, once all of auto is full
	admits  map[int]bool // the pools that admit them
}

// audience returns the audience that pools admit. Most owners share a few.
func (l *ledger) audience(pools []string) *audience {
	key := strings.Join(pools, "\x00") // no copy where there is one pool
	if a, ok := l.audiences[key]; ok {
		return a
	}
	a := &audience{admits: make(map[int]bool, len(pools))}
	for _, name := range pools {
		if i, ok := l.byName[name]; ok && !a.admits[i] {
			a.admits[i] = true
			if l.pools[i].Auto {
				a.auto = append(a.auto, i)
			}
		}
	}
	slices.Sort(a.auto)
	l.audiences[key] = a
	return a
}
