// Package mh computes which destination the kernel's IPVS scheduler mh, Maglev
// hashing, gives to a flow: it is an exact copy of what
// net/netfilter/ipvs/ip_vs_mh.c does, and asks no kernel.
//
// The scheduler keeps no state but its table: a prime number of slots, each
// held by a destination. A flow is hashed to a slot. Who holds which slot
// depends on the addresses, ports and weights of the destinations, and on the
// order in which they were added, but neither on the virtual server nor on the
// node: the keys of the hash are constants. Hence nodes agree about a flow
// without talking, and anybody can tell where it goes.
//
// What the copy does not know is what comes before the scheduler: a flow that
// has a connection, or a client that has a persistent one, stays where it is.
// The client is the one that IPVS sees, which is not always the one that sent
// the packet, for there may have been SNAT on the way.
//
// Only 64-bit little-endian kernels are predicted (amd64, arm64, riscv64,
// ppc64le, loong64). There hsiphash is SipHash-1-3 cut to 32 bits; on 32-bit
// kernels it is HalfSipHash-1-3, and their tables are others, so that they do
// not agree with 64-bit nodes either.
package mh
