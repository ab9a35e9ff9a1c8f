package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

func newcomers(n int, f ...Family) []Request {
	reqs := make([]Request, n)
	for i := range reqs {
		reqs[i] = Request{Owner: fmt.Sprintf("shop/service-%05d", i), Families: f, Pools: []string{"lan"}}
	}
	return reqs
}

// holders are n owners that hold the lowest n addresses of p.
func holders(p Pool, n int) []Request {
	reqs := newcomers(n, FamilyOf(p.Ranges[0].First))
	addr := p.Ranges[0].First
	for i := range reqs {
		reqs[i].Held = []netip.Addr{addr}
		addr = addr.Next()
	}
	return reqs
}

func BenchmarkPlan(b *testing.B) {
	var many []string
	for i := range 10000 {
		many = append(many, fmt.Sprintf("10.%d.%d.%d-10.%d.%d.%d", i/2500, i/10%250, i%10*20, i/2500, i/10%250, i%10*20+3))
	}
	full := pool("lan", "10.0.0.0/16")
	last := append(holders(full, 1<<16-1), newcomers(1, IPv4)...)
	last[len(last)-1].Owner = "shop/last"
	waiting := holders(full, 1<<16)
	waiting = append(waiting, newcomers(10000, IPv4)...)
	for i := range 1 << 16 {
		waiting[i].Owner = "held/" + waiting[i].Owner
	}
	sharing := newcomers(10000, IPv4) // each with a port of its own, ten thousand on one address
	crowded := newcomers(10000, IPv4) // all with one port, each on an address of its own
	mixed := newcomers(10000, IPv4)   // a hundred namespaces, all under one key
	for i := range sharing {
		sharing[i].Share, sharing[i].Ports = "k", []Port{{6, uint16(i + 1)}}
		crowded[i].Share, crowded[i].Ports = "k", []Port{{6, 443}, {6, uint16(i + 1000)}}
		mixed[i].Share, mixed[i].Ports = "k", []Port{{6, uint16(i + 1)}}
		mixed[i].Namespace = fmt.Sprintf("team-%d", i%100)
	}
	open := slices.Clone(mixed)
	for i := range open {
		open[i].Namespace, open[i].ShareWith = fmt.Sprintf("team-%d", i), []string{"*"}
	}
	onFull := holders(full, 1<<16)
	for i := range onFull {
		onFull[i].Owner, onFull[i].Share, onFull[i].Ports = "held/"+onFull[i].Owner, "k", []Port{{6, 443}}
	}
	onFull = append(onFull, sharing...)
	limited := full
	limited.Quota = 100
	claimed := newcomers(5000, IPv4)
	for i := range claimed {
		claimed[i].Claim = fmt.Sprintf("c%d", i)
		c := Request{Kind: Claim, Owner: ClaimOwner("", claimed[i].Claim), Families: []Family{IPv4}, Pools: []string{"lan"}}
		claimed = append(claimed, c)
	}
	tests := []struct {
		name string
		pool Pool
		reqs []Request
	}{
		{"10k share one address", full, sharing},
		{"10k with one port under one key", full, crowded},
		{"10k of 100 namespaces under one key", full, mixed},
		{"10k namespaces on one address", full, open},
		{"10k join the holders of a full 16", full, onFull},
		{"10k of 100 namespaces with a quota", limited, mixed},
		{"5k claims and their users", full, claimed},
		{"10k from a 16", pool("lan", "10.0.0.0/16"), newcomers(10000, IPv4)},
		{"10k from an 8", pool("lan", "10.0.0.0/8"), newcomers(10000, IPv4)},
		{"1M from an 8", pool("lan", "10.0.0.0/8"), newcomers(1000000, IPv4)},
		{"10k from an IPv6 64", pool("lan", "2001:db8::/64"), newcomers(10000, IPv6)},
		{"10k of both from the whole of both", pool("lan", "0.0.0.0/0", "::/0"), newcomers(10000, IPv4, IPv6)},
		{"10k from 10k ranges", pool("lan", many...), newcomers(10000, IPv4)},
		{"10k held, nothing to do", pool("lan", "10.0.0.0/16"), holders(full, 10000)},
		{"last of a 16", full, last},
		{"10k wait for a full 16", full, waiting},
	}
	for _, bb := range tests {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Plan(World{Pools: []Pool{bb.pool}, Requests: bb.reqs})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(bb.reqs)), "ns/request")
		})
	}
}

// Half of a full /16 rests, the other half is held: ten thousand wait.
func BenchmarkPlanWhileAddressesRest(b *testing.B) {
	lan := pool("lan", "10.0.0.0/16")
	w := World{Pools: []Pool{lan}, Requests: holders(lan, 1<<15)}
	for i := range w.Requests {
		w.Requests[i].Owner = "held/" + w.Requests[i].Owner
	}
	w.Requests = append(w.Requests, newcomers(10000, IPv4)...)
	addr := netip.MustParseAddr("10.0.128.0")
	for i := range 1 << 15 {
		w.Resting = append(w.Resting, Rest{addr, fmt.Sprintf("gone/%d", i), 1})
		addr = addr.Next()
	}
	b.ReportAllocs()
	for b.Loop() {
		Plan(w)
	}
}

func BenchmarkDisjoin10kSets(b *testing.B) {
	sets := make([][]Range, 10000)
	for i := range sets {
		sets[i] = pool("", fmt.Sprintf("10.%d.%d.0-10.255.255.255", i/250, i%250)).Ranges
	}
	for b.Loop() {
		Disjoin(sets)
	}
}
