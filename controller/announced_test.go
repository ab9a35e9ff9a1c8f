package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// segment is lan, announced on layer 2.
func segment() config.Pool {
	p := lan()
	p.Layer2.Enabled = true
	return p
}

// by is the report of a node that answers for addresses since second at.
func by(node string, at int64, addrs ...string) snapshot.Report {
	r := snapshot.Report{Speaker: snapshot.Speaker{Node: node}}
	for _, a := range addrs {
		r.Answers = append(r.Answers, snapshot.Answer{Addr: ip(a), Link: "eth0", Since: time.Unix(at, 0)})
	}
	return r
}

// seeing is the report of a node that reaches another, or does not.
func seeing(node, other string, up bool) snapshot.Report {
	return snapshot.Report{Speaker: snapshot.Speaker{Node: node}, Peers: []snapshot.PeerReport{{Node: other, Up: up}}}
}

// deafTo is the report of a node that hears another, which does not hear it.
func deafTo(node, other string) snapshot.Report {
	r := seeing(node, other, false)
	r.Peers[0].Deaf = true
	return r
}

// join is a report with the peers of another of the same node.
func join(a, b snapshot.Report) snapshot.Report {
	a.Peers = append(a.Peers, b.Peers...)
	return a
}

// foundBy is the report of a node that has found a stranger at addr.
func foundBy(node, addr string, answered bool) snapshot.Report {
	r := snapshot.Report{Speaker: snapshot.Speaker{Node: node}}
	r.Conflicts = []snapshot.Conflict{{Addr: ip(addr), Link: "eth0", MAC: "02:00:00:00:00:66", Answered: answered}}
	if answered {
		r.Answers = by(node, 1, addr).Answers
	}
	return r
}

// was gives a Service a condition Announced.
func was(status bool, reason string) func(*snapshot.Service) {
	return func(s *snapshot.Service) {
		s.Conditions = append(s.Conditions, snapshot.Condition{Type: Announced, Status: status, Reason: reason})
	}
}

