package l2

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/speaker"
)

const (
	// defendInterval is DEFEND_INTERVAL of RFC 5227 §1.1.
	defendInterval = 10 * time.Second
	// settled is how long a dispute has to be silent to be over.
	settled = time.Minute
)

// A sighting is one packet in which another host claims an address of ours, or
// would have it if nobody objected.
type sighting struct {
	addr netip.Addr
	port *port // where it was heard
	mac  MAC
	// wants is whether he only would have it. He has been told already that he
	// cannot: that is no defence, for others may have it.
	wants bool
}

// A dispute is what Run knows of an open [Dispute].
type dispute struct {
	mac         MAC
	since, last time.Time
	defended    time.Time
}

// sight takes note of a sighting.
func (r *run) sight(s sighting, now time.Time) {
	live, p := r.live.Load(), s.port
	if r.ports[p.link.Name] != p { // it was closed meanwhile
		return
	}
	t := p.tenures[s.addr]
	other, known := live.peers[s.mac]
	switch {
	case t == nil || t.seat != live.at(s.addr, p.link.Name).seat: // withdrawn meanwhile
		return
	case t.stage == owning && !known:
		if !r.yielding.Load() {
			r.defend(p, s, now)
		}
	case s.wants: // a speaker that asks before he takes over, or finds that he need not
	case t.stage == owning:
		r.contested(p, s.addr, t, s.mac, other, now)
	case t.stage == checking:
		r.found(p, s.addr, t, s.mac, now)
	}
	p.next = earlier(p.next, t.due)
}

// defend defends an address against a host that is no speaker, as RFC 5227 §2.4
// (c) has it for hosts that cannot give theirs up: one announcement, at most
// every ten seconds. Nobody but another speaker takes an address from this node.
func (r *run) defend(p *port, s sighting, now time.Time) {
	claim := speaker.Claim{Addr: s.addr, Link: p.link.Name}
	d := r.open[claim]
	if d == nil {
		what := "another host uses an address of ours"
		if s.wants {
			what = "another host asks to use an address of ours"
		}
		r.log.Warn(what, "addr", s.addr, "link", p.link.Name, "mac", s.mac)
		d = &dispute{mac: s.mac, since: now}
		r.open[claim] = d
		r.settleAt = earlier(r.settleAt, now.Add(settled))
		r.publish()
	}
	d.mac, d.last = s.mac, now
	if s.wants {
		return
	}
	if !d.defended.IsZero() && now.Sub(d.defended) < defendInterval {
		return // nor is anything published, so that a flood costs little
	}
	d.defended = now
	r.publish()
	frame, err := r.proto.Defence(s.addr, p.link.MAC)
	if err == nil && p.send(frame) == nil {
		r.count.defences.Add(1)
	}
}

// settle closes the disputes that have gone silent, and those about what is
// not claimed any more.
func (r *run) settle(now time.Time) {
	live := r.live.Load()
	r.settleAt = time.Time{}
	before := len(r.open)
	for _, claim := range slices.SortedFunc(maps.Keys(r.open), compareClaims) {
		d := r.open[claim]
		over := now.Sub(d.last) >= settled
		if !over && live.set[claim].seat != nil {
			r.settleAt = earlier(r.settleAt, d.last.Add(settled))
			continue
		}
		if over {
			r.log.Info("no other host uses the address any more", "addr", claim.Addr, "link", claim.Link, "mac", d.mac)
		}
		delete(r.open, claim)
	}
	if len(r.open) != before {
		r.publish()
	}
}

// publish makes the open disputes readable.
func (r *run) publish() {
	list := make([]Dispute, 0, len(r.open))
	for _, claim := range slices.SortedFunc(maps.Keys(r.open), compareClaims) {
		d := r.open[claim]
		list = append(list, Dispute{claim, d.mac.String(), d.since})
	}
	r.disputes.Store(&list)
	r.moved = true
}

func (r *run) publishWaits() {
	list := make([]Wait, 0, len(r.waiting))
	for _, claim := range slices.SortedFunc(maps.Keys(r.waiting), compareClaims) {
		list = append(list, r.waiting[claim])
	}
	r.waits.Store(&list)
}

func compareClaims(a, b speaker.Claim) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Link, b.Link))
}

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
