package l2test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
)

// silence ends a dispute.
const silence = time.Minute

func (l Language) defendsOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10")
		time.Sleep(time.Minute)
		c, began := f.on("eth0"), time.Now()
		before := len(c.said())
		for range 250 { // for 25 seconds
			c.hear(l.Claim(them, l.Addr(10)))
			time.Sleep(100 * time.Millisecond)
		}
		var at []time.Duration
		for _, s := range c.said()[before:] {
			at = append(at, s.at.Sub(began))
			if want := l.Defence(us, l.Addr(10)); s.frame != want {
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

func (l Language) disputeIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10 11")
		since := time.Now()
		f.on("eth0").hear(l.Claim(them, l.Addr(10)))
		want := []l2.Dispute{{Claim: speaker.Claim{Addr: l.ip("10"), Link: "eth0"}, MAC: them.String(), Since: since}}
		equal := cmp.Comparer(func(a, b l2.Dispute) bool { return a == b })
		if diff := cmp.Diff(want, a.Stats().Disputes, equal); diff != "" {
			t.Errorf("disputes (-want +got):\n%s", diff)
		}
		time.Sleep(silence - time.Second)
		f.on("eth0").hear(l.Claim(them, l.Addr(10)))
		time.Sleep(silence - time.Second)
		if got := len(a.Stats().Disputes); got != 1 {
			t.Errorf("%d disputes though the last packet is not a minute old, want 1", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := a.Stats().Disputes; len(got) != 0 {
			t.Errorf("disputes %v after a minute of silence", got)
		}
		f.on("eth0").hear(l.Claim(them, l.Addr(10)))
		lines := []string{"another host uses an address of ours", "no other host uses the address any more", "another host uses an address of ours"}
		if diff := cmp.Diff(lines, log.messages()); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func (l Language) withdrawingEndsADispute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10 11")
		f.on("eth0").hear(l.Claim(them, l.Addr(10)))
		l.mustSync(t, a, "eth0 11")
		if got := a.Stats().Disputes; len(got) != 0 {
			t.Errorf("disputes %v about what is not claimed", got)
		}
		if got := f.on("eth0").hear(l.Claim(them, l.Addr(10))); len(got) != 0 {
			t.Errorf("defends what is not claimed: %s", got)
		}
	})
}

// Two links of one host on one segment hear each other.
func (l Language) ownSecondLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0, eth1)
		l.mustSync(t, a, "eth0 10", "eth1 10")
		time.Sleep(time.Minute)
		if got := f.on("eth0").hear(l.Claim(also, l.Addr(10))); len(got) != 0 {
			t.Errorf("hearing itself, says %s", got)
		}
		if got := a.Stats(); got.Conflicts != 0 || got.Ignored != 1 {
			t.Errorf("counted %d conflicts, %d ignored, want 0 and 1", got.Conflicts, got.Ignored)
		}
	})
}

func (l Language) whoYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10")
		time.Sleep(time.Minute)
		c := f.on("eth0")
		before := len(c.said())
		a.Yield()
		c.hear(l.Claim(them, l.Addr(10)))
		synctest.Wait()
		if said := c.said()[before:]; len(said) != 0 || len(log.messages()) != 0 {
			t.Errorf("said %v, logged %q", said, log.messages())
		}
		c.hear(l.asks(them, 10))
		synctest.Wait()
		if said := c.said()[before:]; len(said) != 1 {
			t.Errorf("answered %d times, want once", len(said))
		}
	})
}

// wishes are the promises about who asks whether he may have an address; with
// ARP that is a question like any other.
func (l Language) wishes() []Promise {
	return slices.DeleteFunc(l.Promises(us, them), func(p Promise) bool { return p.Verdict != l2.Wanted })
}

// Who asks whether he may have an address is told that he may not, each time,
// and is shown. His asking is no reason to let a real claim go uncontested.
func (l Language) whoOnlyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10")
		time.Sleep(time.Minute)
		for _, p := range l.wishes() {
			if got := f.on("eth0").hear(p.Frame); !slices.Equal(got, []string{p.Reply}) {
				t.Errorf("%s: said %q, want %q", p.Name, got, p.Reply)
			}
		}
		if got := a.Stats(); len(got.Disputes) != 1 || got.Disputes[0].MAC != them.String() || got.Defences != 0 {
			t.Errorf("disputes %v, %d defences, want one and none", got.Disputes, got.Defences)
		}
		if got := f.on("eth0").hear(l.Claim(them, l.Addr(10))); !slices.Equal(got, []string{l.Defence(us, l.Addr(10))}) {
			t.Errorf("after a claim: said %q", got)
		}
		if got := log.messages(); !slices.Equal(got, []string{"another host asks to use an address of ours"}) {
			t.Errorf("log %q", got)
		}
	})
}
