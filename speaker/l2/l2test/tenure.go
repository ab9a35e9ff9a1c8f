package l2test

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
)

// A neighbour is another host on eth0, which has an address and says so to
// whoever asks, until it falls silent.
type neighbour struct {
	mac    l2.MAC
	addr   string
	silent atomic.Bool
}

// with puts a neighbour on the wire of a host.
func (l Language) with(n *neighbour, f *fakeNetwork) {
	f.wire = func(c *fakeConn, frame []byte) {
		if !n.silent.Load() && l.Text(frame) == l.Probe(us, n.addr) {
			go c.deliver(l.Has(n.mac, us, n.addr))
		}
	}
}

// beside is what n1 announces, where n2 at them is well or taken for dead.
func (l Language) beside(alive bool, lines ...string) speaker.Announcements {
	return l.besides(speaker.Peer{Alive: alive}, lines...)
}

// besides is what n1 announces, where n2 at them is as other says.
func (l Language) besides(other speaker.Peer, lines ...string) speaker.Announcements {
	w := l.want(lines...)
	w.Node = "n1"
	other.Node, other.MACs = "n2", [][6]byte{them}
	w.Peers = []speaker.Peer{other}
	return w
}

// announce makes a Sync that has to succeed, and waits for nothing but what it does
// at once.
func announce(t *testing.T, a *l2.Announcer, w speaker.Announcements) {
	t.Helper()
	if err := a.Sync(t.Context(), w); err != nil {
		t.Fatalf("Sync(%v) = %v", w, err)
	}
	synctest.Wait()
}

// answersFor is which of the addresses are answered for on a link. It takes no time.
func (l Language) answersFor(c *fakeConn, us l2.MAC, numbers ...int) (answered []int) {
	for _, n := range numbers {
		if slices.Contains(c.hear(l.asks(them, n)), l.Answer(us, them, l.Addr(n), l.Addr(1))) {
			answered = append(answered, n)
		}
	}
	return answered
}

// pass lets time go by, and waits until all that was due in it is done.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// waitsFor checks what is shown of whom the claim of address 10 waits for.
func (l Language) waitsFor(t *testing.T, a *l2.Announcer, mac l2.MAC, node string, since time.Time) {
	t.Helper()
	want := []l2.Wait{{Claim: speaker.Claim{Addr: l.ip("10"), Link: "eth0"}, MAC: mac.String(), Node: node, Since: since}}
	if got := a.Stats().Waits; !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
}

func waitsForNobody(t *testing.T, a *l2.Announcer) {
	t.Helper()
	if got := a.Stats().Waits; len(got) > 0 {
		t.Errorf("waits %v, want none", got)
	}
}

// when is at what times after began something was sent.
func when(began time.Time, all []sent) (at []time.Duration) {
	for _, s := range all {
		at = append(at, s.at.Sub(began))
	}
	return at
}

func (l Language) asksBeforeItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		began := time.Now()
		announce(t, a, l.want("eth0 10"))
		c := f.on("eth0")
		for time.Since(began) < checked {
			if got := c.hear(l.asks(them, 10)); len(got) > 0 || len(c.said()) > 0 {
				t.Errorf("after %v: says %q, before all have been asked", time.Since(began), got)
			}
			pass(5 * time.Millisecond)
		}
		var got []string
		for _, s := range c.probes() {
			got = append(got, fmt.Sprint(s.at.Sub(began), " ", s.frame))
		}
		probe := l.Probe(us, l.Addr(10))
		if diff := cmp.Diff([]string{"0s " + probe, "30ms " + probe, "60ms " + probe}, got); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		if got := l.answersFor(c, us, 10); len(got) != 1 || a.Stats().Probes != 3 {
			t.Errorf("after %v: answers for %v, counted %d probes", time.Since(began), got, a.Stats().Probes)
		}
	})
}

// strangerPause is how long a stranger is left alone who has an address.
const strangerPause = 5 * time.Second

