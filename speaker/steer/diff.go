package steer

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// Diff returns the changes that turn have into want. Those in join only add or
// adjust; those in leave only remove. In join an address comes after its rows,
// in leave before them, so that no address is ever in without its rows.
func Diff(have, want Table) (join, leave []Change) {
	for _, p := range sorted(want.Pods, netip.Prefix.Compare) {
		if !have.Pods[p] {
			join = append(join, Change{Verb: Add, Pods: p})
		}
	}
	join = append(join, joinServers(have, want)...)
	join = append(join, joinDests(have, want)...)
	for _, a := range sorted(want.Addrs, netip.Addr.Compare) {
		if !have.Addrs[a] {
			join = append(join, Change{Verb: Add, Addr: a})
		}
	}
	for _, a := range sorted(have.Addrs, netip.Addr.Compare) {
		if !want.Addrs[a] {
			leave = append(leave, Change{Verb: Del, Addr: a})
		}
	}
	for _, d := range sorted(have.Dests, compareDests) {
		if _, ok := want.Dests[d]; !ok {
			leave = append(leave, Change{Verb: Del, Virtual: d.Virtual, Real: d.Real})
		}
	}
	for _, v := range sorted(have.Servers, compareVirtuals) {
		if _, ok := want.Servers[v]; !ok {
			leave = append(leave, Change{Verb: Del, Virtual: v})
		}
	}
	for _, p := range sorted(have.Pods, netip.Prefix.Compare) {
		if !want.Pods[p] {
			leave = append(leave, Change{Verb: Del, Pods: p})
		}
	}
	return join, leave
}

func joinServers(have, want Table) (join []Change) {
	for _, v := range sorted(want.Servers, compareVirtuals) {
		switch had, ok := have.Servers[v]; {
		case !ok:
			join = append(join, Change{Verb: Add, Virtual: v, Server: want.Servers[v]})
		case had != want.Servers[v]:
			join = append(join, Change{Verb: Set, Virtual: v, Server: want.Servers[v]})
		}
	}
	return join
}

func joinDests(have, want Table) (join []Change) {
	for _, d := range sorted(want.Dests, compareDests) {
		c := Change{Verb: Add, Virtual: d.Virtual, Real: d.Real, Weight: want.Dests[d]}
		switch had, ok := have.Dests[d]; {
		case !ok:
			join = append(join, c)
		case had != c.Weight:
			c.Verb = Set
			join = append(join, c)
		}
	}
	return join
}

func compareVirtuals(a, b Virtual) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Proto, b.Proto))
}

func compareDests(a, b Dest) int {
	return cmp.Or(compareVirtuals(a.Virtual, b.Virtual), a.Real.Compare(b.Real))
}

func sorted[K comparable, V any](m map[K]V, compare func(a, b K) int) []K {
	return slices.SortedFunc(maps.Keys(m), compare)
}
