//go:build netns

package nft

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

const benchServices = 10_000

// ip returns the address that is n further than base.
func ip(base string, n int) netip.Addr {
	b := netip.MustParseAddr(base).As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
	return netip.AddrFrom4(b)
}

// many are n services with three destinations each.
func many(n int) []steer.Change {
	var changes []steer.Change
	for i := range n {
		v := steer.Virtual{Addr: netip.AddrPortFrom(ip("10.50.0.1", i), 80), Proto: snapshot.TCP}
		changes = append(changes, steer.Change{Verb: steer.Add, Virtual: v, Server: steer.Server{Scheduler: "rr", SNAT: true}})
		for j := range 3 {
			changes = append(changes, steer.Change{Verb: steer.Add, Virtual: v,
				Real: netip.AddrPortFrom(ip("10.244.0.1", 3*i+j), 8080), Weight: 1})
		}
		changes = append(changes, steer.Change{Verb: steer.Add, Addr: v.Addr.Addr()})
	}
	return changes
}

func BenchmarkApplyFromEmpty(b *testing.B) {
	nettest.Require(b)
	ctx := context.Background()
	changes := many(benchServices)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		k, _ := newKernel(b)
		applied(b, k, nil)
		b.StartTimer()
		if err := k.Apply(ctx, changes); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := k.Remove(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkOneDestination replaces one destination of one service of 10,000:
// the new one joins, the old one leaves.
func BenchmarkOneDestination(b *testing.B) {
	nettest.Require(b)
	ctx := context.Background()
	k, _ := newKernel(b)
	changes := many(benchServices)
	applied(b, k, changes)
	v := changes[0].Virtual
	reals := []netip.AddrPort{changes[1].Real, netip.MustParseAddrPort("10.9.9.9:8080")}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		come, leave := reals[(i+1)%2], reals[i%2]
		for _, c := range []steer.Change{
			{Verb: steer.Add, Virtual: v, Real: come, Weight: 1}, {Verb: steer.Del, Virtual: v, Real: leave}} {
			if err := k.Apply(ctx, []steer.Change{c}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkTable(b *testing.B) {
	nettest.Require(b)
	k, _ := newKernel(b)
	applied(b, k, many(benchServices))
	b.ReportAllocs()
	for b.Loop() {
		if t, err := k.Table(context.Background()); err != nil || len(t.Servers) != benchServices || len(t.Dests) != 3*benchServices {
			b.Fatal(len(t.Servers), len(t.Dests), err)
		}
	}
}

// BenchmarkPrepare is of a table that is as it should be.
func BenchmarkPrepare(b *testing.B) {
	nettest.Require(b)
	k, _ := newKernel(b)
	applied(b, k, many(benchServices))
	b.ReportAllocs()
	for b.Loop() {
		if err := k.Prepare(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
