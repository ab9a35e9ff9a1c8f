package kube

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net"
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
	DataPath string       `json:"dataPath,omitempty"`
	Leaving  bool         `json:"leaving,omitempty"`
	Links    []helloLink  `json:"links,omitempty"`
	Tunnels  []netip.Addr `json:"tunnels,omitempty"`
	Lacks    []string     `json:"lacks,omitempty"`
	BFD      bool         `json:"bfd,omitempty"`
	Hears    []string     `json:"hears,omitempty"`
}

type helloLink struct {
	Name     string         `json:"name"`
	MAC      string         `json:"mac,omitempty"`
	Prefixes []netip.Prefix `json:"prefixes"`
	Unsteady bool           `json:"unsteady,omitempty"`
}

func (h hello) speaker(node string) snapshot.Speaker {
	sp := snapshot.Speaker{Node: node, DataPath: h.DataPath, Leaving: h.Leaving, Lacks: h.Lacks, BFD: h.BFD, Hears: h.Hears}
	for _, a := range h.Tunnels {
		if a.IsValid() { // "" is read without an error
			sp.Tunnels = append(sp.Tunnels, a)
		}
	}
	for _, l := range h.Links {
		link := snapshot.Link{Name: l.Name, Prefixes: l.Prefixes, Unsteady: l.Unsteady}
		if mac, err := net.ParseMAC(l.MAC); err == nil && len(mac) == len(link.MAC) {
			link.MAC = [6]byte(mac)
		}
		sp.Links = append(sp.Links, link)
	}
	return sp
}

// peers judges which speakers are alive and which are lost: by their BFD
// sessions, and where there never was one, by when their Leases were last seen to
// change. Where it is only this node that does not hear the other, by what the other
// says, the Lease counts as well. Only this node's own clock counts, so clocks that disagree do no
// harm. Times are arguments; it is not safe for concurrent use.
//
// A node that does not see its own Lease being renewed is cut off from the
// API and judges nobody by Leases: what it last knew holds until it is back, and then
// everybody who was alive has a whole Lease's time to be seen again. It must have seen its
// own Lease within half of that time, so that when the API goes away it stops
// judging before the first of the others seems dead.
type peers struct {
	self     string
	known    map[string]peer             // by Lease name
	fresh    bool                        // own Lease was seen to change in time, at the last judgement
	contacts map[string]snapshot.Contact // by Node
	lostAt   map[string]time.Time        // by Node, of those whose contact is Lost: since when
	// judged is whether there ever was a judgement, and last which.
	judged bool
	last   judgement
	// recalled are those of an earlier time, by which to go before the first
	// judgement, and since when; recalledSelf is this speaker as it is now.
	recalled     []snapshot.Speaker
	recalledSelf snapshot.Speaker
	recalledAt   time.Time
}

// A judgement is how speakers were found, each list by Node. A speaker whose
// Lease was deleted is in neither.
type judgement struct {
	alive []snapshot.Speaker
	lost  []snapshot.Speaker // fell silent; Leaving if they had said that they would
}

type peer struct {
	speaker snapshot.Speaker
	renewed time.Time // renewTime as the Lease has it: compared, never measured
	seen    time.Time // when it was last seen to change, by our own clock
	ttl     time.Duration
}

func newPeers(self string) *peers {
	return &peers{self: self, known: map[string]peer{}, lostAt: map[string]time.Time{}}
}

// meet takes in what sessions say from now on.
func (p *peers) meet(contacts map[string]snapshot.Contact, now time.Time) {
	for node, c := range contacts {
		if _, was := p.lostAt[node]; c == snapshot.Lost && !was {
			p.lostAt[node] = now
		}
	}
	maps.DeleteFunc(p.lostAt, func(node string, _ time.Time) bool { return contacts[node] != snapshot.Lost })
	p.contacts = contacts
}

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

// staleAfter is for how long a speaker that has fallen silent may be on its way
// back: longer than a restart takes.
const staleAfter = time.Minute

// judge returns how the speakers are at now.
func (p *peers) judge(now time.Time) judgement {
	was := p.fresh
	p.fresh = p.selfFresh(now)
	if !p.fresh {
		switch {
		case p.judged:
		case !p.recalledAt.IsZero():
			p.last = p.remembered(now)
			return p.last
		default:
			return p.unheard()
		}
		p.last = p.cutOff()
		return p.last
	}
	p.judged = true
	if !was {
		p.grace(now)
	}
	var next judgement
	for _, known := range p.known {
		if sp, alive := p.find(known, now); alive {
			next.alive = append(next.alive, sp)
		} else {
			next.lost = append(next.lost, sp)
		}
	}
	next.alive, next.lost = byNode(next.alive), byNode(next.lost)
	next.lost = slices.DeleteFunc(next.lost, func(sp snapshot.Speaker) bool { return among(next.alive, sp) })
	p.last = next
	return next
}

