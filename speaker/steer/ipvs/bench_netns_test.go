//go:build netns

package ipvs

import (
	"context"
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
)

func BenchmarkApplyAThousandServers(b *testing.B) {
	nettest.RequireIPVS(b)
	ctx := context.Background()
	want := steer.NewTable()
	for i := range 1000 {
		addr := netip.AddrFrom4([4]byte{192, 0, byte(2 + i/250), byte(1 + i%250)})
		v := steer.Virtual{Addr: netip.AddrPortFrom(addr, 80), Proto: 6}
		want.Servers[v], want.Addrs[addr] = steer.Server{Scheduler: "rr", SNAT: true}, true
		for d := range 3 {
			want.Dests[steer.Dest{Virtual: v, Real: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(d), byte(i / 250), byte(1 + i%250)}), 8080)}] = 1
		}
	}
	k := newKernel(b, nettest.New(b, "node"))
	if err := k.Prepare(ctx); err != nil {
		b.Fatal(err)
	}
	join, _ := steer.Diff(steer.NewTable(), want)
	_, leave := steer.Diff(want, steer.NewTable())
	b.Run("apply", func(b *testing.B) {
		for b.Loop() {
			if err := k.Apply(ctx, join); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := k.Apply(ctx, leave); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	if err := k.Apply(ctx, join); err != nil {
		b.Fatal(err)
	}
	b.Run("table", func(b *testing.B) {
		for b.Loop() {
			if _, err := k.Table(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("prepare", func(b *testing.B) {
		for b.Loop() {
			if err := k.Prepare(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
}
