package bfd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeSegment carries packets between hosts, at once unless a test says
// otherwise.
type fakeSegment struct {
	mu    sync.Mutex
	hosts map[netip.Addr]*fakeHost
	cut   bool
	hold  bool          // what is sent waits, as in a network card, for release
	held  []func()      // deliveries
	delay time.Duration // of every packet
	ttl   int
}

func newSegment() *fakeSegment { return &fakeSegment{hosts: map[netip.Addr]*fakeHost{}, ttl: 255} }

// A fakeHost is a host on a segment, and its Network. Like the kernel it
// refuses ports that are taken, and queues what comes until it is read.
type fakeHost struct {
	segment *fakeSegment
	addr    netip.Addr

	mu        sync.Mutex
	taken     map[Port]bool // by another daemon
	refuse    error         // what sending fails with
	listeners map[Port]*fakeListener
	sources   map[uint16]Peer
	opened    int
	stall     time.Duration // for which the next Send does not return
	pause     time.Duration // for which the next Read does not, once it has looked
	awake     func()        // called after a stall, unless nil
	sent      []Packet
	deaf      bool // what comes is dropped
}

func (s *fakeSegment) host(addr string) *fakeHost {
	h := &fakeHost{
		segment: s, addr: ip(addr),
		taken: map[Port]bool{}, listeners: map[Port]*fakeListener{}, sources: map[uint16]Peer{},
	}
	s.set(func() { s.hosts[h.addr] = h })
	return h
}

func (h *fakeHost) Listen(p Port) (Listener, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken[p] || h.listeners[p] != nil {
		return nil, syscall.EADDRINUSE
	}
	l := &fakeListener{host: h, port: p, arrived: make(chan struct{}, 1), closed: make(chan struct{})}
	h.listeners[p] = l
	return l, nil
}

func (h *fakeHost) Dial(p Peer, from uint16) (Sender, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened++
	if _, taken := h.sources[from]; taken || h.opened%3 == 0 { // others have ports, too
		return nil, syscall.EADDRINUSE
	}
	if p.Local.IsValid() && p.Local != h.addr {
		return nil, syscall.EADDRNOTAVAIL
	}
	h.sources[from] = p
	return &fakeSender{host: h, to: p, from: from}, nil
}

type fakeListener struct {
	host    *fakeHost
	port    Port
	arrived chan struct{}
	closed  chan struct{}

	mu    sync.Mutex
	queue []Datagram
	err   error
}

func (l *fakeListener) Await(ring func()) {
	for {
		select {
		case <-l.closed:
			return
		case <-l.arrived:
			ring()
		}
	}
}

func (l *fakeListener) Read(d []Datagram) (int, error) {
	n, err := l.take(d)
	l.host.mu.Lock()
	pause := l.host.pause
	l.host.pause = 0
	l.host.mu.Unlock()
	time.Sleep(pause)
	return n, err
}

func (l *fakeListener) take(d []Datagram) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := copy(d, l.queue)
	l.queue = l.queue[n:]
	err := l.err
	l.err = nil
	return n, err
}

func (l *fakeListener) Close() error {
	l.host.mu.Lock()
	defer l.host.mu.Unlock()
	delete(l.host.listeners, l.port)
	close(l.closed)
	return nil
}

// breaks has the next Read fail.
func (l *fakeListener) breaks(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}

func (l *fakeListener) put(d Datagram) {
	l.mu.Lock()
	l.queue = append(l.queue, d)
	l.mu.Unlock()
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}

// hear delivers a datagram to a port of h.
func (h *fakeHost) hear(p Port, d Datagram) {
	h.mu.Lock()
	l, deaf := h.listeners[p], h.deaf
	h.mu.Unlock()
	if l != nil && !deaf {
		l.put(d)
	}
}

type fakeSender struct {
	host *fakeHost
	to   Peer
	from uint16
}

