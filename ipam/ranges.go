package ipam

import (
	"container/heap"
	"net/netip"
	"slices"
	"sort"
)

// Normalize returns the addresses of ranges with every run in one piece:
// sorted, IPv4 first, disjoint, never adjacent.
func Normalize(ranges []Range) []Range {
	ranges = slices.SortedFunc(slices.Values(ranges), byFirst)
	var out []Range
	for _, r := range ranges {
		if n := len(out); n > 0 && touches(out[n-1], r) {
			if out[n-1].Last.Less(r.Last) {
				out[n-1].Last = r.Last
			}
			continue
		}
		out = append(out, r)
	}
	return out
}

// touches reports whether b, which does not start before a, overlaps a or
// follows it without a gap.
func touches(a, b Range) bool {
	if a.Family() != b.Family() {
		return false
	}
	return b.First.Compare(a.Last) <= 0 || b.First == a.Last.Next()
}

func byFirst(a, b Range) int { return a.First.Compare(b.First) }

// Subtract returns the addresses of from that are not in take. Both must be as
// Normalize leaves them, and so is the result.
func Subtract(from, take []Range) []Range {
	var out []Range
	for _, r := range from {
		for len(take) > 0 && take[0].Last.Less(r.First) {
			take = take[1:]
		}
		// A range of take may reach into the next of from: it stays in take.
		rest, whole := r, true
		for _, t := range take {
			if r.Last.Less(t.First) {
				break
			}
			if rest.First.Less(t.First) {
				out = append(out, Range{rest.First, t.First.Prev()})
			}
			if whole = t.Last.Less(r.Last); !whole {
				break
			}
			rest.First = t.Last.Next()
		}
		if whole {
			out = append(out, rest)
		}
	}
	return out
}

// Contains reports whether addr lies in one of p's ranges.
func (p Pool) Contains(addr netip.Addr) bool {
	i := sort.Search(len(p.Ranges), func(i int) bool { return addr.Less(p.Ranges[i].First) })
	return i > 0 && p.Ranges[i-1].Contains(addr)
}

// A Clash says that two sets of ranges overlap, and where they first do so.
// Winner and Loser are their places in the argument of Disjoin.
type Clash struct {
	Winner, Loser int
	Range         Range
}

// Disjoin makes sets disjoint: an address that several hold stays with the
// first of them, the others lose it and nothing else. It returns what is left
// of each, normalized, and for each set that lost something one Clash, by
// Loser, which names the first range it lost and to whom.
//
// It sweeps once over all ranges, n log n in their number however they overlap.
func Disjoin(sets [][]Range) ([][]Range, []Clash) {
	s := sweep{kept: make([][]Range, len(sets)), lost: make(map[int]Clash)}
	var all []entry
	for i, set := range sets {
		for _, r := range set {
			all = append(all, entry{r, i})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return byFirst(a.Range, b.Range) })
	for _, c := range all {
		s.until(c.First)
		s.enter(c)
	}
	s.until(netip.Addr{})

	for i := range s.kept {
		s.kept[i] = Normalize(s.kept[i])
	}
	clashes := make([]Clash, 0, len(s.lost))
	for i := range sets {
		if c, ok := s.lost[i]; ok {
			clashes = append(clashes, c)
		}
	}
	return s.kept, clashes
}

// An entry is a range and the set that it comes from.
type entry struct {
	Range
	set int
}

// A sweep walks over the entries of all sets from the lowest address up.
type sweep struct {
	kept   [][]Range
	lost   map[int]Clash
	active entries    // those that reach the place of the sweep or beyond, the first set on top
	at     netip.Addr // nothing below is still to be given
}

// until gives everything below end to the strongest entry on it; the zero Addr
// stands for the end of all addresses.
func (s *sweep) until(end netip.Addr) {
	for len(s.active) > 0 {
		top := s.active[0]
		if top.Last.Less(s.at) || !s.at.IsValid() {
			heap.Pop(&s.active)
			continue
		}
		if end.IsValid() && end.Compare(s.at) <= 0 {
			return
		}
		give := Range{s.at, top.Last}
		if end.IsValid() && end.Compare(top.Last) <= 0 {
			give.Last = end.Prev()
		}
		s.kept[top.set] = append(s.kept[top.set], give)
		s.at = give.Last.Next()
	}
}

// enter adds c at its first address and notes who loses by it. An entry further
// down has lost to a stronger one before, so comparing with the top will do.
func (s *sweep) enter(c entry) {
	if len(s.active) > 0 {
		top := s.active[0]
		winner, loser := min(top.set, c.set), max(top.set, c.set)
		_, known := s.lost[loser]
		if winner != loser && !known {
			both := Range{c.First, c.Last}
			if top.Last.Less(c.Last) {
				both.Last = top.Last
			}
			s.lost[loser] = Clash{Winner: winner, Loser: loser, Range: both}
		}
	}
	heap.Push(&s.active, c)
	s.at = c.First
}

// entries is a heap (container/heap) with the entry of the first set on top.
type entries []entry

func (c entries) Len() int           { return len(c) }
func (c entries) Less(i, j int) bool { return c[i].set < c[j].set }
func (c entries) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }

// Push implements heap.Interface.
func (c *entries) Push(x any) { *c = append(*c, x.(entry)) }

// Pop implements heap.Interface.
func (c *entries) Pop() any {
	last := len(*c) - 1
	x := (*c)[last]
	*c = (*c)[:last]
	return x
}
