package speaker

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// heard is routed with what all speakers report of it: each tells all, and every
// session is established.
func heard() snapshot.Snapshot {
	s := routed()
	for _, n := range s.Nodes {
		s.Reports = append(s.Reports, snapshot.Report{
			Speaker: snapshot.Speaker{Node: n.Name}, Told: []ipam.Range{{First: ip("192.0.2.240"), Last: ip("192.0.2.250")}},
			Routers: []snapshot.RouterReport{{Peer: "r1", Up: true, State: "established"}, {Peer: "r2", Up: true, State: "established"}},
		})
	}
	return s
}

func TestExplainRoutes(t *testing.T) {
	pref := uint32(200)
	both := []string{
		"told       192.0.2.240 to r1 by n1, n2, n3 as 192.0.2.240/32",
		"told       192.0.2.240 to r2 by n1, n2, n3 as 192.0.2.240/32",
	}
	// without is what is said when n1 does not tell, and why.
	without := func(why string) []string {
		return []string{
			"told       192.0.2.240 to r1 by n2, n3 as 192.0.2.240/32",
			"told       192.0.2.240 to r2 by n2, n3 as 192.0.2.240/32",
			"not told   192.0.2.240 by n1: " + why,
		}
	}
	nobody := func(why string) []string { return []string{"not told   192.0.2.240 by n1, n2, n3: " + why} }
	tests := []struct {
		name string
		edit func(*snapshot.Snapshot)
		want []string
	}{
		{"all tell all", func(*snapshot.Snapshot) {}, both},
		{"a pool that tells no router", func(s *snapshot.Snapshot) { s.Config.Pools[0].BGP = nil }, nil},
		{"no BGPPeer", func(s *snapshot.Snapshot) { s.Config.Peers = nil }, nobody("no BGPPeer selects it: see spec.nodeSelector of each")},
		{"a node without one", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Peers = nil }, without("no BGPPeer selects it: see spec.nodeSelector of each")},
		{"a node that no entry selects", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Tells = nil }, without("no nodeSelector in spec.announce.bgp of AddressPool lan selects it")},
		{"a Service that no entry selects", func(s *snapshot.Snapshot) { s.Services[0].Told = nil },
			nobody("no serviceSelector in spec.announce.bgp of AddressPool lan selects the Service")},
		{"an excluded node", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Excluded = "a label" }, without("it is excluded: a label")},
		{"a node without a speaker", func(s *snapshot.Snapshot) { s.Speakers = speakersWithout(s, "n1") }, without("no speaker of it is alive")},
		{"a node that cannot steer", func(s *snapshot.Snapshot) { speakerOf(s, "n1").DataPath = "" }, without("its kernel has neither IPVS nor nftables")},
		{"no endpoint", func(s *snapshot.Snapshot) { s.Services[0].Endpoints = nil }, nobody("no endpoint of the Service in the address's family is usable")},
		{"none here, with policy Local", func(s *snapshot.Snapshot) {
			s.Services[0].Local, s.Services[0].Endpoints = true, s.Services[0].Endpoints[1:]
		}, without("no endpoint on it is usable, and externalTrafficPolicy is Local")},
		{"others serve all that share it", func(s *snapshot.Snapshot) {
			other := s.Services[0]
			other.Key, other.Local, other.Endpoints = "ns/b", true, other.Endpoints[1:3]
			s.Services = append(s.Services, other)
		}, without("other nodes can serve all the Services that share the address")},
		{"an entry that names one peer", func(s *snapshot.Snapshot) { s.Config.Pools[0].BGP[0].Peers = []string{"r2"} },
			[]string{both[1], "not told   192.0.2.240 to r1 by n1, n2, n3: spec.announce.bgp of AddressPool lan names other peers"}},
		{"a peer of the other family", func(s *snapshot.Snapshot) { s.Config.Peers[0].V4 = false },
			[]string{both[1], "not told   192.0.2.240 to r1 by n1, n2, n3: spec.families of BGPPeer r1 has not IPv4"}},
		{"a drained node", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Draining = true; nodeOf(s, "n1").Peers = []string{"r1"} }, []string{
			"told       192.0.2.240 to r1 by n1 as 192.0.2.240/32, communities 65535:0, local preference 0, MED 4294967295, so that routers avoid it while others can serve",
			"told       192.0.2.240 to r1 by n2, n3 as 192.0.2.240/32",
			"told       192.0.2.240 to r2 by n2, n3 as 192.0.2.240/32",
		}},
		{"a drained node that others have relieved", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Draining, s.Reports[0].Told = true, nil },
			without("it is drained, and routers have found other ways")},
		{"all that an entry says, and what it shares the aggregate with", func(s *snapshot.Snapshot) {
			s.Nodes, s.Config.Peers = s.Nodes[:1], s.Config.Peers[:1]
			s.Config.Pools[0].BGP = []config.BGP{{LengthV4: 24, Communities: []uint32{65000<<16 | 7}, Large: [][3]uint32{{1, 2, 3}}, LocalPref: &pref}, {LengthV4: 24}}
			other := s.Services[0]
			other.Key, other.Ingress, other.Told = "ns/b", []snapshot.Ingress{{Addr: ip("192.0.2.241")}}, map[string][]int{"lan": {1}}
			s.Services = append(s.Services, other)
			s.Nodes[0].Tells = map[string][]int{"lan": {0, 1}}
		}, []string{"told       192.0.2.240 to r1 by n1 as 192.0.2.0/24, communities 65000:7 1:2:3, local preference 200"}},
		{"a session that is down", func(s *snapshot.Snapshot) {
			s.Nodes, s.Config.Peers = s.Nodes[:1], s.Config.Peers[:1]
			s.Reports[0].Routers[0] = snapshot.RouterReport{Peer: "r1", State: "connect", Err: "connection refused"}
		}, []string{"not told   192.0.2.240 to r1 by n1 as 192.0.2.240/32: the session is not established: connection refused"}},
		{"a speaker that has not told it yet", func(s *snapshot.Snapshot) {
			s.Nodes, s.Config.Peers = s.Nodes[:1], s.Config.Peers[:1]
			s.Reports[0].Told = nil
		}, []string{"not told   192.0.2.240 to r1 by n1 as 192.0.2.240/32: its speaker does not say yet that it does: its rows do not stand, or that takes a second"}},
		{"a router that does not take the family", func(s *snapshot.Snapshot) {
			s.Nodes, s.Config.Peers = s.Nodes[:1], s.Config.Peers[:1]
			s.Reports[0].Told, s.Reports[0].Routers[0].Err = nil, "the router does not take IPv4 routes"
		}, []string{"not told   192.0.2.240 to r1 by n1 as 192.0.2.240/32: the router does not take IPv4 routes"}},
		{"a speaker that has not reported", func(s *snapshot.Snapshot) {
			s.Nodes, s.Config.Peers, s.Reports = s.Nodes[:1], s.Config.Peers[:1], nil
		}, []string{"not told   192.0.2.240 to r1 by n1 as 192.0.2.240/32: its speaker has not reported anything: see its log"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := heard()
			tt.edit(&s)
			if diff := cmp.Diff(tt.want, ExplainRoutes(s, "ns/a")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := ExplainRoutes(heard(), "ns/nobody"); got != nil {
		t.Errorf("a Service that is not there: %q", got)
	}
}

// What is explained is what is planned, whatever the state of the cluster.
func TestTellingsAreThePlan(t *testing.T) {
	eachRoutedCluster(t, func(s snapshot.Snapshot, _ *rand.Rand) {
		s.Reports = heard().Reports
		for _, addr := range s.Services[0].Addrs() {
			var want, got []string
			for _, n := range s.Nodes {
				for _, session := range PlanRoutes(s, n.Name, allReady(s), false).Sessions {
					for _, r := range session.Routes {
						want = append(want, n.Name+" "+session.Name+" "+words(r))
					}
				}
			}
			silent := map[string]bool{}
			for _, one := range Tellings(s, addr) {
				if one.Why == "" {
					got = append(got, one.Node+" "+one.Peer+" "+words(one.Route))
				} else {
					silent[one.Node] = true
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("explained %q\nplanned   %q\n%+v", got, want, s)
			}
			for _, n := range s.Nodes {
				tells := slices.ContainsFunc(got, func(line string) bool { return line[:3] == n.Name+" " })
				if tells == silent[n.Name] {
					t.Fatalf("of %s it is said that it tells: %t, and that it does not: %t", n.Name, tells, silent[n.Name])
				}
			}
		}
	})
}

// What routers know is what is told in sessions that are up, and of a family that
// they take.
func TestKnownAddresses(t *testing.T) {
	s := heard()
	s.Config.Pools[0].Ranges = append(s.Config.Pools[0].Ranges, ipam.Range{First: ip("2001:db8::"), Last: ip("2001:db8::f")})
	s.Services[0].Endpoints = append(s.Services[0].Endpoints, snapshot.Endpoint{Addr: ip("fd10::1"), Node: "n1", Ready: true})
	for i, addr := range []string{"192.0.2.241", "192.0.2.243", "2001:db8::1"} {
		other := s.Services[0]
		other.Key, other.Ingress = string(rune('b'+i)), []snapshot.Ingress{{Addr: ip(addr)}}
		s.Services = append(s.Services, other)
	}
	s.Config.Pools[0].BGP = []config.BGP{{LengthV4: 24, LengthV6: 64}, {LengthV4: 32, LengthV6: 128, Peers: []string{"r2"}}}
	all := map[string][]int{"lan": {0, 1}}
	for i := range s.Services {
		s.Services[i].Told = all
	}
	s.Nodes[0].Tells = all
	r := PlanRoutes(s, "n1", allReady(s), false)
	four, six := "192.0.2.240-192.0.2.241 192.0.2.243", "2001:db8::1"
	for _, tt := range []struct {
		name   string
		states []SessionState
		want   string
	}{
		{"no session", nil, ""},
		{"one that is down", []SessionState{{Name: "r1", V4: true, V6: true}}, ""},
		{"one that is up", []SessionState{{Name: "r1", Up: true, V4: true, V6: true}}, four + " " + six},
		{"one that takes IPv4 only", []SessionState{{Name: "r2", Up: true, V4: true}}, four},
		{"two that take one family each", []SessionState{{Name: "r1", Up: true, V6: true}, {Name: "r2", Up: true, V4: true}}, four + " " + six},
		{"one of another time", []SessionState{{Name: "r9", Up: true, V4: true}}, ""},
	} {
		got := ""
		for i, one := range r.Known(tt.states) {
			if i > 0 {
				got += " "
			}
			got += one.String()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := PlanRoutes(s, "n1", map[netip.Addr]bool{ip("192.0.2.243"): true}, false).Known([]SessionState{{Name: "r1", Up: true, V4: true, V6: true}}); len(got) != 1 || got[0].First != ip("192.0.2.243") {
		t.Errorf("of an aggregate of which one address is served: %v", got)
	}
}
