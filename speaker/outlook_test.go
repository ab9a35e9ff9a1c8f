package speaker

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

func TestOutlooks(t *testing.T) {
	tests := []struct {
		name string
		edit func(*snapshot.Snapshot) // before becomes after
		want string
	}{
		{"nothing changes", func(*snapshot.Snapshot) {}, ""},
		{"a new peer", func(s *snapshot.Snapshot) {
			s.Config.Peers = append(s.Config.Peers, config.Peer{Name: "r3", V4: true})
			for i := range s.Nodes {
				s.Nodes[i].Peers = []string{"r1", "r2", "r3"}
			}
		}, "opens    BGPPeer r3: sessions of n1, n2, n3\ntells    BGPPeer r3: 192.0.2.240/32"},
		{"a peer that goes", func(s *snapshot.Snapshot) { s.Config.Peers = s.Config.Peers[1:] },
			"ends     BGPPeer r1: sessions of n1, n2, n3\nforgets  BGPPeer r1: 192.0.2.240/32"},
		{"a peer that selects fewer nodes", func(s *snapshot.Snapshot) { nodeOf(s, "n1").Peers = []string{"r2"} },
			"ends     BGPPeer r1: sessions of n1\nalters   BGPPeer r1: by other nodes, or with other attributes, 192.0.2.240/32"},
		{"another hold time", func(s *snapshot.Snapshot) { s.Config.Peers[0].HoldTime = 9 * time.Second },
			"resets   BGPPeer r1: sessions, which are closed and opened anew, of n1, n2, n3"},
		{"another Secret", func(s *snapshot.Snapshot) { s.Config.Peers[0].Secret = "other" },
			"resets   BGPPeer r1: sessions, which are closed and opened anew, of n1, n2, n3"},
		{"one that cannot be read stays as it is", func(s *snapshot.Snapshot) {
			s.Config.Peers, s.PeerProblems = s.Config.Peers[1:], []config.Problem{{Object: "r1", Reason: config.Invalid}}
		}, ""},
		{"another retry is no other session", func(s *snapshot.Snapshot) { s.Config.Peers[0].ConnectRetry = time.Minute }, ""},
		{"another community", func(s *snapshot.Snapshot) {
			s.Config.Pools[0].BGP[0].Peers, s.Config.Pools[0].BGP[0].Communities = []string{"r1", "r2"}, []uint32{1}
		}, "alters   BGPPeer r1: by other nodes, or with other attributes, 192.0.2.240/32\n" +
			"alters   BGPPeer r2: by other nodes, or with other attributes, 192.0.2.240/32"},
		{"an aggregate", func(s *snapshot.Snapshot) { s.Config.Pools[0].BGP[0].LengthV4, s.Config.Peers = 24, s.Config.Peers[:1] },
			"tells    BGPPeer r1: 192.0.2.0/24\nforgets  BGPPeer r1: 192.0.2.240/32\n" +
				"ends     BGPPeer r2: sessions of n1, n2, n3\nforgets  BGPPeer r2: 192.0.2.240/32"},
		{"a pool that tells no router any more", func(s *snapshot.Snapshot) { s.Config.Pools[0].BGP = nil },
			"forgets  BGPPeer r1: 192.0.2.240/32\nforgets  BGPPeer r2: 192.0.2.240/32"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before, after := routed(), routed()
			tt.edit(&after)
			var got []string
			for _, o := range Outlooks(before, after) {
				got = append(got, o.String())
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
