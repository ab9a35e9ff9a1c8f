package look

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/doctor"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestOtherNodesAreThoseOfAnotherAddress(t *testing.T) {
	own := []doctor.Addr{{Addr: addr("127.0.0.1"), Link: "lo"}, {Addr: addr("192.0.2.11"), Link: "eth0"}, {Addr: addr("2001:db8::11"), Link: "eth0"}}
	c := doctor.Cluster{Tunnels: map[string][]netip.Addr{
		"n1": {addr("192.0.2.11"), addr("2001:db8::11")}, "n2": {addr("192.0.2.12")}, "n3": nil,
	}}
	self, others := tunnels(own, c, false)
	if self != addr("192.0.2.11") || len(others) != 1 || others[0].Node != "n2" || others[0].Addr != addr("192.0.2.12") {
		t.Errorf("of IPv4: %s, %v", self, others)
	}
	if self, others := tunnels(own, c, true); self != addr("2001:db8::11") || len(others) != 0 {
		t.Errorf("of IPv6: %s, %v", self, others)
	}
	if self, _ := tunnels(own[:1], c, false); self.IsValid() {
		t.Errorf("a node that takes no tunnels does so at %s", self)
	}
	for i := range 200 {
		c.Tunnels[fmt.Sprintf("m%d", i)] = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(20 + i)})}
	}
	if _, others := tunnels(own, c, false); len(others) != mostAsked {
		t.Errorf("%d of 201 others are asked, want %d", len(others), mostAsked)
	}
}

func TestNodesAnswerFromAnAddressThatHeraldSteers(t *testing.T) {
	in := func(a, mode string) []snapshot.Ingress { return []snapshot.Ingress{{Addr: addr(a), Mode: mode}} }
	c := doctor.Cluster{Services: []snapshot.Service{
		{Ours: true, Ingress: in("192.0.2.240", "Proxy")},
		{Served: true, Ingress: in("192.0.2.241", "Proxy")},
		{Served: true, Ours: true, Ingress: in("192.0.2.242", "VIP")},
		{Served: true, Ours: true, Ingress: in("2001:db8::243", "Proxy")},
		{Served: true, Ours: true, Ingress: in("192.0.2.244", "Proxy")},
	}}
	if a := steered(c, false); a != addr("192.0.2.244") {
		t.Errorf("of IPv4 %s", a)
	}
	if a := steered(c, true); a != addr("2001:db8::243") {
		t.Errorf("of IPv6 %s", a)
	}
	if a := steered(doctor.Cluster{}, false); a.IsValid() {
		t.Errorf("of no Service %s", a)
	}
}
