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
	pools    []Pool // in the order they are tried
	byName   map[string]int
	spans    []span // by First
	bids     []*bid // the oldest owner first
	reserved map[netip.Addr]string
	rests    rests

	// owner is which Service has an address, or had it and gives it up in this
	// Plan: of those that share it the oldest. claimant is the same of claims.
	owner    map[netip.Addr]*bid
	claimant map[netip.Addr]*bid
	claims   map[string]*bid // by Owner
	// leavers give up an address that others have, and do not share with them.
	leavers map[netip.Addr][]*bid

	shares  map[netip.Addr]*share
	circles map[circleKey]*circle

	quota     quotas
	hasQuotas bool

	wishes    map[netip.Addr]bool // asked for by name, by anybody
	cursors   [][2][2]cursor      // of each pool, by family and by whether it passes over what is asked for by name
	skip      [2]func(netip.Addr) bool
	audiences map[audienceKey]*audience
	ends      [][2]*int64  // of each pool, by family: see soonest
	nowhere   []Considered // every pool, none holding the address: see inNoPool
}

// A span is one range of a pool.
type span struct {
	Range
	pool int
}

func newLedger(w World) *ledger {
	l := &ledger{
		pools: slices.SortedFunc(slices.Values(w.Pools), func(a, b Pool) int {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
		}),
		byName:    make(map[string]int, len(w.Pools)),
		reserved:  w.Reserved,
		rests:     newRests(w),
		owner:     make(map[netip.Addr]*bid, len(w.Requests)),
		claimant:  make(map[netip.Addr]*bid),
		claims:    make(map[string]*bid),
		leavers:   make(map[netip.Addr][]*bid),
		shares:    make(map[netip.Addr]*share),
		circles:   make(map[circleKey]*circle),
		quota:     quotas{make(map[quotaKey]int32), make(map[presence]int)},
		cursors:   make([][2][2]cursor, len(w.Pools)),
		audiences: make(map[audienceKey]*audience),
		ends:      make([][2]*int64, len(w.Pools)),
	}
	for i, p := range l.pools {
		l.enterPool(i, p)
	}
	slices.SortFunc(l.spans, func(a, b span) int { return byFirst(a.Range, b.Range) })
	l.bids = newBids(w.Requests, l.rests.of)
	for _, b := range l.bids {
		if b.Kind == Claim {
			l.claims[b.Owner] = b
		}
	}
	l.skip = l.skips(w.Requests)
	return l
}

func (l *ledger) enterPool(i int, p Pool) {
	l.byName[p.Name] = i
	l.hasQuotas = l.hasQuotas || p.Quota > 0
	for _, r := range p.Ranges {
		l.spans = append(l.spans, span{r, i})
	}
	six := slices.IndexFunc(p.Ranges, func(r Range) bool { return r.Family() == IPv6 })
	if six < 0 {
		six = len(p.Ranges)
	}
	v4 := cursor{ranges: p.Ranges[:six], skipEdges: p.SkipFirstLast}
	v6 := cursor{ranges: p.Ranges[six:]}
	l.cursors[i] = [2][2]cursor{{v4, v4}, {v6, v6}}
}

// skips returns which addresses are passed over when any address will do:
// those that nobody else may have, and, in the second, also those that somebody
// asks for by name.
func (l *ledger) skips(reqs []Request) [2]func(netip.Addr) bool {
	l.wishes = make(map[netip.Addr]bool)
	for _, r := range reqs {
		for _, a := range r.Want {
			l.wishes[a] = true
		}
	}
	unfree := func(a netip.Addr) bool {
		if l.taken(a) || l.rests.has(a) {
			return true
		}
		_, reserved := l.reserved[a]
		return reserved
	}
	return [2]func(netip.Addr) bool{
		unfree,
		func(a netip.Addr) bool { return l.wishes[a] || unfree(a) },
	}
}

// taken reports whether anybody has addr, or gives it up in this Plan.
func (l *ledger) taken(addr netip.Addr) bool { return l.owner[addr] != nil || l.claimant[addr] != nil }

// poolAt returns the place of the pool that covers addr, or -1.
func (l *ledger) poolAt(addr netip.Addr) int {
	i := sort.Search(len(l.spans), func(i int) bool { return addr.Less(l.spans[i].First) })
	if i == 0 || !l.spans[i-1].Contains(addr) {
		return -1
	}
	return l.spans[i-1].pool
}

