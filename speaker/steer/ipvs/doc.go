// Package ipvs is the [steer.Kernel] that steers with the kernel's IPVS.
//
// It owns a network namespace, one veth pair into it, an nftables table
// "inet herald" on either side, one routing rule with its table, and the host
// routes that carry its protocol number. It touches nothing else: no address
// of the host, no IPVS service of the host's namespace, no sysctl but those of
// its own links.
//
//	host's namespace                           Herald's namespace
//	┌────────────────────────────┐            ┌───────────────────────────────┐
//	│ route 192.0.2.1/32 via .2  │ herald0    │ herald1                       │
//	│ ─────────────────────────▶ ├────────────┤ ▶ local route 192.0.2.1       │
//	│                            │ .1      .2 │ ▶ IPVS, Masq to the endpoint  │
//	│ ◀───────────────────────── ├────────────┤ ◀ default via .1              │
//	│ to the endpoint, like any  │            │                               │
//	│ other packet               │            │ sets snat4, snat6: servers    │
//	│ replies: connection mark ▶ │            │ that want SNAT; pods4, pods6: │
//	│ rule ▶ table ▶ .2          │            │ clients that get it always    │
//	└────────────────────────────┘            └───────────────────────────────┘
//
// The address is no address of the host, only a route: so the kernel never
// answers ARP for it and kube-proxy, which looks at the host's namespace only,
// neither sees nor flushes our rows. A reply to a client whose address was
// kept has to come back through the namespace: the host marks the connection
// when it first leaves herald0, and routes what answers a marked connection by
// a table of its own.
//
// The namespace is pinned in the file system (<StateDir>/netns/lb). It outlives
// the process, and with it every row and every connection: a new process
// adopts what it finds and changes only what is wrong.
package ipvs
