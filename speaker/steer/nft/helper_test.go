package nft

import (
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

func TestDrawOf(t *testing.T) {
	tests := []struct {
		server steer.Server
		want   draw
	}{
		{steer.Server{Scheduler: "rr"}, byTurn},
		{steer.Server{Scheduler: "wrr"}, byTurn},
		{steer.Server{Scheduler: "lc"}, atRandom},
		{steer.Server{Scheduler: "mh"}, bySource},
		{steer.Server{Scheduler: "sh"}, bySource},
		{steer.Server{Scheduler: "mh", Flags: config.SchedulerFallback}, bySource},
		{steer.Server{Scheduler: "mh", Flags: config.SchedulerPort}, byFlow},
		{steer.Server{Scheduler: "sh", Flags: config.SchedulerPort | config.SchedulerFallback}, byFlow},
	}
	for _, tt := range tests {
		t.Run(tt.server.String(), func(t *testing.T) {
			if got := drawOf(tt.server); got != tt.want {
				t.Errorf("drawOf() = %s, want %s", got, tt.want)
			}
		})
	}
}

func TestHelperNamesAreReadBack(t *testing.T) {
	for _, virtual := range []string{"192.0.2.1:80/tcp", "[2001:db8::1]:53/udp", "0.0.0.0:30080/tcp", "[::]:30080/sctp"} {
		for _, scheduler := range []string{"rr", "wrr", "sh", "mh", "lc"} {
			for i := range 4 {
				s := steer.Server{Scheduler: scheduler, SNAT: i%2 == 0, Affinity: uint32(i / 2 * 600)}
				h := helperFor(kerneltest.Virtual(virtual), s, 7)
				if got, ok := parseHelper(h.String()); !ok || got != h {
					t.Errorf("parseHelper(%s) = %v, %v, want %v", h, got, ok, h)
				}
			}
		}
	}
}

func TestOtherChainsAreNoHelpers(t *testing.T) {
	names := []string{"", "refuse", "v4-service", "prerouting", "v4-turn-0-1", "v4-turn-3", "v4-random-3-1",
		"v4-random--3", "v5-random-3", "v4-other-3", "v4-random-03", "v4-random-3-snat-snat", "v4-flow-x",
		"v4-port-service", "v6-limit", "v4-port-limit", "v4-random-3-snat-port", "v4-random-3-keep0", "v4-random-3-keep07",
		"v4-random-3-keep4294967296", "v4-random-3-port-port"}
	for _, name := range names {
		if h, ok := parseHelper(name); ok {
			t.Errorf("parseHelper(%q) = %v", name, h)
		}
	}
}

func TestPortsOfOneAddressDoNotTakeTurnsTogether(t *testing.T) {
	seen := map[int]string{}
	for _, v := range []string{"192.0.2.1:80/tcp", "192.0.2.1:443/tcp", "192.0.2.1:8080/tcp", "192.0.2.1:8443/tcp"} {
		h := helperFor(kerneltest.Virtual(v), steer.Server{Scheduler: "rr"}, 2)
		if other, taken := seen[h.turn]; taken {
			t.Errorf("%s and %s share %s", v, other, h)
		}
		seen[h.turn] = v
	}
}
