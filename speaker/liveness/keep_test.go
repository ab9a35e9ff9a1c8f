package liveness

import (
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/speaker/bfd"
)

func TestASessionThatWasUpStaysAsLongAsItWas(t *testing.T) {
	addr, local := netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		name     string
		was      bfd.Peer
		up, want bool // want is whether it goes over several hops then
	}{
		{"one that was up", bfd.Peer{Addr: addr, Local: local}, true, false},
		{"one that never was", bfd.Peer{Addr: addr, Local: local}, false, true},
		{"one with another address", bfd.Peer{Addr: addr.Next(), Local: local}, true, true},
		{"one from another address", bfd.Peer{Addr: addr, Local: local.Prev()}, true, true},
	} {
		next := map[string]bfd.Peer{"n2": {Addr: addr, Local: local, Multihop: true}}
		keep(next, map[string]bfd.Peer{"n2": tt.was}, map[netip.Addr]bfd.Status{addr: {WasUp: tt.up}})
		if got := next["n2"].Multihop; got != tt.want {
			t.Errorf("%s: multihop %t, want %t", tt.name, got, tt.want)
		}
	}
}
