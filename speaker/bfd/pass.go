package bfd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"time"
)

// pass brings sockets and sessions in line with the plan.
func (l *loop) pass(now time.Time) error {
	p := l.plan.Load()
	l.retryAt = time.Time{}
	l.removeStale(p, now)
	deaf := l.listen(p)
	errs := []error{deaf}
	for _, peer := range p.peers {
		errs = append(errs, l.keep(peer, now, deaf))
	}
	for addr, invalid := range p.bad {
		if e := l.sessions[addr]; e != nil {
			e.err = invalid
			l.settle(e)
		}
	}
	if l.leaving.Load() {
		for _, e := range l.sessions {
			if !e.peer.Lasting {
				e.disable(now)
				l.settle(e)
			}
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		l.retryAt = now.Add(retry)
	}
	return err
}

// removeStale ends the sessions that are wanted no more, or otherwise.
func (l *loop) removeStale(p *plan, now time.Time) {
	want := make(map[netip.Addr]Peer, len(p.peers))
	for _, peer := range p.peers {
		want[peer.Addr] = peer
	}
	for addr, e := range l.sessions {
		peer, wanted := want[addr]
		if p.bad[addr] == nil && !(wanted && e.peer.same(peer)) {
			l.remove(e, now)
		}
	}
}

// remove ends a session. The peer is told: nobody will be there to answer for
// the silence.
func (l *loop) remove(e *entry, now time.Time) {
	if e.sender != nil && e.remote.your != 0 {
		e.disable(now)
		for range farewells {
			l.send(e, e.session.send(now))
		}
	}
	l.hangUp(e)
	l.agenda.drop(e)
	delete(l.byNumber, e.my)
	delete(l.sessions, e.peer.Addr)
	l.dirty = true
}

// hangUp closes the socket of a session.
func (l *loop) hangUp(e *entry) {
	if e.sender == nil {
		return
	}
	_ = e.sender.Close() // nothing is buffered that could be lost
	e.sender = nil
	delete(l.sources, e.source)
}

// listen opens the ports that are needed, and closes the others.
func (l *loop) listen(p *plan) error {
	need := map[Port]int{}
	for _, peer := range p.peers {
		need[peer.port()]++
	}
	for _, e := range l.sessions { // among them some that p has as bad
		need[e.peer.port()]++
	}
	for port, listener := range l.listeners {
		if need[port] == 0 {
			_ = listener.Close() // whatever it holds is for nobody
			delete(l.listeners, port)
		}
	}
	var errs []error
	for _, port := range []Port{{false, false}, {false, true}, {true, false}, {true, true}} {
		if need[port] == 0 || l.listeners[port] != nil {
			continue
		}
		listener, err := l.network.Listen(port)
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: another BFD daemon has it, such as FRR's bfdd or BIRD: find it with ss -lunp sport = %d, and stop it or have it watch these peers", err, port.Number())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("receiving BFD on UDP port %d over %s: %w", port.Number(), port.family(), err))
			continue
		}
		l.listeners[port] = listener
		l.watchers.Go(func() { listener.Await(l.ring) })
	}
	return errors.Join(errs...)
}

// keep has a session with peer that goes by its settings. deaf is why the port
// of the peer is not open, if it is not.
func (l *loop) keep(peer Peer, now time.Time, deaf error) error {
	e := l.sessions[peer.Addr]
	if e == nil {
		e = l.add(peer, now)
	}
	if e.peer != peer {
		e.peer = peer
		e.configure(peer.settings(), now)
	}
	var err error
	switch {
	case l.listeners[peer.port()] == nil:
		e.err = deaf
	case e.sender == nil:
		if err = l.dial(e); err != nil {
			e.err = err
		}
	}
	l.settle(e)
	return err
}

func (l *loop) add(peer Peer, now time.Time) *entry {
	number := rand.Uint32() // hard to guess, by who does not see our packets
	for number == 0 || l.byNumber[number] != nil {
		number = rand.Uint32()
	}
	e := &entry{session: newSession(peer.settings(), number, rand.Float64, now), peer: peer, index: -1}
	l.sessions[peer.Addr], l.byNumber[number] = e, e
	return e
}

// dial opens the socket that a session sends through, at a UDP port that no
// other session has (RFC 5881 §4).
func (l *loop) dial(e *entry) error {
	const attempts = 1000
	for range attempts {
		source := uint16(firstSource + rand.IntN(lastSource-firstSource+1))
		if l.sources[source] {
			continue
		}
		sender, err := l.network.Dial(e.peer, source)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sending BFD to %s: %w", e.peer.Addr, err)
		}
		e.sender, e.source, e.err = sender, source, nil
		l.sources[source] = true
		return nil
	}
	return fmt.Errorf("sending BFD to %s: none of %d UDP ports from %d to %d is free", e.peer.Addr, attempts, firstSource, lastSource)
}
