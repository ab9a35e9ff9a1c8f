package nft

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

func TestAstray(t *testing.T) {
	a := astray{
		servers: map[steer.Virtual]map[netip.AddrPort]int{
			kerneltest.Virtual("192.0.2.1:53/udp"):     {real('a'): 1, real('b'): 0},
			kerneltest.Virtual("0.0.0.0:30053/udp"):    {real('a'): 1},
			kerneltest.Virtual("[2001:db8::1]:53/udp"): {},
		},
		node: map[netip.Addr]bool{netip.MustParseAddr("192.168.0.11"): true},
	}
	tests := []struct {
		name, asked, answers string
		proto                uint8
		want                 bool
	}{
		{"with a destination", "192.0.2.1:53", real('a').String(), 17, false},
		{"with one of weight 0", "192.0.2.1:53", real('b').String(), 17, false},
		{"with one that is gone", "192.0.2.1:53", real('c').String(), 17, true},
		{"with nobody, from before there was a server", "192.0.2.1:53", "192.0.2.1:53", 17, true},
		{"over tcp", "192.0.2.1:53", real('c').String(), 6, false},
		{"to another port", "192.0.2.1:54", real('c').String(), 17, false},
		{"IPv6, with one that is gone", "[2001:db8::1]:53", "[fd00::7]:53", 17, true},
		{"by a node port, with a destination", "192.168.0.11:30053", real('a').String(), 17, false},
		{"by a node port, with one that is gone", "192.168.0.11:30053", real('b').String(), 17, true},
		{"by the node port of another node", "192.168.0.12:30053", real('b').String(), 17, false},
		{"to another port of the node", "192.168.0.11:53", "192.168.0.11:53", 17, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			asked, answers := netip.MustParseAddrPort(tt.asked), netip.MustParseAddrPort(tt.answers)
			flow := &netlink.ConntrackFlow{
				Forward: netlink.IPTuple{DstIP: asked.Addr().AsSlice(), DstPort: asked.Port(), Protocol: tt.proto},
				Reverse: netlink.IPTuple{SrcIP: answers.Addr().AsSlice(), SrcPort: answers.Port(), Protocol: tt.proto},
			}
			if got := a.MatchConntrackFlow(flow); got != tt.want {
				t.Errorf("MatchConntrackFlow() = %v, want %v", got, tt.want)
			}
		})
	}
}
