package controller

import (
	"fmt"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

func TestPeerStatuses(t *testing.T) {
	// peered is a cluster of three nodes that should have a session with r1, of
	// which n3 has no speaker.
	peered := func(reports ...snapshot.Report) snapshot.Snapshot {
		s := snapshot.Snapshot{Peers: []snapshot.PeerStatus{{Name: "r1"}}, Reports: append([]snapshot.Report{}, reports...)}
		for i := range 3 {
			s.Nodes = append(s.Nodes, snapshot.Node{Name: fmt.Sprintf("n%d", i+1), Peers: []string{"r1"}})
		}
		return s
	}
	refused := func(node string) snapshot.Report {
		r := down(node, "r1")
		r.Routers[0].Err = "connection refused"
		return r
	}
	amiss := func(node string) snapshot.Report {
		r := telling(node, "r1")
		r.Routers[0].Err = "IPv6 routes are not told"
		return r
	}
	missing := func(node string) snapshot.Report { // is that of n1, which does not hear node
		r := telling("n1", "r1")
		r.Peers = []snapshot.PeerReport{{Node: node, State: "down"}}
		return r
	}
	tests := []struct {
		name string
		s    snapshot.Snapshot
		edit func(*snapshot.Snapshot)
		want string // established, status, reason, message, and the Event's type
	}{
		{"all are established", peered(telling("n1", "r1"), telling("n2", "r1")), nil,
			"2/2 true Established all nodes that should have a session have one; Normal"},
		{"one is not", peered(telling("n1", "r1"), refused("n2")), nil, "1/2 false NotEstablished n2: connection refused; Warning"},
		{"none is, for the same reason", peered(refused("n1"), refused("n2")), nil, "0/2 false NotEstablished n1, n2: connection refused; Warning"},
		{"one is, and not as it should be", peered(telling("n1", "r1"), amiss("n2"), amiss("n3")), nil,
			"3/3 true Established all nodes that should have a session have one; n2, n3: IPv6 routes are not told; Normal"},
		{"one is not, and another is, and not as it should be", peered(refused("n1"), amiss("n2")), nil,
			"1/2 false NotEstablished n1: connection refused; n2: IPv6 routes are not told; Warning"},
		{"one is not, and another is not there yet", peered(down("n1", "r1"), refused("n2")), nil,
			"0/2 false NotEstablished n2: connection refused; n1: it is being opened; Warning"},
		{"one has not said anything", peered(telling("n1", "r1"), telling("n2", "r9")), nil,
			"1/2 false Opening n2: nothing was said of it yet; no Event"},
		{"one has only begun", peered(telling("n1", "r1"), down("n2", "r1")), nil, "1/2 false Opening n2: it is being opened; no Event"},
		{"one is dead, and was established when it last reported", peered(missing("n2"), telling("n2", "r1")), nil,
			"1/2 false NotEstablished n2: its speaker is silent; Warning"},
		{"no node has a speaker", peered(), nil,
			"0/0 false NoNodes no node with a speaker is selected: change spec.nodeSelector, or the labels of nodes; Warning"},
		{"it cannot be read", peered(telling("n1", "r1")), func(s *snapshot.Snapshot) {
			s.PeerProblems = []config.Problem{{Object: "r1", Field: "spec.holdTime", Detail: "1s is no hold time"}}
		}, "1/1 false Invalid spec.holdTime: 1s is no hold time; Warning"},
		{"nobody was asked", peered(), func(s *snapshot.Snapshot) { s.Reports = nil }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.edit != nil {
				tt.edit(&tt.s)
			}
			out := peerStatuses(tt.s)
			got := ""
			for _, p := range out {
				c, event := p.Conditions[0], "no Event"
				if len(p.Events) > 0 {
					event = map[bool]string{true: "Warning", false: "Normal"}[p.Events[0].Warning]
				}
				got = fmt.Sprintf("%s %t %s %s; %s", p.Established, c.Status, c.Reason, c.Message, event)
			}
			if got != tt.want {
				t.Fatalf("got  %s\nwant %s", got, tt.want)
			}
			if len(out) == 0 {
				return
			}
			tt.s.Peers[0] = out[0].PeerStatus
			if again := peerStatuses(tt.s); len(again) != 0 {
				t.Errorf("once written it is written again: %+v", again)
			}
		})
	}
}

// Another node that is not established is another message, and no other verdict; nor
// is a session that is only being opened.
func TestAnEventIsForAnotherVerdictOnly(t *testing.T) {
	s := snapshot.Snapshot{
		Peers: []snapshot.PeerStatus{{Name: "r1"}},
		Nodes: []snapshot.Node{{Name: "n1", Peers: []string{"r1"}}, {Name: "n2", Peers: []string{"r1"}}},
	}
	const up, opening, failed = 0, 1, 2
	for i, step := range []struct {
		n1, n2 int
		want   string
	}{
		{opening, opening, ""}, {failed, up, NotEstablished}, {failed, failed, ""}, {up, failed, ""}, {up, up, Established},
		{opening, up, ""}, {up, up, Established},
	} {
		s.Reports = nil
		for node, state := range map[string]int{"n1": step.n1, "n2": step.n2} {
			r := down(node, "r1")
			r.Routers[0].Up = state == up
			if state == failed {
				r.Routers[0].Err = "connection refused"
			}
			s.Reports = append(s.Reports, r)
		}
		got := ""
		for _, p := range peerStatuses(s) {
			s.Peers[0] = p.PeerStatus
			for _, e := range p.Events {
				got += e.Reason
			}
		}
		if got != step.want {
			t.Errorf("step %d: Event %q, want %q", i+1, got, step.want)
		}
	}
}
