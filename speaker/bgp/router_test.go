package bgp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/herald-lb/herald/speaker"
)

// A puppet is a router by hand, at a port of the loopback.
type puppet struct {
	listener net.Listener
	conn     net.Conn
	alive    bool // whether it sends keepalives

	mu   sync.Mutex
	rib  map[netip.Prefix]string
	last message // NOTIFICATION
	gone bool
}

func newPuppet(t testing.TB) *puppet {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &puppet{listener: l, alive: true}
}

// session is one with it.
func (p *puppet) session(name string) speaker.Session {
	w := base(name, "127.0.0.1")
	w.Port = uint16(p.listener.Addr().(*net.TCPAddr).Port)
	return w
}

// accept takes the next connection, and reads the OPEN.
func (p *puppet) accept(t testing.TB) message {
	t.Helper()
	c, err := p.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	p.mu.Lock()
	p.conn, p.rib, p.last, p.gone = c, map[netip.Prefix]string{}, nil, false
	p.mu.Unlock()
	m, err := readMessage(c, make([]byte, maxMessage))
	if err != nil || m.kind() != typeOpen {
		t.Fatalf("message %v, %v, want an OPEN", m, err)
	}
	return m
}

func (p *puppet) send(messages ...message) {
	for _, m := range messages {
		_, _ = p.conn.Write(m) // the node may have closed
	}
}

// establish comes to terms with the node, and listens from then on. It returns
// the OPEN of the node.
func (p *puppet) establish(t testing.TB, capabilities ...[]byte) message {
	t.Helper()
	m := p.accept(t)
	p.send(openMessage(65001, 9, ip("192.0.2.1"), slices.Concat(append(capabilities, capV4, capV6)...)), newMessage(typeKeepalive))
	go p.listen(t, p.conn)
	return m
}

// listen keeps what is said.
func (p *puppet) listen(t testing.TB, c net.Conn) {
	for buf := make([]byte, maxMessage); ; {
		m, err := readMessage(c, buf)
		p.mu.Lock()
		if p.conn != c {
			p.mu.Unlock()
			return
		}
		switch {
		case err != nil:
			p.gone = true
		case m.kind() == typeNotification:
			p.last = slices.Clone(m)
		case m.kind() == typeKeepalive && p.alive:
			_, _ = c.Write(newMessage(typeKeepalive))
		case m.kind() == typeUpdate:
			p.learn(t, m)
		}
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// learn takes an UPDATE, as GoBGP decodes it.
func (p *puppet) learn(t testing.TB, m message) {
	parsed, err := wire.ParseBGPMessage(m)
	if err != nil {
		t.Errorf("an UPDATE cannot be read: %v", err)
		return
	}
	u := parsed.Body.(*wire.BGPUpdate)
	said := []string{}
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *wire.PathAttributeMpUnreachNLRI:
			for _, n := range a.Value {
				delete(p.rib, prefix(n.String()))
			}
		case *wire.PathAttributeCommunities, *wire.PathAttributeLargeCommunities, *wire.PathAttributeMultiExitDisc:
			said = append(said, a.String())
		}
	}
	for _, n := range u.WithdrawnRoutes {
		delete(p.rib, prefix(n.String()))
	}
	for _, n := range u.NLRI {
		p.rib[prefix(n.String())] = strings.Join(said, " ")
	}
	for _, a := range u.PathAttributes {
		if a, ok := a.(*wire.PathAttributeMpReachNLRI); ok {
			for _, n := range a.Value {
				p.rib[prefix(n.String())] = strings.Join(said, " ")
			}
		}
	}
}