func (l *ledger) nameOf(addr netip.Addr) string {
	if i := l.poolAt(addr); i >= 0 {
		return l.pools[i].Name
	}
	return ""
}

// has reports whether pool i has addresses of family f at all.
func (l *ledger) has(i int, f Family) bool {
	return slices.ContainsFunc(l.pools[i].Ranges, func(r Range) bool { return r.Family() == f })
}

// handsOut reports whether pool i, which covers addr, gives it to anybody.
func (l *ledger) handsOut(i int, addr netip.Addr) bool {
	return !l.pools[i].SkipFirstLast || !isEdge(addr)
}

// free returns the lowest address of pool i that may be handed out in turn t,
// or the zero Addr. It does not take it.
func (l *ledger) free(i int, f Family, t turn) netip.Addr {
	by := 0
	if t.passesOver() {
		by = 1
	}
	return l.cursors[i][f.index()][by].seek(l.skip[by])
}

// settle enters that b has addr.
func (l *ledger) settle(b *bid, addr netip.Addr) {
	l.charge(b, addr)
	if b.Kind == Claim {
		l.claimant[addr] = b
		return
	}
	if l.owner[addr] == nil {
		l.owner[addr] = b
	}
	if b.Share != "" {
		l.host(b, addr, true)
	}
}

// giveUp enters that b had addr until this Plan.
func (l *ledger) giveUp(b *bid, addr netip.Addr) {
	if b.Kind == Claim {
		if l.claimant[addr] == nil {
			l.claimant[addr] = b
		}
		return
	}
	sh := l.shares[addr]
	switch {
	case l.owner[addr] == nil:
		l.owner[addr] = b
		if b.Share != "" {
			l.host(b, addr, false)
		}
	case sh != nil && sh.key == b.Share:
		l.host(b, addr, false)
	default:
		l.leavers[addr] = append(l.leavers[addr], b)
		if sh != nil {
			sh.closed = true
		}
	}
}

// move gives b what was found for s.
func (l *ledger) move(b *bid, s *slot) {
	if s.addr.IsValid() && l.poolAt(s.addr) == l.poolAt(s.next) {
		l.credit(b, s.addr)
	}
	if sh := l.shares[s.addr]; sh != nil && b.Kind == Service {
		sh.staying--
	}
	l.settle(b, s.next)
	s.addr, s.open = s.next, false
}

// A cursor stands at the lowest address that may be free. It never goes back:
// what is taken in a Plan stays taken.
type cursor struct {
	ranges    []Range // what is left; sorted, of one family
	next      netip.Addr
	skipEdges bool
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
			if !(c.skipEdges && isEdge(c.next)) && !skip(c.next) {
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
	serving []int          // the pools that any address may come from, in order
	named   int            // the pool that is named; -1 if none is, or there is no such pool
	refused [2][2]*Refusal // by family and turn, once nothing of serving is left
	admits  map[int]bool   // the pools that admit them
}

type audienceKey struct {
	pools     string
	pool      string
	namespace string // only where pools have quotas
}

// audience returns the audience that b belongs to. Most owners share a few.
func (l *ledger) audience(b *bid) *audience {
	if b.audience != nil {
		return b.audience
	}
	key := audienceKey{pools: strings.Join(b.Pools, "\x00"), pool: b.Pool} // no copy where there is one pool
	if l.hasQuotas {
		key.namespace = b.Namespace
	}
	a, ok := l.audiences[key]
	if !ok {
		a = l.newAudience(b.Request)
		l.audiences[key] = a
	}
	b.audience = a
	return a
}

func (l *ledger) newAudience(r *Request) *audience {
	a := &audience{named: -1, admits: make(map[int]bool, len(r.Pools))}
	if i, ok := l.byName[r.Pool]; ok && r.Pool != "" {
		a.named = i
	}
	for _, name := range r.Pools {
		i, ok := l.byName[name]
		if !ok || a.admits[i] {
			continue
		}
		a.admits[i] = true
		if i == a.named || r.Pool == "" && l.pools[i].Auto {
			a.serving = append(a.serving, i)
		}
	}
	slices.Sort(a.serving)
	return a
}

// serves reports whether any address of pool i will do.
func (a *audience) serves(i int) bool {
	_, ok := slices.BinarySearch(a.serving, i)
	return ok
}
