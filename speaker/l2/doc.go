// Package l2 announces addresses on the links of a node: what ARP and NDP have
// in common. A [Protocol] says what packets mean and what they look like; it is
// all values and pure functions. Packages arp and ndp are one each.
//
// It owns one packet socket for each link that has a claim of the protocol's
// family, and the multicast groups of those claims, and nothing else: it gives
// no address to any link, touches no neighbour table, and leaves nothing behind
// when it ends.
//
//	Sync ──live set──▶ readers, one per link: question ─▶ answer
//	  │                   │ another host claims our address
//	  ▼                   ▼
//	Run: opens and closes sockets, greets, defends ◀── netlink: links change
//
// What is announced is one immutable set behind an atomic pointer. Sync
// replaces it, so the readers see all of one plan or all of the next; the
// sockets, the greetings and the disputes belong to the goroutine of Run.
//
// In the kernel a BPF filter lets only those packets through that speak of an
// address we claim, so that the noise of a large segment wakes nobody.
package l2