// find returns how a speaker is: what its session says counts for more than its
// Lease.
func (p *peers) find(known peer, now time.Time) (sp snapshot.Speaker, alive bool) {
	sp = known.speaker
	contact, silent := p.contacts[sp.Node], now.Sub(known.seen)
	sp.Deaf, sp.Unheard = contact == snapshot.Deaf, p.unheardBy(known, contact)
	sp.Leaving = sp.Leaving || contact == snapshot.Left
	switch {
	case contact == snapshot.Reached, contact == snapshot.Deaf:
		return sp, true
	case contact == snapshot.Lost && !sp.Unheard: // however fresh its Lease is
	case silent < known.ttl:
		return sp, true
	}
	sp.Stale = silent >= known.ttl+staleAfter
	return sp, false
}

// unheardBy is whether a speaker says that it hears this node, which does not hear
// it. It should know: it is this node that is deaf, and the other is well for as
// long as its Lease is. What it said before it was lost is another matter: a
// speaker says so for a moment when it is back, and may be gone again.
func (p *peers) unheardBy(other peer, contact snapshot.Contact) bool {
	switch contact {
	case snapshot.Lost:
		if other.seen.Before(p.lostAt[other.speaker.Node]) {
			return false
		}
	case snapshot.Untried:
	default:
		return false
	}
	return slices.Contains(other.speaker.Hears, p.self)
}

// cutOff is the last judgement as far as nothing else is known by now.
func (p *peers) cutOff() judgement {
	var next judgement
	put := func(list []snapshot.Speaker, to *[]snapshot.Speaker) {
		for _, sp := range list {
			contact := p.contacts[sp.Node]
			sp.Deaf, sp.Unheard = contact == snapshot.Deaf, false
			switch contact {
			case snapshot.Reached, snapshot.Deaf:
				sp.Leaving, sp.Stale = false, false
				next.alive = append(next.alive, sp)
			case snapshot.Lost:
				next.lost = append(next.lost, sp)
			case snapshot.Left:
				sp.Leaving = true
				fallthrough
			default:
				*to = append(*to, sp)
			}
		}
	}
	put(p.last.alive, &next.alive)
	put(p.last.lost, &next.lost)
	next.alive, next.lost = byNode(next.alive), byNode(next.lost)
	return next
}

// unheard is what is said before the first judgement: everybody as last heard,
// and of nobody that it fell silent by itself.
func (p *peers) unheard() judgement {
	var all []snapshot.Speaker
	for _, peer := range p.known {
		all = append(all, peer.speaker)
	}
	return nobodyOf(all)
}

// nobodyOf is that nobody is alive, but none fell silent by himself.
func nobodyOf(all []snapshot.Speaker) judgement {
	all = slices.Clone(all)
	for i := range all {
		all[i].Leaving = true
	}
	return judgement{lost: byNode(all)}
}

// meeting is how long those of an earlier time have to be met by BFD.
const meeting = 4 * time.Second

// remembered is what is said before the first judgement of those of an earlier
// time: alive is who is met. Nobody is, not even this speaker, before it is known
// of all or they have had their time. Who says nothing by BFD is lost: should he
// be alive after all, he answers for what he has.
func (p *peers) remembered(now time.Time) judgement {
	var next judgement
	met := true
	for _, sp := range p.recalled {
		contact := p.contacts[sp.Node]
		sp.Leaving, sp.Stale, sp.Deaf, sp.Unheard = false, false, contact == snapshot.Deaf, false
		switch contact {
		case snapshot.Reached, snapshot.Deaf:
			next.alive = append(next.alive, sp)
			continue
		case snapshot.Left:
			sp.Leaving = true
		case snapshot.Untried:
			met = met && !sp.BFD
		}
		next.lost = append(next.lost, sp)
	}
	if !met && now.Sub(p.recalledAt) < meeting {
		return nobodyOf(p.recalled)
	}
	next.alive = append(next.alive, p.recalledSelf)
	return judgement{byNode(next.alive), byNode(next.lost)}
}

// byNode sorts speakers, one for each Node.
func byNode(speakers []snapshot.Speaker) []snapshot.Speaker {
	slices.SortFunc(speakers, func(a, b snapshot.Speaker) int { return cmp.Compare(a.Node, b.Node) })
	return slices.CompactFunc(speakers, func(a, b snapshot.Speaker) bool { return a.Node == b.Node })
}

func among(speakers []snapshot.Speaker, one snapshot.Speaker) bool {
	return slices.ContainsFunc(speakers, func(sp snapshot.Speaker) bool { return sp.Node == one.Node })
}

// grace gives a whole Lease's time to everybody who was alive when this node
// was cut off; who was lost already stays so.
func (p *peers) grace(now time.Time) {
	for name, peer := range p.known {
		if among(p.last.alive, peer.speaker) {
			peer.seen = now
			p.known[name] = peer
		}
	}
}

// selfFresh is whether the own Lease was seen to change in time or, by who has none, that
// of anybody: as this may be the only one, it has a little longer.
func (p *peers) selfFresh(now time.Time) bool {
	for _, peer := range p.known {
		switch silent := now.Sub(peer.seen); {
		case p.self == "" && silent < peer.ttl*2/3, peer.speaker.Node == p.self && silent < peer.ttl/2:
			return true
		}
	}
	return false
}