func TestAnnounced(t *testing.T) {
	one := has("192.0.2.1")
	tests := []struct {
		name    string
		edits   []func(*snapshot.Service)
		reports []snapshot.Report
		want    string // address, status, reason, and words of the message
	}{
		{"nobody was asked, and nothing is said", []func(*snapshot.Service){one}, nil, ""},
		{"nobody was asked, and what was said stays", []func(*snapshot.Service){one, was(true, ReasonAnnounced)}, nil, "192.0.2.1 true Announced"},
		{"a new address", nil, []snapshot.Report{}, "192.0.2.1 false NotAnnounced 192.0.2.1: no node announces it"},
		{"one that a node answers for", []func(*snapshot.Service){one}, []snapshot.Report{by("n1", 1, "192.0.2.1")}, "192.0.2.1 true Announced by n1 on eth0"},
		{"of two the last to take it", []func(*snapshot.Service){one},
			[]snapshot.Report{by("n1", 1, "192.0.2.1"), by("n2", 2, "192.0.2.1"), by("n3", 1, "192.0.2.1")}, "192.0.2.1 true Announced by n2 on eth0"},
		{"of two whose clocks disagree one, and it stays", []func(*snapshot.Service){one, was(true, ReasonAnnounced)},
			[]snapshot.Report{by("n1", 3601, "192.0.2.1"), by("n2", 2, "192.0.2.1")}, "192.0.2.1 true Announced by n1 on eth0"},
		{"the other, once the first says so no more", []func(*snapshot.Service){one, was(true, ReasonAnnounced)},
			[]snapshot.Report{by("n1", 3601), by("n2", 2, "192.0.2.1")}, "192.0.2.1 true Announced by n2 on eth0"},
		{"or is lost", []func(*snapshot.Service){one, was(true, ReasonAnnounced)},
			[]snapshot.Report{by("n1", 3601, "192.0.2.1"), join(by("n2", 2, "192.0.2.1"), seeing("n2", "n1", false))}, "192.0.2.1 true Announced by n2 on eth0"},
		{"one whose node is two hours behind us", []func(*snapshot.Service){one},
			[]snapshot.Report{by("n1", 1000-7200, "192.0.2.1")}, "192.0.2.1 true Announced by n1 on eth0"},
		{"one that a lost node said it answers for", []func(*snapshot.Service){one, was(true, ReasonAnnounced)},
			[]snapshot.Report{by("n1", 1, "192.0.2.1"), seeing("n2", "n1", false)}, "192.0.2.1 false Withdrawn"},
		{"a node that another reaches is not lost", []func(*snapshot.Service){one},
			[]snapshot.Report{by("n1", 1, "192.0.2.1"), seeing("n2", "n1", false), seeing("n3", "n1", true)}, "192.0.2.1 true Announced by n1"},
		{"nor is one that another hears, though not the other way round", []func(*snapshot.Service){one},
			[]snapshot.Report{by("n1", 1, "192.0.2.1"), deafTo("n2", "n1")}, "192.0.2.1 true Announced by n1"},
		{"nor one that is missed by who is deaf to it", []func(*snapshot.Service){one},
			[]snapshot.Report{join(by("n1", 1, "192.0.2.1"), deafTo("n1", "n2")), seeing("n2", "n1", false)}, "192.0.2.1 true Announced by n1"},
		{"but one that is missed by another is", []func(*snapshot.Service){one, was(true, ReasonAnnounced)},
			[]snapshot.Report{join(by("n1", 1, "192.0.2.1"), deafTo("n1", "n2")), seeing("n2", "n1", false), seeing("n3", "n1", false)}, "192.0.2.1 false Withdrawn"},
		{"one that nobody answers for any more", []func(*snapshot.Service){one, was(true, ReasonAnnounced)}, []snapshot.Report{by("n1", 1)}, "192.0.2.1 false Withdrawn"},
		{"and still not", []func(*snapshot.Service){one, was(false, Withdrawn)}, []snapshot.Report{by("n1", 1)}, "192.0.2.1 false Withdrawn"},
		{"one that Herald has found in place was in use", []func(*snapshot.Service){one}, []snapshot.Report{}, "192.0.2.1 false Withdrawn"},
		{"a stranger has a new address: it gets another", []func(*snapshot.Service){one, was(false, NotAnnounced)},
			[]snapshot.Report{foundBy("n1", "192.0.2.1", false)}, "192.0.2.2 false NotAnnounced"},
		{"a stranger has one that was announced: it keeps it", []func(*snapshot.Service){one, was(false, Withdrawn)},
			[]snapshot.Report{foundBy("n1", "192.0.2.1", false)}, "192.0.2.1 false Withdrawn 02:00:00:00:00:66 has it found by n1"},
		{"a stranger has the one that is asked for: none", []func(*snapshot.Service){one, was(false, NotAnnounced), func(s *snapshot.Service) { s.Want = append(s.Want, ip("192.0.2.1")) }},
			[]snapshot.Report{foundBy("n1", "192.0.2.1", false)}, "- false ReservedAddress 02:00:00:00:00:66"},
		{"a stranger claims it later: it is contested", []func(*snapshot.Service){one, was(true, ReasonAnnounced)},
			[]snapshot.Report{foundBy("n1", "192.0.2.1", true)}, "192.0.2.1 true Contested by n1 the host 02:00:00:00:00:66 says that it is his"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := cluster([]config.Pool{segment()}, svc("ns/a", 1, tt.edits...))
			s.Reports, s.Now = tt.reports, time.Unix(1000, 0)
			out, _ := Plan(s, Memory{})
			got := snapshot.Service{Ingress: s.Services[0].Ingress, Conditions: s.Services[0].Conditions}
			if len(out.Services) > 0 {
				got = snapshot.Service{Ingress: out.Services[0].Ingress, Conditions: out.Services[0].Conditions}
			}
			c, ok := said(got, Announced)
			if !ok && tt.want == "" {
				return
			}
			if !ok && len(got.Conditions) > 0 {
				c = got.Conditions[0]
			}
			words := strings.Fields(tt.want)
			addr := "-"
			if len(got.Ingress) > 0 {
				addr = got.Ingress[0].Addr.String()
			}
			if len(words) < 3 || addr != words[0] || c.Status != (words[1] == "true") || c.Reason != words[2] {
				t.Errorf("%s %+v, want %s", addr, c, tt.want)
			}
			for _, w := range words[3:] {
				if !strings.Contains(c.Message, w) {
					t.Errorf("message %q lacks %q", c.Message, w)
				}
			}
		})
	}
}

// uplink is lan, told to routers and not announced on layer 2.
func uplink() config.Pool {
	p := lan()
	p.Layer2.Enabled = false
	p.BGP = []config.BGP{{}, {Peers: []string{"r2"}}}
	return p
}

