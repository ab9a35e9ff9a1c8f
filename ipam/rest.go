package ipam

import (
	"cmp"
	"net/netip"
	"slices"
)

// rests is what rests at the time of a Plan.
type rests struct {
	list  []Rest                  // by Addr, the longest first
	first map[netip.Addr]int      // place in list
	of    map[string][]netip.Addr // by owner, what was freed last first
}

func newRests(w World) rests {
	var r rests
	for _, one := range w.Resting {
		if one.Until > w.Now {
			r.list = append(r.list, one)
		}
	}
	if len(r.list) == 0 {
		return r
	}
	slices.SortFunc(r.list, func(a, b Rest) int {
		return cmp.Or(cmp.Compare(b.Until, a.Until), a.Addr.Compare(b.Addr), cmp.Compare(a.Owner, b.Owner))
	})
	r.first, r.of = make(map[netip.Addr]int, len(r.list)), make(map[string][]netip.Addr)
	for _, one := range r.list {
		r.of[one.Owner] = append(r.of[one.Owner], one.Addr)
	}
	slices.SortStableFunc(r.list, func(a, b Rest) int { return a.Addr.Compare(b.Addr) })
	for i, one := range slices.Backward(r.list) {
		r.first[one.Addr] = i
	}
	return r
}

// keeps returns until when addr is kept from owner; 0 if it is not.
func (r *rests) keeps(addr netip.Addr, owner string) int64 {
	i, ok := r.first[addr]
	if !ok {
		return 0
	}
	until := r.list[i].Until
	for ; i < len(r.list) && r.list[i].Addr == addr; i++ {
		if r.list[i].Owner == owner {
			return 0
		}
	}
	return until
}

func (r *rests) has(addr netip.Addr) bool {
	_, ok := r.first[addr]
	return ok
}

// soonest returns when the first resting address of pool i that nobody has can
// be handed out; 0 if there is none.
func (l *ledger) soonest(i int, f Family) int64 {
	memo := &l.ends[i][f.index()]
	if *memo != nil {
		return **memo
	}
	var end int64
	for at, r := range l.rests.list {
		_, reserved := l.reserved[r.Addr]
		if l.rests.first[r.Addr] != at || FamilyOf(r.Addr) != f || reserved || l.taken(r.Addr) || l.poolAt(r.Addr) != i || !l.handsOut(i, r.Addr) {
			continue
		}
		if end == 0 || r.Until < end {
			end = r.Until
		}
	}
	*memo = &end
	return end
}
