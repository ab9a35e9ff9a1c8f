package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/herald-lb/herald/speaker"
)

// A session is one with a router, through all its connections. One goroutine,
// that of run, owns what is not guarded.
type session struct {
	log     *slog.Logger
	changed func()
	orders  chan order    // the last one that nobody has taken yet; put there by order
	down    chan struct{} // BFD has lost the router
	again   chan struct{} // it is worth dialling at once

	want      speaker.Session
	restarted bool      // whether routers are to be told that we come back from a restart
	failed    int       // connections in a row that did not come up, or not for long
	rose      time.Time // when the last one that did came up
	quarrel   error     // why the last one did not, as far as the router has spoken

	mu    sync.Mutex
	state speaker.SessionState
	relay *relay // of the connection; nil for none
	hears bool   // whether the router is told of an order as soon as it comes
}

// An order is what the session is to be like.
type order struct {
	wanted
	done []chan<- error // of those who wait for it
}

// answer says what has come of an order.
func (o order) answer(err error) {
	for _, done := range o.done {
		done <- err
	}
}

// order has the session be like w, whatever it is at, and whatever it was to be like
// before. It returns what comes of it: as long as there is no router that could be told,
// that is nothing, at once.
func (s *session) order(w wanted) <-chan error {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, done := order{wanted: w}, make(chan error, 1)
	select {
	case last := <-s.orders:
		o.done = last.done
	default:
	}
	if s.hears {
		o.done = append(o.done, done)
	} else {
		done <- nil
	}
	s.orders <- o
	return done
}

// listen has those wait who give an order from now on.
func (s *session) listen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hears = true
}

// deafen has nobody wait for the session any more: its router is told nothing.
func (s *session) deafen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hears = false
	select {
	case o := <-s.orders:
		o.answer(nil)
		s.orders <- order{wanted: o.wanted}
	default:
	}
}

// Why we end a connection. A router hears it as the NOTIFICATION.
var (
	errRemoved = errors.New("the session was removed")
	errChanged = errors.New("the session was changed")
	errBFD     = errors.New("BFD says that the router, or the way to it, is down")
	errLeaving = errors.New("this speaker ends")
)

// lastWords returns what a router is told as the connection ends by err, and
// whether it is us who end it.
func lastWords(err error) (notification, bool) {
	switch {
	case errors.Is(err, errRemoved):
		return cease(ceaseDeconfigured, ""), true
	case errors.Is(err, errChanged):
		return cease(ceaseChanged, ""), true
	case errors.Is(err, errBFD):
		return cease(ceaseBFD, ""), true
	case errors.Is(err, errLeaving):
		return cease(ceaseShutdown, "Herald is stopped on this node"), true
	}
	return notification{}, false
}

func newSession(w speaker.Session, log *slog.Logger, changed func()) *session {
	return &session{
		log: log.With("peer", w.Name), changed: changed, want: w, restarted: true,
		orders: make(chan order, 1), down: make(chan struct{}, 1), again: make(chan struct{}, 1),
		state: speaker.SessionState{Name: w.Name, Addr: w.Addr, State: "idle", Since: time.Now()},
	}
}

// run connects, again and again, until ctx ends. Its cause is what the router is
// told.
func (s *session) run(ctx context.Context) {
	for wait := time.Duration(0); s.pause(ctx, wait); {
		came, err := s.connect(ctx)
		var up time.Duration
		if came {
			up = time.Since(s.rose)
		}
		s.report(ctx, came, err)
		wait = s.rest(up, err, rand.Float64())
	}
}

// Bounds of the wait between two connections.
const (
	firstRetry   = 250 * time.Millisecond
	defaultRetry = 5 * time.Second
)

// rest returns how long to wait after a connection that was up for so long and ended by
// err. One that comes up and falls is a failure like one that does not come up: only
// one that has lasted longer than the longest wait makes a new start.
func (s *session) rest(up time.Duration, err error, chance float64) time.Duration {
	if up >= max(s.want.ConnectRetry, defaultRetry) {
		s.failed = 0
	}
	if errors.Is(err, errChanged) {
		return 0
	}
	s.failed++
	return backoff(s.failed-1, s.want.ConnectRetry, chance)
}