func (l Language) strangerKeepsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := l.host(eth0)
		stranger := &neighbour{mac: them, addr: l.Addr(10)}
		l.with(stranger, f)
		a, log := l.runOn(t, f)
		began := time.Now()
		announce(t, a, l.want("eth0 10 11"))
		c := f.on("eth0")
		for range 12 {
			pass(time.Second)
			if got := l.answersFor(c, us, 10, 11); !slices.Equal(got, []int{11}) {
				t.Errorf("after %v: answers for %v, want 11 alone", time.Since(began), got)
			}
			l.waitsFor(t, a, them, "", began)
		}
		if s := a.Stats(); s.Answered != 1 || len(s.Disputes) > 0 || s.Conflicts > 0 {
			t.Errorf("counted %+v", s)
		}
		if got := log.messages(); !slices.Equal(got, []string{"another host has an address that this node should announce"}) {
			t.Errorf("log %q, want one line", got)
		}
		stranger.silent.Store(true) // 12 seconds after he was asked first
		pass(time.Until(began.Add(3*strangerPause + checked)))
		if got := l.answersFor(c, us, 10); len(got) != 1 {
			t.Errorf("it is not answered %v after he has fallen silent", checked+3*strangerPause-12*time.Second)
		}
		waitsForNobody(t, a)
		if got := c.frames(); !slices.Contains(got, l.Greeting(us, l.Addr(10))[0]) {
			t.Errorf("it is not greeted")
		}
	})
}

// A planned move leaves no gap: who has it hears the greeting, and gives it up.
func (l Language) livingPeerHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := l.host(eth0)
		l.with(&neighbour{mac: them, addr: l.Addr(10)}, f)
		a, _ := l.runOn(t, f)
		began := time.Now()
		announce(t, a, l.beside(true, "eth0 10"))
		c := f.on("eth0")
		if diff := cmp.Diff(l.Greeting(us, l.Addr(10)), c.frames()); diff != "" || time.Since(began) > 0 {
			t.Errorf("after %v: greetings (-want +got):\n%s", time.Since(began), diff)
		}
		if got := l.answersFor(c, us, 10); len(got) != 1 {
			t.Errorf("it is not answered at once")
		}
		waitsForNobody(t, a)
	})
}

// heldPauseMax is the longest that a peer is left alone who was taken for dead.
const heldPauseMax = 2 * time.Second

func (l Language) deadPeerKeepsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := l.host(eth0)
		peer := &neighbour{mac: them, addr: l.Addr(10)}
		l.with(peer, f)
		a, log := l.runOn(t, f)
		began := time.Now()
		announce(t, a, l.beside(false, "eth0 10"))
		c := f.on("eth0")
		for range 60 {
			pass(time.Second)
			if got := l.answersFor(c, us, 10); len(got) > 0 || len(c.said()) > 0 {
				t.Errorf("after %v: answers for %v, said %v", time.Since(began), got, c.frames())
			}
			l.waitsFor(t, a, them, "n2", began)
		}
		probes := when(began, c.probes())
		want := []time.Duration{0, 200 * time.Millisecond, 600 * time.Millisecond, 1400 * time.Millisecond, 3 * time.Second, 5 * time.Second}
		if len(probes) < 30 || !slices.Equal(probes[:6], want) {
			t.Errorf("asked at %v, want %v and each 2 s from then on", probes, want)
		}
		peer.silent.Store(true)
		pass(heldPauseMax + checked)
		if got := l.answersFor(c, us, 10); len(got) != 1 {
			t.Errorf("it is not answered %v after he has fallen silent", heldPauseMax+checked)
		}
		waitsForNobody(t, a)
		if got := log.messages(); len(got) != 1 {
			t.Errorf("log %q, want one line", got)
		}
	})
}

