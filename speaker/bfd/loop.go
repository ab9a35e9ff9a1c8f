package bfd

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// retry is how long a socket rests that could not be opened, or has failed.
const retry = time.Second

// A loop is what the goroutine of Run owns.
type loop struct {
	*Server
	sessions  map[netip.Addr]*entry
	byNumber  map[uint32]*entry // by our discriminator
	sources   map[uint16]bool   // UDP ports in use
	listeners map[Port]Listener
	watchers  sync.WaitGroup
	agenda    agenda

	batch   []Datagram // read into, over and over
	buf     []byte     // encoded into, over and over
	retryAt time.Time  // zero: nothing to retry
	dirty   bool       // what is shown is not what is

	complaint string // of the last pass
}

// An entry is a session and what it sends through.
type entry struct {
	*session
	peer   Peer
	sender Sender // nil: could not be opened
	source uint16
	err    error // what went wrong last
	shown  Status

	at    time.Time // when it is due, as the agenda has it
	index int       // in the agenda; -1: not there
}

func newLoop(s *Server) *loop {
	return &loop{
		Server:    s,
		sessions:  map[netip.Addr]*entry{},
		byNumber:  map[uint32]*entry{},
		sources:   map[uint16]bool{},
		listeners: map[Port]Listener{},
		batch:     make([]Datagram, 64),
		buf:       make([]byte, 0, packetSize),
	}
}

// run does one thing at a time until ctx ends: first it reads whatever has
// come, then it does what it is told, then what is due.
func (l *loop) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due := l.agenda.next()
		if !l.retryAt.IsZero() && l.retryAt.Before(due) {
			due = l.retryAt
		}
		timer.Reset(time.Until(due))
		var done chan<- error
		select {
		case <-ctx.Done():
			return
		case done = <-l.orders:
		case <-l.bell:
		case <-timer.C:
		}
		heard := time.Now()
		absent := heard.Sub(due) // more than late: others had the CPU
		l.read()
		now := time.Now()
		var err error
		if done != nil || !l.retryAt.IsZero() && !now.Before(l.retryAt) {
			err = l.pass(now)
			l.complain(err, done != nil)
		}
		l.tick(now, heard, absent > late)
		l.publish()
		if done != nil {
			done <- err
		}
	}
}

// complain logs what went wrong in a pass, once, if nobody has asked for it who
// is told.
func (l *loop) complain(err error, told bool) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != l.complaint && text != "" && !told {
		l.log.Warn("opening sockets for BFD", "err", err)
	}
	l.complaint = text
}

// enough batches in a row are an attack, which must not keep us from sending.
const enough = 64

// read takes everything that has come.
func (l *loop) read() {
	for port, listener := range l.listeners {
		for range enough {
			n, err := listener.Read(l.batch)
			if err != nil {
				l.fail(port, err)
				break
			}
			now := time.Now()
			for i := range n {
				l.take(port, &l.batch[i], now)
			}
			if n < len(l.batch) {
				break
			}
		}
	}
}

// fail closes a listener that is broken. The next pass opens another.
func (l *loop) fail(port Port, err error) {
	l.log.Warn("receiving BFD packets", "port", port.Number(), "family", port.family(), "err", err)
	_ = l.listeners[port].Close() // it is of no use any more
	delete(l.listeners, port)
	l.retryAt = time.Now().Add(retry)
}

// take handles what came to a port. It may be anything, from anybody.
func (l *loop) take(port Port, d *Datagram, now time.Time) {
	p, err := Decode(d.payload())
	if err != nil {
		l.count.malformed.Add(1)
		return
	}
	// RFC 5881 §5, RFC 5082: nobody further away can send this.
	if !port.Multihop && d.TTL != 255 {
		l.count.distant.Add(1)
		return
	}
	e := l.find(port, d, p.YourDiscriminator)
	if e == nil {
		l.count.strange.Add(1)
		return
	}
	l.count.received.Add(1)
	if e.receive(p, now) {
		l.send(e, e.final())
	}
	if e.state == Up && e.err != nil && l.plan.Load().bad[e.peer.Addr] == nil {
		e.err = nil
	}
	l.settle(e)
}

