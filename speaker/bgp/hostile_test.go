package bgp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// raw is a message with any body.
func raw(kind byte, body ...byte) message { return newMessage(kind, body) }

// bystander is another session of s, which is up. The test fails if anything
// that happens later moves it.
func bystander(t testing.TB, s *Speaker, others ...speaker.Session) speaker.Session {
	t.Helper()
	p := newPuppet(t)
	w := p.session("bystander")
	w.Routes = some(2)
	want(t, s, append(others, w)...)
	p.establish(t)
	awaitUp(t, s, w.Name)
	before := state(s, w.Name)
	t.Cleanup(func() {
		if after := state(s, w.Name); after != before {
			t.Errorf("a bystander is %+v, was %+v", after, before)
		}
	})
	return w
}

// hears reads up to a NOTIFICATION.
func (p *puppet) hears(t testing.TB) notification {
	t.Helper()
	for {
		if m := next(t, p.conn); m.kind() == typeNotification {
			return parseNotification(m)
		}
	}
}

// awaitErr waits until a session says something.
func awaitErr(t testing.TB, s *Speaker, name, words string) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("it says %q", state(s, name).Err)
		}
	}()
	nettest.Await(t, fmt.Sprintf("%q", words), func() bool { return strings.Contains(state(s, name).Err, words) })
}

// A router that introduces itself wrongly hears what is wrong with it, and so
// does who looks at the session.
func TestBadOpens(t *testing.T) {
	t.Parallel()
	id := ip("192.0.2.1")
	head := []byte{4, 0xfd, 0xe9, 0, 9, 192, 0, 2, 1}
	lies := func(rest ...byte) message { return newMessage(typeOpen, head, rest) }
	malformed := notification{code: codeOpen}
	tests := []struct {
		name string
		m    message
		want notification
		err  string
	}{
		{"cut off", raw(typeOpen, head[:8]...), notification{codeHeader, headerBadLength, []byte{0, 27}}, "a message of type 1 with 27 bytes"},
		{"an old version", raw(typeOpen, 3, 0xfd, 0xe9, 0, 9, 192, 0, 2, 1, 0), notification{codeOpen, openBadVersion, []byte{0, 4}}, "speaks version 3 of BGP"},
		{"another AS", openMessage(65009, 9, id), notification{code: codeOpen, subcode: openBadPeerAS}, "says it is AS 65009"},
		{"another AS in four bytes", openMessage(65001, 9, id, capAS), notification{code: codeOpen, subcode: openBadPeerAS}, "says it is AS 4200000001"},
		{"AS 0", openMessage(0, 9, id), notification{code: codeOpen, subcode: openBadPeerAS}, "AS 0, which nobody is"},
		{"AS 0 in four bytes", openMessage(65001, 9, id, []byte{65, 4, 0, 0, 0, 0}), notification{code: codeOpen, subcode: openBadPeerAS}, "AS 0, which nobody is"},
		{"a hold time of 1 s", openMessage(65001, 1, id), notification{code: codeOpen, subcode: openBadHold}, "a hold time of 1 s"},
		{"a hold time of 2 s", openMessage(65001, 2, id), notification{code: codeOpen, subcode: openBadHold}, "a hold time of 2 s"},
		{"no router ID", openMessage(65001, 9, ip("0.0.0.0")), notification{code: codeOpen, subcode: openBadID}, "router ID is 0.0.0.0"},
		{"parameters longer than the message", lies(200), malformed, errOpen.Error()},
		{"more than the parameters", lies(0, 1), malformed, errOpen.Error()},
		{"half a parameter", lies(1, 2), malformed, errOpen.Error()},
		{"a parameter longer than they are", lies(2, 2, 200), malformed, errOpen.Error()},
		{"half a capability", lies(3, 2, 1, 1), malformed, errOpen.Error()},
		{"a capability longer than its parameter", lies(4, 2, 2, 1, 4), malformed, errOpen.Error()},
		{"wide parameters longer than the message", lies(255, 255, 1, 0), malformed, errOpen.Error()},
		{"a wide parameter longer than they are", lies(255, 255, 0, 3, 2, 1, 0), malformed, errOpen.Error()},
		{"half a wide parameter", lies(255, 255, 0, 2, 2, 1), malformed, errOpen.Error()},
	}
	p := newPuppet(t)
	s, _ := run(t)
	w := p.session("bad")
	w.ConnectRetry = time.Millisecond
	bystander(t, s, w)
	for _, tt := range tests {
		p.accept(t)
		p.send(tt.m)
		if n := p.hears(t); n.code != tt.want.code || n.subcode != tt.want.subcode || !bytes.Equal(n.data, tt.want.data) {
			t.Errorf("%s: the router hears %s, data %x, want %s", tt.name, n, n.data, tt.want)
		}
		awaitErr(t, s, "bad", tt.err)
		p.conn.Close()
	}
	p.establish(t)
	awaitUp(t, s, "bad")
}

