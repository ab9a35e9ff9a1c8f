package bgp

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// some returns n routes of each family.
func some(n int) []speaker.Route {
	var routes []speaker.Route
	for i := range n {
		routes = append(routes, speaker.Route{Prefix: prefix(fmt.Sprintf("198.18.%d.%d/32", i>>8, i&0xff))},
			speaker.Route{Prefix: prefix(fmt.Sprintf("2001:db8::%x/128", i))})
	}
	return routes
}

func TestRefreshPauseGrows(t *testing.T) {
	if few, many := refreshPause(1), refreshPause(10_000); few > 2*time.Second || many < 10*time.Second {
		t.Errorf("%s with one route, %s with 10,000", few, many)
	}
}

// A session that has much to tell is not given up while GoBGP is at it, however slowly.
func TestPatienceWithGoBGPGrows(t *testing.T) {
	if few, many := answerTimeout(1), answerTimeout(10_000); few > 15*time.Second || many < time.Minute {
		t.Errorf("%s with one route, %s with 10,000", few, many)
	}
}

// A router that asks over and over is answered twice: at once, and at the end of
// the pause. The last that it asks for is never lost.
func TestRefreshFloodIsMerged(t *testing.T) {
	t.Parallel()
	const n = 20
	p := newPuppet(t)
	s, _ := run(t)
	w := p.session("a")
	w.Routes = some(n)
	want(t, s, w)
	p.establish(t, []byte{2, 0}) // the capability
	all := func(times4, times6 int) {
		t.Helper()
		nettest.Await(t, fmt.Sprintf("%d and %d answers", times4, times6), func() bool {
			return p.heardOf(ipv4) >= times4*n && p.heardOf(ipv6) >= times6*n
		})
	}
	all(1, 1)
	began := time.Now()
	for range 500 {
		p.send(refresh(ipv4))
	}
	all(2, 1)
	p.look(func() { clear(p.rib) }) // what it asks for while it has to wait
	p.send(refresh(ipv4))
	most := 3 + int(time.Since(began)/refreshPause(2*n)) // where all that took a pause or more
	nettest.Await(t, "the last answer", func() (same bool) {
		p.look(func() { same = len(p.rib) == n })
		return same
	})
	all(3, 1)
	p.send(refresh(ipv6)) // nothing is said of the other family's
	all(3, 2)
	time.Sleep(refreshPause(2*n) + time.Second)
	if h4, h6 := p.heardOf(ipv4), p.heardOf(ipv6); h4 > most*n || h6 != 2*n {
		t.Errorf("the router was told %d IPv4 routes and %d IPv6 routes, want %d at most and %d", h4, h6, most*n, 2*n)
	}
	p.look(func() {
		if len(p.rib) != 2*n {
			t.Errorf("the router knows %d routes, want %d", len(p.rib), 2*n)
		}
	})
	if st := state(s, "a"); !st.Up || st.Flaps != 0 {
		t.Errorf("the session is %+v", st)
	}
}

// GoBGP hears of families of the session, and of nothing else.
func TestRefreshOfOtherFamilies(t *testing.T) {
	t.Parallel()
	w := base("a", "127.0.0.1")
	w.V4 = false
	l := newLine(t, w)
	send(t, l.router, refresh(ipv4), refresh(25), newMessage(typeRefresh, []byte{0, 2, 0, 128}))
	silent(t, l.core, 100*time.Millisecond)
	send(t, l.router, newMessage(typeRefresh, []byte{0, 2, 7, 1})) // the third byte is of RFC 7313
	if m := next(t, l.core); string(m) != string(refresh(ipv6)) {
		t.Errorf("GoBGP hears %x", m)
	}
}

// A router that asks and does not read is told no more than it has room for.
func TestRefreshWaitsForTheReader(t *testing.T) {
	t.Parallel()
	w := base("a", "127.0.0.1")
	w.HoldTime = 90 * time.Second // for which the router may not read
	l := newLine(t, w)
	answer := newMessage(typeUpdate, make([]byte, maxMessage-headerLen))
	const size = 4000 // 16 MB, more than the kernel takes
	var written atomic.Int32
	l.pumps.Go(func() {
		for range size {
			if _, err := l.core.Write(answer); err != nil {
				return
			}
			written.Add(1)
		}
	})
	nettest.Await(t, "the way to be full", func() bool {
		before := written.Load()
		time.Sleep(200 * time.Millisecond)
		return before > 0 && written.Load() == before
	})
	send(t, l.router, refresh(ipv4))
	next(t, l.core)
	send(t, l.router, refresh(ipv4))
	silent(t, l.core, 2*refreshPause(0))
	for range size {
		next(t, l.router)
	}
	next(t, l.core)
}
