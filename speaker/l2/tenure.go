package l2

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/herald-lb/herald/speaker"
)

// How a claim comes to be answered for. RFC 5227 §2.1.1 has hosts ask three
// times and wait for seconds, before they use an address; a segment on which a
// speaker has failed has no such time, and what lives on it answers within
// milliseconds. What answers later is heard when it is greeted.
const (
	probes      = 3
	probeGap    = 30 * time.Millisecond
	lastAnswer  = 40 * time.Millisecond // after the last probe
	checkLength = (probes-1)*probeGap + lastAnswer
)

// gaps are the times between the greetings for one address. The first goes
// out at once; the rest is for those who missed it, be it a switch port that
// had just come up or a client that was busy. RFC 5227 §2.3 asks for two, RFC
// 4861 §7.2.6 for up to three.
var gaps = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second}

// How long to wait before whoever has an address is asked again.
const (
	// A speaker that was taken for dead and is not: the fault is between the two.
	heldPause, heldPauseMax = 200 * time.Millisecond, 2 * time.Second
	// A host that is no speaker.
	strangerPause = 5 * time.Second
	// One to whom it was given up, and for how long it is not contested: it knows
	// better, or will soon. It grows, so that two that disagree do not take it
	// from each other all the time.
	cededPause                  = 500 * time.Millisecond
	ceded, cededMax             = 5 * time.Second, 5 * time.Minute
	cededFirstMin, cededFirstTo = 50 * time.Millisecond, 150 * time.Millisecond
	// One that did not hear us answer, and has greeted it: until his greeting is
	// over, which may be of several packets. It bounds what can come of them.
	insistPause = 20 * time.Millisecond
	// One that is left alone for as long as the pool says: should he fall silent,
	// it is missed by this.
	patientPause = 300 * time.Millisecond
	// lingerPause is how often one that goes on for another asks for him.
	lingerPause, lingerPauseMax = 500 * time.Millisecond, 5 * time.Second
	// retry is when a packet is sent again that could not be sent.
	retry = 200 * time.Millisecond
)

// A stage is how far this node is with a claim.
type stage uint8

const (
	checking stage = iota // everybody is being asked whether he has it
	owning                // it is answered for
	waiting               // another host has it
)

// A tenure is a claim on a port. Only Run touches it.
//
//	          nobody answers, or a living speaker
//	checking ──────────────────────────────────▶ owning ──▶ greeted in a burst
//	   │ ▲                                         │
//	   │ └── after a pause ── waiting ◀────────────┘ another speaker claims it
//	   └─────────────────────────▲
//	      a stranger answers, or a speaker that was taken for dead
type tenure struct {
	seat    *seat
	elected bool // or else it is only kept until another has taken it
	terms   speaker.Terms
	stage   stage
	due     time.Time // when something is to be done next; zero for never
	sent    int       // probes while checking, greetings while owning
	// patient is since when another speaker is left alone that has it.
	patient time.Time
	// asked is when a probe was sent last while owning: an answer to it comes
	// from somebody who does not know of us.
	asked time.Time
	pause time.Duration // the last one
	// rival is to whom it was given up. He is not contested before until; grace
	// is how long that was.
	rival MAC
	until time.Time
	grace time.Duration
}

// step does what is due for a claim.
func (r *run) step(p *port, addr netip.Addr, t *tenure, now time.Time) {
	switch {
	case t.stage == owning && t.elected:
		r.greetNext(p, addr, t, now)
	case t.stage == owning:
		_ = p.probe(addr) // counted; there is a next time
		t.asked = now
		t.pause = min(max(2*t.pause, lingerPause), lingerPauseMax)
		t.due = now.Add(t.pause)
	case !t.elected:
		t.due = time.Time{}
	case t.stage == waiting:
		t.stage, t.sent = checking, 0
		fallthrough
	case t.sent < probes:
		if p.probe(addr) != nil { // counted
			t.due = now.Add(retry)
			return
		}
		t.sent++
		t.due = now.Add(probeGap)
		if t.sent == probes {
			t.due = now.Add(lastAnswer)
		}
	default:
		r.take(p, addr, t, now)
	}
}

