package speaker

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// routed is lan with two routers, both told by all nodes, and not on layer 2.
func routed() snapshot.Snapshot {
	s := lan()
	s.Config.Peers = []config.Peer{{Name: "r1", PeerASN: 65001, V4: true, V6: true}, {Name: "r2", External: true, Multihop: true, V4: true, V6: true}}
	s.Config.Pools[0].Layer2.Enabled = false
	s.Config.Pools[0].BGP = []config.BGP{{LengthV4: 32, LengthV6: 128}}
	for i := range s.Nodes {
		s.Nodes[i].Peers, s.Nodes[i].Tells = []string{"r1", "r2"}, map[string][]int{s.Config.Pools[0].Name: {0}}
	}
	s.Services[0].Told = map[string][]int{s.Config.Pools[0].Name: {0}}
	return s
}

// told returns what nodes tell: "node router prefix …".
func told(s snapshot.Snapshot, unready ...netip.Addr) []string {
	ready := allReady(s)
	for _, a := range unready {
		delete(ready, a)
	}
	return toldBy(s, ready, nil)
}

func toldBy(s snapshot.Snapshot, ready map[netip.Addr]bool, relieved map[string]bool) (out []string) {
	for _, n := range s.Nodes {
		for _, session := range PlanRoutes(s, n.Name, ready, relieved[n.Name]).Sessions {
			for _, r := range session.Routes {
				out = append(out, n.Name+" "+session.Name+" "+words(r))
			}
		}
	}
	return out
}

func words(r Route) string {
	text := r.Prefix.String()
	for _, c := range r.Communities {
		text += fmt.Sprintf(" %d:%d", c>>16, c&0xffff)
	}
	for _, l := range r.Large {
		text += fmt.Sprintf(" %d:%d:%d", l[0], l[1], l[2])
	}
	if r.LocalPref != nil {
		text += fmt.Sprintf(" pref %d", *r.LocalPref)
	}
	if r.MED != nil {
		text += fmt.Sprintf(" med %d", *r.MED)
	}
	if r.Leaving {
		return r.Prefix.String() + strings.ReplaceAll(strings.TrimPrefix(text, r.Prefix.String()), " 65535:0 pref 0 med 4294967295", " leaving")
	}
	return text
}

