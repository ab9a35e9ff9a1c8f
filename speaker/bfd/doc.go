// Package bfd watches whether other hosts can be reached, by Bidirectional
// Forwarding Detection: RFC 5880, over one hop (RFC 5881) and over several
// (RFC 5883), for whoever wants to know (RFC 5882). Speakers watch each other
// with it, and BGP peers.
//
// It speaks asynchronous mode, without echo and without authentication, and
// owns its sockets and nothing else: it adds no address and no route, and what
// follows from a session that is down is decided by others.
//
//	Sync, Leave ──plan──▶ ┌────────────────┐ ──packets──▶ a socket per session
//	                      │ Run: one loop  │
//	Sessions ◀──values──  │ owns them all  │ ◀──bell────  a socket per port and
//	                      └────────────────┘ ──read all──▶ family, and its watcher
//
// A session is a state machine without socket or clock (session.go, timers.go).
// One goroutine owns all of them. Those that watch the receiving sockets do not
// read: they ring, and the loop reads whatever has come before it does anything
// else. So before a session is declared down, all that the kernel has received
// was looked at, and a process that did not get the CPU for a while does not
// take its own absence for the silence of its peers. Where it finds that it was
// late, it also waits a moment for packets that are not in the socket yet, as
// after a pause of the whole virtual machine.
//
// A packet is believed if it comes from the address of a configured peer, to
// the port and the local address configured for it, over one hop with a TTL of
// 255 (RFC 5881 §5), and names our discriminator, or none yet. All others are
// counted and dropped; see [Stats].
package bfd
