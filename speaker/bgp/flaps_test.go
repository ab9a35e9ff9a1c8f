package bgp

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// A load is what a process holds.
type load struct {
	goroutines, files int
	heap              int64
}

func loadNow(t testing.TB) load {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.GC() // what finalizers have let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return load{runtime.NumGoroutine(), len(files), int64(m.HeapAlloc)}
}

// Nothing of a connection is left when it is over, and no other session notices:
// every route that is told meanwhile is heard once.
func TestFlapsLeaveNothing(t *testing.T) {
	const warm, flaps = 20, 200
	empty := loadNow(t)
	p, q := newPuppet(t), newPuppet(t)
	s, stop := run(t)
	steady := q.session("steady")
	want(t, s, steady)
	q.establish(t)
	awaitUp(t, s, "steady")
	before := state(s, "steady")
	all := some((warm + flaps) / 2)
	tell := func(n int) []speaker.Session { steady.Routes = all[:n]; return []speaker.Session{steady} }
	flap(t, s, p, warm, func(i int) []speaker.Session { return tell(i) })
	start := loadNow(t)
	flap(t, s, newPuppet(t), flaps, func(i int) []speaker.Session { return tell(warm + i) })
	awaitLoad(t, start)

	nettest.Await(t, "all routes", func() bool { return q.heardOf(ipv4)+q.heardOf(ipv6) >= len(all) })
	if n := q.heardOf(ipv4) + q.heardOf(ipv6); n != len(all) {
		t.Errorf("the steady router heard %d routes, want %d", n, len(all))
	}
	after := state(s, "steady")
	if after.Sent = before.Sent; after != before {
		t.Errorf("the steady session is %+v, was %+v", after, before)
	}
	stop()
	empty.files = start.files // the puppets have theirs
	awaitLoad(t, empty)
}

// flap has a session come up and fail a number of times, and fail to come up as
// often. What others returns is told each time.
func flap(t *testing.T, s *Speaker, p *puppet, times int, others func(i int) []speaker.Session) {
	t.Helper()
	w := p.session("flapping")
	w.ConnectRetry, w.Routes = time.Millisecond, some(10)
	want(t, s, append(others(0), w)...)
	for i := range times {
		p.establish(t)
		awaitUp(t, s, "flapping")
		want(t, s, append(others(i+1), w)...)
		p.look(func() { p.conn.Close() })
		nettest.Await(t, "the end", func() bool { return !state(s, "flapping").Up })
		p.accept(t)
		p.conn.Close()
	}
	if n := state(s, "flapping").Flaps; n != times {
		t.Errorf("%d flaps, want %d", n, times)
	}
	p.listener.Close()
	want(t, s, others(times)...)
}

// awaitLoad waits until no more is held than before, but for what was logged: a
// server that is left takes 100 kB. What ends takes its time.
func awaitLoad(t testing.TB, before load) {
	t.Helper()
	var now load
	for end := time.Now().Add(nettest.Long); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		now = loadNow(t)
		if now.goroutines <= before.goroutines && now.files <= before.files && now.heap < before.heap+4<<20 {
			t.Logf("%+v, before %+v", now, before)
			return
		}
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%+v, before %+v:\n%s", now, before, buf[:runtime.Stack(buf, true)])
}
