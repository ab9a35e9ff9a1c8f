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
//	servers4  {address . protocol . port : goto chain}     comment: scheduler, snat
//	ends4     {address . protocol . port . slot : target}  comment: weight, unless 1
//	idle4     {address . protocol . port . target}         destinations of weight 0
//	pods4     {prefix}                                     comment: the prefix
//
// A server with destinations of some weight goes to a chain that draws a slot
// and looks up its target; the chain is shared by all servers with as many
// slots and is there while one needs it. A server without goes to the chain
// that refuses, and so does what is sent to a port that has no server. The
// elements say all that a Table holds, so a restart reads it back from them.
//
// # Schedulers
//
// rr and wrr take turns, mh hashes the client's address and port, sh its
// address, every other scheduler (lc, wlc, sed, …) draws at random. A weight
// becomes slots: 2 and 1 are three slots; weights whose slots would be more
// than 256 are rounded. Against IPVS
//
//   - nobody counts connections, so least-connection scheduling is a random one;
//   - turns are taken by all servers together that share a chain; the ports of
//     one address mostly do not, see turns;
//   - the hashes choose alike on every node that has the same destinations, but
//     a change of the destinations moves most clients that come back, where
//     IPVS's mh moves few;
//   - a client that the node itself must answer through (SNAT, a pod of this
//     node, the node) is masqueraded; a tunnel to keep its address is not there;
//   - the NodePort or ClusterIP of the same node cannot be a destination: one
//     connection has one DNAT.
package nft
