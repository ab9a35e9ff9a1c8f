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
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// Whatever Sync was told before, and has refused, the router knows what it was told
// last.
func TestRouterKnowsTheLast(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	p, q := newPuppet(t), newPuppet(t)
	s, _ := run(t)
	for round := range 60 {
		w, v := p.session("a"), q.session("b")
		w.Routes, v.Routes = randomRoutes(rnd), randomRoutes(rnd)
		if round%3 == 1 {
			v.Routes = w.Routes // in common
		}
		if round%4 == 1 {
			wrong := w
			wrong.Routes = append(randomRoutes(rnd), speaker.Route{})
			want(t, s, wrong, v)
			if said := state(s, "a").Err; !strings.HasPrefix(said, "invalid Prefix is no prefix") {
				t.Fatalf("of no prefix it says %q", said)
			}
		}
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
			nettest.Await(t, fmt.Sprintf("round %d", round), func() bool {
				each.look(func() { same = maps.Equal(each.rib, saidOf(each.routes)) })
				return same
			})
		}
		if n := state(s, "a").Sent; n != len(w.Routes) {
			t.Fatalf("Sent = %d, want %d", n, len(w.Routes))
		}
	}
}

// A session that cannot be changed as it is wanted stays up as it was, and says so, but
// what it tells are the routes that are wanted now: an address goes with who serves it.
func TestSettingsThatAreRefusedHoldUpNoRoutes(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, _ := run(t)
	w := p.session("a")
	w.Routes = routes("1/32 2/32")
	want(t, s, w)
	p.establish(t)
	awaitUp(t, s, "a")
	before := state(s, "a")
	knows := func(routes []speaker.Route) {
		t.Helper()
		nettest.Await(t, fmt.Sprint(routes), func() (same bool) {
			p.look(func() { same = maps.Equal(p.rib, saidOf(routes)) })
			return same
		})
	}
	knows(w.Routes)
	w.Source, w.Routes = ip("2001:db8::1"), routes("1/32")
	want(t, s, w)
	knows(w.Routes)
	st := state(s, "a")
	if !st.Up || !strings.Contains(st.Err, "spec.sourceAddress 2001:db8::1 is of another family than the router's: the session goes on as it was before") {
		t.Errorf("it is %+v", st)
	}
	w.Routes = append(w.Routes, speaker.Route{}) // and then those are wrong, too
	want(t, s, w)
	w.Source, w.Routes = netip.Addr{}, routes("2/32")
	want(t, s, w)
	knows(w.Routes)
	if st = state(s, "a"); st.Err != "" || st.Since != before.Since {
		t.Errorf("mended, it is %+v, was %+v", st, before)
	}
}

// What the router has said of a shutdown is in the state, and it is tried again.
func TestNotificationIsShown(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, _ := run(t)
	want(t, s, p.session("a"))
	p.establish(t)
	awaitUp(t, s, "a")
	p.send(cease(ceaseShutdown, "new firmware").message())
	nettest.Await(t, "words", func() bool { return strings.Contains(state(s, "a").Err, `administrative shutdown: "new firmware"`) })
	p.establish(t)
	awaitUp(t, s, "a")
	if st := state(s, "a"); st.Flaps != 1 || st.Err != "" || st.PeerASN != 65001 || st.RouterID != ip("192.0.2.1") {
		t.Errorf("state %+v", st)
	}
}

// Restart State is said once, Forwarding State always (RFC 4724 §3).
func TestRestartIsSaidOnce(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, stop := run(t)
	w := p.session("a")
	w.GracefulRestart = 30 * time.Second
	want(t, s, w)
	for _, restart := range []byte{0x80, 0} {
		m := p.establish(t, capGraceful)
		_ = eachCapability(m, func(code byte, value []byte) {
			if code == capRestart && (value[0] != restart || value[1] != 30 || value[5] != 0x80 || value[9] != 0x80) {
				t.Errorf("graceful restart %x, want flags %x", value, restart)
			}
		})
		awaitUp(t, s, "a")
		p.look(func() { p.conn.Close() })
	}
	p.establish(t, capGraceful)
	awaitUp(t, s, "a")
	stop() // without a word
	nettest.Await(t, "the end", func() (gone bool) { p.look(func() { gone = p.gone }); return gone })
	p.look(func() {
		if p.last != nil {
			t.Errorf("the router was told %s", parseNotification(p.last))
		}
	})
}

// A router hears why a session ends.
func TestRouterHearsWhy(t *testing.T) {
	t.Parallel()
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
			nettest.Await(t, "a NOTIFICATION", func() bool { p.look(func() { last = p.last }); return last != nil })
			if !bytes.Equal(last, tt.want.message()) {
				t.Errorf("the router hears %s, want %s", parseNotification(last), tt.want)
			}
		})
	}
}

