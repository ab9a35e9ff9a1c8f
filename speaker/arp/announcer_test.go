package arp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/speaker"
)

func TestAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0, eth1)
		mustSync(t, a, "eth0 192.0.2.10 192.0.2.11", "eth1 192.0.2.20", "eth0 2001:db8::1")
		time.Sleep(time.Minute) // the greetings are over
		c := f.on("eth0")
		for _, p := range promises(us, them) {
			before := a.Stats().Conflicts
			if got := strings.Join(c.hear(p.frame), "; "); got != p.reply {
				t.Errorf("%s:\n got %q\nwant %q", p.name, got, p.reply)
			}
			if got := a.Stats().Conflicts > before; got != p.conflict {
				t.Errorf("%s: conflict %t, want %t", p.name, got, p.conflict)
			}
		}
	})
}

// Were there no filter, user space would decide alike.
func TestJudgesWithoutTheFilter(t *testing.T) {
	here := station{"eth0", us, newClaims(want("eth0 192.0.2.10 192.0.2.11", "eth1 192.0.2.20")), map[mac]bool{us: true, also: true}}
	for _, p := range promises(us, them) {
		verdict := ignored
		switch {
		case p.conflict:
			verdict = disputed
		case p.reply != "":
			verdict = asked
		}
		m, err := parse(p.frame)
		if got := here.judge(m); err == nil && got != verdict || err != nil && verdict != ignored {
			t.Errorf("%s: verdict %d, error %v, want verdict %d", p.name, got, err, verdict)
		}
	}
}

func TestGreetsInABurstWithGrowingGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0)
		began := time.Now()
		mustSync(t, a, "eth0 192.0.2.10")
		time.Sleep(time.Hour)
		var got, wanted []string
		for _, s := range f.on("eth0").said() {
			got = append(got, fmt.Sprint(s.at.Sub(began), " ", s.frame))
		}
		for _, at := range []string{"0s", "100ms", "400ms", "1.4s", "3.4s"} {
			for _, frame := range greeting("192.0.2.10", us) {
				wanted = append(wanted, at+" "+frame)
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
		if got := a.Stats().Greetings; got != 10 {
			t.Errorf("counted %d greetings, want 10", got)
		}
	})
}

func TestSyncGreetsOnlyWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0)
		steps := []struct {
			name string
			want string
			says []string
		}{
			{"first", "eth0 192.0.2.10", greeting("192.0.2.10", us)},
			{"the same again", "eth0 192.0.2.10", nil},
			{"one more", "eth0 192.0.2.10 192.0.2.11", greeting("192.0.2.11", us)},
			{"one less", "eth0 192.0.2.11", nil},
			{"and back", "eth0 192.0.2.10 192.0.2.11", greeting("192.0.2.10", us)},
			{"given twice", "eth0 192.0.2.10 192.0.2.10 192.0.2.11", nil},
			{"only the second", "eth0 192.0.2.11", nil},
			{"only the first", "eth0 192.0.2.10", greeting("192.0.2.10", us)},
		}
		for _, s := range steps {
			time.Sleep(time.Minute)
			before := len(f.on("eth0").frames())
			mustSync(t, a, s.want)
			if diff := cmp.Diff(s.says, f.on("eth0").frames()[before:], equateEmpty); diff != "" {
				t.Errorf("%s (-want +got):\n%s", s.name, diff)
			}
			check(t, f, eth0, want(s.want))
		}
	})
}

var equateEmpty = cmp.Transformer("nil", func(s []string) string { return strings.Join(s, "\n") })

func TestWithdrawnAddressIsSilentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10 192.0.2.11")
		time.Sleep(200 * time.Millisecond) // in the middle of the burst
		c := f.on("eth0")
		mustSync(t, a, "eth0 192.0.2.11")
		before := len(c.frames())
		time.Sleep(time.Minute)
		for _, frame := range c.frames()[before:] {
			if strings.Contains(frame, "192.0.2.10") {
				t.Errorf("after it was withdrawn: %s", frame)
			}
		}
		if got := c.hear(wire(every, them, 1, them, "192.0.2.1", zero, "192.0.2.10")); len(got) != 0 {
			t.Errorf("after it was withdrawn: %s", got)
		}
		mustSync(t, a)
		if f.on("eth0") != nil {
			t.Errorf("a link without a claim still has a socket")
		}
	})
}

func TestSyncBeforeRunIsServedByRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeNetwork{have: []link{eth0}, socket: map[string]*fakeConn{}}
		a := newAnnouncer(nil, f)
		mustSync(t, a, "eth0 192.0.2.10")
		if f.opened != 0 {
			t.Errorf("a socket is open before Run")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		synctest.Wait()
		if diff := cmp.Diff(greeting("192.0.2.10", us), f.on("eth0").frames()); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if f.on("eth0") != nil {
			t.Errorf("a socket is open after Run")
		}
		if err := a.Sync(t.Context(), want()); !errors.Is(err, errStopped) {
			t.Errorf("Sync() after Run = %v, want %v", err, errStopped)
		}
		if err := a.Run(t.Context()); err == nil {
			t.Errorf("a second Run succeeds")
		}
	})
}

