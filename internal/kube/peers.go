package kube

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/herald-lb/herald/internal/snapshot"
)

// annotationSpeaker holds what a speaker makes known of itself, on its Lease.
const annotationSpeaker = prefix + "speaker"

// hello is the JSON form of what a speaker makes known of itself.
type hello struct {
	DataPath string      `json:"dataPath,omitempty"`
	Leaving  bool        `json:"leaving,omitempty"`
	Links    []helloLink `json:"links,omitempty"`
}

type helloLink struct {
	Name     string         `json:"name"`
	Prefixes []netip.Prefix `json:"prefixes"`
}

func (h hello) speaker(node string) snapshot.Speaker {
	sp := snapshot.Speaker{Node: node, DataPath: h.DataPath, Leaving: h.Leaving}
	for _, l := range h.Links {
		sp.Links = append(sp.Links, snapshot.Link{Name: l.Name, Prefixes: l.Prefixes})
	}
	return sp
}

// peers judges which speakers are alive, by when their Leases were last seen
// to change. Only this node's own clock counts, so clocks that disagree do no
// harm. Times are arguments; it is not safe for concurrent use.
//
// A node that does not see its own Lease being renewed is cut off from the
// API and judges nobody: what it last knew holds until it is back, and then
// everybody who was alive has a whole Lease's time to be seen again. It must have seen its
// own Lease within half of that time, so that when the API goes away it stops
// judging before the first of the others seems dead.
type peers struct {
	self  string
	known map[string]peer // by Lease name
	fresh bool            // own Lease was seen to change in time, at the last judgement
	last  []snapshot.Speaker
}

type peer struct {
	speaker snapshot.Speaker
	renewed time.Time // renewTime as the Lease has it: compared, never measured
	seen    time.Time // when it was last seen to change, by our own clock
	ttl     time.Duration
}

func newPeers(self string) *peers { return &peers{self: self, known: map[string]peer{}} }

// observe takes in a Lease as the watch brought it.
func (p *peers) observe(l *coordinationv1.Lease, now time.Time) error {
	if l.Spec.HolderIdentity == nil || l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil {
		p.forget(l.Name)
		return nil
	}
	var h hello
	if err := json.Unmarshal([]byte(l.Annotations[annotationSpeaker]), &h); err != nil {
		p.forget(l.Name)
		return fmt.Errorf("reading annotation %s of Lease %s/%s: %w", annotationSpeaker, l.Namespace, l.Name, err)
	}
	next := peer{
		speaker: h.speaker(*l.Spec.HolderIdentity),
		renewed: l.Spec.RenewTime.Time,
		seen:    now,
		ttl:     time.Duration(*l.Spec.LeaseDurationSeconds) * time.Second,
	}
	if had, ok := p.known[l.Name]; ok && had.renewed.Equal(next.renewed) {
		next.seen = had.seen
	}
	p.known[l.Name] = next
	return nil
}

func (p *peers) forget(lease string) { delete(p.known, lease) }

// alive returns the speakers that are alive at now, by Node.
func (p *peers) alive(now time.Time) []snapshot.Speaker {
	was := p.fresh
	p.fresh = p.selfFresh(now)
	if !p.fresh {
		return p.last
	}
	if !was {
		p.grace(now)
	}
	out := make([]snapshot.Speaker, 0, len(p.known))
	for _, peer := range p.known {
		if now.Sub(peer.seen) < peer.ttl {
			out = append(out, peer.speaker)
		}
	}
	slices.SortFunc(out, func(a, b snapshot.Speaker) int { return cmp.Compare(a.Node, b.Node) })
	p.last = slices.CompactFunc(out, func(a, b snapshot.Speaker) bool { return a.Node == b.Node })
	return p.last
}

// grace gives a whole Lease's time to everybody who was alive when this node
// was cut off; who was dead already stays so.
func (p *peers) grace(now time.Time) {
	for name, peer := range p.known {
		if slices.ContainsFunc(p.last, func(sp snapshot.Speaker) bool { return sp.Node == peer.speaker.Node }) {
			peer.seen = now
			p.known[name] = peer
		}
	}
}

func (p *peers) selfFresh(now time.Time) bool {
	for _, peer := range p.known {
		if peer.speaker.Node == p.self {
			return now.Sub(peer.seen) < peer.ttl/2
		}
	}
	return false
}
