//go:build netns

package bgp

import (
	"encoding/binary"
	"fmt"
	"runtime/debug"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
)

// A hostile router does what it can, for one that it shares a node with.
var hostile = []struct {
	name string
	do   func(t *testing.T, s *Speaker, p *puppet)
}{
	{"a million routes", func(t *testing.T, s *Speaker, p *puppet) {
		p.establish(t)
		awaitUp(t, s, "hostile")
		offers := millionOffers()
		debug.FreeOSMemory()
		before := rss(t)
		p.send(offers...)
		nettest.Await(t, "a million to be counted", func() bool { return state(s, "hostile").Offered == 1_000_000 })
		debug.FreeOSMemory()
		after := rss(t)
		t.Logf("a million routes: RSS %d kB, before %d kB", after, before)
		if after > before+8<<10 {
			t.Errorf("a million routes take %d kB", after-before)
		}
	}},
	{"ROUTE-REFRESH over and over", func(t *testing.T, s *Speaker, p *puppet) {
		p.establish(t)
		awaitUp(t, s, "hostile")
		for range 20_000 {
			p.send(refresh(ipv4), refresh(ipv6))
		}
	}},
	{"hit and run", func(t *testing.T, s *Speaker, p *puppet) {
		for range 20 {
			p.establish(t)
			p.send(newMessage(typeUpdate, make([]byte, 100))[:50])
			p.look(func() { p.conn.Close() })
		}
	}},
	{"garbage", func(t *testing.T, _ *Speaker, p *puppet) {
		for range 50 {
			p.accept(t)
			p.send(message(make([]byte, 100_000)))
			p.conn.Close()
		}
	}},
	{"nothing is read", func(t *testing.T, s *Speaker, p *puppet) {
		p.deafen(t)
		p.accept(t)
		p.send(openMessage(65001, 9, ip("192.0.2.1"), capV4, capV6), newMessage(typeKeepalive))
		awaitUp(t, s, "hostile")
	}},
	{"nothing is said", func(t *testing.T, _ *Speaker, p *puppet) { p.accept(t) }},
}

// One hostile router among four: these hear each change at once and once, and
// their sessions do not move.
func TestHostileRouterAmongOthers(t *testing.T) {
	routers, sessions := birds(t, 4)
	p := newPuppet(t)
	s, _ := run(t)
	bad := p.session("hostile")
	bad.ConnectRetry = time.Millisecond
	bad.HoldTime, bad.Keepalive = 90*time.Second, 30*time.Second // for a connection may wait until all others know their routes
	all := some(200)
	told := all[:10]
	tell := func() {
		t.Helper()
		bad.Routes = all
		for i := range sessions {
			sessions[i].Routes = told
		}
		want(t, s, append(sessions, bad)...)
		for i, r := range routers {
			awaitRoutes(t, r, sessions[i], expected(sessions[i], told, fmt.Sprintf("192.0.%d.10", 10+i), fmt.Sprintf("2001:db8:%d::10", 10+i)))
		}
	}
	tell()
	type seen struct{ updates, since int }
	look := func() (all []seen) {
		for _, r := range routers {
			u, up := r.updates(t)
			all = append(all, seen{u, up})
		}
		return all
	}
	before, states := look(), s.States()[1:] // but hostile's
	for i, h := range hostile {
		t.Run(h.name, func(t *testing.T) {
			h.do(t, s, p)
			told = all[:11+i]
			tell()
			p.look(func() { p.conn.Close() })
		})
	}
	for i, now := range look() {
		if now.since != before[i].since || now.updates != before[i].updates+len(hostile) {
			t.Errorf("router %d: %d updates, up since %d; before %d, %d", i, now.updates, now.since, before[i].updates, before[i].since)
		}
	}
	for i, st := range s.States()[1:] {
		if st.Sent = states[i].Sent; st != states[i] {
			t.Errorf("a session is %+v, was %+v", st, states[i])
		}
	}
}

// millionOffers are UPDATEs with a million prefixes.
func millionOffers() []message {
	const n, each = 1_000_000, 800
	var all []message
	for at := 0; at < n; {
		var nlri []byte
		for range min(each, n-at) {
			nlri = binary.BigEndian.AppendUint32(append(nlri, 32), uint32(10<<24+at))
			at++
		}
		all = append(all, updateMessage(nil, []byte{0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 192, 0, 2, 1}, nlri))
	}
	return all
}
