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

// elsewhere is a plan in which another node is elected for everything.
func elsewhere(w speaker.Announcements) speaker.Announcements {
	w.Claims, w.Others = nil, w.Claims
	return w
}

// owner runs an Announcer that has answered for addresses 10 and 11 for a minute,
// beside a living peer that is silent about 10.
func (l Language) owner(t *testing.T) (*l2.Announcer, *fakeNetwork, *neighbour) {
	t.Helper()
	f, peer := l.host(eth0), &neighbour{mac: them, addr: l.Addr(10)}
	peer.silent.Store(true)
	l.with(peer, f)
	a, _ := l.runOn(t, f)
	announce(t, a, l.beside(true, "eth0 10 11"))
	pass(time.Minute)
	if got := a.Stats().Answered; got != 2 {
		t.Fatalf("answers for %d addresses, want 2", got)
	}
	return a, f, peer
}

func (l Language) goesOnUntilAPeerHasIt(t *testing.T) {
	stranger := l2.MAC{2, 0, 0, 0, 0, 0x77}
	tests := []struct {
		name  string
		frame []byte
		goes  bool // on
	}{
		{"a peer's greeting", l.Claim(them, l.Addr(10)), false},
		{"a peer's answer", l.Has(them, us, l.Addr(10)), false},
		{"a question of a peer", l.Ask(them, l.Addr(1), l.Addr(10)), true},
		{"a stranger's claim", l.Claim(stranger, l.Addr(10)), true},
		{"a peer's greeting for another", l.Claim(them, l.Addr(11)), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := l.owner(t)
				c, began := f.on("eth0"), time.Now()
				said, asked := len(c.said()), len(c.probes())
				announce(t, a, elsewhere(l.beside(true, "eth0 10")))
				pass(time.Minute)
				if got := l.answersFor(c, us, 10, 11); !slices.Equal(got, []int{10}) || len(c.said()) > said+1 {
					t.Errorf("answers for %v, says %q, want 10 alone and no greeting", got, c.frames()[said:])
				}
				if got := when(began, c.probes()[asked:]); len(got) < 4 || got[0] != 500*time.Millisecond || got[2]-got[1] != 2*time.Second {
					t.Errorf("asks for its successor at %v", got)
				}
				c.hear(tt.frame)
				if got := l.answersFor(c, us, 10); (len(got) > 0) != tt.goes {
					t.Errorf("answers for %v at once after it", got)
				}
				pass(time.Minute)
				if got := l.answersFor(c, us, 10); (len(got) > 0) != tt.goes {
					t.Errorf("answers for %v a minute after it", got)
				}
				waitsForNobody(t, a)
			})
		})
	}
}

// How long something is not contested that was given up to a peer, and the longest
// before he is asked first.
const (
	ceded   = 5 * time.Second
	cededTo = 150 * time.Millisecond
)

// What is planned here and there may differ for a moment: the last who greets has
// it.
func (l Language) givesUpWhatAPeerTakes(t *testing.T) {
	for _, answers := range []bool{true, false} {
		t.Run(map[bool]string{true: "and answers for", false: "and leaves alone"}[answers], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, peer := l.owner(t)
				c, began := f.on("eth0"), time.Now()
				peer.silent.Store(!answers)
				if got := c.hear(l.Claim(them, l.Addr(10))); len(got) > 0 {
					t.Errorf("contests it: %q", got)
				}
				if got := l.answersFor(c, us, 10, 11); !slices.Equal(got, []int{11}) {
					t.Errorf("answers for %v at once, want 11 alone", got)
				}
				l.waitsFor(t, a, them, "n2", began)
				if answers {
					for time.Since(began) < ceded-checked {
						pass(checked)
						if got := l.answersFor(c, us, 10); len(got) > 0 {
							t.Fatalf("contests it after %v", time.Since(began))
						}
					}
					pass(600 * time.Millisecond) // he is asked each half second
				}
				pass(cededTo + checked)
				if got := l.answersFor(c, us, 10, 11); len(got) != 2 {
					t.Errorf("answers for %v after %v, want both", got, time.Since(began))
				}
				if got := c.said(); !slices.ContainsFunc(got, func(s sent) bool {
					return s.at.After(began) && s.frame == l.Greeting(us, l.Addr(10))[0]
				}) {
					t.Errorf("it is not greeted")
				}
				waitsForNobody(t, a)
			})
		})
	}
}

