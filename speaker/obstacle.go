package speaker

import (
	"fmt"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/ipam"
)

// An obstacle is what keeps a node from telling a router an address. They are in
// the order of the steps on the way there: of two the later one came closer.
type obstacle uint8

// The obstacles.
const (
	none          obstacle = iota
	noSpeaker              // none of the node is alive
	excludedNode           // from announcing anything
	noPeer                 // selects the node
	otherServices          // the entry's selector does not match a Service on the address
	otherNodes             // the entry's selector does not match the node
	noDataPath             // the node cannot steer
	noEndpoint             // that is usable is within the node's reach
	outdone                // others can serve all Services on the address
	relievedNode           // by others, as it is drained
	otherPeers             // are named by the entry
	otherFamily            // than the peer is told of
)

// words says what the obstacle is for a target of pool at a node and, where it is
// between the two, with a peer; and where it can be changed.
func (o obstacle) words(p *routePlan, pool *config.Pool, t target, peer string) string {
	entries := "spec.announce.bgp of AddressPool " + pool.Name
	switch o {
	case noSpeaker:
		return "no speaker of it is alive"
	case excludedNode:
		return "it is excluded: " + p.node.Excluded
	case noPeer:
		return "no BGPPeer selects it: see spec.nodeSelector of each"
	case otherServices:
		return "no serviceSelector in " + entries + " selects the Service"
	case otherNodes:
		return "no nodeSelector in " + entries + " selects it"
	case noDataPath:
		return "its kernel has neither IPVS nor nftables"
	case noEndpoint:
		if len(t.local) > 0 {
			return "no endpoint on it is usable, and externalTrafficPolicy is Local"
		}
		return "no endpoint of the Service in the address's family is usable"
	case outdone:
		return "other nodes can serve all the Services that share the address"
	case relievedNode:
		return "it is drained, and routers have found other ways"
	case otherPeers:
		return entries + " names other peers"
	case otherFamily:
		return fmt.Sprintf("spec.families of BGPPeer %s has not %s", peer, ipam.FamilyOf(t.addr))
	}
	return ""
}