// Capabilities that nobody has heard of, or in which there is nonsense, are of no
// consequence.
func TestOddCapabilities(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, _ := run(t)
	w := p.session("odd")
	w.ConnectRetry = time.Millisecond
	bystander(t, s, w)
	for code := range 256 {
		if code == capASN || code == capMultiprotocol {
			continue // these say something
		}
		p.establish(t, []byte{byte(code), 3, 0, 1, 0xff}, []byte{byte(code), 0})
		awaitUp(t, s, "odd")
		p.look(func() { p.conn.Close() })
	}
}

// A router may be another one the next time.
func TestRouterBecomesAnother(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, _ := run(t)
	w := p.session("a")
	w.PeerASN, w.Relation, w.ConnectRetry, w.Routes = 0, speaker.External, time.Millisecond, some(1)
	bystander(t, s, w)
	for i := range uint16(3) {
		id := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		p.accept(t)
		p.send(openMessage(65001+i, 9, id, capV4, capV6), newMessage(typeKeepalive))
		go p.listen(t, p.conn)
		awaitUp(t, s, "a")
		if st := state(s, "a"); st.PeerASN != uint32(65001+i) || st.RouterID != id {
			t.Errorf("the router is AS %d, ID %s; want %d, %s", st.PeerASN, st.RouterID, 65001+i, id)
		}
		nettest.Await(t, "the routes", func() bool { return p.heardOf(ipv4) == 1 && p.heardOf(ipv6) == 1 })
		p.look(func() { p.conn.Close() })
	}
}

// UPDATEs that make no sense do not end a session, and GoBGP does not hear them.
func TestMalformedUpdates(t *testing.T) {
	t.Parallel()
	w := base("a", "127.0.0.1")
	l := newLine(t, w)
	rnd := rand.New(rand.NewPCG(7, 8))
	bad := []message{
		raw(typeUpdate), raw(typeUpdate, 1), raw(typeUpdate, 0xff, 0xff), raw(typeUpdate, 0, 0, 0xff, 0xff, 1), raw(typeUpdate, 0, 0, 0, 4, 0x40, 1, 200, 9),
		raw(typeUpdate, 0, 0, 0, 0, 33, 1, 2, 3, 4, 5), raw(typeUpdate, 0, 0, 0, 3, 0x80, 14, 0), raw(typeUpdate, 0, 0, 0, 5, 0x80, 15, 2, 0, 1),
		newMessage(typeUpdate, bytes.Repeat([]byte{0xff}, maxMessage-headerLen)),
	}
	for range 2000 {
		body := make([]byte, rnd.IntN(60))
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		bad = append(bad, newMessage(typeUpdate, body))
	}
	send(t, l.router, bad...)
	send(t, l.router, refresh(ipv4)) // and then something sensible
	for m := next(t, l.core); !bytes.Equal(m, refresh(ipv4)); m = next(t, l.core) {
		if !bytes.Equal(m, newMessage(typeKeepalive)) {
			t.Fatalf("GoBGP hears %x", m)
		}
	}
	if l.life.Err() != nil {
		t.Error("the session has ended")
	}
}

