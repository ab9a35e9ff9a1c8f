package healthport

import (
	"cmp"
	"slices"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A Port is one health check node port, and what it says.
type Port struct {
	Number             uint16
	Namespace, Service string // whose it is
	Endpoints          int    // ready ones on this node; with none the node is not healthy
}

// Plan returns the ports that node has to answer on, by Number.
//
// Only endpoints that are ready count, not those that still serve while they
// terminate: so a load balancer turns to other nodes while this one can still
// serve what is under way (KEP-1669).
func Plan(s snapshot.Snapshot, node string) []Port {
	var want []Port
	for _, svc := range s.Services {
		ours := svc.Steered() || svc.Proxied
		if !ours || !svc.Local || svc.HealthCheckPort == 0 {
			continue
		}
		want = append(want, Port{svc.HealthCheckPort, svc.Namespace, svc.Name, ready(svc.Endpoints, node)})
	}
	slices.SortStableFunc(want, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
	// The API server gives every port to one Service only.
	return slices.CompactFunc(want, func(a, b Port) bool { return a.Number == b.Number })
}

// ready counts the endpoints on node that are ready: of the family that has
// more of them, for a pod with addresses of both stands there twice.
func ready(endpoints []snapshot.Endpoint, node string) int {
	four, six := 0, 0
	for _, ep := range endpoints {
		switch {
		case !ep.Ready || ep.Node != node || node == "":
		case ep.Addr.Is4():
			four++
		default:
			six++
		}
	}
	return max(four, six)
}
