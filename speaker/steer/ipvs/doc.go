// Package ipvs is the [steer.Kernel] that steers with the kernel's IPVS.
//
// It owns three network namespaces, one for each steer.Tier, a veth pair into
// each, nftables tables "inet herald" on the host and inside, three routing
// rules with their tables, and the host routes that carry its protocol number.
// It touches nothing else: no address of the host, no IPVS service of the
// host's namespace, no sysctl but those of its own links.
//
//	host's namespace                                Herald's namespaces
//	┌───────────────────────────────────────┐      ┌──────────────────────────────┐
//	│ from outside, in set fronts:          │      │ front                        │
//	│   notrack, mark ▶ rule ▶ table ─────▶ │ ◀──▶ │ IPVS, tunnel to a node       │
//	│ tunnels to nodes ◀─────────────────── │      └──────────────────────────────┘
//	│                                       │      ┌──────────────────────────────┐
//	│ tunnels from nodes, or in set direct  │      │ back                         │
//	│   ──────────────────────────────────▶ │ ◀──▶ │ out of the tunnel; IPVS,     │
//	│ to a pod of this node ◀────────────── │      │ Masq, the client kept        │
//	│ replies: connection mark ▶ table ───▶ │      │                              │
//	│ to the client, untracked ◀─────────── │      └──────────────────────────────┘
//	│                                       │      ┌──────────────────────────────┐
//	│ route 192.0.2.1/32 via .2: everybody  │      │ lb                           │
//	│   else ─────────────────────────────▶ │ ◀──▶ │ IPVS, Masq to any endpoint   │
//	│ to the endpoint, by SNAT ◀─────────── │      │ sets snat: servers that want │
//	│ replies: connection mark ▶ table ───▶ │      │ SNAT; locals: pods of here   │
//	└───────────────────────────────────────┘      └──────────────────────────────┘
//
// The address is no address of the host, only a route: so the kernel never
// answers ARP for it and kube-proxy, which looks at the host's namespace only,
// neither sees nor flushes our rows.
//
// What front and back take is decided before connection tracking, which would
// see one half of a connection and call it invalid. A tunnel leaves with this
// node's address and is handed to the back by rewriting its outer addresses
// without state. A reply to a client whose address was kept has to come back
// through the namespace that it left by: the host marks the connection then,
// and routes what answers a marked connection by a table of its own.
//
// The namespaces are pinned in the file system (<StateDir>/netns). They outlive
// the process, and with them every row and every connection: a new process
// adopts what it finds and changes only what is wrong.
//
// Changes go to IPVS and nftables in batches, see wire and batch.
package ipvs
