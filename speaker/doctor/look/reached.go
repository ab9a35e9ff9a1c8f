package look

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/speaker/doctor"
	"github.com/herald-lb/herald/speaker/probe"
)

const (
	// mostAsked bounds how many other nodes are asked, of each family.
	mostAsked = 64
	// reachWithin is how long they have to answer.
	reachWithin = 2 * time.Second
)

// Reached sends packets through tunnels to some of the other nodes, from the
// network namespace of the calling thread, and says which have answered. Without
// an address that a node could answer from, or a tunnel of this node, whose
// addresses are own, nobody is asked.
func Reached(ctx context.Context, own []doctor.Addr, c doctor.Cluster) ([]doctor.Reach, error) {
	var all []doctor.Reach
	for _, six := range []bool{false, true} {
		self, others := tunnels(own, c, six)
		virtual := steered(c, six)
		if !self.IsValid() || !virtual.IsValid() || len(others) == 0 {
			continue
		}
		to := make([]netip.Addr, len(others))
		for i, r := range others {
			to[i] = r.Addr
		}
		answered, err := probe.ThroughTunnels(ctx, self, virtual, to, reachWithin)
		if err != nil {
			return nil, fmt.Errorf("sending packets through tunnels: %w", err)
		}
		for i, r := range others {
			others[i].ByTunnel = answered[r.Addr]
			others[i].ByPing = others[i].ByTunnel
			if !others[i].ByPing {
				others[i].ByPing, err = probe.ICMP{}.Ping(ctx, r.Addr, reachWithin/4)
				if err != nil && ctx.Err() != nil {
					return nil, err
				}
			}
		}
		all = append(all, others...)
	}
	return all, nil
}

// tunnels returns where this node takes tunnels of a family, and where some of
// the others do.
func tunnels(own []doctor.Addr, c doctor.Cluster, six bool) (self netip.Addr, others []doctor.Reach) {
	for _, node := range slices.Sorted(maps.Keys(c.Tunnels)) {
		for _, addr := range c.Tunnels[node] {
			switch {
			case addr.Is6() != six:
			case slices.ContainsFunc(own, func(a doctor.Addr) bool { return a.Addr == addr }):
				self = addr
			default:
				others = append(others, doctor.Reach{Node: node, Addr: addr})
			}
		}
	}
	if len(others) > mostAsked {
		rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		others = others[:mostAsked]
		slices.SortFunc(others, func(a, b doctor.Reach) int { return a.Addr.Compare(b.Addr) })
	}
	return self, others
}

// steered returns an address of a family that all nodes take in: they answer
// pings to it whether they have endpoints or not.
func steered(c doctor.Cluster, six bool) netip.Addr {
	for _, svc := range c.Services {
		for _, in := range svc.Ingress {
			if svc.Steered() && in.Mode != "VIP" && in.Addr.Is6() == six {
				return in.Addr
			}
		}
	}
	return netip.Addr{}
}
