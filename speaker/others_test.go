package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// goOn returns, for each claim of others, who would go on with it: "address link
// node". What is not ready is so on one node only.
func goOn(s snapshot.Snapshot, unready string) []string {
	var out []string
	for _, n := range []string{"n1", "n2", "n3"} {
		ready := allReady(s)
		if n == unready {
			clear(ready)
		}
		for _, c := range Plan(s, n, ready).Others {
			out = append(out, fmt.Sprintf("%s %s %s", c.Addr, c.Link, n))
		}
	}
	slices.Sort(out)
	return out
}

// Who announces an address that another is elected for goes on until that one has
// it, if he serves it still.
func TestOthers(t *testing.T) {
	const winner = "n1" // and n3 without it, see TestPlan
	const n1, n2, n3 = "192.0.2.240 eth0 n1", "192.0.2.240 eth0 n2", "192.0.2.240 eth0 n3"
	tests := []struct {
		name string
		edit func(*snapshot.Snapshot)
		want []string
	}{
		{"who could serve it and is not elected does", func(*snapshot.Snapshot) {}, []string{n2, n3}},
		{"who is leaving does, while another stays",
			func(s *snapshot.Snapshot) { speakerOf(s, winner).Leaving = true }, []string{n1, n2}},
		{"whose node is drained does, while another is not",
			func(s *snapshot.Snapshot) { nodeOf(s, winner).Draining = true }, []string{n1, n2}},
		{"who is excluded does, while somebody else is elected",
			func(s *snapshot.Snapshot) { nodeOf(s, winner).Excluded = "a label" }, []string{n1, n2}},
		{"and not while nobody is",
			func(s *snapshot.Snapshot) {
				for i := range s.Nodes {
					s.Nodes[i].Excluded = "a label"
				}
			}, nil},
		{"who is not selected by the pool any more does",
			func(s *snapshot.Snapshot) { nodeOf(s, winner).Announces = nil }, []string{n1, n2}},
		{"whose Node is deleted does",
			func(s *snapshot.Snapshot) {
				s.Nodes = slices.DeleteFunc(s.Nodes, func(n snapshot.Node) bool { return n.Name == winner })
			}, []string{n1, n2}},
		{"who does not hear his own Lease does not: he may be wrong about all",
			func(s *snapshot.Snapshot) { s.Speakers = speakersWithout(s, winner) }, []string{n2}},
		{"who has no data path does not",
			func(s *snapshot.Snapshot) { speakerOf(s, winner).DataPath = "" }, []string{n2}},
		{"but does where kube-proxy steers",
			func(s *snapshot.Snapshot) {
				s.Config.Pools[0].Steer = config.SteerServiceProxy
				speakerOf(s, winner).DataPath, nodeOf(s, winner).Excluded = "", "a label"
			}, []string{n1, n2}},
		{"who is not heard is not waited for: nobody would hear that he has it",
			func(s *snapshot.Snapshot) { speakerOf(s, winner).Unheard = true }, nil},
		{"whose link is gone does not",
			func(s *snapshot.Snapshot) { speakerOf(s, winner).Links = nil }, []string{n2}},
		{"whose link the pool does not allow does not",
			func(s *snapshot.Snapshot) { s.Config.Pools[0].Layer2.Interfaces = []string{"eth1"} }, nil},
		{"nobody does what is not announced on layer 2",
			func(s *snapshot.Snapshot) { s.Config.Pools[0].Layer2.Enabled = false }, nil},
		{"nobody does without an endpoint",
			func(s *snapshot.Snapshot) { s.Services[0].Endpoints = nil }, nil},
		{"with policy Cluster who has no endpoint does",
			func(s *snapshot.Snapshot) { s.Services[0].Endpoints = s.Services[0].Endpoints[:1] }, []string{n2, n3}},
		{"with externalTrafficPolicy Local who has none does not",
			func(s *snapshot.Snapshot) {
				s.Services[0].Local = true
				s.Services[0].Endpoints = s.Services[0].Endpoints[2:]
			}, nil},
		{"and who has one does",
			func(s *snapshot.Snapshot) {
				s.Services[0].Local = true
				s.Services[0].Endpoints = s.Services[0].Endpoints[1:]
			}, []string{n2}},
		{"also if it only drains",
			func(s *snapshot.Snapshot) {
				s.Services[0].Local = true
				s.Services[0].Endpoints = s.Services[0].Endpoints[1:]
				s.Services[0].Endpoints[0].Ready, s.Services[0].Endpoints[0].Draining = false, true
			}, []string{n2}},
		{"nobody does what is withdrawn",
			func(s *snapshot.Snapshot) { s.Services[0].Served = false }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := lan()
			tt.edit(&s)
			if diff := cmp.Diff(tt.want, goOn(s, "")); diff != "" {
				t.Errorf("go on (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNobodyGoesOnWithoutRows(t *testing.T) {
	s := lan()
	if got, want := goOn(s, "n2"), []string{"192.0.2.240 eth0 n3"}; !slices.Equal(got, want) {
		t.Errorf("while the rows of n2 do not stand: %v, want %v", got, want)
	}
	s.Config.Pools[0].Steer = config.SteerServiceProxy
	if got, want := goOn(s, "n2"), []string{"192.0.2.240 eth0 n2", "192.0.2.240 eth0 n3"}; !slices.Equal(got, want) {
		t.Errorf("where Herald has no rows: %v, want %v", got, want)
	}
}

// Whatever the state of the cluster, a node goes on only with what another is
// elected for, and where he would announce it himself.
func TestWhatGoesOnIsAnothers(t *testing.T) {
	for mask := range 1 << 9 {
		s := lan()
		for i, vip := range vips(10) {
			svc := s.Services[0]
			svc.Key = fmt.Sprintf("ns/s%02d", i)
			svc.Ingress = []snapshot.Ingress{{Addr: vip}}
			svc.Local, svc.Endpoints = i%2 == 0, svc.Endpoints[i%3:]
			s.Services = append(s.Services, svc)
		}
		bit := func(n int) bool { return mask>>n&1 == 1 }
		for i := range 3 {
			s.Speakers[i].Leaving = bit(i)
			if bit(3 + i) {
				s.Speakers[i].Links = nil
			}
			if bit(6 + i) {
				s.Nodes[i].Excluded = "a label"
			}
		}
		owner := map[netip.Addr]string{}
		for _, n := range s.Nodes {
			for _, c := range Plan(s, n.Name, allReady(s)).Claims {
				owner[c.Addr] = n.Name
			}
		}
		for i, n := range s.Nodes {
			others := Plan(s, n.Name, allReady(s)).Others
			if !slices.IsSortedFunc(others, func(a, b Claim) int { return a.Addr.Compare(b.Addr) }) {
				t.Fatalf("mask %b: %v is not sorted", mask, others)
			}
			for _, c := range others {
				if owner[c.Addr] == "" || owner[c.Addr] == n.Name {
					t.Fatalf("mask %b: %s goes on with %s, which %q is elected for", mask, n.Name, c.Addr, owner[c.Addr])
				}
				if s.Speakers[i].Links == nil {
					t.Fatalf("mask %b: %s goes on with %s without a link", mask, n.Name, c.Addr)
				}
			}
		}
	}
}

func TestPeers(t *testing.T) {
	mac := func(last byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, last} }
	s := lan()
	for i := range s.Speakers {
		s.Speakers[i].Links[0].MAC = mac(byte(i + 1))
	}
	lost := func(s *snapshot.Snapshot, node string) {
		s.Lost = append(s.Lost, *speakerOf(s, node))
		s.Speakers = speakersWithout(s, node)
	}
	peer := func(node string, alive, leaving bool, macs ...[6]byte) Peer {
		return Peer{Node: node, MACs: macs, Alive: alive, Leaving: leaving}
	}
	n2, n3 := peer("n2", true, false, mac(2)), peer("n3", true, false, mac(3))
	tests := []struct {
		name string
		edit func(*snapshot.Snapshot)
		want []Peer
	}{
		{"all others, alive", func(*snapshot.Snapshot) {}, []Peer{n2, n3}},
		{"one that is lost, in its place", func(s *snapshot.Snapshot) { lost(s, "n2") }, []Peer{peer("n2", false, false, mac(2)), n3}},
		{"also where nobody else is alive", func(s *snapshot.Snapshot) { lost(s, "n3"); lost(s, "n2") },
			[]Peer{peer("n2", false, false, mac(2)), peer("n3", false, false, mac(3))}},
		{"never oneself, be it lost", func(s *snapshot.Snapshot) { lost(s, "n1") }, []Peer{n2, n3}},
		{"one that is leaving is alive", func(s *snapshot.Snapshot) { speakerOf(s, "n2").Leaving = true },
			[]Peer{peer("n2", true, true, mac(2)), n3}},
		{"one whose node is drained leaves", func(s *snapshot.Snapshot) { nodeOf(s, "n2").Draining = true },
			[]Peer{peer("n2", true, true, mac(2)), n3}},
		{"one that has not said its hardware addresses", func(s *snapshot.Snapshot) { speakerOf(s, "n3").Links[0].MAC = [6]byte{} },
			[]Peer{n2, peer("n3", true, false)}},
		{"one that does not hear us is alive", func(s *snapshot.Snapshot) { speakerOf(s, "n2").Deaf = true },
			[]Peer{{Node: "n2", MACs: [][6]byte{mac(2)}, Alive: true, Deaf: true}, n3}},
		{"and so is one that we do not hear", func(s *snapshot.Snapshot) { speakerOf(s, "n2").Unheard = true }, []Peer{n2, n3}},
		{"one of several", func(s *snapshot.Snapshot) { speakerOf(s, "n3").Links[1].MAC = mac(9) },
			[]Peer{n2, peer("n3", true, false, mac(3), mac(9))}},
		{"also where nothing is announced", func(s *snapshot.Snapshot) { s.Services = nil }, []Peer{n2, n3}},
		{"none where there is nobody else", func(s *snapshot.Snapshot) { s.Speakers = s.Speakers[:1] }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := s
			s.Speakers = slices.Clone(s.Speakers)
			for i := range s.Speakers {
				s.Speakers[i].Links = slices.Clone(s.Speakers[i].Links)
			}
			s.Nodes = slices.Clone(s.Nodes)
			tt.edit(&s)
			plan := Plan(s, "n1", allReady(s))
			if diff := cmp.Diff(tt.want, plan.Peers); diff != "" || plan.Node != "n1" {
				t.Errorf("of %s: peers (-want +got):\n%s", plan.Node, diff)
			}
		})
	}
}