// The ways in which a router can end a connection, and what is said of it then,
// by whether it had introduced itself. Where it has not read all, the kernel resets
// what it closes.
var ways = []struct {
	name          string
	end           func(p *puppet)
	before, after string
}{
	{"closes", func(p *puppet) { p.conn.Close() }, "may not know this node", "it was stopped, or restarts"},
	{"resets", func(p *puppet) { _ = p.conn.(*net.TCPConn).SetLinger(0); p.conn.Close() }, "may not know this node", "it was stopped, or restarts"},
	{"notifies", func(p *puppet) { p.send(cease(ceaseReset, "upgrade").message()); p.conn.Close() }, `administrative reset: "upgrade"`, `administrative reset: "upgrade"`},
	{"notifies, and stays", func(p *puppet) { p.send(cease(ceaseRejected, "").message()) }, "connection rejected", "connection rejected"},
	{"notifies of nothing", func(p *puppet) { p.send(raw(typeNotification)) }, "code 0, subcode 0", "code 0, subcode 0"},
	{"closes amid a message", func(p *puppet) { p.send(newMessage(typeUpdate, make([]byte, 100))[:50]); p.conn.Close() }, "stopped, or restarts", "stopped, or restarts"},
	{"speaks another protocol", func(p *puppet) { p.send(message("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n\r\n")) }, "is not BGP", "is not BGP"},
	{"sends too much at once", func(p *puppet) { p.send(newMessage(typeUpdate, make([]byte, 1<<16-1-headerLen))) }, "longer or shorter than BGP allows", "longer or shorter than BGP allows"},
	{"sends a header that is too short", func(p *puppet) { p.send(slices.Concat(raw(typeUpdate)[:16], []byte{0, 18, 2})) }, "longer or shorter than BGP allows", "longer or shorter than BGP allows"},
	{"sends a type that there is not", func(p *puppet) { p.send(raw(99)) }, "type 99 out of turn", "type 99 out of turn"},
	{"sends an UPDATE too early, or an OPEN too late", func(p *puppet) { p.send(raw(typeUpdate, 0, 0, 0, 0), openMessage(65001, 9, ip("192.0.2.1"))) }, "type 2 out of turn", "out of turn"},
	{"sends a KEEPALIVE with something in it", func(p *puppet) { p.send(raw(typeKeepalive, 1)) }, "type 4 with 20 bytes", "type 4 with 20 bytes"},
}

// However a connection ends, and when, it is said in words, and the next one is
// as good as the first.
func TestConnectionsEnd(t *testing.T) {
	t.Parallel()
	stages := []struct {
		name       string
		reach      func(t *testing.T, s *Speaker, p *puppet)
		introduced bool
	}{
		{"as it is taken", func(t *testing.T, _ *Speaker, p *puppet) {
			c, err := p.listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			p.look(func() { p.conn = c })
		}, false},
		{"in OpenSent", func(t *testing.T, _ *Speaker, p *puppet) { p.accept(t) }, false},
		{"in OpenConfirm", func(t *testing.T, s *Speaker, p *puppet) {
			p.accept(t)
			p.send(openMessage(65001, 9, ip("192.0.2.1"), capV4, capV6))
			nettest.Await(t, "OpenConfirm", func() bool { return state(s, "a").State == "openconfirm" })
		}, true},
		{"in Established", func(t *testing.T, s *Speaker, p *puppet) {
			p.accept(t)
			p.send(openMessage(65001, 9, ip("192.0.2.1"), capV4, capV6), newMessage(typeKeepalive))
			awaitUp(t, s, "a")
		}, true},
	}
	for _, stage := range stages {
		t.Run(stage.name, func(t *testing.T) {
			t.Parallel()
			p := newPuppet(t)
			s, _ := run(t)
			w := p.session("a")
			w.ConnectRetry, w.Routes = time.Millisecond, some(1)
			bystander(t, s, w)
			for _, way := range ways {
				stage.reach(t, s, p)
				way.end(p)
				words := way.before
				if stage.introduced {
					words = way.after
				}
				t.Logf("it %s", way.name)
				awaitErr(t, s, "a", words)
				p.conn.Close()
				p.establish(t)
				awaitUp(t, s, "a")
				nettest.Await(t, "the routes", func() bool { return p.heardOf(ipv4) == 1 && p.heardOf(ipv6) == 1 })
				p.look(func() { p.conn.Close() })
				nettest.Await(t, "the end", func() bool { return !state(s, "a").Up })
			}
		})
	}
}

