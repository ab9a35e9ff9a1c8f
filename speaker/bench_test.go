package speaker

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// What it costs to find out who announces what, with 10,000 addresses.
func BenchmarkPlan10000(b *testing.B) {
	for _, speakers := range []int{10, 250} {
		b.Run(fmt.Sprintf("speakers=%d", speakers), func(b *testing.B) { benchmarkPlan(b, speakers) })
	}
}

func benchmarkPlan(b *testing.B, speakers int) {
	s := snapshot.Snapshot{}
	for i := range speakers {
		name := fmt.Sprintf("n%d", i)
		s.Nodes = append(s.Nodes, snapshot.Node{Name: name})
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: name, DataPath: "ipvs", Links: []snapshot.Link{
			{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.0.1/8")}}}})
	}
	ready := map[netip.Addr]bool{}
	for i := range 10000 {
		addr := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
		one := snapshot.Service{Key: fmt.Sprintf("ns/s%05d", i), Served: true, Ours: true, Ingress: []snapshot.Ingress{{Addr: addr}}}
		for j := range 3 {
			one.Endpoints = append(one.Endpoints, snapshot.Endpoint{Addr: netip.AddrFrom4([4]byte{10, byte(j), byte(i >> 8), byte(i)}), Node: fmt.Sprintf("n%d", j), Ready: true})
		}
		s.Services, ready[addr] = append(s.Services, one), true
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := Plan(s, "n3", ready); len(got.Claims) < 5000/speakers {
			b.Fatalf("n3 announces %d of 10,000", len(got.Claims))
		}
	}
}

// What it costs to find out what routers are told, with 10,000 addresses and four of
// them.
func BenchmarkPlanRoutes10000(b *testing.B) {
	s := routed()
	s.Config.Pools[0].Ranges = []ipam.Range{{First: ip("10.0.0.0"), Last: ip("10.0.255.255")}}
	one := s.Services[0]
	s.Services, s.Config.Peers = nil, nil
	for i := range 4 {
		s.Config.Peers = append(s.Config.Peers, config.Peer{Name: fmt.Sprint("r", i), V4: true, V6: true})
	}
	nodeOf(&s, "n1").Peers = []string{"r0", "r1", "r2", "r3"}
	for i := range 10000 {
		one.Key = fmt.Sprintf("ns/s%05d", i)
		one.Ingress = []snapshot.Ingress{{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}}
		s.Services = append(s.Services, one)
	}
	ready := allReady(s)
	b.ReportAllocs()
	for b.Loop() {
		if got := PlanRoutes(s, "n1", ready, false); len(got.Sessions) != 4 || len(got.Sessions[3].Routes) != 10000 {
			b.Fatalf("%d sessions", len(got.Sessions))
		}
	}
}