// Offers are counted, and their UPDATEs keep the session alive.
func TestOffersAreCounted(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	p.alive = false
	s, _ := run(t)
	w := p.session("a")
	w.HoldTime, w.Keepalive = 6*time.Second, 2*time.Second // the test may be held up for five
	want(t, s, w)
	p.establish(t)
	awaitUp(t, s, "a")
	update := newMessage(typeUpdate, []byte{0, 0, 0, 0}, []byte{32, 10, 0, 0, 1, 32, 10, 0, 0, 2})
	for range 10 { // ten seconds without a KEEPALIVE
		p.send(update)
		time.Sleep(time.Second)
	}
	nettest.Await(t, "20 offers", func() bool { return state(s, "a").Offered == 20 })
	if st := state(s, "a"); !st.Up || st.Flaps != 0 {
		t.Errorf("state %+v, want it up since the start", st)
	}
	p.send(newMessage(typeUpdate, []byte{0, 5, 32, 10, 0, 0, 1, 0, 0}))
	nettest.Await(t, "a withdrawal", func() bool { return state(s, "a").Offered == 19 })
}

// Without a hold time nobody sends keepalives, and the session stays.
func TestNoKeepalives(t *testing.T) {
	t.Parallel()
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
	nettest.Await(t, "the route", func() (ok bool) { p.look(func() { ok = len(p.rib) == 1 }); return ok })
}

// Sync and States go on while a router does not answer, or does not read.
func TestSlowRouterHoldsUpNobody(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, stop := run(t)
	w := p.session("a")
	w.HoldTime = 90 * time.Second // so long it would be waited for
	want(t, s, w)
	p.accept(t) // and says nothing
	began := time.Now()
	w.Routes = []speaker.Route{{Prefix: prefix("203.0.113.1/32")}}
	want(t, s, w)
	_ = s.States()
	stop()
	if took := time.Since(began); took > w.HoldTime/3 {
		t.Errorf("it took %s", took)
	}
}

// Sync waits for no session that has no router to tell: what it is at may take long.
// Of what such a one is to be like only the last counts.
func TestSyncWaitsForNobodyWhoIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, w := New(Options{}), base("a", "192.0.2.1")
		busy := newSession(w, s.log, s.changed) // runs nowhere, so it takes no order
		s.run, s.sessions["a"] = t.Context(), &kept{busy, func(error) {}}
		for n := range 3 {
			w.Routes = some(n)
			want(t, s, w)
		}
		if o := <-busy.orders; len(o.Routes) != len(some(2)) {
			t.Errorf("it is to tell %d routes, want %d", len(o.Routes), len(some(2)))
		}
		want(t, s) // nor for its end
	})
}

// Who gives an order hears what has come of it, or of one that came after it; or
// that there is no router any more. Then it is for the next one.
func TestOrdersAreAnswered(t *testing.T) {
	s, failed := newSession(base("a", "192.0.2.1"), slog.New(slog.DiscardHandler), func() {}), errors.New("failed")
	s.listen()
	all := []<-chan error{s.order(wanted{}), s.order(wanted{})}
	o := <-s.orders
	all = append(all, s.order(wanted{}))
	o.answer(failed)
	s.deafen()
	all = append(all, s.order(wanted{Session: speaker.Session{Name: "last"}}))
	for i, want := range []error{failed, failed, nil, nil} {
		select {
		case err := <-all[i]:
			if err != want {
				t.Errorf("order %d: %v, want %v", i+1, err, want)
			}
		default:
			t.Errorf("order %d has no answer", i+1)
		}
	}
	if o := <-s.orders; o.Name != "last" || len(o.done) != 0 {
		t.Errorf("the order is %+v", o)
	}
}

// What is wanted while a connection ends, by a router that stays, is told in the next.
func TestOrdersOfTheEndAreForTheNext(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, _ := run(t)
	w := p.session("a")
	w.ConnectRetry = time.Millisecond
	other := bystander(t, s, w)
	for n := range 5 {
		p.accept(t)
		p.send(openMessage(65001, 9, ip("192.0.2.1"), capV4, capV6), newMessage(typeKeepalive))
		awaitUp(t, s, "a")
		p.send(raw(99))
		if heard := p.hears(t); heard.code != codeHeader {
			t.Errorf("the router hears %s", heard)
		}
		w.Routes = some(n + 1)
		want(t, s, w, other)
		p.conn.Close()
		p.establish(t)
		awaitUp(t, s, "a")
		nettest.Await(t, "the routes", func() (same bool) {
			p.look(func() { same = equal(p.rib, saidOf(w.Routes)) && len(p.rib) == len(w.Routes) })
			return same
		})
		p.look(func() { p.conn.Close() })
		nettest.Await(t, "the end", func() bool { return !state(s, "a").Up })
	}
}