func TestErrorsNameClaimAndLink(t *testing.T) {
	down, noARP := eth0, eth0
	down.fault, noARP.fault = "link is down", "ARP is off on this link"
	tests := []struct {
		name  string
		links []link
		claim string
		want  string
	}{
		{"link that is not there", nil, "eth9 192.0.2.10", "announcing 192.0.2.10 on eth9: no such link"},
		{"link that is down", []link{down}, "eth0 192.0.2.10", "announcing 192.0.2.10 on eth0: link is down"},
		{"link without ARP", []link{noARP}, "eth0 192.0.2.10", "announcing 192.0.2.10 on eth0: ARP is off on this link"},
		{"many claims are cut short", nil, "eth9 192.0.2.5 192.0.2.4 192.0.2.3 192.0.2.2 192.0.2.1",
			"announcing 192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4 and 1 more on eth9: no such link"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _, _ := start(t, tt.links...)
				if err := a.Sync(t.Context(), want(tt.claim)); err == nil || err.Error() != tt.want {
					t.Errorf("Sync() = %v, want %s", err, tt.want)
				}
			})
		})
	}
}

func TestOneLinkThatFailsDoesNotStopTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth1)
		err := a.Sync(t.Context(), want("eth0 192.0.2.10", "eth1 192.0.2.20"))
		if err == nil || err.Error() != "announcing 192.0.2.10 on eth0: no such link" {
			t.Errorf("Sync() = %v", err)
		}
		if diff := cmp.Diff(greeting("192.0.2.20", also), f.on("eth1").frames()); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
	})
}

func TestFailedGreetingIsTriedAgainByTheNextSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10")
		time.Sleep(time.Minute)
		c := f.on("eth0")
		c.refuseWith(syscall.ENOBUFS)
		err := a.Sync(t.Context(), want("eth0 192.0.2.10 192.0.2.11"))
		if !errors.Is(err, syscall.ENOBUFS) || !strings.HasPrefix(err.Error(), "greeting 192.0.2.11 on eth0: ") {
			t.Errorf("Sync() = %v, want the claim and ENOBUFS", err)
		}
		c.refuseWith(nil)
		before := len(c.frames())
		mustSync(t, a, "eth0 192.0.2.10 192.0.2.11")
		if diff := cmp.Diff(greeting("192.0.2.11", us), c.frames()[before:]); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
		if got := a.Stats().Failures; got != 1 {
			t.Errorf("counted %d failures, want 1", got)
		}
	})
}

// No Sync is needed: the links themselves ring.
func TestLinkThatChangesIsGreetedAgain(t *testing.T) {
	down, moved, reborn := eth0, eth0, eth0
	down.fault = "link is down"
	moved.mac = mac{2, 0, 0, 0, 0, 5}
	reborn.index = 17
	ask := wire(every, them, 1, them, "192.0.2.1", zero, "192.0.2.10")
	tests := []struct {
		name   string
		states []link
	}{
		{"down and up", []link{down, eth0}},
		{"new hardware address", []link{moved}},
		{"gone and made anew", []link{{}, reborn}},
		{"replaced between two readings", []link{reborn}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := start(t, eth0)
				mustSync(t, a, "eth0 192.0.2.10")
				time.Sleep(time.Minute)
				for _, l := range tt.states {
					f.set(l)
				}
				last := tt.states[len(tt.states)-1]
				c := f.on("eth0")
				if c == nil {
					t.Fatal("no socket is open")
				}
				if diff := cmp.Diff(greeting("192.0.2.10", last.mac), c.frames()); diff != "" {
					t.Errorf("greetings (-want +got):\n%s", diff)
				}
				reply := text(wire(them, last.mac, 2, last.mac, "192.0.2.10", them, "192.0.2.1"))
				if got := c.hear(ask); !slices.Equal(got, []string{reply}) {
					t.Errorf("asked, says %s, want %s", got, reply)
				}
			})
		})
	}
}

func TestUnrelatedLinkEventSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10")
		time.Sleep(time.Minute)
		before := len(f.on("eth0").frames())
		for range 100 {
			f.set(eth0, eth1)
			f.set(eth0)
		}
		time.Sleep(time.Minute)
		if got := len(f.on("eth0").frames()) - before; got != 0 || f.opened != 1 {
			t.Errorf("%d packets sent, %d sockets opened, want 0 and 1", got, f.opened)
		}
	})
}

func TestSocketThatFailsIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10")
		for i := range 3 {
			f.on("eth0").failed <- syscall.ENETDOWN
			synctest.Wait()
			if i > 0 { // the first time nobody but the reader says so
				err := a.Sync(t.Context(), want("eth0 192.0.2.10"))
				if !errors.Is(err, syscall.ENETDOWN) {
					t.Errorf("Sync() while the link rests = %v, want ENETDOWN", err)
				}
			}
			time.Sleep(reopen)
			synctest.Wait()
			if c := f.on("eth0"); c == nil || f.opened != i+2 {
				t.Fatalf("after failure %d: %d sockets opened", i+1, f.opened)
			} else if diff := cmp.Diff(greeting("192.0.2.10", us), c.frames()); diff != "" {
				t.Errorf("greetings (-want +got):\n%s", diff)
			}
		}
	})
}

func TestUnreadableLinksChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := start(t, eth0)
		mustSync(t, a, "eth0 192.0.2.10")
		f.mu.Lock()
		f.err = syscall.EPERM
		f.mu.Unlock()
		f.set()
		f.set()
		if err := a.Sync(t.Context(), want("eth0 192.0.2.10")); !errors.Is(err, syscall.EPERM) {
			t.Errorf("Sync() = %v, want EPERM", err)
		}
		if got := f.on("eth0").hear(wire(every, them, 1, them, "192.0.2.1", zero, "192.0.2.10")); len(got) != 1 {
			t.Errorf("asked, says %s, want one reply", got)
		}
		if got := log.messages(); len(got) != 1 {
			t.Errorf("log %q, want one complaint", got)
		}
	})
}

// Whatever has happened to links, sockets and plans: once the links are well
// and a Sync has succeeded, exactly what is claimed is answered, and all of it
// has been greeted on the link as it now is.
func TestConverges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		a, f, _ := start(t)
		for round := range 300 {
			for range rnd.IntN(6) {
				disturb(t, rnd, a, f)
			}
			links := []link{randomLink(rnd, "eth0", 0), randomLink(rnd, "eth1", 0)}
			f.set(links...)
			for _, l := range links {
				if c := f.on(l.name); c != nil {
					c.refuseWith(nil)
				}
			}
			time.Sleep(2 * reopen)
			plan := randomPlan(rnd)
			if err := a.Sync(t.Context(), plan); err != nil {
				t.Fatalf("round %d: Sync() = %v", round, err)
			}
			synctest.Wait()
			for _, l := range links {
				check(t, f, l, plan)
			}
			if t.Failed() {
				t.Fatalf("in round %d", round)
			}
		}
	})
}

// disturb does one thing that may happen at any time.
func disturb(t *testing.T, rnd *rand.Rand, a *Announcer, f *fakeNetwork) {
	name := []string{"eth0", "eth1"}[rnd.IntN(2)]
	switch c := f.on(name); rnd.IntN(5) {
	case 0:
		f.set(randomLink(rnd, "eth0", 3), randomLink(rnd, "eth1", 3))
	case 1:
		f.set(randomLink(rnd, name, 3))
	case 2:
		_ = a.Sync(t.Context(), randomPlan(rnd)) // it may well fail
	case 3:
		time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
	case 4:
		if c == nil {
			return
		}
		if rnd.IntN(2) == 0 {
			c.refuseWith(syscall.ENOBUFS)
			return
		}
		c.failed <- syscall.ENETDOWN
		synctest.Wait()
	}
}

// randomLink has a fault once in faults times; never if that is 0.
func randomLink(rnd *rand.Rand, name string, faults int) link {
	l := link{name: name, index: 1 + rnd.IntN(3), mac: mac{2, 0, 0, 0, name[3], byte(rnd.IntN(3))}}
	if faults > 0 && rnd.IntN(faults) == 0 {
		l.fault = "link is down"
	}
	return l
}

func randomPlan(rnd *rand.Rand) speaker.Announcements {
	var lines []string
	for i := range 8 {
		if rnd.IntN(2) == 0 {
			lines = append(lines, fmt.Sprintf("eth%d 192.0.2.%d", rnd.IntN(2), i))
		}
	}
	return want(lines...)
}

// check asks for every address on a link and looks at what has been said.
func check(t *testing.T, f *fakeNetwork, l link, plan speaker.Announcements) {
	t.Helper()
	c := f.on(l.name)
	for i := range 16 {
		addr := fmt.Sprintf("192.0.2.%d", i)
		claimed := slices.Contains(plan.Claims, speaker.Claim{Addr: ip(addr), Link: l.name})
		if c == nil {
			if claimed {
				t.Errorf("%s on %s is claimed, but no socket is open", addr, l.name)
			}
			continue
		}
		var reply []string
		if claimed {
			reply = []string{text(wire(them, l.mac, 2, l.mac, addr, them, "192.0.2.99"))}
			if said := c.frames(); !slices.Contains(said, greeting(addr, l.mac)[0]) {
				t.Errorf("%s on %s is not greeted", addr, l.name)
			}
		}
		if got := c.hear(wire(every, them, 1, them, "192.0.2.99", zero, addr)); !slices.Equal(got, reply) {
			t.Errorf("%s on %s (claimed: %t) is answered %q, want %q", addr, l.name, claimed, got, reply)
		}
	}
}