// telling is the report of a node that tells addresses to a router, in a session
// that is established.
func telling(node, peer string, addrs ...string) snapshot.Report {
	r := snapshot.Report{Speaker: snapshot.Speaker{Node: node}, Routers: []snapshot.RouterReport{{Peer: peer, Up: true}}}
	for _, a := range addrs {
		r.Told = append(r.Told, ipam.Range{First: ip(a), Last: ip(a)})
	}
	return r
}

// down is the report of a node whose session with a router is not established.
func down(node, peer string) snapshot.Report {
	r := telling(node, peer)
	r.Routers[0].Up = false
	return r
}

func TestAnnouncedByBGP(t *testing.T) {
	entry := func(at ...int) func(*snapshot.Service) {
		return func(s *snapshot.Service) { s.Told = map[string][]int{"lan": at} }
	}
	both := uplink()
	both.Layer2.Enabled = true
	const one = "192.0.2.1"
	onLink, told := by("n1", 1, one), telling("n2", "r1", "192.0.2.0", one)
	tests := []struct {
		name    string
		pool    config.Pool
		edits   []func(*snapshot.Service)
		reports []snapshot.Report
		want    string // status, reason, and a part of the message
	}{
		{"a router knows it", uplink(), []func(*snapshot.Service){entry(0)}, []snapshot.Report{telling("n1", "r1"), told}, "true Announced 192.0.2.1 by BGP"},
		{"none does yet", uplink(), []func(*snapshot.Service){entry(0)}, []snapshot.Report{telling("n1", "r1", "192.0.2.0", "192.0.2.2")},
			"false NotAnnounced 192.0.2.1: no node tells it to a router"},
		{"none does any more", uplink(), []func(*snapshot.Service){entry(0), was(true, ReasonAnnounced)}, []snapshot.Report{telling("n1", "r1")},
			"false Withdrawn 192.0.2.1: no node tells it to a router"},
		{"what a lost node said it tells is of old", uplink(), []func(*snapshot.Service){entry(0), was(true, ReasonAnnounced)},
			[]snapshot.Report{told, seeing("n1", "n2", false)}, "false Withdrawn"},
		{"no session is up", uplink(), []func(*snapshot.Service){entry(0)}, []snapshot.Report{down("n1", "r1")},
			"false NotAnnounced 192.0.2.1: no session with a router that it is to be told to is established"},
		{"none that its entry names", uplink(), []func(*snapshot.Service){entry(1)}, []snapshot.Report{telling("n1", "r1"), down("n1", "r2")},
			"false NotAnnounced 192.0.2.1: no session with a router that it is to be told to is established"},
		{"no entry selects the Service", uplink(), nil, []snapshot.Report{telling("n1", "r1")},
			"false NotAnnounced 192.0.2.1: no serviceSelector in spec.announce.bgp of AddressPool lan selects the Service"},
		{"both ways", both, []func(*snapshot.Service){entry(0)}, []snapshot.Report{onLink, told}, "true Announced 192.0.2.1 by n1 on eth0; 192.0.2.1 by BGP"},
		{"both ways, and routers do not know it", both, []func(*snapshot.Service){entry(0)}, []snapshot.Report{onLink, telling("n2", "r1")},
			"false NotAnnounced 192.0.2.1 by n1 on eth0; 192.0.2.1: no node tells it to a router"},
		{"both ways, and nobody answers", both, []func(*snapshot.Service){entry(0)}, []snapshot.Report{told},
			"false NotAnnounced 192.0.2.1 by BGP; 192.0.2.1: no node announces it"},
		{"both ways, and no entry selects the Service: layer 2 is all", both, nil, []snapshot.Report{onLink}, "true Announced 192.0.2.1 by n1 on eth0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			edits := append([]func(*snapshot.Service){has(one), was(false, NotAnnounced)}, tt.edits...)
			if len(tt.edits) > 1 { // which says itself what was
				edits = append([]func(*snapshot.Service){has(one)}, tt.edits...)
			}
			s := cluster([]config.Pool{tt.pool}, svc("ns/a", 1, edits...))
			s.Config.Peers = []config.Peer{{Name: "r1"}, {Name: "r2"}}
			got := announced(s.Services[0], s.Services[0].Ingress, s.Config, sortReports(tt.reports))
			if len(got) != 1 {
				t.Fatalf("conditions %+v", got)
			}
			words := strings.SplitN(tt.want, " ", 3)
			if c := got[0]; c.Status != (words[0] == "true") || c.Reason != words[1] || len(words) > 2 && !strings.HasPrefix(c.Message, words[2]) {
				t.Errorf("%+v, want %s", c, tt.want)
			}
		})
	}
	s := cluster([]config.Pool{uplink()}, svc("ns/a", 1, has(one), entry(0)))
	if got := announced(s.Services[0], s.Services[0].Ingress, s.Config, sortReports([]snapshot.Report{})); !strings.Contains(got[0].Message, "there is no BGPPeer") {
		t.Errorf("without a BGPPeer: %+v", got)
	}
}