func TestPlanRoutes(t *testing.T) {
	number := func(n uint32) *uint32 { return &n }
	// by is what nodes tell r1 and r2 alike.
	by := func(nodes ...string) (out []string) {
		for _, n := range nodes {
			node, more, _ := strings.Cut(n, " ")
			if more != "" {
				more = " " + more
			}
			for _, r := range []string{"r1", "r2"} {
				out = append(out, node+" "+r+" 192.0.2.240/32"+more)
			}
		}
		return out
	}
	tests := []struct {
		name string
		edit func(*snapshot.Snapshot)
		want []string
	}{
		{"every node tells every router", func(*snapshot.Snapshot) {}, by("n1", "n2", "n3")},
		{"not what no pool tells", func(s *snapshot.Snapshot) { s.Config.Pools[0].BGP = nil }, nil},
		{"nor what another node selector has", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Tells = nil }, by("n2", "n3")},
		{"nor what the Service selector does not select", func(s *snapshot.Snapshot) { s.Services[0].Told = nil }, nil},
		{"only the routers that the entry names", func(s *snapshot.Snapshot) { s.Config.Pools[0].BGP[0].Peers = []string{"r2"} },
			[]string{"n1 r2 192.0.2.240/32", "n2 r2 192.0.2.240/32", "n3 r2 192.0.2.240/32"}},
		{"only those that the node has a session with", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Peers, nodeOf(s, "n2").Peers = []string{"r1"}, nil },
			[]string{"n1 r1 192.0.2.240/32", "n3 r1 192.0.2.240/32", "n3 r2 192.0.2.240/32"}},
		{"only the families that the router is told", func(s *snapshot.Snapshot) { s.Config.Peers[0].V4 = false },
			[]string{"n1 r2 192.0.2.240/32", "n2 r2 192.0.2.240/32", "n3 r2 192.0.2.240/32"}},
		{"no link into the subnet is needed", func(s *snapshot.Snapshot) { speakerOf(s, "n1").Links = nil }, by("n1", "n2", "n3")},
		{"not a node without a data path", func(s *snapshot.Snapshot) { speakerOf(s, "n1").DataPath = "" }, by("n2", "n3")},
		{"which does where kube-proxy steers", func(s *snapshot.Snapshot) {
			speakerOf(s, "n1").DataPath, s.Config.Pools[0].Steer = "", config.SteerServiceProxy
		}, by("n1", "n2", "n3")},
		{"not an excluded node", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Excluded = "a label" }, by("n2", "n3")},
		{"not a node whose speaker is dead", func(s *snapshot.Snapshot) { s.Speakers = speakersWithout(s, "n1") }, by("n2", "n3")},
		{"nobody without an endpoint", func(s *snapshot.Snapshot) { s.Services[0].Endpoints = nil }, nil},
		{"nor with those of the other family", func(s *snapshot.Snapshot) {
			s.Services[0].Endpoints = []snapshot.Endpoint{{Addr: ip("fd10::1"), Node: "n1", Ready: true}}
		}, nil},
		{"with policy Local who has one", func(s *snapshot.Snapshot) {
			s.Services[0].Local, s.Services[0].Endpoints = true, s.Services[0].Endpoints[1:]
		}, by("n2", "n3")},
		{"where Services of both policies share it, who can serve both", func(s *snapshot.Snapshot) {
			other := s.Services[0]
			other.Key, other.Local, other.Endpoints = "ns/b", true, other.Endpoints[1:2]
			s.Services = append(s.Services, other)
		}, by("n2")},
		{"and all that can serve one, if nobody can serve both", func(s *snapshot.Snapshot) {
			other := s.Services[0]
			other.Key, other.Local, other.Endpoints = "ns/b", true, []snapshot.Endpoint{{Addr: ip("10.9.9.9"), Node: "n9", Ready: true}}
			s.Services = append(s.Services, other)
		}, by("n1", "n2", "n3")},
		{"a drained node is to be relieved", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Draining = true }, by("n1 leaving", "n2", "n3")},
		{"and one whose speaker leaves", func(s *snapshot.Snapshot) { speakerOf(s, "n1").Leaving = true }, by("n1 leaving", "n2", "n3")},
		{"and one that the Service avoids", func(s *snapshot.Snapshot) { s.Services[0].Avoid = []string{"n1"} }, by("n1 leaving", "n2", "n3")},
		{"but not the last one that can", func(s *snapshot.Snapshot) {
			nodeOf(s, "n2").Draining = true
			s.Services[0].Local, s.Services[0].Endpoints = true, s.Services[0].Endpoints[1:2]
		}, by("n2")},
		{"nor one that alone has a session", func(s *snapshot.Snapshot) {
			nodeOf(s, "n1").Draining, nodeOf(s, "n2").Peers, nodeOf(s, "n3").Peers = true, nil, nil
		}, by("n1")},
		{"with a router that the entry names", func(s *snapshot.Snapshot) {
			nodeOf(s, "n1").Draining, nodeOf(s, "n2").Peers, nodeOf(s, "n3").Peers = true, []string{"r2"}, []string{"r2"}
			s.Config.Pools[0].BGP[0].Peers = []string{"r1"}
		}, []string{"n1 r1 192.0.2.240/32"}},
		{"and that is told of the family", func(s *snapshot.Snapshot) {
			nodeOf(s, "n1").Draining, nodeOf(s, "n2").Peers, nodeOf(s, "n3").Peers = true, []string{"r2"}, []string{"r2"}
			s.Config.Peers[1].V4 = false
		}, []string{"n1 r1 192.0.2.240/32"}},
		{"who has no session outdoes nobody", func(s *snapshot.Snapshot) {
			other := s.Services[0]
			other.Key, other.Local, other.Endpoints = "ns/b", true, other.Endpoints[1:2]
			s.Services = append(s.Services, other)
			nodeOf(s, "n2").Peers = nil
		}, by("n1", "n3")},
		{"all drained: all go on", func(s *snapshot.Snapshot) {
			for i := range s.Nodes {
				s.Nodes[i].Draining = true
			}
		}, by("n1", "n2", "n3")},
		{"with all that the entry says", func(s *snapshot.Snapshot) {
			b := &s.Config.Pools[0].BGP[0]
			b.Communities, b.Large, b.LocalPref, b.MED = []uint32{65000<<16 | 7}, [][3]uint32{{1, 2, 3}}, number(200), number(5)
		}, by("n1 65000:7 1:2:3 pref 200 med 5", "n2 65000:7 1:2:3 pref 200 med 5", "n3 65000:7 1:2:3 pref 200 med 5")},
		{"two entries that tell the same are one route, as good as the better", func(s *snapshot.Snapshot) {
			s.Nodes, s.Config.Peers = s.Nodes[:1], s.Config.Peers[:1]
			s.Config.Pools[0].BGP = []config.BGP{
				{LengthV4: 32, Communities: []uint32{1, 9}, LocalPref: number(50), MED: number(5)},
				{LengthV4: 32, Communities: []uint32{2, 9}, Large: [][3]uint32{{1, 1, 1}}, LocalPref: number(70), MED: number(4)},
			}
			all := map[string][]int{s.Config.Pools[0].Name: {0, 1}}
			s.Nodes[0].Tells, s.Services[0].Told = all, all
		}, []string{"n1 r1 192.0.2.240/32 0:1 0:2 0:9 1:1:1 pref 70 med 4"}},
		{"what is not said is the usual: preference 100, MED 0", func(s *snapshot.Snapshot) {
			s.Nodes, s.Config.Peers = s.Nodes[:1], s.Config.Peers[:1]
			s.Config.Pools[0].BGP = []config.BGP{{LengthV4: 32, LocalPref: number(99), MED: number(1)}, {LengthV4: 32}}
			all := map[string][]int{s.Config.Pools[0].Name: {0, 1}}
			s.Nodes[0].Tells, s.Services[0].Told = all, all
		}, []string{"n1 r1 192.0.2.240/32"}},
		{"an aggregate, once", func(s *snapshot.Snapshot) {
			s.Nodes, s.Config.Peers = s.Nodes[:1], s.Config.Peers[:1]
			s.Config.Pools[0].BGP[0].LengthV4 = 24
			other := s.Services[0]
			other.Key, other.Ingress = "ns/b", []snapshot.Ingress{{Addr: ip("192.0.2.241")}}
			s.Services = append(s.Services, other)
		}, []string{"n1 r1 192.0.2.0/24"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := routed()
			tt.edit(&s)
			if diff := cmp.Diff(tt.want, told(s)); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
		})
	}
	relieved := map[string]bool{"n1": true}
	s := routed()
	nodeOf(&s, "n1").Draining = true
	if diff := cmp.Diff(by("n2", "n3"), toldBy(s, allReady(s), relieved)); diff != "" {
		t.Errorf("a relieved node tells no more (-want +got):\n%s", diff)
	}
	for i := range s.Nodes {
		s.Nodes[i].Draining = true
	}
	if diff := cmp.Diff(by("n1", "n2", "n3"), toldBy(s, allReady(s), relieved)); diff != "" {
		t.Errorf("but where nobody else stays (-want +got):\n%s", diff)
	}
	if got := told(routed(), ip("192.0.2.240")); got != nil {
		t.Errorf("told before its rows stand: %v", got)
	}
}