// A route with more attributes than a message holds is not told, and not counted as
// told. It is said, and holds up no other.
func TestRoutesThatAreTooLong(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, _ := run(t)
	short := routes("1/32 2/32")
	long := slices.Clone(short)
	long[0].Large = large(400)
	w := p.session("a")
	for i, step := range []struct {
		routes []speaker.Route
		knows  []speaker.Route
		err    string
	}{
		{long, short[1:], "203.0.113.1/32 is not told"}, // before it is up
		{long, short[1:], "203.0.113.1/32 is not told"},
		{append(routes("0/32"), long...), append(routes("0/32"), short[1]), "203.0.113.1/32 is not told"},
		{short, short, ""},
		{long, short, "203.0.113.1/32 is not told"}, // it is known as it was
		{long[1:], short[1:], ""},
		{[]speaker.Route{long[0], {Prefix: short[1].Prefix, Large: long[0].Large}}, short[1:], "203.0.113.1/32 and 1 others"},
	} {
		w.Routes = step.routes
		want(t, s, w)
		if i == 0 {
			p.establish(t)
			awaitUp(t, s, "a")
		}
		nettest.Await(t, fmt.Sprintf("step %d", i+1), func() (same bool) {
			p.look(func() { same = maps.Equal(p.rib, saidOf(step.knows)) })
			return same
		})
		if st := state(s, "a"); st.Sent != len(step.knows) || !strings.HasPrefix(st.Err, step.err) || (st.Err == "") != (step.err == "") {
			t.Errorf("step %d: %d routes, %q", i+1, st.Sent, st.Err)
		}
	}
}

// How many routes are told, and which is not, is said in one step: there is no moment in
// which all seems well, or one is missed that is told.
func TestWhatIsNotToldIsSaidWithHowManyAre(t *testing.T) {
	t.Parallel()
	p := newPuppet(t)
	s, _ := run(t)
	w := p.session("a")
	var mu sync.Mutex
	var seen []string
	s.changed = func() {
		if st := state(s, "a"); st.Up {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprintf("%d %t", st.Sent, st.Err == ""))
		}
	}
	long := routes("0/32 1/32")
	long[1].Large = large(400)
	w.Routes = routes("2/32")
	want(t, s, w)
	p.establish(t)
	awaitUp(t, s, "a")
	w.Routes = append(slices.Clone(long), w.Routes...) // one comes, and one that is too long
	want(t, s, w)
	w.Routes = routes("0/32 1/32 2/32")
	want(t, s, w)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"1 true", "2 false", "3 true"}; !slices.Equal(seen, want) {
		t.Errorf("there were %q, want %q", seen, want)
	}
}

// Up to the longest, what counts as told is told, over IPv6 and to internal routers, too.
func TestTheLongestRoutesAreTold(t *testing.T) {
	t.Parallel()
	for _, asn := range []uint32{65001, 65100} {
		p := newPuppet(t)
		s, _ := run(t)
		w := p.session("a")
		w.PeerASN, w.Routes = asn, some(40)
		for i := range w.Routes {
			w.Routes[i].MED, w.Routes[i].Large = number(7), large(310+i/2)
		}
		want(t, s, w)
		p.accept(t)
		p.send(openMessage(uint16(asn), 9, ip("192.0.2.1"), capV4, capV6), newMessage(typeKeepalive))
		go p.listen(t, p.conn)
		awaitUp(t, s, "a")
		told := state(s, "a").Sent
		if told == 0 || told == len(w.Routes) {
			t.Fatalf("%d of %d routes are told: none is the longest", told, len(w.Routes))
		}
		nettest.Await(t, "what counts as told", func() (same bool) {
			p.look(func() { same = len(p.rib) == told })
			return same
		})
	}
}

func large(n int) (all [][3]uint32) {
	for i := range uint32(n) {
		all = append(all, [3]uint32{65000, i, i})
	}
	return all
}

func TestRunsOnce(t *testing.T) {
	s, stop := run(t)
	nettest.Await(t, "the run", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.run != nil })
	if err := s.Run(t.Context()); err == nil {
		t.Error("it runs twice")
	}
	stop()
	if err := s.Sync(t.Context(), speaker.Routing{Sessions: []speaker.Session{base("a", "192.0.2.1")}}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
