// Package nft steers with nftables, where the kernel has no IPVS.
//
// It owns the table "inet herald" in the network namespace of the node and
// nothing else: no other table, no setting, no address, no route. It comes
// before kube-proxy (priority dstnat-10), so it serves whatever the ipMode of
// the address. Connection tracking keeps a connection on its endpoint, as in
// every NAT: established connections outlive any change of the rows, a restart
// of Herald, and somebody's flush of the rules. They outlive the table itself
// only where another table does NAT too, kube-proxy's for one.
//
// The rules never change while it runs. All that does is elements of sets and
// maps, one of each for either family, changed in one transaction an Apply:
//
//	addrs4    {address}                                    the addresses taken in
//	servers4  {address . protocol . port : goto chain}     comment: what is set on it
//	ports4    {protocol . port : goto chain}               the same for node ports
//	ends4     {address . protocol . port . slot : target}  comment: weight, unless 1
//	idle4     {address . protocol . port . target}         destinations of weight 0
//	ids4      {address . protocol . port . slot : id}      with affinity only
//	live4     {address . protocol . port . id : target}    with affinity only
//	limited4  {address . protocol . port}                  servers with sources
//	sources4  {address . protocol . port . prefix}         who may connect to them
//	pods4     {prefix}                                     comment: the prefix
//
// One more, affinity4 {client . address . protocol . port : id}, is written by
// the rules themselves; its elements have a timeout and are no rows.
//
// A server with destinations of some weight goes to a chain that draws a slot
// and looks up its target; the chain is shared by all servers with as many
// slots and is there while one needs it. A server without goes to the chain
// that refuses, and so does what is sent to a port that has no server. The
// elements say all that a Table holds, so a restart reads it back from them.
//
// # On the way
//
// What comes from outside or from pods first meets sources4: what a server does
// not let in is dropped. What the node itself sends is let in. Then the server
// is found, by the address or, for what goes to an address of the node, by the
// port alone; nothing else that goes to the node is touched. In the end, when
// the endpoint is known, SNAT is made where the server wants it, for the node,
// and between two pods of this node.
//
// # Affinity
//
// A server with affinity goes to a chain that first looks for the id under
// which the client is remembered, and for a target in live4 by that id. Only
// destinations that may be used are there: no element of affinity4 has to be
// searched for and deleted when one leaves. What leads nowhere is forgotten,
// and a slot drawn and remembered. Each new connection renews the timeout,
// which is part of the chain's rules, and so of its name.
//
// # Schedulers
//
// rr and wrr take turns, mh and sh hash the client's address, with their flag
// for it the port too, every other scheduler (lc, wlc, sed, …) draws at random. A weight
// becomes slots: 2 and 1 are three slots; weights whose slots would be more
// than 256 are rounded. Against IPVS
//
//   - nobody counts connections, so least-connection scheduling is a random one;
//   - turns are taken by all servers together that share a chain; the ports of
//     one address mostly do not, see turns;
//   - the hashes choose alike on every node that has the same destinations, but
//     a change of the destinations moves most clients that come back, where
//     IPVS's mh moves few;
//   - a client whose reply must pass here (SNAT, a pod of this node that is led
//     to another, the node) is masqueraded; there are no tunnels to keep its
//     address;
//   - the NodePort or ClusterIP of the same node cannot be a destination: one
//     connection has one DNAT.
package nft
