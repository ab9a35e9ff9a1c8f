package bfd

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"
)

// Options are what a Server is made from.
type Options struct {
	// Network opens sockets; nil for those of the kernel, in the network
	// namespace of the thread that Run is called on.
	Network Network
	// Changed is called by the goroutine of Run after any change of what
	// Sessions returns; nil if nobody wants to know. It must not block.
	Changed func()
	Log     *slog.Logger // nil: nothing is logged
}

// A Server keeps one session with each peer. New makes one, Run runs it.
type Server struct {
	network Network
	changed func()
	log     *slog.Logger

	plan    atomic.Pointer[plan]                  // only Sync replaces it
	leaving atomic.Bool                           // never taken back
	shown   atomic.Pointer[map[netip.Addr]Status] // only Run replaces it, whole
	count   counters

	begun   atomic.Bool
	started chan struct{} // closed once Run takes orders
	stopped chan struct{} // closed once Run has ended
	orders  chan chan<- error
	bell    chan struct{}
}

// New returns a Server that keeps no session. It opens and starts nothing.
func New(o Options) *Server {
	s := &Server{
		network: o.Network, changed: o.Changed, log: o.Log,
		started: make(chan struct{}),
		stopped: make(chan struct{}),
		orders:  make(chan chan<- error),
		bell:    make(chan struct{}, 1),
	}
	if s.network == nil {
		s.network = Kernel{}
	}
	if s.changed == nil {
		s.changed = func() {}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.plan.Store(&plan{})
	s.shown.Store(&map[netip.Addr]Status{})
	return s
}

var errStopped = errors.New("the BFD server has stopped")

// Sync has sessions with the peers in want, and no others. Those that stay are
// not disturbed: new intervals, multipliers and passiveness are taken up by
// the session as it runs, by a poll sequence where it takes one (RFC 5880
// §6.5); a new Local or Multihop makes it another session. A peer that leaves
// is told AdminDown.
//
// The error joins one for each peer that is invalid, which names it, the field
// and the remedy, and one for each socket that could not be opened. All other
// peers are served; an invalid one that had a session keeps that as it was, and
// sockets are tried again every second. Before Run, Sync only checks and notes
// what is wanted.
//
// It must not be called twice at a time.
func (s *Server) Sync(want []Peer) error {
	p, invalid := newPlan(want)
	s.plan.Store(p)
	return errors.Join(invalid, s.order())
}

// Leave tells all peers but the Lasting that this end is going down on purpose, AdminDown, so
// that they do not take it for a failure, and has said so several times to
// each when it returns. It is never taken back: none of them is up any more, nor
// comes up. Run has to go on meanwhile; it repeats it every second.
func (s *Server) Leave() {
	s.leaving.Store(true)
	for range farewells {
		if s.order() != nil {
			// It has stopped, or what failed is in the Status of the session.
			return
		}
		select {
		case <-s.stopped:
			return
		case <-time.After(farewellGap):
		}
	}
}

// How often a farewell is said, as UDP may lose it, and how far apart: what is
// lost at one moment is often lost together.
const (
	farewells   = 3
	farewellGap = 10 * time.Millisecond
)

// order has the loop make a pass, and waits for it. Before Run it does nothing.
func (s *Server) order() error {
	select {
	case <-s.started:
	default:
		return nil
	}
	done := make(chan error, 1)
	select {
	case s.orders <- done:
	case <-s.stopped:
		return errStopped
	}
	select {
	case err := <-done:
		return err
	case <-s.stopped:
		return errStopped
	}
}

// Sessions returns how all sessions are, by the address of the peer: those
// that the last Sync has set, once Run has begun. The map is the caller's.
func (s *Server) Sessions() map[netip.Addr]Status { return maps.Clone(*s.shown.Load()) }

// Run keeps the sessions until ctx ends. Then it just closes its sockets, as a
// crash would: call Leave first if that is not what happened. It can be run
// once.
func (s *Server) Run(ctx context.Context) error {
	if s.begun.Swap(true) {
		return errors.New("running the BFD server twice")
	}
	defer close(s.stopped)
	l := newLoop(s)
	defer l.close()
	close(s.started) // from here on Sync waits for us; what it set before is read below
	l.complain(l.pass(time.Now()), false)
	l.publish()
	l.run(ctx)
	return nil
}

// ring wakes the loop. It never blocks.
func (s *Server) ring() {
	select {
	case s.bell <- struct{}{}:
	default:
	}
}
