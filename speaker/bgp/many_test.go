package bgp

import (
	"fmt"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// unhurried gives a session the time that much to tell takes on a busy machine.
func unhurried(w *speaker.Session) { w.HoldTime, w.Keepalive = 90*time.Second, 30*time.Second }

// While one router is told much at once, another is told its own, and a third
// session comes up: nobody waits for it.
func TestManyChangesHoldUpNobody(t *testing.T) {
	t.Parallel()
	const n = 5000
	busy, other, fresh := newPuppet(t), newPuppet(t), newPuppet(t)
	s, _ := run(t)
	a, b, c := busy.session("busy"), other.session("other"), fresh.session("fresh")
	unhurried(&a)
	want(t, s, a, b)
	busy.establish(t)
	other.establish(t)
	awaitUp(t, s, "busy")
	awaitUp(t, s, "other")
	a.Routes = some(n)
	first := make(chan error, 1)
	go func() { first <- s.Sync(t.Context(), speaker.Routing{Sessions: []speaker.Session{a, b}}) }()
	nettest.Await(t, "the first of many", func() bool { return busy.heardOf(ipv4) > 0 })
	b.Routes = some(1)
	second := make(chan error, 1)
	go func() { second <- s.Sync(t.Context(), speaker.Routing{Sessions: []speaker.Session{a, b, c}}) }()
	fresh.establish(t)
	awaitUp(t, s, "fresh")
	nettest.Await(t, "the other's route", func() bool { return other.heardOf(ipv4) == 1 })
	if busy.heardOf(ipv6) == n {
		t.Errorf("the others had to wait until all %d routes were told", n)
	}
	for _, done := range []chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	nettest.Await(t, "all of many", func() bool { return busy.heardOf(ipv4) == n && busy.heardOf(ipv6) == n })
}

// A session that ends is not told the rest first.
func TestManyChangesDoNotOutliveTheConnection(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Speaker, *puppet){
		"lost by BFD":          func(s *Speaker, _ *puppet) { s.Down("a") },
		"closed by the router": func(_ *Speaker, p *puppet) { p.look(func() { p.conn.Close() }) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPuppet(t)
			s, _ := run(t)
			w := p.session("a")
			unhurried(&w)
			want(t, s, w)
			p.establish(t)
			awaitUp(t, s, "a")
			w.Routes = some(5000)
			done := make(chan error, 1)
			go func() { done <- s.Sync(t.Context(), speaker.Routing{Sessions: []speaker.Session{w}}) }()
			nettest.Await(t, "the first of many", func() bool { return p.heardOf(ipv4) > 0 })
			end(s, p)
			nettest.Await(t, "the end", func() bool { return state(s, "a").Flaps == 1 })
			if n := p.heardOf(ipv6); n == 5000 {
				t.Error("all was told before")
			}
			if err := <-done; err != nil {
				t.Errorf("Sync: %v", err)
			}
		})
	}
}

// What a router hears is packed: it has not as many messages to read as there
// are routes, nor as many for IPv6.
func TestManyRoutesArePacked(t *testing.T) {
	t.Parallel()
	const n = 2000
	p := newPuppet(t)
	s, _ := run(t)
	w := p.session("a")
	unhurried(&w)
	w.Routes = some(n)
	want(t, s, w)
	p.establish(t)
	awaitUp(t, s, "a")
	nettest.Await(t, fmt.Sprintf("%d routes", 2*n), func() (same bool) {
		p.look(func() { same = len(p.rib) == 2*n })
		return same
	})
	p.look(func() {
		if p.updates > n/2 {
			t.Errorf("%d UPDATEs with %d routes", p.updates, 2*n)
		}
	})
	w.Routes = nil
	want(t, s, w)
	nettest.Await(t, "no routes", func() (same bool) {
		p.look(func() { same = len(p.rib) == 0 })
		return same
	})
}
