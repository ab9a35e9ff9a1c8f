package l2

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
)

// sendPatience bounds how long one packet may wait for room in the queue of
// its link.
const sendPatience = time.Second

// gaps are the times between the greetings for one address. The first goes
// out at once; the rest is for those who missed it, be it a switch port that
// had just come up or a client that was busy. RFC 5227 §2.3 asks for two, RFC
// 4861 §7.2.6 for up to three.
var gaps = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second}

// A port is a link with an open socket. Its state dies with the socket: a
// link that has come back, or has a new hardware address, is a new port, on
// which everything is greeted again.
type port struct {
	proto  Protocol
	link   Link
	conn   Conn
	count  *counters
	lost   atomic.Pointer[error] // why the reader has ended
	passes []bpf.Instruction     // the filter in the kernel

	// told is what has been greeted on this port.
	told map[netip.Addr]*burst
	next time.Time // the earliest that a greeting is due; zero if none is
}

// A burst is the series of greetings for one address.
type burst struct {
	sent int       // greetings, the first included
	due  time.Time // of the next; zero if there is none
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

// claim makes the port stand for addrs and nothing else, and greets what is
// new. addrs are sorted.
func (p *port) claim(addrs []netip.Addr, now time.Time) error {
	if next := p.proto.Filter(addrs); !slices.Equal(p.passes, next) {
		if err := p.conn.SetFilter(next); err != nil {
			return fmt.Errorf("setting the filter on %s: %w", p.link.Name, err)
		}
		p.passes = next
	}
	var errs []error
	if p.proto.Group != nil {
		if err := p.conn.SetGroups(groupsOf(addrs, p.proto.Group)); err != nil {
			errs = append(errs, fmt.Errorf("listening on %s: %w", p.link.Name, err))
		}
	}
	for addr := range p.told {
		if _, stays := slices.BinarySearchFunc(addrs, addr, netip.Addr.Compare); !stays {
			delete(p.told, addr)
		}
	}
	for _, addr := range addrs {
		if p.told[addr] != nil {
			continue
		}
		if err := p.greet(addr); err != nil {
			errs = append(errs, fmt.Errorf("greeting %s on %s: %w", addr, p.link.Name, err))
			continue
		}
		b := &burst{}
		b.step(now)
		p.told[addr] = b
		p.next = earlier(p.next, b.due)
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

// repeat sends the greetings that are due. One that cannot be sent is left
// out: the next one of its burst is at hand.
func (p *port) repeat(now time.Time) {
	if p.next.IsZero() || now.Before(p.next) {
		return
	}
	p.next = time.Time{}
	for _, addr := range slices.SortedFunc(maps.Keys(p.told), netip.Addr.Compare) {
		b := p.told[addr]
		if !b.due.IsZero() && !now.Before(b.due) {
			_ = p.greet(addr) // counted
			b.step(now)
		}
		p.next = earlier(p.next, b.due)
	}
}

// step takes note of one more greeting.
func (b *burst) step(now time.Time) {
	b.due = time.Time{}
	if b.sent < len(gaps) {
		b.due = now.Add(gaps[b.sent])
	}
	b.sent++
}