// take begins to answer for a claim.
func (r *run) take(p *port, addr netip.Addr, t *tenure, now time.Time) {
	r.stopWaiting(p, addr)
	t.stage, t.sent, t.pause, t.asked, t.patient = owning, 0, 0, time.Time{}, time.Time{}
	t.seat.since.Store(now.UnixNano())
	t.seat.answers.Store(true)
	r.moved = true
	r.greetNext(p, addr, t, now)
}

// greetNext sends the next greeting, of a burst or after it.
func (r *run) greetNext(p *port, addr netip.Addr, t *tenure, now time.Time) {
	if t.sent > len(gaps) && t.terms.Refresh == 0 {
		t.due = time.Time{}
		return
	}
	if err := p.greet(addr); err != nil { // counted
		t.due = now.Add(retry)
		return
	}
	switch {
	case t.sent < len(gaps):
		t.due = now.Add(gaps[t.sent])
	case t.terms.Refresh > 0:
		t.due = now.Add(t.terms.Refresh)
	default:
		t.due = time.Time{}
	}
	t.sent++
}

// wait stops answering for a claim, which somebody else has, and looks again
// after a pause.
func (r *run) wait(p *port, addr netip.Addr, t *tenure, mac MAC, pause time.Duration, now time.Time) {
	t.seat.answers.Store(false)
	r.moved = true
	t.stage, t.pause, t.due = waiting, pause, now.Add(pause)
	r.waitFor(p, addr, mac, now)
}

// found is told that somebody has what is being asked for.
func (r *run) found(p *port, addr netip.Addr, t *tenure, mac MAC, now time.Time) {
	other, known := r.live.Load().peers[mac]
	switch {
	case !t.elected:
	case t.rival == mac && now.Before(t.until):
		r.wait(p, addr, t, mac, cededPause, now)
	case other.alive && !other.leaving && r.spares(t, now):
		r.wait(p, addr, t, mac, patientPause, now)
	case other.alive:
		r.take(p, addr, t, now) // he gives it up when he hears of it
		t.asked = now           // should another answer, too, he does not know of us yet
	case known:
		r.wait(p, addr, t, mac, min(max(2*t.pause, heldPause), heldPauseMax), now)
	default:
		r.wait(p, addr, t, mac, strangerPause, now)
	}
}

// spares is whether another speaker, which has what this node is elected for, is
// left alone still.
func (r *run) spares(t *tenure, now time.Time) bool {
	if t.patient.IsZero() {
		t.patient = now
	}
	return now.Sub(t.patient) < t.terms.Failback
}

// contested is told that another speaker has what we answer for.
func (r *run) contested(p *port, addr netip.Addr, t *tenure, mac MAC, other peer, now time.Time) {
	answersProbe := !t.asked.IsZero() && now.Sub(t.asked) < checkLength
	switch {
	case !t.elected, r.yielding.Load():
		r.log.Debug("handed over", "addr", addr, "link", p.link.Name, "to", other.node)
		t.seat.answers.Store(false)
		r.moved = true
		t.stage, t.due = waiting, time.Time{}
	case other.deaf: // he has asked, and heard nothing
		t.insist(now)
	case !answersProbe: // he knows of us, and takes it
		r.cede(p, addr, t, mac, now)
	case r.prevails(addr, other):
		t.asked, t.sent, t.due = time.Time{}, 0, now
		r.doubt(now)
	default:
		r.cede(p, addr, t, mac, now)
		r.doubt(now)
	}
}