func (p *puppet) look(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// saidOf is what a puppet is to have heard.
func saidOf(routes []speaker.Route) map[netip.Prefix]string {
	all := map[netip.Prefix]string{}
	for _, r := range routes {
		var said []string
		if r.MED != nil {
			said = append(said, wire.NewPathAttributeMultiExitDisc(*r.MED).String())
		}
		if len(r.Communities) > 0 {
			said = append(said, wire.NewPathAttributeCommunities(r.Communities).String())
		}
		if len(r.Large) > 0 {
			var large []*wire.LargeCommunity
			for _, l := range r.Large {
				large = append(large, &wire.LargeCommunity{ASN: l[0], LocalData1: l[1], LocalData2: l[2]})
			}
			said = append(said, wire.NewPathAttributeLargeCommunities(large).String())
		}
		all[r.Prefix] = strings.Join(said, " ")
	}
	return all
}

// await waits until something is so.
func await(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Fatalf("waited 20 s in vain for %s", what)
}

// run runs a Speaker until the test ends, or the function that it returns is called.
func run(t testing.TB) (*Speaker, func()) {
	t.Helper()
	log := &buffer{}
	s := New(Options{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop := func() {
		cancel()
		<-done
	}
	t.Cleanup(func() {
		stop()
		if t.Failed() {
			t.Logf("the speaker has logged:\n%s", log)
		}
	})
	return s, stop
}

func want(t testing.TB, s *Speaker, sessions ...speaker.Session) {
	t.Helper()
	if err := s.Sync(t.Context(), speaker.Routing{Sessions: sessions}); err != nil {
		t.Fatalf("Sync: %v", err)
	}
}

// state returns that of one session.
func state(s *Speaker, name string) speaker.SessionState {
	for _, st := range s.States() {
		if st.Name == name {
			return st
		}
	}
	return speaker.SessionState{}
}

func awaitUp(t testing.TB, s *Speaker, name string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("the session is %+v", state(s, name))
		}
	}()
	await(t, name+" to be up", func() bool { return state(s, name).Up })
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Whatever Sync was told before, the router knows what it was told last.
func TestRouterKnowsTheLast(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	p, q := newPuppet(t), newPuppet(t)
	s, _ := run(t)
	for round := range 60 {
		w, v := p.session("a"), q.session("b")
		w.Routes, v.Routes = randomRoutes(rnd), randomRoutes(rnd)
		want(t, s, w, v)
		if round == 0 {
			p.establish(t)
			q.establish(t)
			awaitUp(t, s, "a")
			awaitUp(t, s, "b")
		}
		for _, each := range []struct {
			*puppet
			routes []speaker.Route
		}{{p, w.Routes}, {q, v.Routes}} {
			same := false
			await(t, fmt.Sprintf("round %d", round), func() bool {
				each.look(func() { same = maps.Equal(each.rib, saidOf(each.routes)) })
				return same
			})
		}
		if n := state(s, "a").Sent; n != len(w.Routes) {
			t.Fatalf("Sent = %d, want %d", n, len(w.Routes))
		}
	}
}

// What the router has said of a shutdown is in the state, and it is tried again.
func TestNotificationIsShown(t *testing.T) {
	p := newPuppet(t)
	s, _ := run(t)
	want(t, s, p.session("a"))
	p.establish(t)
	awaitUp(t, s, "a")
	p.send(cease(ceaseShutdown, "new firmware").message())
	await(t, "words", func() bool { return strings.Contains(state(s, "a").Err, `administrative shutdown: "new firmware"`) })
	p.establish(t)
	awaitUp(t, s, "a")
	if st := state(s, "a"); st.Flaps != 1 || st.Err != "" || st.PeerASN != 65001 || st.RouterID != ip("192.0.2.1") {
		t.Errorf("state %+v", st)
	}
}

// Restart State is said once, Forwarding State always (RFC 4724 §3).
func TestRestartIsSaidOnce(t *testing.T) {
	p := newPuppet(t)
	s, stop := run(t)
	w := p.session("a")
	w.GracefulRestart = 30 * time.Second
	want(t, s, w)
	for _, restart := range []byte{0x80, 0} {
		m := p.establish(t, capGraceful)
		for code, value := range capabilities(m) {
			if code == capRestart && (value[0] != restart || value[1] != 30 || value[5] != 0x80 || value[9] != 0x80) {
				t.Errorf("graceful restart %x, want flags %x", value, restart)
			}
		}
		awaitUp(t, s, "a")
		p.look(func() { p.conn.Close() })
	}
	p.establish(t, capGraceful)
	awaitUp(t, s, "a")
	stop() // without a word
	await(t, "the end", func() (gone bool) { p.look(func() { gone = p.gone }); return gone })
	p.look(func() {
		if p.last != nil {
			t.Errorf("the router was told %s", parseNotification(p.last))
		}
	})
}

// A router hears why a session ends.
func TestRouterHearsWhy(t *testing.T) {
	tests := []struct {
		name string
		end  func(s *Speaker, w speaker.Session, stop func())
		want notification
	}{
		{"removed", func(s *Speaker, _ speaker.Session, _ func()) { _ = s.Sync(context.Background(), speaker.Routing{}) }, cease(ceaseDeconfigured, "")},
		{"changed", func(s *Speaker, w speaker.Session, _ func()) {
			w.HoldTime = 30 * time.Second
			_ = s.Sync(context.Background(), speaker.Routing{Sessions: []speaker.Session{w}})
		}, cease(ceaseChanged, "")},
		{"lost by BFD", func(s *Speaker, _ speaker.Session, _ func()) { s.Down("a") }, cease(ceaseBFD, "")},
		{"stopped", func(_ *Speaker, _ speaker.Session, stop func()) { stop() }, cease(ceaseShutdown, "Herald is stopped on this node")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPuppet(t)
			s, stop := run(t)
			w := p.session("a")
			want(t, s, w)
			p.establish(t)
			awaitUp(t, s, "a")
			tt.end(s, w, stop)
			var last message
			await(t, "a NOTIFICATION", func() bool { p.look(func() { last = p.last }); return last != nil })
			if !bytes.Equal(last, tt.want.message()) {
				t.Errorf("the router hears %s, want %s", parseNotification(last), tt.want)
			}
		})
	}
}

// A router that is broken, or hostile, harms itself alone.
func TestMalformedMessages(t *testing.T) {
	raw := func(kind byte, body ...byte) message { return newMessage(kind, body) }
	lies := raw(typeOpen, 4, 0xfd, 0xe9, 0, 9, 192, 0, 2, 1, 255, 2, 200, 1, 250)
	half := newMessage(typeUpdate, make([]byte, 100))[:50]
	before := []message{
		lies, raw(typeOpen), raw(typeOpen, 4, 0xfd), raw(typeOpen, 3, 0xfd, 0xe9, 0, 9, 192, 0, 2, 1, 0),
		raw(typeOpen, 4, 0xfd, 0xe9, 0, 9, 0, 0, 0, 0, 0), raw(typeUpdate, 1, 2, 3), raw(typeKeepalive), raw(typeKeepalive, 1, 2),
		raw(typeNotification), raw(typeNotification, 6), raw(typeRefresh), raw(9, 1), raw(0), half,
		message("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n"), {},
	}
	for code := range 256 { // a capability of each code, with a length that does not fit it
		before = append(before, openMessage(65001, 9, ip("192.0.2.1"), []byte{byte(code), 3, 0, 1, 0xff}, capV4))
	}
	after := []message{
		raw(typeUpdate), raw(typeUpdate, 0xff, 0xff), raw(typeUpdate, 0, 0, 0, 4, 0x40, 1, 200, 9),
		raw(typeUpdate, 0, 0, 0, 0, 33, 1, 2, 3, 4, 5), raw(typeRefresh), raw(typeRefresh, 0, 9, 0, 9), raw(typeRefresh, 0, 1, 0, 1),
		raw(typeOpen), raw(200), raw(typeNotification, 99), half,
	}
	good := newPuppet(t)
	s, _ := run(t)
	v := good.session("good")
	v.Routes = []speaker.Route{{Prefix: prefix("203.0.113.1/32")}}
	bad := newPuppet(t)
	w := bad.session("bad")
	w.ConnectRetry = time.Millisecond
	want(t, s, v, w)
	good.establish(t)
	awaitUp(t, s, "good")
	since := state(s, "good").Since
	for _, m := range before {
		bad.accept(t)
		bad.send(m, m)
		bad.conn.Close()
	}
	for _, m := range after {
		bad.establish(t)
		await(t, "the session", func() bool { return state(s, "bad").Up || state(s, "bad").State == "idle" })
		bad.send(m, m)
		bad.look(func() { bad.conn.Close() })
	}
	bad.establish(t)
	awaitUp(t, s, "bad")
	if st := state(s, "good"); !st.Up || st.Since != since || st.Flaps != 0 {
		t.Errorf("another session is %+v", st)
	}
}

// Offers are counted, and their UPDATEs keep the session alive.
func TestOffersAreCounted(t *testing.T) {
	p := newPuppet(t)
	p.alive = false
	s, _ := run(t)
	w := p.session("a")
	w.HoldTime, w.Keepalive = 3*time.Second, time.Second
	want(t, s, w)
	p.establish(t)
	awaitUp(t, s, "a")
	update := newMessage(typeUpdate, []byte{0, 0, 0, 0}, []byte{32, 10, 0, 0, 1, 32, 10, 0, 0, 2})
	for range 10 { // five seconds without a KEEPALIVE
		p.send(update)
		time.Sleep(500 * time.Millisecond)
	}
	if st := state(s, "a"); !st.Up || st.Offered != 20 {
		t.Errorf("state %+v, want it up with 20 offers", st)
	}
	p.send(newMessage(typeUpdate, []byte{0, 5, 32, 10, 0, 0, 1, 0, 0}))
	await(t, "a withdrawal", func() bool { return state(s, "a").Offered == 19 })
}

// Without a hold time nobody sends keepalives, and the session stays.
func TestNoKeepalives(t *testing.T) {
	p := newPuppet(t)
	p.alive = false
	s, _ := run(t)
	w := p.session("a")
	w.HoldTime, w.Keepalive = 0, 0
	want(t, s, w)
	if m := p.establish(t); binary.BigEndian.Uint16(m.body()[3:]) != 0 {
		t.Errorf("our OPEN has a hold time: %x", m)
	}
	awaitUp(t, s, "a")
	w.Routes = []speaker.Route{{Prefix: prefix("203.0.113.1/32")}}
	want(t, s, w)
	await(t, "the route", func() (ok bool) { p.look(func() { ok = len(p.rib) == 1 }); return ok })
}

// Sync and States go on while a router does not answer, or does not read.
func TestSlowRouterHoldsUpNobody(t *testing.T) {
	p := newPuppet(t)
	s, stop := run(t)
	w := p.session("a")
	want(t, s, w)
	p.accept(t) // and says nothing
	began := time.Now()
	w.Routes = []speaker.Route{{Prefix: prefix("203.0.113.1/32")}}
	want(t, s, w)
	_ = s.States()
	stop()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestRunsOnce(t *testing.T) {
	s, stop := run(t)
	await(t, "the run", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.run != nil })
	if err := s.Run(t.Context()); err == nil {
		t.Error("it runs twice")
	}
	stop()
	if err := s.Sync(t.Context(), speaker.Routing{Sessions: []speaker.Session{base("a", "192.0.2.1")}}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Nothing of a connection is left when it is over.
func TestGoroutinesEnd(t *testing.T) {
	before := runtime.NumGoroutine()
	p := newPuppet(t)
	s, stop := run(t)
	w := p.session("a")
	w.ConnectRetry = time.Millisecond
	want(t, s, w)
	for range 20 {
		p.establish(t)
		awaitUp(t, s, "a")
		p.look(func() { p.conn.Close() })
		await(t, "the end", func() bool { return !state(s, "a").Up })
		p.accept(t)
		p.conn.Close()
	}
	stop()
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}
