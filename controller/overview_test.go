package controller

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// busy is a cluster of three nodes in which something of each kind is wrong.
func busy() snapshot.Snapshot {
	now := time.Unix(10000, 0)
	s := cluster(nil, svc("ns/a", 1, has("192.0.2.1"), was(true, ReasonAnnounced)), svc("ns/b", 2), svc("ns/c", 3, has("192.0.2.3")),
		svc("ns/other", 4, func(s *snapshot.Service) { s.Served = false }))
	s.Now = now
	s.Services[1].Conditions = assignment(false, string(ipam.PoolFull), "no address is free")
	s.Services[2].Conditions = append(s.Services[2].Conditions, snapshot.Condition{Type: Announced, Reason: NotAnnounced, Message: "no node announces it"})
	s.Pools = []snapshot.PoolStatus{
		{Name: "lan", V4: snapshot.Count{Total: 3, Assigned: 2}, V6: snapshot.Count{Total: math.MaxInt64, Free: math.MaxInt64},
			Resting:    []snapshot.Rest{{Addr: ip("192.0.2.2")}},
			Conflicts:  []snapshot.Quarantine{{Addr: ip("192.0.2.9"), MAC: "02:00:00:00:00:66", Node: "n1", Until: now.Add(5 * time.Minute)}},
			Conditions: []snapshot.Condition{{Type: Exhausted, Status: true, Reason: string(ipam.PoolFull), Message: "no IPv4 address is free"}, {Type: Overlap, Reason: NoOverlap}, {Type: Ready, Status: true}}},
		{Name: "wan", V4: snapshot.Count{Total: 8, Free: 8}},
	}
	s.Peers = []snapshot.PeerStatus{{Name: "tor", Conditions: []snapshot.Condition{{Type: Ready, Reason: NotEstablished, Message: "n2: connection refused"}}}}
	s.Nodes = []snapshot.Node{{Name: "n1", Peers: []string{"tor"}}, {Name: "n2", Peers: []string{"tor"}, Draining: true}, {Name: "n3", Peers: []string{"tor"}}}
	s.Speakers = []snapshot.Speaker{{Node: "n1"}, {Node: "n2", Leaving: true}}
	s.Lost = []snapshot.Speaker{{Node: "n3", DataPath: "ipvs"}}
	one := telling("n1", "tor", "192.0.2.1", "192.0.2.3")
	one.DataPath, one.Answers, one.Peers = "ipvs", by("n1", 1, "192.0.2.1").Answers, []snapshot.PeerReport{{Node: "n2", Up: true}, {Node: "n3", State: "down", Err: "no answer"}}
	one.Routers[0] = snapshot.RouterReport{Peer: "tor", State: "established", Up: true, Since: now.Add(-3 * time.Hour), ASN: 65001, Sent: 2, BFD: "up"}
	one.Conflicts = []snapshot.Conflict{{Addr: ip("192.0.2.3"), Link: "eth0", MAC: "02:00:00:00:00:77", Since: now.Add(-90 * time.Second), Answered: true}}
	two := down("n2", "tor")
	two.DataPath, two.Lacks, two.Peers = "nft", []string{"tunnels"}, []snapshot.PeerReport{{Node: "n1", Up: true}}
	two.Routers[0] = snapshot.RouterReport{Peer: "tor", State: "connect", Since: now.Add(-5 * time.Second), Flaps: 4, Err: "connection refused"}
	three := telling("n3", "tor") // before its power was cut
	three.DataPath, three.Routers[0].State = "ipvs", "established"
	s.Reports = []snapshot.Report{one, two, three}
	return s
}

func TestOverview(t *testing.T) {
	const want = `controller  herald-1 leads
services    3 served, 1 of them without an address, 1 with one that is not announced

pools
  NAME  FAMILY  TOTAL  ASSIGNED  FREE  RESTING
  lan   IPv4    3      2         0     1
  lan   IPv6    many   0         many  0
  wan   IPv4    8      0         8     0

speakers
  NODE  PATH  ANSWERS  TELLS  REACHES  ROUTERS  PROBLEMS
  n1    ipvs  1        2      1/2      1/1      it does not reach n3: no answer
  n2    nft   0        0      1/1      0/1      it is stopping; the node is drained
  n3    ipvs  0        0      0/0      1/1      it is silent

what nodes lack
  NODES  LACK
  n2     tunnels

BGP sessions
  PEER  NODE  STATE        FOR  BFD  ROUTES  AS     LOSSES  ERROR
  tor   n2    connect      5s   -    0       -      4       connection refused
  tor   n3    unknown      -    -    -       -      -       its speaker is silent
  tor   n1    established  3h   up   2       65001  0       -

addresses that another host has, too
  ADDRESS    FOUND BY  INTERFACE  MAC                OF NODE  FOR  ANSWERED
  192.0.2.3  n1        eth0       02:00:00:00:00:77  -        90s  yes

addresses that nobody is given, for a stranger has them
  ADDRESS    MAC                FOUND BY  FOR ANOTHER
  192.0.2.9  02:00:00:00:00:66  n1        5m

conditions that are not as they should be
  OBJECT           CONDITION        REASON          MESSAGE
  AddressPool lan  Exhausted        PoolFull        no IPv4 address is free
  BGPPeer tor      Ready            NotEstablished  n2: connection refused
  Service ns/b     AddressAssigned  PoolFull        no address is free
  Service ns/c     Announced        NotAnnounced    no node announces it
`
	s := busy()
	leads := Leader{Name: "herald-1", Renewed: s.Now, Expires: s.Now.Add(time.Second)}
	if diff := cmp.Diff(want, Overview(s, leads)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOverviewOfAnEmptyClusterIsTwoLines(t *testing.T) {
	now := time.Unix(10000, 0)
	for _, tt := range []struct {
		leader Leader
		want   string
	}{
		{Leader{}, "nobody leads"},
		{Leader{Name: "a", Renewed: now.Add(-time.Hour), Expires: now.Add(-time.Hour)}, "a led, and has been silent for 60m"},
		{Leader{Name: "a", Renewed: now, Expires: now.Add(time.Second)}, "a leads"},
	} {
		got := Overview(snapshot.Snapshot{Now: now}, tt.leader)
		if !strings.HasPrefix(got, "controller  "+tt.want) || strings.Count(got, "\n") != 2 {
			t.Errorf("%+v: %q", tt.leader, got)
		}
	}
}

// Thousands of rows are no screen. What is wrong is not left out before what is not.
func TestAnOverviewHasRoomForWhatIsWrong(t *testing.T) {
	s := snapshot.Snapshot{Now: time.Unix(10000, 0), Peers: []snapshot.PeerStatus{{Name: "tor"}}}
	for i := range 100 {
		node := fmt.Sprintf("n%d", i)
		s.Nodes = append(s.Nodes, snapshot.Node{Name: node, Peers: []string{"tor"}})
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: node})
		r := telling(node, "tor")
		if i == 77 {
			r = down(node, "tor")
		}
		s.Reports = append(s.Reports, r)
	}
	got := Overview(s, Leader{})
	if lines := strings.Count(got, "\n"); lines > 60 || !strings.Contains(got, "tor   n77 ") || !strings.Contains(got, "… and 80 more, of which 80 are all right") {
		t.Errorf("%d lines:\n%s", lines, got)
	}
}
