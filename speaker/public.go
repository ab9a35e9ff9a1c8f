package speaker

import (
	"cmp"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/ipam"
)

// A public are sessions that are told the same, whatever there is to tell: it is found
// out once for all of them, and they have it in common.
type public struct {
	Session         // the first of them
	places  []int   // of all of them
	routes  []Route // in the order of addresses
	told    []ipam.Range
}

// seat adds a session to those that are told the same.
func (p *routePlan) seat(s Session, at int) {
	i := slices.IndexFunc(p.publics, func(pub public) bool { return p.alike(pub.Session, s) })
	if i < 0 {
		i, p.publics = len(p.publics), append(p.publics, public{Session: s})
	}
	p.publics[i].places = append(p.publics[i].places, at)
}

// alike is whether whatever is told in one of two sessions is told in the other.
func (p *routePlan) alike(a, b Session) bool {
	differ := func(e config.BGP) bool { return named(a, e) != named(b, e) }
	return a.V4 == b.V4 && a.V6 == b.V6 &&
		!slices.ContainsFunc(p.pools, func(pool config.Pool) bool { return slices.ContainsFunc(pool.BGP, differ) })
}

// named is whether the router of s is one of those that b is for.
func named(s Session, b config.BGP) bool {
	_, found := slices.BinarySearch(b.Peers, s.Name)
	return found || len(b.Peers) == 0
}

// add adds a route, to the last one if it is of the same prefix.
func (pub *public) add(r Route) {
	if last := len(pub.routes) - 1; last >= 0 && pub.routes[last].Prefix == r.Prefix {
		pub.routes[last] = merge(pub.routes[last], r)
		return
	}
	pub.routes = append(pub.routes, r)
}

// byPrefix returns the routes as they are told. They are in order already, but for
// those of entries with different lengths.
func (pub *public) byPrefix() []Route {
	all := pub.routes
	byPrefix := func(a, b Route) int { return a.Prefix.Compare(b.Prefix) }
	if !slices.IsSortedFunc(all, byPrefix) {
		slices.SortStableFunc(all, byPrefix)
		sorted := public{}
		for _, r := range all {
			sorted.add(r)
		}
		all = sorted.routes
	}
	for i := range all {
		if all[i].Leaving {
			all[i] = all[i].leaving()
		}
	}
	return all
}

// merge makes one of two routes of one prefix: it has the communities of both, and is
// as good as the better one.
func merge(was, r Route) Route {
	r.Communities = union(was.Communities, r.Communities, cmp.Compare[uint32])
	r.Large = union(was.Large, r.Large, func(a, b [3]uint32) int { return slices.Compare(a[:], b[:]) })
	if orElse(was.LocalPref, defaultLocalPref) > orElse(r.LocalPref, defaultLocalPref) {
		r.LocalPref = was.LocalPref
	}
	if orElse(was.MED, 0) < orElse(r.MED, 0) {
		r.MED = was.MED
	}
	r.Leaving = was.Leaving && r.Leaving
	return r
}

// defaultLocalPref is what routers take a route to have that does not say. A missing
// MED is the best, 0 (RFC 4271 §9.1.2.2).
const defaultLocalPref = 100

func orElse(n *uint32, otherwise uint32) uint32 {
	if n == nil {
		return otherwise
	}
	return *n
}

// union returns what is in either of two sorted lists, sorted.
func union[T comparable](a, b []T, compare func(a, b T) int) []T {
	if slices.Equal(a, b) {
		return a
	}
	all := slices.SortedFunc(slices.Values(slices.Concat(a, b)), compare)
	return slices.Compact(all)
}
