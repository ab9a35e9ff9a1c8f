//go:build netns

package ipvs

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/herald-lb/herald/speaker/probe"
)

// What another node answers to a packet through a tunnel is lost once the
// network drops tunnels. Path filters are strict.
//
// Nodes are asked again each second, for one may have to look for a neighbour first, and
// the machine may be busy.
func TestNodesAnswerThroughTunnels(t *testing.T) {
	c := newCluster(t, 3)
	c.serve(t, c.service("n2a"))
	one := c.nodes[0]
	reached := func(family int, virtual string) (answered map[netip.Addr]bool) {
		t.Helper()
		to := []netip.Addr{c.nodes[1].addrs(2)[family], c.nodes[2].addrs(3)[family]}
		if err := one.Do(func() (err error) {
			answered, err = probe.ThroughTunnels(t.Context(), one.addrs(1)[family], ip(virtual), to, 4*time.Second)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return answered
	}
	for family, virtual := range []string{vip4, vip6} {
		both := map[netip.Addr]bool{c.nodes[1].addrs(2)[family]: true, c.nodes[2].addrs(3)[family]: true}
		if got := reached(family, virtual); !maps.Equal(got, both) {
			t.Errorf("through tunnels %v answer from %s, want %v", got, virtual, both)
		}
	}
	c.nodes[2].Run(t, "nft", "add table inet firewall; "+
		"add chain inet firewall in { type filter hook prerouting priority -310; }; "+
		"add rule inet firewall in ip protocol 4 drop; add rule inet firewall in ip6 nexthdr 41 drop")
	for family, virtual := range []string{vip4, vip6} {
		first := map[netip.Addr]bool{c.nodes[1].addrs(2)[family]: true}
		if got := reached(family, virtual); !maps.Equal(got, first) {
			t.Errorf("with a firewall before n3 %v answer from %s, want %v", got, virtual, first)
		}
	}
}
