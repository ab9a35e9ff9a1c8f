package healthport

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/internal/snapshot"
)

// endpoint is one that is ready.
func endpoint(addr, node string) snapshot.Endpoint {
	return snapshot.Endpoint{Addr: netip.MustParseAddr(addr), Node: node, Ready: true}
}

// service has policy Local, port 31000, and an endpoint on n1 and one on n2.
func service(edit func(*snapshot.Service)) snapshot.Service {
	svc := snapshot.Service{
		Key: "ns/a", Namespace: "ns", Name: "a", Served: true, Ours: true, Local: true, HealthCheckPort: 31000,
		Endpoints: []snapshot.Endpoint{endpoint("10.244.1.10", "n1"), endpoint("10.244.2.10", "n2")},
	}
	if edit != nil {
		edit(&svc)
	}
	return svc
}

func TestPlan(t *testing.T) {
	one := []Port{{31000, "ns", "a", 1}}
	none := []Port{{31000, "ns", "a", 0}}
	tests := []struct {
		name string
		edit func(*snapshot.Service)
		want []Port
	}{
		{"the endpoints of this node count", nil, one},
		{"a node without endpoints says so", func(s *snapshot.Service) { s.Endpoints = s.Endpoints[1:] }, none},
		{"those on no node do not count", func(s *snapshot.Service) { s.Endpoints[0].Node = "" }, none},
		{"nor those that are not ready", func(s *snapshot.Service) { s.Endpoints[0].Ready = false }, none},
		{"nor those that still serve while they terminate",
			func(s *snapshot.Service) { s.Endpoints[0].Ready, s.Endpoints[0].Draining = false, true }, none},
		{"a pod with addresses of both families counts once",
			func(s *snapshot.Service) { s.Endpoints = append(s.Endpoints, endpoint("fd10::1", "n1")) }, one},
		{"a Service of IPv6 counts too",
			func(s *snapshot.Service) { s.Endpoints = []snapshot.Endpoint{endpoint("fd10::1", "n1")} }, one},
		{"policy Cluster has no such port", func(s *snapshot.Service) { s.Local = false }, nil},
		{"nor has every Service of policy Local", func(s *snapshot.Service) { s.HealthCheckPort = 0 }, nil},
		{"that of another load balancer is left to kube-proxy", func(s *snapshot.Service) { s.Served, s.Ours = false, false }, nil},
		{"one without an address yet waits", func(s *snapshot.Service) { s.Ours = false }, nil},
		{"one that is not served any more is let go", func(s *snapshot.Service) { s.Served = false }, nil},
		{"in place of kube-proxy every Service is answered for",
			func(s *snapshot.Service) { s.Served, s.Ours, s.Proxied = false, false, true }, one},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshot.Snapshot{Services: []snapshot.Service{service(tt.edit)}}
			if diff := cmp.Diff(tt.want, Plan(s, "n1")); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanIsByPortAndHasEachOnce(t *testing.T) {
	high := service(func(s *snapshot.Service) { s.HealthCheckPort = 32000 })
	twin := service(func(s *snapshot.Service) { s.Key, s.Name = "ns/z", "z" })
	s := snapshot.Snapshot{Services: []snapshot.Service{high, service(nil), twin}}
	want := []Port{{31000, "ns", "a", 1}, {32000, "ns", "a", 1}}
	if got := Plan(s, "n1"); !slices.Equal(got, want) {
		t.Errorf("Plan() = %v, want %v", got, want)
	}
}
