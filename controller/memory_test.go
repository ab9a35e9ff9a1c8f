package controller

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// Between the pass that writes an address and the next one its owner may go:
// then no pass ever sees the address in a status, but others may have.
func TestAnAddressThatNoPassHasSeenRestsAsWell(t *testing.T) {
	pool := lan()
	pool.ReuseAfter = time.Minute
	free := netip.MustParseAddr("192.0.2.1")
	tests := []struct {
		name  string
		after func(*play)
		want  []snapshot.Rest
	}{
		{"a Service that has gone", func(p *play) { p.drop("ns/a") },
			[]snapshot.Rest{{Addr: free, Owner: "ns/a", Until: time.Unix(1060, 0)}}},
		{"a Service whose type has changed", func(p *play) { p.svc("ns/a").Served = false },
			[]snapshot.Rest{{Addr: free, Owner: "ns/a", Until: time.Unix(1060, 0)}}},
		{"a Service that another of its name has replaced", func(p *play) { p.svc("ns/a").UID = "other" },
			nil},
		{"a Service whose status could not be written", func(*play) {}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlay(t, []config.Pool{pool}, svc("ns/a", 1))
			_, p.m = Plan(p.s, p.m) // and nothing of it is seen
			tt.after(p)
			p.add(svc("ns/b", 2))
			p.pass()
			if got := p.s.Pools[0].Resting; !slices.Equal(got, tt.want) {
				t.Errorf("resting %v, want %v", got, tt.want)
			}
			if b := p.svc("ns/b").Addrs(); slices.Contains(b, free) {
				t.Errorf("ns/b has %s already", free)
			}
		})
	}
}

func TestAnAddressOfAClaimThatNoPassHasSeenRestsAsWell(t *testing.T) {
	pool := lan()
	pool.ReuseAfter = time.Minute
	p := newPlay(t, []config.Pool{pool})
	p.s.Claims = []snapshot.Claim{{
		Claim: config.Claim{Namespace: "ns", Name: "c", Families: []ipam.Family{ipam.IPv4}},
		Key:   "ns/c", UID: "c", Created: time.Unix(1, 0), Pools: []string{"lan"},
	}}
	_, p.m = Plan(p.s, p.m)
	p.s.Claims = nil
	p.add(svc("ns/b", 2))
	p.pass()
	p.has("ns/b 192.0.2.2")
}
