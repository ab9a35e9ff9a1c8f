package speaker

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/internal/snapshot"
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
