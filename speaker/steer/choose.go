package steer

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer/mh"
)

// choose returns what the server v of the node of p does with the flow.
func (t *tracer) choose(p *Planner, v Virtual) Hop {
	h := Hop{Node: p.world.self.Node, Tier: v.Tier, Server: p.want.Servers[v], nodes: map[netip.Addr]string{}}
	for node, ends := range p.world.tunnels {
		for _, a := range ends {
			h.nodes[a] = node
		}
	}
	dests := destsOf(p.want, v)
	var live []netip.AddrPort
	for _, d := range dests {
		if d.Weight > 0 {
			live = append(live, d.Addr)
		}
	}
	h.Of = len(live)
	switch {
	case len(dests) == 0:
		h.Why = "the Service has no endpoint here"
	case len(live) == 0:
		h.Why = "no endpoint is ready"
	case h.Server.Scheduler == "mh" && p.world.self.Tiers:
		h.To, h.Why = t.hashed(h, dests, live)
	case len(live) == 1:
		h.To = live
	default:
		h.To, h.Why = live, t.turns(h.Server.Scheduler, p.world.self)
	}
	return h
}

// destsOf returns the destinations of v in the order in which Diff has them
// added.
func destsOf(t Table, v Virtual) []mh.Dest {
	var dests []mh.Dest
	for d, weight := range t.Dests {
		if d.Virtual == v {
			dests = append(dests, mh.Dest{Addr: d.Real, Weight: weight, Last: 1})
		}
	}
	slices.SortFunc(dests, func(a, b mh.Dest) int { return a.Addr.Compare(b.Addr) })
	return dests
}

// hashed returns what mh chooses, or all that it may.
func (t *tracer) hashed(h Hop, dests []mh.Dest, live []netip.AddrPort) (to []netip.AddrPort, why string) {
	client := t.flow.Client
	if h.Tier == Single && t.isNode(client.Addr()) {
		return live, "hashes an address that the node chooses for itself"
	}
	table, err := mh.Build(dests, mh.DefaultTabIndex)
	if err != nil {
		return live, "cannot be computed (" + err.Error() + ")"
	}
	i, ok := table.Choose(client, h.Server.Flags)
	if ok {
		return []netip.AddrPort{dests[i].Addr}, ""
	}
	why = "it has nobody for this client"
	if i, ok := table.Owner(client, h.Server.Flags); ok {
		why = "it has chosen " + cmp.Or(h.name(dests[i].Addr), dests[i].Addr.String()) +
			", which takes no new connections, and was not told to fall back to another"
	}
	return nil, why
}

func (t *tracer) isNode(a netip.Addr) bool {
	return slices.ContainsFunc(t.s.Nodes, func(n snapshot.Node) bool { return slices.Contains(n.Addrs, a) })
}

// turns is why one cannot tell what a scheduler chooses.
func (t *tracer) turns(scheduler string, self Self) string {
	switch {
	case !self.Tiers && scheduler != "rr" && scheduler != "wrr":
		return "draws by nftables"
	case scheduler == "rr", scheduler == "wrr":
		return "takes turns"
	case scheduler == "sh", scheduler == "dh":
		return "hashes in a way that is not copied here"
	}
	return "goes by the connections that there are"
}
