// Package ipam gives out addresses.
//
// It is pure: Plan answers the requests of a World, the same World always gets
// the same answer, and nothing is remembered between two calls. It knows no
// Kubernetes and imports the standard library only.
//
// A Plan goes through its requests several times, the oldest owner first:
//
//	held         what owners hold is theirs, before anything is handed out
//	restored     what an owner had before, or what rests for it, if it is free
//	by name      those who ask for an address by name
//	to claims    claims that any address will do for
//	from claims  those who name a claim: they get what it has
//	any          those to whom any address will do: one that they may share
//	             or, if there is none, the lowest free one of the first pool
//	             that has one, by priority, then name
//
// Several owners are on one address if their keys, ports and namespaces let
// them; a claim is on one with the Services of its namespace that ask for it.
// Everybody else has an address alone.
//
// What is given up in a Plan (its owner moved, or wants that family no more)
// is not handed out by the same Plan. It still stands in a status that somebody
// has to rewrite first; the Plan after that finds it free. In the same way a
// newcomer to a shared address must get on with those who are leaving it.
//
// The cost of a Plan depends on what is held and asked for, never on what the
// pools span: a /8 or an IPv6 /0 is as cheap as a /28. Nor does it matter how
// many owners share an address, or how many addresses are under one key.
package ipam