// backoff returns how long to wait after a number of failures: twice as long
// each time, up to most (0 for the default), from half to all of it by chance.
func backoff(failed int, most time.Duration, chance float64) time.Duration {
	if most <= 0 {
		most = defaultRetry
	}
	d := most
	if failed < 16 {
		d = min(most, firstRetry<<failed)
	}
	return d/2 + time.Duration(chance*float64(d/2))
}

// pause waits, and takes orders. It is false once ctx has ended.
func (s *session) pause(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return ctx.Err() == nil
		case <-s.again:
			return ctx.Err() == nil
		case <-s.down:
		case o := <-s.orders:
			if s.take(o) {
				s.failed = 0
				return true
			}
		}
	}
}

// take notes an order, and returns whether it makes another session.
func (s *session) take(o order) bool {
	changed := o.Session.Differs(s.want)
	s.want = o.Session
	return changed
}

// connect dials once, and keeps the connection until it ends. It returns whether
// the session came up, and why it ended.
func (s *session) connect(ctx context.Context) (bool, error) {
	if s.want.Hold != "" {
		return false, errors.New(s.want.Hold)
	}
	conn, err := s.reach(ctx)
	if err != nil {
		s.quarrel = nil
		return false, err
	}
	core, err := newCore(ctx, s.want, s.log)
	if err != nil {
		_ = conn.Close()
		return false, err
	}
	defer core.close()
	r := newRelay(s.want, s.restarted, conn, core.conn)
	r.start()
	s.attach(r)
	defer s.attach(nil)
	k := &keeping{session: s, core: core, relay: r, local: addrOf(conn.LocalAddr())}
	why := k.keep(ctx)
	s.deafen()
	if n, ours := lastWords(why); ours && !s.silent(why) {
		r.end(why) // or that it does not hear it would be the reason
		r.say(n, why)
	}
	return k.came, s.remember(k.came, r.close(why))
}

// remember returns err or, if the router does not say anything any more, what was
// wrong when it still did: after a quarrel some close each connection at once, for
// minutes, and that they do says nothing.
func (s *session) remember(came bool, err error) error {
	_, ours := lastWords(err)
	switch {
	case errors.Is(err, errMute) && s.quarrel != nil:
		return fmt.Errorf("%w; since then it closes each connection at once", s.quarrel)
	case came || ours || errors.Is(err, errMute):
		s.quarrel = nil
	default:
		s.quarrel = err
	}
	return err
}

// silent is whether the router is not to be told that we go: it keeps our
// routes then, if we come back soon (RFC 4724 §4.2).
func (s *session) silent(why error) bool {
	return errors.Is(why, errLeaving) && s.want.GracefulRestart > 0
}

// A dialled is what comes of dialling.
type dialled struct {
	conn *net.TCPConn
	err  error
}

// reach dials the router, and takes orders meanwhile.
func (s *session) reach(ctx context.Context) (*net.TCPConn, error) {
	s.become("connect")
	dialing, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan dialled, 1)
	go func(w speaker.Session) {
		conn, err := s.dial(dialing, w)
		result <- dialled{conn, err}
	}(s.want)
	for {
		select {
		case d := <-result:
			return d.conn, d.err
		case <-ctx.Done():
			cancel()
			return nil, abandon(<-result, context.Cause(ctx))
		case <-s.again:
		case <-s.down:
		case o := <-s.orders:
			if s.take(o) {
				cancel()
				return nil, abandon(<-result, errChanged)
			}
		}
	}
}

func abandon(d dialled, why error) error {
	if d.conn != nil {
		_ = d.conn.Close()
	}
	return why
}

// dial finds out where the router is, and connects to it.
func (s *session) dial(ctx context.Context, w speaker.Session) (*net.TCPConn, error) {
	addr := w.Addr
	if !addr.IsValid() {
		var err error
		if addr, err = find(ctx, w.Interface); err != nil {
			return nil, err
		}
	}
	if addr.IsLinkLocalUnicast() && addr.Is6() && addr.Zone() == "" {
		addr = addr.WithZone(w.Interface)
	}
	s.edit(func(st *speaker.SessionState) {
		if st.Addr != addr {
			st.Addr, st.Local = addr, netip.Addr{}
		}
	})
	return dial(ctx, w, addr)
}

func addrOf(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr().Unmap() }
