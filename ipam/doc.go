// Package ipam gives out addresses.
//
// It is pure: Plan answers a set of requests from a set of pools, the same
// input always gets the same answer, and nothing is remembered between two
// calls. It knows no Kubernetes and imports the standard library only.
//
// A Plan goes through its requests three times, the oldest owner first:
//
//	held     what owners hold is theirs, before anything is handed out
//	by name  then those are served who ask for an address by name
//	any      then those to whom any address will do: the lowest free one of
//	         the first pool that has one, by priority, then name
//
// What is given up in a Plan (its owner moved, or wants that family no more)
// is not handed out by the same Plan. It still stands in a status that somebody
// has to rewrite first; the Plan after that finds it free.
//
// The cost of a Plan depends on what is held and asked for, never on what the
// pools span: a /8 or an IPv6 /0 is as cheap as a /28.
package ipam