func TestSessionsAreThoseOfTheNode(t *testing.T) {
	s := routed()
	s.Passwords = map[string]string{"r2": "secret"}
	s.Nodes[0].Internal = []netip.Addr{ip("2001:db8::11"), ip("192.0.2.11")}
	sessions := PlanRoutes(s, "n1", nil, false).Sessions
	if len(sessions) != 2 {
		t.Fatalf("n1 has %d sessions", len(sessions))
	}
	if r := sessions[0]; r.Hops != 1 || r.Relation != AnyRelation || r.RouterID != ip("192.0.2.11") || r.Password != "" {
		t.Errorf("r1: %+v", r)
	}
	if r := sessions[1]; r.Hops != 255 || r.Relation != External || r.Password != "secret" {
		t.Errorf("r2: %+v", r)
	}
	s.Config.Peers[1].Secret, s.Config.Peers[1].SecretKey = "bgp", "password"
	if r := PlanRoutes(s, "n1", nil, false).Sessions[1]; r.Hold != "" {
		t.Errorf("r2 has its password, and is not opened: %s", r.Hold)
	}
	fine := PlanRoutes(s, "n1", nil, false).Sessions[1]
	s.PasswordsKept = map[string]string{"r2": "there is no Secret bgp"}
	if r := PlanRoutes(s, "n1", nil, false).Sessions[1]; r.Hold != "" || r.Password != "secret" || !strings.Contains(r.Warning, "there is no Secret bgp") || r.Differs(fine) {
		t.Errorf("r2 has only its last password: %+v", r)
	}
	s.PasswordsKept = nil
	s.Passwords = map[string]string{"r2": strings.Repeat("x", 81)}
	if r := PlanRoutes(s, "n1", nil, false).Sessions[1]; !strings.Contains(r.Hold, "longer than 80 bytes") || r.Password != "" {
		t.Errorf("r2 has a password that no kernel takes, and is opened: %q", r.Hold)
	}
	s.Passwords = nil
	if r := PlanRoutes(s, "n1", nil, false).Sessions[1]; !strings.Contains(r.Hold, "no Secret bgp with a key password") {
		t.Errorf("r2 has no password, and is opened: %q", r.Hold)
	}
	s.Recalled = time.Unix(1, 0)
	if r := PlanRoutes(s, "n1", nil, false).Sessions[1]; !strings.Contains(r.Hold, "waits for the API server") {
		t.Errorf("r2 is said to have no password while nobody has read it: %q", r.Hold)
	}
	a, b := routerID(snapshot.Node{Name: "n1"}), routerID(snapshot.Node{Name: "n2"})
	if a == b || !a.Is4() || a.As4()[0] < 240 || a != routerID(snapshot.Node{Name: "n1", Internal: []netip.Addr{ip("2001:db8::1")}}) {
		t.Errorf("nodes without an IPv4 address have the identifiers %s and %s", a, b)
	}
}

