package speaker

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// web is lan with a port on its Service, 80/tcp to 8080, and tunnels.
func web() snapshot.Snapshot {
	s := lan()
	svc := &s.Services[0]
	svc.Ports = []snapshot.Port{{Name: "web", Proto: snapshot.TCP, Number: 80}}
	for i := range svc.Endpoints {
		svc.Endpoints[i].Ports = []snapshot.Target{{Name: "web", Proto: snapshot.TCP, Number: 8080}}
		end := s.Speakers[i].Links[0].Prefixes[0].Addr()
		s.Nodes[i].Addrs = []netip.Addr{end}
		s.Speakers[i].Tunnels = []netip.Addr{end}
	}
	return s
}

func TestTrace(t *testing.T) {
	const title = "198.51.100.7:40002 → 192.0.2.240:80/tcp of ns/a"
	onN2 := "n2: back rr has one: 10.0.1.1:8080, which sees the client's address"
	none := func(*snapshot.Snapshot) {}
	tests := []struct {
		name            string
		edit            func(*snapshot.Snapshot)
		via, from, dest string // "" for none, an outside client, and the address of the Service
		want            []string
	}{
		{"the node that announces takes it in", none, "", "", "",
			[]string{title, "announced by n1, elected of n1 n2 n3", "n1: front mh,mh-fallback,mh-port chooses n2 of 3, by tunnel to 192.0.2.2", onN2}},
		{"any other leads it to the same end", none, "n3", "", "",
			[]string{title, "arrives at n3, as asked", "n3: front mh,mh-fallback,mh-port chooses n2 of 3, by tunnel to 192.0.2.2", onN2}},
		{"a node takes in what it sends itself", none, "", "192.0.2.3:40000", "",
			[]string{"192.0.2.3:40000 → 192.0.2.240:80/tcp of ns/a", "starts on n3, which takes it in itself",
				"n3: rr takes turns: one of 10.0.0.1:8080 10.0.1.1:8080 10.0.2.1:8080, which sees an address of n3"}},
		{"what is refused is no error", func(s *snapshot.Snapshot) { s.Services[0].Endpoints = nil }, "n1", "", "",
			[]string{title, "arrives at n1, as asked", "n1: rr leads nowhere: the Service has no endpoint here", "refused: no endpoint takes the connection"}},
		{"nobody announces what has no endpoint", func(s *snapshot.Snapshot) { s.Services[0].Endpoints = nil }, "", "", "",
			[]string{"error: 192.0.2.240 is announced by nobody: no node that may has a link into its subnet and a usable endpoint within reach"}},
		{"what is not announced on layer 2 arrives anywhere", func(s *snapshot.Snapshot) { s.Config.Pools[0].Layer2.Enabled = false }, "", "", "",
			[]string{"error: 192.0.2.240 is not announced on the segment: name the node that the flow arrives at"}},
		{"what routers are told arrives at one of those who tell it", func(s *snapshot.Snapshot) {
			told := routed()
			s.Config = told.Config
			for i := range s.Nodes {
				s.Nodes[i].Peers, s.Nodes[i].Tells = told.Nodes[i].Peers, told.Nodes[i].Tells
			}
			s.Nodes[0].Tells, s.Services[0].Told = nil, told.Services[0].Told
		}, "", "", "", []string{title, "told to routers by n2 n3: as if they chose n2",
			"n2: front mh,mh-fallback,mh-port chooses n2 of 3, by tunnel to 192.0.2.2", onN2}},
		{"an address of nobody", none, "", "", "192.0.2.9:80", []string{"error: 192.0.2.9 belongs to no Service"}},
		{"a Service that is not Herald's", func(s *snapshot.Snapshot) { s.Services[0].Ours = false }, "", "", "",
			[]string{"error: 192.0.2.240 is of ns/a, but not by Herald"}},
		{"a cluster IP arrives where its client is", func(s *snapshot.Snapshot) {
			s.Services[0].Proxied, s.Services[0].ClusterIPs = true, []netip.Addr{ip("10.96.0.10")}
		}, "", "", "10.96.0.10:80", []string{"error: 10.96.0.10 is announced by nobody: name the node that the flow arrives at"}},
		{"a node that is not there", none, "n9", "", "", []string{"error: there is no node n9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := web()
			tt.edit(&s)
			f := steer.Flow{Client: netip.MustParseAddrPort("198.51.100.7:40002"), Virtual: netip.MustParseAddrPort("192.0.2.240:80"), Proto: snapshot.TCP}
			if tt.from != "" {
				f.Client = netip.MustParseAddrPort(tt.from)
			}
			if tt.dest != "" {
				f.Virtual = netip.MustParseAddrPort(tt.dest)
			}
			got, err := Trace(s, tt.via, f)
			if err != nil {
				got = []string{"error: " + err.Error()}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheOwnerIsWhoPlansToAnnounce(t *testing.T) {
	s := lan()
	for _, vip := range vips(100) {
		s.Services[0].Ingress[0].Addr = vip
		winner, _ := Owner(s, vip)
		for _, n := range s.Nodes {
			if claims := len(Plan(s, n.Name, allReady(s)).Claims); (claims == 1) != (n.Name == winner) {
				t.Errorf("%s: %s has %d claims, the owner is %q", vip, n.Name, claims, winner)
			}
		}
	}
}
