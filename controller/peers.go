package controller

import (
	"fmt"
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// Reasons of Ready of a BGPPeer, beside those of package config.
const (
	Established    = "Established"    // every node that should have a session has one
	NotEstablished = "NotEstablished" // some have none
	Opening        = "Opening"        // some have none yet, and nothing has gone wrong
	NoNodes        = "NoNodes"        // no node that has a speaker is selected
)

// A PeerStatus is the wanted status of one BGPPeer.
type PeerStatus struct {
	snapshot.PeerStatus
	Events []Event
}

// silent is said of a session of which only what was is known.
const silent = "its speaker is silent"

// peerStatuses returns the status of every BGPPeer that has another one than it
// should have. While nobody has been asked how sessions are, all stay.
func peerStatuses(s snapshot.Snapshot) (out []PeerStatus) {
	if s.Reports == nil {
		return nil
	}
	lost := lostBy(s.Reports)
	for _, have := range s.Peers {
		want := have
		var ready snapshot.Condition
		want.Established, ready = peerReady(have.Name, s, lost)
		want.Conditions, want.Observed = []snapshot.Condition{ready}, true
		if have.Observed && want.Established == have.Established && slices.Equal(want.Conditions, have.Conditions) {
			continue
		}
		status := PeerStatus{PeerStatus: want}
		same := func(c snapshot.Condition) bool {
			return c.Type == Ready && c.Status == ready.Status && c.Reason == ready.Reason
		}
		if ready.Reason != Opening && !slices.ContainsFunc(have.Conditions, same) {
			status.Events = []Event{{Warning: !ready.Status, Reason: ready.Reason, Message: ready.Message}}
		}
		out = append(out, status)
	}
	return out
}

// peerReady sums up the sessions of all nodes with a peer. What a speaker that is lost
// has said last does not count.
func peerReady(name string, s snapshot.Snapshot, lost map[string]bool) (established string, ready snapshot.Condition) {
	up, all := 0, 0
	var failed, opening, amiss missing
	for _, n := range s.Nodes {
		if _, ok := slices.BinarySearch(n.Peers, name); !ok {
			continue
		}
		i := slices.IndexFunc(s.Reports, func(r snapshot.Report) bool { return r.Node == n.Name })
		if i < 0 {
			continue // it has no speaker
		}
		all++
		switch session, ok := routerOf(s.Reports[i], name); {
		case lost[n.Name]:
			failed.add(n.Name, silent)
		case !ok:
			opening.add(n.Name, "nothing was said of it yet")
		case session.Up:
			if up++; session.Err != "" {
				amiss.add(n.Name, session.Err)
			}
		case session.Err == "":
			opening.add(n.Name, "it is being opened")
		default:
			failed.add(n.Name, session.Err)
		}
	}
	established = fmt.Sprintf("%d/%d", up, all)
	ready = snapshot.Condition{Type: Ready}
	switch words := problemsOf(name, s.PeerProblems); {
	case words != "":
		ready.Reason, ready.Message = config.Invalid, words
	case all == 0:
		ready.Reason, ready.Message = NoNodes, "no node with a speaker is selected: change spec.nodeSelector, or the labels of nodes"
	case len(failed.words) > 0:
		ready.Reason, ready.Message = NotEstablished, someOf(slices.Concat(failed.lines(), opening.lines(), amiss.lines()), "; ")
	case len(opening.words) > 0:
		ready.Reason, ready.Message = Opening, someOf(append(opening.lines(), amiss.lines()...), "; ")
	default:
		ready.Status, ready.Reason = true, Established
		ready.Message = someOf(append([]string{"all nodes that should have a session have one"}, amiss.lines()...), "; ")
	}
	return established, ready
}

func problemsOf(peer string, all []config.Problem) string {
	var words []string
	for _, p := range all {
		if p.Object == peer {
			words = append(words, p.Field+": "+p.Detail)
		}
	}
	return strings.Join(words, "; ")
}

// missing are the nodes that do not have something, by why not.
type missing struct {
	words []string // each once
	nodes map[string][]string
}

func (m *missing) add(node, why string) {
	if m.nodes == nil {
		m.nodes = map[string][]string{}
	}
	if m.nodes[why] == nil {
		m.words = append(m.words, why)
	}
	m.nodes[why] = append(m.nodes[why], node)
}

func (m *missing) lines() (lines []string) {
	for _, why := range m.words {
		lines = append(lines, someOf(m.nodes[why], ", ")+": "+why)
	}
	return lines
}

func routerOf(r snapshot.Report, peer string) (snapshot.RouterReport, bool) {
	i := slices.IndexFunc(r.Routers, func(b snapshot.RouterReport) bool { return b.Peer == peer })
	if i < 0 {
		return snapshot.RouterReport{}, false
	}
	return r.Routers[i], true
}

// someOf names a few of many.
func someOf(words []string, between string) string {
	const few = 5
	if more := len(words) - few; more > 0 {
		return fmt.Sprintf("%s%sand %d more", strings.Join(words[:few], between), between, more)
	}
	return strings.Join(words, between)
}
