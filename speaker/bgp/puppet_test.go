package bgp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// A puppet is a router by hand, at a port of the loopback.
type puppet struct {
	listener net.Listener
	conn     net.Conn
	alive    bool // whether it sends keepalives

	mu      sync.Mutex
	rib     map[netip.Prefix]string
	heard   map[family]int // announcements
	updates int            // messages
	last    message        // NOTIFICATION
	gone    bool
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

// deafen has it take next to nothing that it does not read. It comes before
// connections: a window that shrinks is another matter.
func (p *puppet) deafen(t testing.TB) {
	t.Helper()
	raw, err := p.listener.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) })
	}
	if err != nil {
		t.Fatal(err)
	}
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
	p.conn, p.rib, p.heard, p.updates, p.last, p.gone = c, map[netip.Prefix]string{}, map[family]int{}, 0, nil, false
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
	p.send(openMessage(65001, 90, ip("192.0.2.1"), slices.Concat(append(capabilities, capV4, capV6)...)), newMessage(typeKeepalive))
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
	p.updates++
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
	p.heard[ipv4] += len(u.NLRI)
	for _, a := range u.PathAttributes {
		if a, ok := a.(*wire.PathAttributeMpReachNLRI); ok {
			for _, n := range a.Value {
				p.rib[prefix(n.String())] = strings.Join(said, " ")
			}
			p.heard[family(a.AFI)] += len(a.Value)
		}
	}
}

// heardOf returns how many prefixes of a family were announced to it so far.
func (p *puppet) heardOf(f family) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.heard[f]
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

// run runs a Speaker until the test ends, or the function that it returns is called.
func run(t testing.TB) (*Speaker, func()) {
	t.Helper()
	log := &nettest.Buffer{}
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
	nettest.Await(t, name+" to be up", func() bool { return state(s, name).Up })
}