// The pauses in which another is left alone are of seconds. Should he fail meanwhile,
// or turn out to be somebody else, there is no time for them.
func (l Language) looksAgain(t *testing.T) {
	stranger := l.want("eth0 10")
	tests := []struct {
		name     string
		was, now speaker.Announcements
		silent   bool // from then on
		taken    time.Duration
	}{
		{"one that was well is lost", l.patient(true), l.patient(false), true, checked},
		{"one that was lost is well", l.beside(false, "eth0 10"), l.beside(true, "eth0 10"), false, 0},
		{"one that was lost is gone", l.beside(false, "eth0 10"), stranger, true, checked},
		{"a stranger is a speaker that lives", stranger, l.beside(true, "eth0 10"), false, 0},
		{"a stranger is a speaker that is lost", stranger, l.beside(false, "eth0 10"), true, checked},
		{"one that was well leaves", l.patient(true), l.besides(speaker.Peer{Alive: true, Leaving: true}, "eth0 10"), false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, peer := l.host(eth0), &neighbour{mac: them, addr: l.Addr(10)}
				l.with(peer, f)
				a, _ := l.runOn(t, f)
				announce(t, a, tt.was)
				pass(20*time.Second + 30*time.Millisecond) // in a pause
				c := f.on("eth0")
				if got := l.answersFor(c, us, 10); len(got) > 0 {
					t.Fatal("it is answered for beforehand")
				}
				peer.silent.Store(tt.silent)
				announce(t, a, tt.now)
				if tt.taken > 0 {
					pass(tt.taken - time.Millisecond)
					if got := l.answersFor(c, us, 10); len(got) > 0 {
						t.Error("it is answered for before it was asked for")
					}
					pass(time.Millisecond)
				}
				if got := l.answersFor(c, us, 10); len(got) != 1 {
					t.Errorf("it is not answered for %v after that is known", tt.taken)
				}
				waitsForNobody(t, a)
			})
		})
	}
}

// patient is what n1 announces that leaves it to n2 as long as that is alive.
func (l Language) patient(alive bool) speaker.Announcements {
	w := l.beside(alive, "eth0 10")
	w.Terms = map[speaker.Claim]speaker.Terms{w.Claims[0]: {Failback: time.Hour}}
	return w
}

// A process that was stopped may have been taken for dead. What it has not asked
// for since is not answered, be it by the reader who wakes first.
func (l Language) absentAsksAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10 11")
		pass(time.Minute)
		c := f.on("eth0")
		c.hangFor(400 * time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- a.Sync(t.Context(), l.want("eth0 10 11 12")) }()
		pass(350 * time.Millisecond)
		if got := l.answersFor(c, us, 10, 11); len(got) > 0 {
			t.Errorf("answers for %v while it is absent", got)
		}
		pass(50 * time.Millisecond)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		back := time.Now()
		c = f.on("eth0") // a new one
		for time.Since(back) < checked {
			if got := l.answersFor(c, us, 10, 11); len(got) > 0 || len(c.said()) > 0 {
				t.Errorf("after %v: answers for %v, says %q, before it has asked anew", time.Since(back), got, c.frames())
			}
			pass(10 * time.Millisecond)
		}
		for _, n := range []int{10, 11, 12} { // also what was being asked for
			var probes []sent
			for _, s := range c.probes() {
				if s.frame == l.Probe(us, l.Addr(n)) {
					probes = append(probes, s)
				}
			}
			if got := when(back, probes); !slices.Equal(got, []time.Duration{0, 30 * time.Millisecond, 60 * time.Millisecond}) {
				t.Errorf("asked who has %s at %v", l.Addr(n), got)
			}
		}
		settle()
		if got := l.answersFor(c, us, 10, 11, 12); len(got) != 3 {
			t.Errorf("answers for %v after it has asked anew, want all", got)
		}
		for _, n := range []int{10, 11} {
			if !slices.Contains(c.frames(), l.Greeting(us, l.Addr(n))[0]) {
				t.Errorf("%s is not greeted again", l.Addr(n))
			}
		}
	})
}