// find returns the session that a packet is for, if it may have come from its
// peer (RFC 5880 §6.3, RFC 5881 §3).
func (l *loop) find(port Port, d *Datagram, number uint32) *entry {
	e := l.sessions[d.From]
	if number != 0 {
		e = l.byNumber[number]
	}
	switch {
	case e == nil || e.sender == nil || e.peer.Addr != d.From || e.peer.port() != port:
		return nil
	case e.peer.Local.IsValid() && e.peer.Local.WithZone("") != d.To:
		return nil
	}
	return e
}

// tick does what is due, and sends what is nearly. Everything that had come by
// the time heard was read; what has come since may be from whoever is missed now,
// for others may have had the CPU meanwhile.
func (l *loop) tick(now, heard time.Time, absent bool) {
	for len(l.agenda) > 0 {
		e := l.agenda[0]
		missed := e.missed(heard)
		if !missed && !e.ready(now) {
			return
		}
		// After an absence there may be more on its way through the kernel.
		if missed && !(absent && e.reprieve(now.Add(settling))) {
			e.expire(now)
		}
		if e.ready(now) {
			l.send(e, e.session.send(now))
		}
		l.settle(e)
	}
}

func (l *loop) send(e *entry, p Packet) {
	l.buf = p.Append(l.buf[:0])
	if err := e.sender.Send(l.buf); err != nil {
		if e.err == nil || e.err.Error() != err.Error() {
			level := slog.LevelWarn
			if errors.Is(err, unix.ECONNREFUSED) { // it has not started yet, or has ended
				level = slog.LevelDebug
			}
			l.log.Log(context.Background(), level, "sending BFD packets", "peer", e.peer.Addr, "err", err)
		}
		e.err = err
		return
	}
	l.count.sent.Add(1)
}

// settle draws the consequences of anything that has happened to e.
func (l *loop) settle(e *entry) {
	if e.sender != nil {
		l.agenda.put(e)
	}
	now := e.status()
	if now == e.shown {
		return
	}
	if now.State != e.shown.State {
		l.tell(now, e.peer.Addr)
	}
	e.shown, l.dirty = now, true
}

// tell logs a change of state.
func (l *loop) tell(s Status, peer netip.Addr) {
	switch {
	case s.State == Up:
		l.log.Info("a BFD session is up", "peer", peer, "detects", s.Detection)
	case s.State == Down && s.WasUp && s.RemoteState == AdminDown:
		l.log.Info("a BFD session is down: the peer has left", "peer", peer)
	case s.State == Down && s.WasUp:
		l.log.Warn("a BFD session is down", "peer", peer, "why", s.Diag, "peer says", s.RemoteDiag)
	}
}

func (e *entry) status() Status {
	s := Status{
		State: e.state, Diag: e.diag, Since: e.since,
		RemoteState: e.remote.state, RemoteDiag: e.remote.diag,
		Tx: e.pace, Detection: e.detection(), Losses: e.losses, WasUp: e.wasUp,
		Discriminator: e.my, RemoteDiscriminator: e.remote.your,
	}
	if e.err != nil {
		s.Err = e.err.Error()
	}
	return s
}

// publish shows what has changed, if anything has.
func (l *loop) publish() {
	if !l.dirty {
		return
	}
	l.dirty = false
	shown := make(map[netip.Addr]Status, len(l.sessions))
	for addr, e := range l.sessions {
		shown[addr] = e.shown
	}
	l.Server.shown.Store(&shown)
	l.changed()
}

// close ends everything without a word.
func (l *loop) close() {
	for _, e := range l.sessions {
		l.hangUp(e)
	}
	for _, listener := range l.listeners {
		_ = listener.Close() // nothing is buffered that could be lost
	}
	l.watchers.Wait()
}
