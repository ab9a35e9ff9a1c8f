package bgp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/speaker"
)

// A step leads from routes that were accepted to others. Few of many change, so
// only what differs is checked, and looked at by each session: one among 10,000 is
// told as soon as one alone. What is accepted is by prefix, none twice, and nobody
// changes it any more.
type step struct {
	from, to []speaker.Route
	was, now []speaker.Route // of each, what is not in the other
	ordered  bool            // whether to is by prefix, none twice
}

// newStep compares two lists of routes, of which from was accepted. It is in the way
// of each change, and what takes longest of it with many routes: it reads each route
// once. Were they not by prefix, more would differ than does.
func newStep(from, to []speaker.Route) step {
	if same(from, to) {
		return step{from: from, to: to, ordered: true}
	}
	var was, now []speaker.Route
	i, j, ordered := 0, 0, true
	for i < len(from) && j < len(to) {
		if sameRoute(&from[i], &to[j]) {
			i, j = i+1, j+1
			continue
		}
		c := comparePrefixes(from[i].Prefix, to[j].Prefix)
		if c <= 0 {
			was, i = append(was, from[i]), i+1
		}
		if c >= 0 {
			now, ordered, j = append(now, to[j]), ordered && inOrder(to, j), j+1
		}
	}
	was, now = rest(was, from[i:]), rest(now, to[j:])
	for ; ordered && j < len(to); j++ {
		ordered = inOrder(to, j)
	}
	return step{from, to, was, now, ordered}
}

// rest adds what comes last, which is all there is as a session starts, or ends.
func rest(some, more []speaker.Route) []speaker.Route {
	if len(some) == 0 {
		return slices.Clip(more)
	}
	return append(some, more...)
}

// inOrder is whether a route is between those that stand beside it. Two that were
// accepted stand in order: it is enough to ask for those that were not.
func inOrder(routes []speaker.Route, at int) bool {
	before := func(i, j int) bool { return comparePrefixes(routes[i].Prefix, routes[j].Prefix) < 0 }
	return (at == 0 || before(at-1, at)) && (at+1 == len(routes) || before(at, at+1))
}

// leads is whether s is the step between two lists, and no others that say the same.
func (s step) leads(from, to []speaker.Route) bool { return same(s.from, from) && same(s.to, to) }

// check looks for what no router can be told, and for what is there twice.
func (s step) check() error {
	var errs []error
	for _, r := range s.now {
		if p := r.Prefix; !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("%s is no prefix", p))
		}
	}
	for i := 1; i < len(s.to) && !s.ordered; i++ {
		if p := s.to[i].Prefix; p == s.to[i-1].Prefix {
			errs = append(errs, fmt.Errorf("%s is there twice", p))
		}
	}
	return errors.Join(errs...)
}

// steps are those of one Sync: sessions often have all routes in common, and then
// one has to be looked for only once.
type steps []step

// between returns the step that leads from routes that were accepted to others, in
// order, and what is wrong with those.
func (all *steps) between(from, to []speaker.Route) (step, error) {
	if i := slices.IndexFunc(*all, func(s step) bool { return s.leads(from, to) }); i >= 0 {
		return (*all)[i], (*all)[i].check()
	}
	s := newStep(from, to)
	if !s.ordered {
		s = newStep(from, slices.SortedFunc(slices.Values(to), func(a, b speaker.Route) int { return comparePrefixes(a.Prefix, b.Prefix) }))
	}
	*all = append(*all, s)
	return s, s.check()
}

// comparePrefixes orders those that have no bits beyond their length, as
// [netip.Prefix.Compare] does, which takes three times as long.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// sameRoute is whether two say the same. What they point at is the very same most
// often, and is not read then.
func sameRoute(a, b *speaker.Route) bool {
	if a.Prefix != b.Prefix || a.Leaving != b.Leaving {
		return false
	}
	one := same(a.Communities, b.Communities) && same(a.Large, b.Large) && a.LocalPref == b.LocalPref && a.MED == b.MED
	return one || slices.Equal(a.Communities, b.Communities) && slices.Equal(a.Large, b.Large) &&
		sameNumber(a.LocalPref, b.LocalPref) && sameNumber(a.MED, b.MED)
}

func sameNumber(a, b *uint32) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// same is whether two lists are one, or both empty.
func same[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