// A router that falls silent, or amid a message, is given up after the hold time,
// whichever is shorter.
func TestSilence(t *testing.T) {
	t.Parallel()
	open := openMessage(65001, 9, ip("192.0.2.1"), capV4, capV6)
	tests := []struct {
		name string
		ours time.Duration
		say  []message
		err  string
	}{
		{"from the start", 3 * time.Second, nil, "has said nothing for 3s"},
		{"amid its OPEN", 3 * time.Second, []message{open[:25]}, "has said nothing for 3s"},
		{"after its OPEN", 3 * time.Second, []message{open}, "silent for 3s"},
		{"once it is up", 3 * time.Second, []message{open, newMessage(typeKeepalive)}, "silent for 3s"},
		{"amid an UPDATE", 3 * time.Second, []message{open, newMessage(typeKeepalive), newMessage(typeUpdate, make([]byte, 100))[:50]}, "silent for 3s"},
		{"by its own hold time", 90 * time.Second, []message{openMessage(65001, 3, ip("192.0.2.1")), newMessage(typeKeepalive)}, "silent for 3s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPuppet(t)
			s, _ := run(t)
			w := p.session("a")
			w.HoldTime, w.Keepalive = tt.ours, time.Second
			want(t, s, w)
			p.accept(t)
			p.send(tt.say...)
			if n := p.hears(t); n.code != codeHold {
				t.Errorf("the router hears %s", n)
			}
			awaitErr(t, s, "a", tt.err)
		})
	}
}

// A router that does not read holds up nobody, and is given up after the hold
// time.
func TestRouterThatDoesNotRead(t *testing.T) {
	t.Parallel()
	deaf, good := newPuppet(t), newPuppet(t)
	deaf.deafen(t)
	s, _ := run(t)
	w, v := deaf.session("deaf"), good.session("good")
	w.HoldTime, w.Keepalive = 3*time.Second, time.Second
	want(t, s, w, v)
	good.establish(t)
	deaf.accept(t)
	deaf.send(openMessage(65001, 9, ip("192.0.2.1"), capV4, capV6), newMessage(typeKeepalive))
	awaitUp(t, s, "deaf")
	awaitUp(t, s, "good")
	stop := make(chan struct{})
	alive := make(chan struct{})
	go func() {
		defer close(alive)
		for tick := time.NewTicker(500 * time.Millisecond); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				deaf.send(newMessage(typeKeepalive))
			}
		}
	}()
	defer func() { close(stop); <-alive }()
	long := make([][3]uint32, 60)
	for med := range uint32(8) { // 12 MB, more than the kernel takes
		if !state(s, "deaf").Up {
			break // on a slow machine: soon it says what becomes of the next connection
		}
		w.Routes, v.Routes = some(1000), some(3)
		for i := range w.Routes {
			for n := range long {
				long[n] = [3]uint32{uint32(i), med, uint32(n)}
			}
			w.Routes[i].Large = slices.Clone(long)
		}
		v.Routes[0].MED = number(med)
		want(t, s, w, v)
		nettest.Await(t, "the others' routes", func() (same bool) {
			good.look(func() { same = equal(good.rib, saidOf(v.Routes)) })
			return same
		})
	}
	awaitErr(t, s, "deaf", "has not read for 3s what it is told")
	if st := state(s, "good"); !st.Up || st.Flaps != 0 {
		t.Errorf("another session is %+v", st)
	}
}

// Once our last word is about to be said, nothing is begun that might wait for a
// router that does not read, for as long as it may be silent.
func TestLastWordWaitsForNoOther(t *testing.T) {
	l := newLine(t, base("a", "127.0.0.1"))
	send(t, l.core, openMessage(65100, 9, ip("192.0.2.10")), newMessage(typeKeepalive))
	for _, kind := range []byte{typeOpen, typeKeepalive} {
		if m := next(t, l.router); m.kind() != kind {
			t.Fatalf("the router gets type %d, want %d", m.kind(), kind)
		}
	}
	l.parting.Store(true) // as far as say has come, and no farther
	if err := l.pass(newMessage(typeUpdate, []byte{0, 0, 0, 0})); err != nil {
		t.Error(err)
	}
	l.say(cease(ceaseBFD, ""), errBFD)
	if m := next(t, l.router); m.kind() != typeNotification {
		t.Errorf("the router gets type %d before our last word", m.kind())
	}
}

func equal(a, b map[netip.Prefix]string) bool {
	for p, said := range a {
		if b[p] != said {
			return false
		}
	}
	return len(a) == len(b)
}
