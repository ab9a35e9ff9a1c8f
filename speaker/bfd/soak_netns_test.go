//go:build netns

package bfd

import (
	"os"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m, map[string]nettest.Role{"spin": nettest.Spin}) }

// soak is for how long sessions have to stay up. HERALD_SOAK=10m is what tells
// something; it takes -timeout 15m.
func soak(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("HERALD_SOAK")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("HERALD_SOAK: %v", err)
	}
	return d
}

// Sessions at 50 ms × 3 stay up while others want all of the CPU, be they with
// a server of ours or with a referee. A loss that the other end declares counts
// as well: it says so, and ours goes down.
func TestNoSessionFlapsOnABusyMachine(t *testing.T) {
	nettest.Require(t)
	nettest.New(t, "busy").Spawn(t, "spin", "")
	fast := matches()[:2] // IPv4 and IPv6
	for i := range fast {
		fast[i].ours.MinTx, fast[i].ours.MinRx, fast[i].theirs.interval = 50*ms, 50*ms, 50*ms
	}
	servers := map[string]*Server{}
	_, servers["one of ours"], servers["the other"] = duo(t, func(*Peer) {})
	for name, start := range referees {
		n := lay(t)
		r := start(t, n.neighbor, fast[0].theirs, fast[1].theirs)
		s := run(t, n.node, fast[0].ours, fast[1].ours)
		for _, m := range fast {
			both(t, m, s, r, "up")
		}
		servers["one with "+name] = s
	}
	before := losses(servers)
	late := watch(soak(t))
	t.Logf("for %v; who watched was too late by at most %v", soak(t), late)
	for name, n := range losses(servers) {
		if n > before[name] { // why is in its log
			t.Errorf("%s has lost sessions %d times", name, n-before[name])
		}
	}
}

func losses(servers map[string]*Server) map[string]int {
	all := map[string]int{}
	for name, s := range servers {
		for _, session := range s.Sessions() {
			all[name] += session.Losses
		}
	}
	return all
}

// watch lets time pass, and returns by how much it was late at worst for what
// it wanted to do every few milliseconds: so long this process got no CPU.
func watch(d time.Duration) (late time.Duration) {
	const nap = 5 * ms
	for last, end := time.Now(), time.Now().Add(d); last.Before(end); {
		time.Sleep(nap)
		now := time.Now()
		last, late = now, max(late, now.Sub(last)-nap)
	}
	return late
}
