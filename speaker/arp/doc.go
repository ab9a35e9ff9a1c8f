// Package arp answers ARP for the IPv4 addresses that a node announces, and
// tells the network when the node takes one.
//
// It owns one packet socket for each link that has a claim, and nothing else:
// it gives no address to any link, touches no neighbour table, and leaves
// nothing behind when it ends. IPv6 claims are not its business.
//
//	Sync ──live set──▶ readers, one per link: request ─▶ reply
//	  │                   │ another host claims our address
//	  ▼                   ▼
//	Run: opens and closes sockets, greets, defends ◀── netlink: links change
//
// What is announced is one immutable set behind an atomic pointer. Sync
// replaces it, so the readers see all of one plan or all of the next; the
// sockets, the greetings and the disputes belong to the goroutine of Run.
//
// In the kernel a BPF filter lets only those packets through that speak of an
// address we claim, so that the ARP noise of a large segment wakes nobody.
package arp
