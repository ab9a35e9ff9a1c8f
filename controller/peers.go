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
	NoNodes        = "NoNodes"        // no node that has a speaker is selected
)

// A PeerStatus is the wanted status of one BGPPeer.
type PeerStatus struct {
	snapshot.PeerStatus
	Events []Event
}

// peerStatuses returns the status of every BGPPeer that has another one than it
// should have. While nobody has been asked how sessions are, all stay.
func peerStatuses(s snapshot.Snapshot) (out []PeerStatus) {
	if s.Reports == nil {
		return nil
	}
	for _, have := range s.Peers {
		want := have
		var ready snapshot.Condition
		want.Established, ready = peerReady(have.Name, s)
		want.Conditions, want.Observed = []snapshot.Condition{ready}, true
		if have.Observed && want.Established == have.Established && slices.Equal(want.Conditions, have.Conditions) {
			continue
		}
		status := PeerStatus{PeerStatus: want}
		same := func(c snapshot.Condition) bool {
			return c.Type == Ready && c.Status == ready.Status && c.Reason == ready.Reason
		}
		if !slices.ContainsFunc(have.Conditions, same) {
			status.Events = []Event{{Warning: !ready.Status, Reason: ready.Reason, Message: ready.Message}}
		}
		out = append(out, status)
	}
	return out
}

// peerReady sums up the sessions of all nodes with a peer.
func peerReady(name string, s snapshot.Snapshot) (established string, ready snapshot.Condition) {
	up, all := 0, 0
	var missing []string
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
		case !ok:
			missing = append(missing, n.Name+" has not said anything of it yet")
		case !session.Up:
			missing = append(missing, fmt.Sprintf("%s: %s", n.Name, session.Err))
		default:
			up++
		}
	}
	established = fmt.Sprintf("%d/%d", up, all)
	var words []string
	for _, p := range s.PeerProblems {
		if p.Object == name {
			words = append(words, p.Field+": "+p.Detail)
		}
	}
	switch {
	case len(words) > 0:
		return established, snapshot.Condition{Type: Ready, Reason: config.Invalid, Message: strings.Join(words, "; ")}
	case all == 0:
		return established, snapshot.Condition{Type: Ready, Reason: NoNodes, Message: "no node with a speaker is selected: change spec.nodeSelector, or the labels of nodes"}
	case len(missing) > 0:
		return established, snapshot.Condition{Type: Ready, Reason: NotEstablished, Message: someOf(missing)}
	}
	return established, snapshot.Condition{Type: Ready, Status: true, Reason: Established, Message: "all nodes that should have a session have one"}
}

func routerOf(r snapshot.Report, peer string) (snapshot.RouterReport, bool) {
	i := slices.IndexFunc(r.Routers, func(b snapshot.RouterReport) bool { return b.Peer == peer })
	if i < 0 {
		return snapshot.RouterReport{}, false
	}
	return r.Routers[i], true
}

// someOf names a few of many.
func someOf(words []string) string {
	const few = 5
	if more := len(words) - few; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(words[:few], "; "), more)
	}
	return strings.Join(words, "; ")
}