// eachRoutedCluster calls do with clusters in all sorts of states.
func eachRoutedCluster(t *testing.T, do func(s snapshot.Snapshot, rnd *rand.Rand)) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		s := routed()
		svc := &s.Services[0]
		svc.Local, svc.Endpoints = rnd.IntN(2) == 0, svc.Endpoints[rnd.IntN(3):]
		for i := range s.Nodes {
			s.Nodes[i].Draining, s.Speakers[i].Leaving = rnd.IntN(3) == 0, rnd.IntN(3) == 0
			if rnd.IntN(4) == 0 {
				s.Speakers[i].DataPath = ""
			}
			if rnd.IntN(4) == 0 {
				s.Nodes[i].Excluded = "a label"
			}
			if rnd.IntN(4) == 0 {
				s.Nodes[i].Peers = nil
			}
		}
		do(s, rnd)
	}
}

// Whatever the state of the cluster: a served address is told to a router by
// somebody who stays, if anybody at all could tell it; and who tells it can serve it.
func TestAnAddressIsToldBySomebodyWhoStays(t *testing.T) {
	eachRoutedCluster(t, func(s snapshot.Snapshot, rnd *rand.Rand) {
		could, stay, tell := 0, 0, 0
		relieved := map[string]bool{}
		for _, n := range s.Nodes {
			relieved[n.Name] = n.Draining && rnd.IntN(2) == 0
		}
		someStay := slices.ContainsFunc(s.Nodes, func(n snapshot.Node) bool {
			return !n.Draining && !speakerOf(&s, n.Name).Leaving && canServe(s, n)
		})
		for _, n := range s.Nodes {
			able := canServe(s, n)
			if able && !(relieved[n.Name] && someStay) {
				could++
			}
			for _, session := range PlanRoutes(s, n.Name, allReady(s), relieved[n.Name]).Sessions {
				if len(session.Routes) == 0 {
					continue
				}
				if tell++; !able {
					t.Fatalf("%s tells what it cannot serve", n.Name)
				}
				if !session.Routes[0].Leaving {
					stay++
				}
			}
		}
		if tell != 2*could || (stay > 0) != (could > 0) {
			t.Fatalf("%d could, %d tell, %d stay: %+v", could, tell, stay, s)
		}
	})
}