func (l Language) comesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.owner(t)
		announce(t, a, elsewhere(l.beside(true, "eth0 10 11")))
		c := f.on("eth0")
		c.hear(l.Claim(them, l.Addr(10)))
		said, asked, began := len(c.said()), len(c.probes()), time.Now()
		announce(t, a, l.beside(true, "eth0 10 11"))
		if got := l.answersFor(c, us, 10, 11); !slices.Equal(got, []int{11}) {
			t.Errorf("answers for %v, want 11 alone, which was never handed over", got)
		}
		said++ // that answer
		settle()
		if diff := cmp.Diff(l.Greeting(us, l.Addr(10)), c.frames()[said:]); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
		if got := when(began, c.probes()[asked:]); !slices.Equal(got, []time.Duration{0, 30 * time.Millisecond, 60 * time.Millisecond}) {
			t.Errorf("asked at %v", got)
		}
		if got := l.answersFor(c, us, 10, 11); len(got) != 2 {
			t.Errorf("answers for %v, want both", got)
		}
	})
}

// Who is back from the dead may have been there all the time, and have answered
// for everything where this node was not heard.
func (l Language) peerThatIsBackIsTold(t *testing.T) {
	both := slices.Concat(l.Greeting(us, l.Addr(10)), l.Greeting(us, l.Addr(11)))
	well, lost, deaf := speaker.Peer{Alive: true}, speaker.Peer{}, speaker.Peer{Alive: true, Deaf: true}
	tests := []struct {
		name      string
		was, does speaker.Peer
		says      []string
	}{
		{"who is back is greeted", lost, well, both},
		{"who was never away is not", well, well, nil},
		{"nor who is lost", well, lost, nil},
		{"nor who still is", lost, lost, nil},
		{"who hears us again is", deaf, well, both},
		{"who hears us no more is not", well, deaf, nil},
		{"nor who hears us still not", deaf, deaf, nil},
		{"who is back and does not hear us is, to no avail", lost, deaf, both},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := l.start(t, eth0)
				announce(t, a, l.besides(tt.was, "eth0 10 11"))
				pass(time.Minute)
				c := f.on("eth0")
				said := len(c.said())
				announce(t, a, l.besides(tt.does, "eth0 10 11"))
				if diff := cmp.Diff(tt.says, c.frames()[said:], equateEmpty); diff != "" {
					t.Errorf("greetings (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Two that were parted answer both, and take each other for dead. Once they hear
// each other again, exactly one stays, for each address the same whoever finds it
// out.
func (l Language) partedFindEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := l.segment(1, 2)
		s.part(0, 1)
		nodes := []string{s.hosts[0].node, s.hosts[1].node}
		for _, h := range s.hosts {
			s.boot(t, h)
			w := l.want("eth0 10 11 12 13 14 15")
			w.Node, w.Peers = h.node, s.peersOf(h, func(*host) bool { return false })
			announce(t, h.a, w)
		}
		pass(time.Minute)
		all := []int{10, 11, 12, 13, 14, 15}
		for _, n := range all {
			if got := s.ask(all)[n]; len(got) != 2 {
				t.Fatalf("while they are parted %v answer for %s, want both", got, l.Addr(n))
			}
		}
		s.heal()
		for _, after := range []time.Duration{time.Second, time.Minute} {
			pass(after)
			for _, n := range all {
				want := []string{speaker.Elect(l.ip(l.Addr(n)), nodes)}
				if got := s.ask(all)[n]; !slices.Equal(got, want) {
					t.Errorf("after %v %v answer for %s, want %v", after, got, l.Addr(n), want)
				}
			}
		}
	})
}
