// Package metallb reads what MetalLB's users have written and says it in
// Herald's words: bytes in, AddressPools, BGPPeers, Services and Notes out.
//
// It never talks to an API and never drops a field in silence: every field of
// every object that it reads is translated, or yields a Note. Where Herald
// cannot say all that MetalLB's objects say, it says less and never more: no
// Service gets an address, and no node announces one, that would not have with
// MetalLB. The Note says what is left out, and what to do about it.
//
// What MetalLB does with its objects is described at metallb.io; where that is
// silent, by its internal/config and internal/allocator.
package metallb
