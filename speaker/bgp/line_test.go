package bgp

import (
	"net"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// A line is a relay with its two ends, the router's and GoBGP's, in our hands.
type line struct {
	*relay
	router, core *net.TCPConn
}

// newLine returns one that is up. Every event is let pass.
func newLine(t testing.TB, w speaker.Session) *line {
	t.Helper()
	router, ours := pair(t)
	core, inner := pair(t)
	l := &line{newRelay(w, false, ours, inner), router, core}
	l.start()
	t.Cleanup(func() { _ = l.close(errRemoved) })
	l.pumps.Go(func() {
		for l.life.Err() == nil {
			select {
			case <-l.events:
				select {
				case l.proceed <- struct{}{}:
				case <-l.life.Done():
				}
			case <-l.life.Done():
			}
		}
	})
	send(t, router, openMessage(65001, 90, ip("192.0.2.1"), capV4, capV6), newMessage(typeKeepalive))
	for _, kind := range []byte{typeOpen, typeKeepalive} {
		if m := next(t, core); m.kind() != kind {
			t.Fatalf("GoBGP gets type %d, want %d", m.kind(), kind)
		}
	}
	return l
}

// pair returns the ends of a connection over the loopback.
func pair(t testing.TB) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

func send(t testing.TB, c net.Conn, messages ...message) {
	t.Helper()
	for _, m := range messages {
		if _, err := c.Write(m); err != nil {
			t.Fatal(err)
		}
	}
}

// next returns the next message.
func next(t testing.TB, c net.Conn) message {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(nettest.Long))
	m, err := readMessage(c, make([]byte, maxMessage))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// silent fails the test if a message comes within a time.
func silent(t testing.TB, c net.Conn, d time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	if m, err := readMessage(c, make([]byte, maxMessage)); err == nil {
		t.Errorf("a message of type %d comes", m.kind())
	}
}
