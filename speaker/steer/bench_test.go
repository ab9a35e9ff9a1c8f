package steer

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// many is a cluster of n Services with three endpoints each, on three nodes
// that take tunnels.
func many(n int) snapshot.Snapshot {
	s := three()
	for i := range n {
		one := svc(fmt.Sprintf("ns/s%05d", i), nil)
		one.Revision = 1
		one.Ingress = []snapshot.Ingress{{Addr: netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})}}
		for j := range 3 {
			addr := netip.AddrFrom4([4]byte{10, byte(244 + j), byte(i >> 8), byte(i)})
			one.Endpoints = append(one.Endpoints, snapshot.Endpoint{Addr: addr, Node: fmt.Sprintf("n%d", j+1), Ready: true, Ports: web(8080)})
		}
		s.Services = append(s.Services, one)
	}
	return s
}

func BenchmarkPlan10000(b *testing.B) {
	s := many(10000)
	b.ReportAllocs()
	for b.Loop() {
		Plan(s, onN1)
	}
}

func BenchmarkDiffOfAll10000(b *testing.B) {
	have, want := NewTable(), Plan(many(10000), onN1)
	b.ReportAllocs()
	for b.Loop() {
		Diff(have, want)
	}
}

func BenchmarkDiffOfNothing10000(b *testing.B) {
	s := many(10000)
	have, want := Plan(s, onN1), Plan(s, onN1)
	b.ReportAllocs()
	for b.Loop() {
		Diff(have, want)
	}
}

// What a pass costs on a node where nothing has changed, and where one endpoint
// of one Service has: without the kernel.
func BenchmarkPass10000(b *testing.B) {
	for _, changes := range []int{0, 1} {
		b.Run(fmt.Sprintf("%d changes", changes), func(b *testing.B) {
			s := many(10000)
			sync := &Syncer{Kernel: NewFake(), Audit: time.Hour, Log: slog.New(slog.DiscardHandler)}
			var planner Planner
			pass := func() {
				want, touched := planner.Plan(s, onN1)
				if _, err := sync.Join(b.Context(), time.Unix(1, 0), want, touched); err != nil {
					b.Fatal(err)
				}
				if err := sync.Leave(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			pass()
			b.ReportAllocs()
			for b.Loop() {
				if changes > 0 {
					s.Services = slices.Clone(s.Services) // as a new snapshot is
					ep := &s.Services[5000].Endpoints[1]
					ep.Ready = !ep.Ready
					s.Services[5000].Revision++
				}
				pass()
			}
		})
	}
}
