package l2test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/speaker"
)

// on are announcements with the same terms for all claims.
func on(t speaker.Terms, w speaker.Announcements) speaker.Announcements {
	w.Terms = map[speaker.Claim]speaker.Terms{}
	for _, c := range w.Claims {
		w.Terms[c] = t
	}
	return w
}

// patience ends: after this time at most it is found out that a peer that is
// left alone is silent, or that his time is over.
const patientPause = 300 * time.Millisecond

func (l Language) leavesAloneForAWhile(t *testing.T) {
	const failback = 10 * time.Second
	tests := []struct {
		name    string
		leaving bool
		silent  time.Duration // when he falls silent
		ends    time.Duration
	}{
		{"for as long as the pool says", false, time.Hour, failback},
		{"until he falls silent", false, 3 * time.Second, 3 * time.Second},
		{"not if he wants to be relieved", true, time.Hour, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, peer := l.host(eth0), &neighbour{mac: them, addr: l.Addr(10)}
				l.with(peer, f)
				a, _ := l.runOn(t, f)
				w := on(speaker.Terms{Failback: failback}, l.beside(true, "eth0 10"))
				w.Peers[0].Leaving = tt.leaving
				began := time.Now()
				time.AfterFunc(tt.silent, func() { peer.silent.Store(true) })
				announce(t, a, w)
				c := f.on("eth0")
				for time.Since(began) < tt.ends {
					if got := l.answersFor(c, us, 10); len(got) > 0 {
						t.Fatalf("after %v: answers for it", time.Since(began))
					}
					l.waitsFor(t, a, them, "n2", began)
					pass(50 * time.Millisecond)
				}
				if tt.ends > 0 {
					pass(patientPause + checked)
				}
				if got := l.answersFor(c, us, 10); len(got) != 1 {
					t.Errorf("after %v: answers for %v", time.Since(began), got)
				}
				waitsForNobody(t, a)
			})
		})
	}
}

func (l Language) greetsAgainAndAgain(t *testing.T) {
	every := func(d time.Duration) speaker.Announcements {
		return on(speaker.Terms{Refresh: d}, l.beside(true, "eth0 10"))
	}
	burst := []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond, 1400 * time.Millisecond, 3400 * time.Millisecond}
	tests := []struct {
		name  string
		first speaker.Announcements
		then  []speaker.Announcements // a minute after it was asked for
		want  []time.Duration         // from then on, for just above a minute
	}{
		{"as often as they say", every(20 * time.Second), nil, []time.Duration{3400 * time.Millisecond, 23400 * time.Millisecond, 43400 * time.Millisecond}},
		{"from when they do", every(0), []speaker.Announcements{every(20 * time.Second)}, []time.Duration{0, 20 * time.Second, 40 * time.Second, time.Minute}},
		{"more often than before", every(time.Hour), []speaker.Announcements{every(30 * time.Second)}, []time.Duration{0, 30 * time.Second, time.Minute}},
		{"no more", every(20 * time.Second), []speaker.Announcements{every(0)}, nil},
		{"also what was another's for a moment", every(20 * time.Second), []speaker.Announcements{elsewhere(every(20 * time.Second)), every(20 * time.Second)},
			[]time.Duration{0, 20 * time.Second, 40 * time.Second, time.Minute}},
		{"never but for the burst", every(0), nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := l.start(t, eth0)
				began := time.Now().Add(checked)
				announce(t, a, tt.first)
				pass(time.Minute + checked)
				c := f.on("eth0")
				if got := slices.Compact(when(began, c.said())); len(got) < len(burst) || !slices.Equal(got[:len(burst)], burst) {
					t.Fatalf("greeted at %v, want %v at first", got, burst)
				}
				began = time.Now()
				said := len(c.said())
				for _, w := range tt.then {
					announce(t, a, w)
				}
				pass(time.Minute + time.Second)
				if got := slices.Compact(when(began, c.said()[said:])); !slices.Equal(got, tt.want) {
					t.Errorf("greeted at %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// A Service that is made anew gets its address back before anybody can have taken
// it.
func (l Language) backAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		away time.Duration
		with string // what stays
		asks int
	}{
		{"after a moment", 200 * time.Millisecond, "eth0 11", 0},
		{"and where nothing else was left", 200 * time.Millisecond, "eth0", 0},
		{"after a while it is asked for", 400 * time.Millisecond, "eth0 11", 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := l.owner(t)
				announce(t, a, l.beside(true, tt.with))
				pass(tt.away)
				began := time.Now()
				announce(t, a, l.beside(true, tt.with+" 10"))
				c := f.on("eth0")
				if got := l.answersFor(c, us, 10); (len(got) == 1) != (tt.asks == 0) {
					t.Errorf("answers for %v at once", got)
				}
				settle()
				if got := l.answersFor(c, us, 10); len(got) != 1 {
					t.Errorf("answers for %v", got)
				}
				asked := 0
				for _, s := range c.probes() {
					if s.frame == l.Probe(us, l.Addr(10)) && !s.at.Before(began) {
						asked++
					}
				}
				greeted := slices.DeleteFunc(c.said(), func(s sent) bool { return s.at.Before(began) || s.frame != l.Greeting(us, l.Addr(10))[0] })
				if diff := cmp.Diff(tt.asks, asked); diff != "" || len(greeted) == 0 {
					t.Errorf("greeted %v, asked (-want +got):\n%s", when(began, greeted), diff)
				}
			})
		})
	}
}
