//go:build netns

package bfd

import (
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
)

func TestMain(m *testing.M) { nettest.Main(m, map[string]nettest.Role{"spin": nettest.Spin}) }

// soak is for how long sessions are watched. HERALD_SOAK=10m is what tells
// something, on a machine that does nothing else; it takes -timeout 15m.
func soak(t *testing.T) (d time.Duration, thorough bool) {
	t.Helper()
	text, thorough := os.LookupEnv("HERALD_SOAK")
	if !thorough {
		return 3 * time.Second, false
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("HERALD_SOAK: %v", err)
	}
	return d, true
}

// While others want all of the CPU, no server of ours takes for dead who is heard
// on the wire, be that another of ours or a referee. In a thorough run, none falls
// silent itself either, which is up to who else is on the machine. What
// referees take us for without a reason is shown.
func TestNoSessionFlapsOnABusyMachine(t *testing.T) {
	d, thorough := soak(t)
	nettest.Require(t)
	fast := matches()[:2] // IPv4 and IPv6
	for i := range fast {
		fast[i].ours.MinTx, fast[i].ours.MinRx, fast[i].ours.Multiplier = 50*ms, 50*ms, 3
		fast[i].theirs.interval, fast[i].theirs.multiplier = 50*ms, 3
	}
	nettest.New(t, "busy").Spawn(t, "spin", "")
	ears, networks := map[string]*ear{}, map[string]*network{}
	for name, start := range referees {
		n := lay(t)
		r := start(t, n.neighbor, fast[0].theirs, fast[1].theirs)
		s := run(t, n.node, fast[0].ours, fast[1].ours)
		for _, m := range fast {
			both(t, m, s, r, "up")
		}
		networks[name] = n
	}
	networks["one of ours"], _, _ = duo(t, func(*Peer) {})
	time.Sleep(time.Second) // all have agreed on their timers
	for name, n := range networks {
		ours := []netip.Addr{ip(node4), ip(node6)}
		if referees[name] == nil {
			ours = append(ours, ip(neighbor4))
		}
		ears[name] = listen(t, n, ours...)
	}
	late := watch(d)
	t.Logf("for %v; who watched was late himself by at most %v", d, late.Round(ms))
	for name, e := range ears {
		losses := e.close(t)
		t.Logf("with %s: %d packets, %d sessions lost", name, e.packets, len(losses))
		for _, l := range losses {
			t.Logf("with %s: %s", name, l)
			switch {
			case l.groundless() && slices.Contains(e.ours, l.by):
				t.Errorf("with %s: ours takes for dead who is heard", name)
			case !l.groundless() && slices.Contains(e.ours, l.of) && thorough:
				t.Errorf("with %s: ours was silent", name)
			}
		}
	}
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
