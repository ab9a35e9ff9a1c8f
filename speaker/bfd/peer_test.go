package bfd

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestPeersAreChecked(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Peer)
		want   string // of the error; "" for none
	}{
		{"one hop, the kernel chooses", func(*Peer) {}, ""},
		{"one hop, from an address", func(p *Peer) { p.Local = ip("192.0.2.1") }, ""},
		{"multihop", func(p *Peer) { p.Local, p.Multihop = ip("198.51.100.1"), true }, ""},
		{"link-local", func(p *Peer) { p.Addr = ip("fe80::1%eth0") }, ""},
		{"link-local, from an address", func(p *Peer) { p.Addr, p.Local = ip("fe80::1%eth0"), ip("fe80::2") }, ""},
		{"no address", func(p *Peer) { p.Addr = netip.Addr{} }, "Addr: write the unicast"},
		{"any address", func(p *Peer) { p.Addr = ip("::") }, "Addr: write the unicast"},
		{"a group", func(p *Peer) { p.Addr = ip("224.0.0.1") }, "Addr: write the unicast"},
		{"IPv4 in IPv6", func(p *Peer) { p.Addr = ip("::ffff:192.0.2.2") }, "Addr: write it as IPv4, 192.0.2.2"},
		{"link-local on no link", func(p *Peer) { p.Addr = ip("fe80::1") }, "Addr: name the link"},
		{"global on a link", func(p *Peer) { p.Addr = ip("2001:db8::1%eth0") }, "Addr: write it without a zone, 2001:db8::1"},
		{"link-local over routers", func(p *Peer) { p.Addr, p.Multihop = ip("fe80::1%eth0"), true }, "Multihop: leave it out"},
		{"multihop from anywhere", func(p *Peer) { p.Multihop = true }, "Local: write the address"},
		{"from the other family", func(p *Peer) { p.Local = ip("2001:db8::1") }, "Local: 2001:db8::1: write a unicast"},
		{"from another link", func(p *Peer) { p.Addr, p.Local = ip("fe80::1%eth0"), ip("fe80::2%eth1") }, "Local: fe80::2%eth1: write it without"},
		{"too fast", func(p *Peer) { p.MinTx = 9 * ms }, "MinTx: 9ms: write 10ms to 1m0s"},
		{"too slow", func(p *Peer) { p.MinRx = 2 * time.Minute }, "MinRx: 2m0s: write 10ms to 1m0s"},
		{"no multiplier", func(p *Peer) { p.Multiplier = 0 }, "Multiplier: write 1 or more"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := peer("192.0.2.2")
			tt.change(&p)
			plan, err := newPlan([]Peer{p, peer("192.0.2.3")})
			if tt.want == "" {
				if err != nil || len(plan.peers) != 2 {
					t.Errorf("newPlan() = %v", err)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "BFD peer "+p.Addr.String()+": "+tt.want) {
				t.Errorf("newPlan() = %v, want … %s", err, tt.want)
			}
			if len(plan.peers) != 1 || plan.bad[p.Addr] == nil {
				t.Errorf("plan is %+v, want the other peer alone", plan)
			}
		})
	}
}
