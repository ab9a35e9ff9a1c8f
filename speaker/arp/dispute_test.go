package arp

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/speaker"
)

// foreign is what another host says that believes 192.0.2.10 to be its own.
var foreign = wire(every, them, 1, them, "192.0.2.10", zero, "192.0.2.10")

func TestDefendsOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10")
		time.Sleep(time.Minute)
		c, began := f.on("eth0"), time.Now()
		before := len(c.said())
		for range 250 { // for 25 seconds
			c.hear(foreign)
			time.Sleep(100 * time.Millisecond)
		}
		var at []time.Duration
		for _, s := range c.said()[before:] {
			at = append(at, s.at.Sub(began))
			if want := greeting("192.0.2.10", us)[0]; s.frame != want {
				t.Errorf("defended by %s, want %s", s.frame, want)
			}
		}
		if want := []time.Duration{0, 10 * time.Second, 20 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("defended at %v, want %v", at, want)
		}
		if s := a.Stats(); s.Conflicts != 250 || s.Defences != 3 {
			t.Errorf("counted %d conflicts and %d defences, want 250 and 3", s.Conflicts, s.Defences)
		}
		if got := log.messages(); len(got) != 1 {
			t.Errorf("log %q, want one line", got)
		}
	})
}

func TestDisputeIsShownUntilItIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10 192.0.2.11")
		since := time.Now()
		f.on("eth0").hear(foreign)
		want := []Dispute{{speaker.Claim{Addr: ip("192.0.2.10"), Link: "eth0"}, them.String(), since}}
		equal := cmp.Comparer(func(a, b Dispute) bool { return a == b })
		if diff := cmp.Diff(want, a.Stats().Disputes, equal); diff != "" {
			t.Errorf("disputes (-want +got):\n%s", diff)
		}
		time.Sleep(settled - time.Second)
		f.on("eth0").hear(foreign)
		time.Sleep(settled - time.Second)
		if got := len(a.Stats().Disputes); got != 1 {
			t.Errorf("%d disputes though the last packet is not a minute old, want 1", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := a.Stats().Disputes; len(got) != 0 {
			t.Errorf("disputes %v after a minute of silence", got)
		}
		f.on("eth0").hear(foreign)
		lines := []string{"another host uses an address of ours", "no other host uses the address any more", "another host uses an address of ours"}
		if diff := cmp.Diff(lines, log.messages()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestWithdrawingEndsADispute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10 192.0.2.11")
		f.on("eth0").hear(foreign)
		mustSync(t, a, "eth0 192.0.2.11")
		if got := a.Stats().Disputes; len(got) != 0 {
			t.Errorf("disputes %v about what is not claimed", got)
		}
		if got := f.on("eth0").hear(foreign); len(got) != 0 {
			t.Errorf("defends what is not claimed: %s", got)
		}
	})
}

// Two links of one host on one segment hear each other.
func TestOwnSecondLinkIsNoConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0, eth1)
		mustSync(t, a, "eth0 192.0.2.10", "eth1 192.0.2.10")
		time.Sleep(time.Minute)
		if got := f.on("eth0").hear(wire(every, also, 1, also, "192.0.2.10", zero, "192.0.2.10")); len(got) != 0 {
			t.Errorf("hearing itself, says %s", got)
		}
		if got := a.Stats(); got.Conflicts != 0 || got.Ignored != 1 {
			t.Errorf("counted %d conflicts, %d ignored, want 0 and 1", got.Conflicts, got.Ignored)
		}
	})
}

func TestWhoYieldsContestsNothingAndAnswersStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10")
		time.Sleep(time.Minute)
		c := f.on("eth0")
		before := len(c.said())
		a.Yield()
		c.hear(foreign)
		synctest.Wait()
		if said := c.said()[before:]; len(said) != 0 || len(log.messages()) != 0 {
			t.Errorf("said %v, logged %q", said, log.messages())
		}
		c.hear(wire(every, them, 1, them, "192.0.2.1", zero, "192.0.2.10"))
		synctest.Wait()
		if said := c.said()[before:]; len(said) != 1 {
			t.Errorf("answered %d times, want once", len(said))
		}
	})
}
