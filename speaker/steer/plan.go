package steer

import (
	"net/netip"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// Plan returns the table that node needs for all Services of s.
//
// Every node gets the virtual servers of every Service, whoever announces the
// address: so the rows already stand when the address moves here. Of two
// Services that claim one address and port the older one is steered.
func Plan(s snapshot.Snapshot, node string) Table {
	want := NewTable()
	owner := map[Virtual]snapshot.Service{}
	for _, svc := range s.Services {
		if !svc.Served || !svc.Ours || svc.Closed {
			continue
		}
		for _, addr := range svc.Addrs() {
			pool := s.Config.PoolOf(addr)
			if pool.Steer != config.SteerIPVS {
				continue
			}
			want.Addrs[addr] = true
			for _, port := range svc.Ports {
				v := Virtual{netip.AddrPortFrom(addr, port.Number), port.Proto}
				if first, taken := owner[v]; !taken || older(svc, first) {
					owner[v] = svc
					want.Servers[v] = Server{Scheduler: pool.Scheduler, SNAT: !svc.Local}
				}
			}
		}
	}
	for v, svc := range owner {
		addDests(want, v, svc, node)
	}
	for _, n := range s.Nodes {
		if n.Name != node {
			continue
		}
		for _, p := range n.PodCIDRs {
			want.Pods[p] = true
		}
	}
	return want
}

func older(a, b snapshot.Service) bool {
	if !a.Created.Equal(b.Created) {
		return a.Created.Before(b.Created)
	}
	return a.Key < b.Key
}

// addDests adds the destinations of v, which is a port of svc.
func addDests(want Table, v Virtual, svc snapshot.Service, node string) {
	i := 0
	for i < len(svc.Ports) && (svc.Ports[i].Number != v.Addr.Port() || svc.Ports[i].Proto != v.Proto) {
		i++
	}
	for _, ep := range Usable(svc, node) {
		if ep.Addr.Is4() != v.Addr.Addr().Is4() {
			continue
		}
		for _, t := range ep.Ports {
			if t.Name == svc.Ports[i].Name && t.Proto == v.Proto {
				want.Dests[Dest{v, netip.AddrPortFrom(ep.Addr, t.Number)}] = 1
			}
		}
	}
}

// Usable returns the endpoints of svc that node may send to: the ready ones
// or, failing any, those that still serve while they terminate (KEP-1669).
// With externalTrafficPolicy Local only those on node count, and those that
// are on no node at all.
func Usable(svc snapshot.Service, node string) []snapshot.Endpoint {
	var ready, draining []snapshot.Endpoint
	for _, ep := range svc.Endpoints {
		switch {
		case svc.Local && ep.Node != node && ep.Node != "":
		case ep.Ready:
			ready = append(ready, ep)
		case ep.Draining:
			draining = append(draining, ep)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return draining
}