// insist greets again what a speaker has taken that did not hear us answer: he knows
// nothing. It is a whole burst, for he is in the middle of his, and clients may not
// believe us within a second of believing him.
func (t *tenure) insist(now time.Time) {
	if t.sent > 0 { // or else one is about to begin
		t.sent, t.due = 0, now.Add(insistPause)
	}
}

// cede gives up a claim to another speaker, and does not contest it for a while.
func (r *run) cede(p *port, addr netip.Addr, t *tenure, mac MAC, now time.Time) {
	t.grace = min(max(2*t.grace, ceded), cededMax)
	if now.Sub(t.until) > cededMax {
		t.grace = ceded
	}
	t.rival, t.until = mac, now.Add(t.grace)
	// Should he give it up at the same moment, the first to ask has it.
	r.wait(p, addr, t, mac, cededFirstMin+rand.N(cededFirstTo-cededFirstMin), now)
}

// prevails is whether, of two speakers that did not know of each other, this
// one keeps an address.
func (r *run) prevails(addr netip.Addr, other peer) bool {
	me := r.live.Load().node
	return speaker.Elect(addr, []string{me, other.node}) == me
}

// doubt asks for everything that is answered for whether somebody else does too:
// this node was parted from others, and is not any more.
func (r *run) doubt(now time.Time) {
	if now.Sub(r.doubted) < time.Second {
		return
	}
	r.doubted = now
	for _, p := range r.ports {
		for addr, t := range p.tenures {
			if t.stage == owning && p.probe(addr) == nil {
				t.asked = now
			}
			r.beat()
		}
	}
}

// greetAll greets once more what is answered for: somebody is back who may have
// answered for it meanwhile, where we were not heard.
func (r *run) greetAll(now time.Time) {
	for _, p := range r.ports {
		for _, t := range p.tenures {
			if t.stage == owning && t.elected {
				t.sent, t.due = 0, now
				p.next = earlier(p.next, now)
			}
		}
	}
}

// sampleGap is how often, while another speaker is lost, one address is asked for
// of those that are answered for. Should the two only have been parted, this
// finds out when they are not any more. All speakers together ask that often.
const sampleGap = 100 * time.Millisecond

// sample asks for one address.
func (r *run) sample(now time.Time) {
	lost, alive := 0, 1
	for _, other := range r.live.Load().peers {
		if other.alive {
			alive++
		} else {
			lost++
		}
	}
	r.sampleAt = time.Time{}
	if lost == 0 {
		return
	}
	r.sampleAt = now.Add(sampleGap * time.Duration(alive))
	for _, p := range r.ports {
		for addr, t := range p.tenures { // in no order
			if t.stage == owning && t.elected && p.probe(addr) == nil {
				t.asked = now
				break
			}
		}
	}
}

// waitFor notes for whom a claim waits, and says so once.
func (r *run) waitFor(p *port, addr netip.Addr, mac MAC, now time.Time) {
	claim := speaker.Claim{Addr: addr, Link: p.link.Name}
	other := r.live.Load().peers[mac]
	if w, ok := r.waiting[claim]; ok && w.MAC == mac.String() && w.Node == other.node {
		return
	}
	r.waiting[claim] = Wait{Claim: claim, MAC: mac.String(), Node: other.node, Since: now}
	r.changed = true
	switch {
	case other.node == "":
		r.log.Warn("another host has an address that this node should announce", "addr", addr, "link", p.link.Name, "mac", mac)
	case other.alive:
		r.log.Info("another speaker announces an address that this node is elected for", "addr", addr, "link", p.link.Name, "by", other.node)
	default:
		r.log.Info("a speaker that was taken for dead answers for its address: nothing moves", "addr", addr, "link", p.link.Name, "by", other.node)
	}
}

func (r *run) stopWaiting(p *port, addr netip.Addr) {
	claim := speaker.Claim{Addr: addr, Link: p.link.Name}
	if _, ok := r.waiting[claim]; ok {
		delete(r.waiting, claim)
		r.changed = true
	}
}
