package l2test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
)

// burst is when a speaker greets what it has taken.
var burst = []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond, 1400 * time.Millisecond, 3400 * time.Millisecond}

// lockTime is how long a kernel of Linux does not believe another owner.
const lockTime = time.Second

// Who does not hear us answer takes what we have, and knows nothing. It stays here,
// and clients are told so after each of his greetings, until they believe it.
func (l Language) keepsWhatTheDeafTake(t *testing.T) {
	deaf := speaker.Peer{Alive: true, Deaf: true}
	tests := []struct {
		name  string
		other speaker.Peer
		edit  func(*l2.Announcer, *speaker.Announcements)
		keeps bool
	}{
		{"who is elected keeps it", deaf, nil, true},
		{"also while he asks for it", deaf, func(a *l2.Announcer, w *speaker.Announcements) { // another is lost
			w.Peers = append(w.Peers, speaker.Peer{Node: "n3", MACs: [][6]byte{{2, 0, 0, 0, 0, 3}}})
		}, true},
		{"who is not hands it over", deaf, func(_ *l2.Announcer, w *speaker.Announcements) { *w = elsewhere(*w) }, false},
		{"who is about to stop gives it up", deaf, func(a *l2.Announcer, _ *speaker.Announcements) { a.Yield() }, false},
		{"and so does who is heard", speaker.Peer{Alive: true}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := l.owner(t)
				w := l.besides(tt.other, "eth0 10")
				if tt.edit != nil {
					tt.edit(a, &w)
				}
				announce(t, a, w)
				c, began := f.on("eth0"), time.Now()
				if !tt.keeps {
					c.hear(l.Claim(them, l.Addr(10)))
					if got := l.answersFor(c, us, 10); len(got) > 0 {
						t.Errorf("answers for %v, which he has taken", got)
					}
					return
				}
				for _, at := range burst {
					pass(time.Until(began.Add(at)))
					c.hear(l.Claim(them, l.Addr(10)))
					c.hear(l.Claim(them, l.Addr(10))) // a greeting may be of two packets
					if got := l.answersFor(c, us, 10); len(got) == 0 {
						t.Fatalf("%v after he took it: does not answer", at)
					}
				}
				pass(time.Minute)
				l.toldAgain(t, began, c.said())
			})
		})
	}
	t.Run("however often he greets", func(t *testing.T) { synctest.Test(t, l.bearsAFlood) })
}

// toldAgain looks whether each greeting of another was followed by one of ours, soon
// and again when he can be forgotten, and not by too many.
func (l Language) toldAgain(t *testing.T, began time.Time, all []sent) {
	t.Helper()
	var at []time.Duration
	for _, s := range all {
		if s.frame == l.Greeting(us, l.Addr(10))[0] && !s.at.Before(began) {
			at = append(at, s.at.Sub(began))
		}
	}
	for _, his := range burst {
		if !slices.ContainsFunc(at, func(ours time.Duration) bool { return ours > his && ours <= his+30*time.Millisecond }) {
			t.Errorf("not told again soon after %v, but after %v", his, at)
		}
	}
	if last := at[len(at)-1]; last < burst[len(burst)-1]+lockTime || len(at) > 4*len(burst) {
		t.Errorf("greeted after %v", at)
	}
}

// bearsAFlood has a speaker that hears nothing greet all the time.
func (l Language) bearsAFlood(t *testing.T) {
	a, f, _ := l.owner(t)
	announce(t, a, l.besides(speaker.Peer{Alive: true, Deaf: true}, "eth0 10"))
	before := a.Stats().Greetings
	for range 1000 {
		f.on("eth0").hear(l.Claim(them, l.Addr(10)))
		pass(time.Millisecond)
	}
	most := 50 * uint64(len(l.Greeting(us, l.Addr(10))))
	if got := a.Stats().Greetings - before; got == 0 || got > most {
		t.Errorf("greeted with %d packets in a second, want up to %d", got, most)
	}
}
