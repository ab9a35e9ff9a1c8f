package steer

import (
	"cmp"
	"net/netip"
	"slices"
)

// Diff returns the changes that turn have into want. Those in join only add or
// adjust; those in leave only remove, or take a destination's weight away.
//
// In join a row comes after all that has to be there before it is met: the
// back tier, then the single one, then the front, then the address. In leave
// it is the other way round. A server that leaves takes its destinations along.
func Diff(have, want Table) (join, leave []Change) {
	rows := slices.Concat(joinServers(have, want), joinDests(have, want))
	slices.SortFunc(rows, func(a, b Change) int { return cmp.Or(compareVirtuals(a.Virtual, b.Virtual), a.Real.Compare(b.Real)) })
	join = slices.Concat(
		missing(have.Pods, want.Pods, netip.Prefix.Compare, func(p netip.Prefix) Change { return Change{Verb: Add, Pods: p} }),
		missing(have.Nodes, want.Nodes, netip.Addr.Compare, func(a netip.Addr) Change { return Change{Verb: Add, Node: a} }),
		rows,
		missing(have.Addrs, want.Addrs, netip.Addr.Compare, func(a netip.Addr) Change { return Change{Verb: Add, Addr: a} }))

	rows = leaving(have, want)
	slices.SortFunc(rows, func(a, b Change) int { return cmp.Or(compareVirtuals(b.Virtual, a.Virtual), a.Real.Compare(b.Real)) })
	leave = slices.Concat(
		missing(want.Addrs, have.Addrs, netip.Addr.Compare, func(a netip.Addr) Change { return Change{Verb: Del, Addr: a} }),
		rows,
		missing(want.Nodes, have.Nodes, netip.Addr.Compare, func(a netip.Addr) Change { return Change{Verb: Del, Node: a} }),
		missing(want.Pods, have.Pods, netip.Prefix.Compare, func(p netip.Prefix) Change { return Change{Verb: Del, Pods: p} }))
	return join, leave
}

// Same is whether there is nothing to change between a and b.
func Same(a, b Table) bool {
	join, leave := Diff(a, b)
	return len(join)+len(leave) == 0
}

// DiffOf is Diff for the table before the rows of t were touched, and want.
func DiffOf(t *Touched, want Table) (join, leave []Change) {
	return Diff(t.Was, want.only(t))
}

// only returns the rows of t that were touched.
func (t Table) only(touched *Touched) Table {
	some := NewTable()
	pick(some.Servers, t.Servers, touched.Servers)
	pick(some.Dests, t.Dests, touched.Dests)
	pick(some.Addrs, t.Addrs, touched.Addrs)
	return some
}

func pick[K comparable, V any](to, from map[K]V, keys map[K]bool) {
	for k := range keys {
		if v, ok := from[k]; ok {
			to[k] = v
		}
	}
}

// missing returns the changes that the keys of from which in lacks make, in
// their order.
func missing[K comparable](in, from map[K]bool, compare func(a, b K) int, change func(K) Change) []Change {
	var keys []K
	for k := range from {
		if !in[k] {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compare)
	changes := make([]Change, 0, len(keys))
	for _, k := range keys {
		changes = append(changes, change(k))
	}
	return changes
}

// joinServers returns the servers that join. As a node starts these are all that it
// has: there is room for them from the first.
func joinServers(have, want Table) (join []Change) {
	join = make([]Change, 0, max(0, len(want.Servers)-len(have.Servers)))
	for v, server := range want.Servers {
		switch had, ok := have.Servers[v]; {
		case !ok:
			join = append(join, Change{Verb: Add, Virtual: v, Server: server})
		case had != server:
			join = append(join, Change{Verb: Set, Virtual: v, Server: server})
		}
	}
	return join
}

// joinDests is joinServers for destinations.
func joinDests(have, want Table) (join []Change) {
	join = make([]Change, 0, max(0, len(want.Dests)-len(have.Dests)))
	for d, weight := range want.Dests {
		switch had, ok := have.Dests[d]; {
		case !ok:
			join = append(join, Change{Verb: Add, Virtual: d.Virtual, Real: d.Real, Weight: weight})
		case had != weight && weight > 0:
			join = append(join, Change{Verb: Set, Virtual: d.Virtual, Real: d.Real, Weight: weight})
		}
	}
	return join
}

// leaving returns the rows that leave.
func leaving(have, want Table) (leave []Change) {
	for v := range have.Servers {
		if _, ok := want.Servers[v]; !ok {
			leave = append(leave, Change{Verb: Del, Virtual: v})
		}
	}
	for d, had := range have.Dests {
		if _, ok := want.Servers[d.Virtual]; !ok {
			if _, listed := have.Servers[d.Virtual]; listed {
				continue // it goes with its server
			}
		}
		switch weight, ok := want.Dests[d]; {
		case !ok:
			leave = append(leave, Change{Verb: Del, Virtual: d.Virtual, Real: d.Real})
		case weight == 0 && had != 0:
			leave = append(leave, Change{Verb: Set, Virtual: d.Virtual, Real: d.Real})
		}
	}
	return leave
}

// compareVirtuals orders servers as they join: the one that a packet meets last
// comes first.
func compareVirtuals(a, b Virtual) int {
	return cmp.Or(
		cmp.Compare(joins[a.Tier], joins[b.Tier]),
		a.Addr.Compare(b.Addr), cmp.Compare(a.Proto, b.Proto))
}

// joins is when the servers of each tier join.
var joins = [...]int{Back: 0, Single: 1, Front: 2}
