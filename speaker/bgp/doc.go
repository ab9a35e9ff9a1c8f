// Package bgp tells routers by BGP (RFC 4271) what addresses lead to this node,
// each in a session of its own. It listens to nobody: what a router offers is
// counted and dropped, and this node's routes stay as they are.
//
// The protocol is GoBGP's: the state machine, its timers, what an UPDATE looks
// like. The connection is ours, and so are the reasons of its end:
//
//	Sync ──orders──▶ session ──dials──▶ router
//	                   │                  ▲ TCP-MD5, TTL, source: dial.go
//	                   │ paths            │
//	                   ▼                  ▼
//	                 core ◀──loopback── relay ──what was said──▶ States
//	                GoBGP               message by message
//
// A session dials and, once the router answers, makes a GoBGP server for this
// one connection (core.go), which ends with it. So sessions share nothing: each
// has its own number, router ID and routes, and no state outlives a connection
// but what Sync has said. Between the two a relay passes whole messages and
// reads them (relay.go, wire.go, open.go). It knows what GoBGP does not tell: what
// the router says it is, before anything is said to it; every NOTIFICATION in
// words; and how many routes were offered. Nothing that a router sends comes to
// GoBGP as it is: its OPEN is made anew, its UPDATEs end there, and how often it
// asks for all routes is limited (refresh.go). So none can take memory, or reach
// the code that would decode it. What GoBGP says is packed (pack.go).
package bgp
