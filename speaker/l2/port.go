package l2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker"
)

// sendPatience bounds how long one packet may wait for room in the queue of
// its link.
const sendPatience = time.Second

// A port is a link with an open socket. Its state dies with the socket: a
// link that has come back, or has a new hardware address, is a new port, on
// which everything is asked for and greeted again.
type port struct {
	proto  Protocol
	link   Link
	conn   Conn
	count  *counters
	lost   atomic.Pointer[error] // why the reader has ended
	closed chan struct{}
	passes []bpf.Instruction // the filter in the kernel

	tenures map[netip.Addr]*tenure
	next    time.Time // the earliest that one of them is due; zero if none is
}

// send sends one frame. The destination is in the frame already.
func (p *port) send(frame []byte) error {
	if err := p.conn.SetWriteDeadline(time.Now().Add(sendPatience)); err != nil {
		return err
	}
	_, err := p.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:6])})
	if err != nil {
		p.count.failures.Add(1)
	}
	return err
}

// greet tells everybody on the link that addr is here.
func (p *port) greet(addr netip.Addr) error {
	frames, err := p.proto.Greeting(addr, p.link.MAC)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		if err := p.send(frame); err != nil {
			return err
		}
		p.count.greetings.Add(1)
	}
	return nil
}

// probe asks whether anybody on the link has addr.
func (p *port) probe(addr netip.Addr) error {
	frame, err := p.proto.Probe(addr, p.link.MAC)
	if err != nil {
		return err
	}
	if err := p.send(frame); err != nil {
		return err
	}
	p.count.probes.Add(1)
	return nil
}

// claim makes the port stand for addrs and nothing else, and begins to ask for
// what is new, but for what has left just now. addrs are sorted. It beats while it
// takes long.
func (p *port) claim(addrs []netip.Addr, live *claims, left map[speaker.Claim]time.Time, beat func(), now time.Time) error {
	if next := p.proto.Filter(addrs); !slices.Equal(p.passes, next) {
		if err := p.conn.SetFilter(next); err != nil {
			return fmt.Errorf("setting the filter on %s: %w", p.link.Name, err)
		}
		p.passes = next
	}
	var errs []error
	if p.proto.Group != nil {
		if err := p.conn.SetGroups(groupsOf(addrs, p.proto.Group), beat); err != nil {
			errs = append(errs, fmt.Errorf("listening on %s: %w", p.link.Name, err))
		}
	}
	for addr, t := range p.tenures {
		if t.seat != live.at(addr, p.link.Name).seat { // withdrawn, be it for a moment
			if t.stage == owning {
				left[speaker.Claim{Addr: addr, Link: p.link.Name}] = now
			}
			t.seat.answers.Store(false)
			delete(p.tenures, addr)
		}
	}
	for _, addr := range addrs {
		at := live.at(addr, p.link.Name)
		t := p.tenures[addr]
		if t == nil {
			t = &tenure{seat: at.seat, elected: at.elected, due: now}
			if at, had := left[speaker.Claim{Addr: addr, Link: p.link.Name}]; had && now.Sub(at) < absent {
				t.sent = probes
			}
			p.tenures[addr] = t
		}
		if t.terms != at.terms && t.elected && t.stage == owning && t.sent > len(gaps) {
			t.due = now // the refresh begins, or is another
		}
		t.terms = at.terms
		switch {
		case t.elected == at.elected:
		case !at.elected: // he who is has time to say so
			t.pause, t.due = lingerPause, now.Add(lingerPause)
		case t.stage == owning: // what was to be greeted yet, or again, is
			t.due = now
		default: // it was handed over, and comes back
			t.stage, t.sent, t.due = checking, 0, now
		}
		t.elected = at.elected
		p.next = earlier(p.next, t.due)
	}
	return errors.Join(errs...)
}

// groupsOf returns the multicast groups of addrs, sorted. Several may share one.
func groupsOf(addrs []netip.Addr, group func(netip.Addr) netip.Addr) []netip.Addr {
	groups := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		groups[i] = group(a)
	}
	slices.SortFunc(groups, netip.Addr.Compare)
	return slices.Compact(groups)
}