// An address that a stranger was found to have is given to nobody for a while,
// is shown with its pool, and then tried again.
func TestAnAddressOfAStrangerIsInQuarantine(t *testing.T) {
	s := cluster([]config.Pool{segment()}, svc("ns/a", 1, has("192.0.2.1"), was(false, NotAnnounced)))
	s.Now, s.Reports = time.Unix(1000, 0), []snapshot.Report{foundBy("n1", "192.0.2.1", false)}
	first, m := Plan(s, Memory{})
	want := snapshot.Quarantine{Addr: ip("192.0.2.1"), MAC: "02:00:00:00:00:66", Node: "n1", Until: s.Now.Add(quarantine)}
	if len(first.Pools) != 1 || !slices.EqualFunc(first.Pools[0].Conflicts, []snapshot.Quarantine{want}, sameQuarantine) {
		t.Fatalf("pools %+v, want a conflict %+v", first.Pools, want)
	}
	if at := m.next(); !at.Equal(want.Until) {
		t.Errorf("wakes at %s, want %s", at, want.Until)
	}
	s.Pools[0].Conflicts = first.Pools[0].Conflicts
	s.Reports = []snapshot.Report{} // nobody asks for it any more
	s.Services = []snapshot.Service{svc("ns/b", 2)}
	gets := func(m Memory) string {
		out, _ := Plan(s, m)
		for _, svc := range out.Services {
			return svc.Ingress[0].Addr.String()
		}
		return ""
	}
	for _, tt := range []struct {
		after time.Duration
		m     Memory
		want  string
	}{
		{time.Minute, m, "192.0.2.2"}, {time.Minute, Memory{}, "192.0.2.2"}, {quarantine, Memory{}, "192.0.2.1"},
	} {
		s.Now = time.Unix(1000, 0).Add(tt.after)
		if got := gets(tt.m); got != tt.want {
			t.Errorf("after %s a Service gets %s, want %s", tt.after, got, tt.want)
		}
	}
	// A clock that was put back does not make it longer.
	s.Now = time.Unix(1000, 0).Add(-2 * time.Hour)
	if q := quarantines(s, m, sortReports(s.Reports)); len(q) != 1 || !q[0].Until.Equal(s.Now.Add(quarantine)) {
		t.Errorf("two hours before: %+v", q)
	}
	// A stranger that is found again, time and again, is not written each time.
	s.Now, s.Reports = time.Unix(1010, 0), []snapshot.Report{foundBy("n2", "192.0.2.1", false)}
	if q := quarantines(s, m, sortReports(s.Reports)); !slices.EqualFunc(q, []snapshot.Quarantine{want}, sameQuarantine) {
		t.Errorf("found again: %+v, want %+v", q, want)
	}
	s.Now = time.Unix(1000, 0).Add(quarantine/2 + time.Second)
	if q := quarantines(s, m, sortReports(s.Reports)); len(q) != 1 || !q[0].Until.Equal(s.Now.Add(quarantine)) {
		t.Errorf("found again when half of it is over: %+v", q)
	}
}

// Whatever speakers say, a Service that was announced keeps its address.
func TestNoReportMovesWhatWasAnnounced(t *testing.T) {
	for _, before := range []func(*snapshot.Service){was(true, ReasonAnnounced), was(true, Contested), was(false, Withdrawn), func(*snapshot.Service) {}} {
		for _, reports := range [][]snapshot.Report{nil, {}, {by("n1", 1, "192.0.2.1")}, {foundBy("n1", "192.0.2.1", false)}, {foundBy("n1", "192.0.2.1", true)}} {
			s := cluster([]config.Pool{segment()}, svc("ns/a", 1, has("192.0.2.1"), before))
			s.Reports, s.Now = reports, time.Unix(1000, 0)
			for _, want := range plan(s).Services {
				if len(want.Ingress) != 1 || want.Ingress[0].Addr != ip("192.0.2.1") {
					t.Errorf("%+v moves it to %v", reports, want.Ingress)
				}
			}
		}
	}
}