// canServe is whether a node can serve the first Service, and tell a router, whatever is to become of it.
func canServe(s snapshot.Snapshot, n snapshot.Node) bool {
	svc := s.Services[0]
	has := !svc.Local || slices.ContainsFunc(svc.Endpoints, func(e snapshot.Endpoint) bool { return e.Node == n.Name })
	return has && speakerOf(&s, n.Name).DataPath != "" && n.Excluded == "" && len(n.Peers) > 0
}

// What one router is told does not depend on which others there are. It is by
// prefix, none twice; and routers that are told the same have one list in common.
func TestPlanRoutesForEachRouterAlone(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	for round := range 200 {
		s := routed()
		s.Nodes, s.Config.Peers = s.Nodes[:1], nil
		some := func(names ...string) []string {
			return slices.DeleteFunc(names, func(string) bool { return rnd.IntN(2) == 0 })
		}
		n, pool, one := &s.Nodes[0], &s.Config.Pools[0], s.Services[0]
		n.Peers, n.Tells, one.Told = []string{"r0", "r1", "r2", "r3"}, map[string][]int{pool.Name: {0, 1, 2}}, map[string][]int{pool.Name: {0, 1, 2}}
		for _, name := range n.Peers {
			s.Config.Peers = append(s.Config.Peers, config.Peer{Name: name, V4: rnd.IntN(4) > 0, V6: true})
		}
		pool.BGP = nil
		for i := range uint32(3) {
			pool.BGP = append(pool.BGP, config.BGP{LengthV4: 32 - 4*rnd.IntN(2), LengthV6: 128, Communities: []uint32{i}, Peers: some("r0", "r1", "r2", "r3")})
		}
		s.Services = nil
		for i := range 12 {
			one.Key, one.Ingress = fmt.Sprint("ns/", i), []snapshot.Ingress{{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(236 + i)})}}
			s.Services = append(s.Services, one)
		}
		all := PlanRoutes(s, "n1", allReady(s), false)
		for i, session := range all.Sessions {
			alone := s
			alone.Nodes = slices.Clone(s.Nodes)
			alone.Nodes[0].Peers = []string{session.Name}
			want := PlanRoutes(alone, "n1", allReady(s), false)
			diff := cmp.Diff(eachInWords(want.Sessions[0].Routes), eachInWords(session.Routes))
			if diff != "" || !slices.Equal(want.Told[0], all.Told[i]) {
				t.Fatalf("round %d: %s is told other than alone:\n%s", round, session.Name, diff)
			}
			for j := 1; j < len(session.Routes); j++ {
				if session.Routes[j-1].Prefix.Compare(session.Routes[j].Prefix) >= 0 {
					t.Fatalf("round %d: %s before %s", round, session.Routes[j-1].Prefix, session.Routes[j].Prefix)
				}
			}
		}
	}
	s := routed() // two that are told the same
	one := PlanRoutes(s, "n1", allReady(s), false).Sessions
	if &one[0].Routes[0] != &one[1].Routes[0] {
		t.Error("two routers that are told the same have two lists")
	}
}

func eachInWords(routes []Route) (all []string) {
	for _, r := range routes {
		all = append(all, words(r))
	}
	return all
}
