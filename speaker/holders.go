package speaker

import (
	"net/netip"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A Holding is to which node a cloud should route an address, and to which it could: those
// of the nodes without a reason against them that can serve it. It is not to be edited.
type Holding struct {
	Node string
	Able []string // by name; Node is one of them
}

// Holders returns the holding of each address that a cloud routes to one node at a time;
// none of those that no node can serve. may says which nodes the cloud can route to.
//
// It is the election of layer 2, but that no node needs a link into the subnet.
func Holders(s snapshot.Snapshot, may func(node string) bool) map[netip.Addr]Holding {
	e, pool := newElection(s, nil), config.Default()
	f := &field{pool: &pool}
	for _, c := range e.candidates {
		if may(c.node.Name) && steers(c.speaker, f.pool) {
			f.candidates = append(f.candidates, c)
		}
	}
	var all []contest
	routed := func(svc *snapshot.Service) bool { return svc.Routed && !svc.Closed }
	eachAddr(s, routed, func(addr netip.Addr, services []*snapshot.Service) {
		t := newTarget(addr, services)
		if r := f.roster(t); len(r.nodes) > 0 {
			all = append(all, contest{t, f, r})
		}
	})
	holders := make(map[netip.Addr]Holding, len(all))
	for i, node := range electAll(all) {
		holders[all[i].addr] = Holding{node, all[i].roster.nodes}
	}
	return holders
}