func (s *fakeSender) Send(b []byte) error {
	h := s.host
	h.mu.Lock()
	stall, awake, refuse := h.stall, h.awake, h.refuse
	h.stall = 0
	if p, err := Decode(b); err == nil && refuse == nil {
		h.sent = append(h.sent, p)
	}
	h.mu.Unlock()
	if stall > 0 {
		time.Sleep(stall)
		if awake != nil {
			awake()
		}
	}
	if refuse != nil {
		return refuse
	}
	d := Datagram{From: h.addr, To: s.to.Addr, TTL: h.segment.ttl, Len: copy((&Datagram{}).Data[:], b)}
	copy(d.Data[:], b)
	h.segment.carry(s.to.port(), d)
	return nil
}

func (s *fakeSender) Close() error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	delete(s.host.sources, s.from)
	return nil
}

func (s *fakeSegment) carry(p Port, d Datagram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[d.To]
	switch deliver := func() { h.hear(p, d) }; {
	case s.cut || h == nil:
	case s.hold:
		s.held = append(s.held, deliver)
	default:
		time.AfterFunc(s.delay, deliver)
	}
}

// release lets everything through that was held.
func (s *fakeSegment) release() {
	s.mu.Lock()
	held := s.held
	s.hold, s.held = false, nil
	s.mu.Unlock()
	for _, deliver := range held {
		deliver()
	}
}

func (s *fakeSegment) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (h *fakeHost) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

// said returns what h has sent since it was asked last.
func (h *fakeHost) said() []Packet {
	h.mu.Lock()
	defer h.mu.Unlock()
	sent := h.sent
	h.sent = nil
	return sent
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// peer is one to be watched every 50 ms, three times.
func peer(addr string) Peer {
	return Peer{Addr: ip(addr), MinTx: 50 * ms, MinRx: 50 * ms, Multiplier: 3}
}

// A running Server, and how often it has said that something changed.
type running struct {
	*Server
	changes int
	log     *bytes.Buffer
	stop    context.CancelFunc
	ended   chan error
}

// start runs a Server in a bubble of fake time, until the test ends.
func start(t *testing.T, n Network, peers ...Peer) *running {
	t.Helper()
	r := &running{log: &bytes.Buffer{}, ended: make(chan error, 1)}
	r.Server = New(Options{Network: n, Changed: func() { r.changes++ }, Log: slog.New(slog.NewTextHandler(r.log, nil))})
	if err := r.Sync(peers); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { r.ended <- r.Run(ctx) }()
	synctest.Wait()
	t.Cleanup(func() {
		stop()
		if err := <-r.ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run() = %v", err)
		}
	})
	return r
}

// pair is two hosts that watch each other, and are up.
func pair(t *testing.T) (s *fakeSegment, hosts [2]*fakeHost, servers [2]*running) {
	t.Helper()
	s = newSegment()
	addrs := []string{"192.0.2.1", "192.0.2.2"}
	for i, a := range addrs {
		hosts[i] = s.host(a)
	}
	for i := range addrs {
		servers[i] = start(t, hosts[i], peer(addrs[1-i]))
	}
	time.Sleep(3 * time.Second)
	for i := range addrs {
		if got := servers[i].one(t); got.State != Up || got.Detection != 150*ms || got.Tx != 50*ms {
			t.Fatalf("%s has a session that is %v, sends every %v, detects within %v", addrs[i], got, got.Tx, got.Detection)
		}
		hosts[i].said()
	}
	return s, hosts, servers
}

// one returns the only session.
func (r *running) one(t *testing.T) Status {
	t.Helper()
	synctest.Wait()
	all := r.Sessions()
	if len(all) != 1 {
		t.Fatalf("%d sessions, want one", len(all))
	}
	for _, s := range all {
		return s
	}
	return Status{}
}

func states(packets []Packet) []State {
	var all []State
	for _, p := range packets {
		all = append(all, p.State)
	}
	return slices.Compact(all)
}
