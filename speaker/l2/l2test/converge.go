package l2test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
)

// Whatever has happened to links, sockets and plans: once the links are well
// and a Sync has succeeded, exactly what is claimed is answered, and all of it
// has been greeted on the link as it now is.
func (l Language) converges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(1, 2))
		a, f, _ := l.start(t)
		for round := range 300 {
			for range rnd.IntN(6) {
				l.disturb(t, rnd, a, f)
			}
			links := []l2.Link{randomLink(rnd, "eth0", 0), randomLink(rnd, "eth1", 0)}
			f.set(links...)
			for _, link := range links {
				if c := f.on(link.Name); c != nil {
					c.refuseWith(nil)
				}
			}
			time.Sleep(2 * rest)
			plan := l.randomPlan(rnd)
			if err := a.Sync(t.Context(), plan); err != nil {
				t.Fatalf("round %d: Sync() = %v", round, err)
			}
			time.Sleep(retry) // of what could not be sent in between
			settle()
			for _, link := range links {
				l.check(t, f, link, plan)
			}
			if t.Failed() {
				t.Fatalf("in round %d", round)
			}
		}
	})
}

// retry is when a packet is sent again that could not be sent.
const retry = 200 * time.Millisecond

// disturb does one thing that may happen at any time.
func (l Language) disturb(t *testing.T, rnd *rand.Rand, a *l2.Announcer, f *fakeNetwork) {
	name := []string{"eth0", "eth1"}[rnd.IntN(2)]
	switch c := f.on(name); rnd.IntN(5) {
	case 0:
		f.set(randomLink(rnd, "eth0", 3), randomLink(rnd, "eth1", 3))
	case 1:
		f.set(randomLink(rnd, name, 3))
	case 2:
		_ = a.Sync(t.Context(), l.randomPlan(rnd)) // it may well fail
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
func randomLink(rnd *rand.Rand, name string, faults int) l2.Link {
	l := l2.Link{Name: name, Index: 1 + rnd.IntN(3), MAC: l2.MAC{2, 0, 0, 0, name[3], byte(rnd.IntN(3))}}
	if faults > 0 && rnd.IntN(faults) == 0 {
		l.Fault = "link is down"
	}
	return l
}

func (l Language) randomPlan(rnd *rand.Rand) speaker.Announcements {
	var lines []string
	for i := range 8 {
		if rnd.IntN(2) == 0 {
			lines = append(lines, fmt.Sprintf("eth%d %d", rnd.IntN(2), i))
		}
	}
	return l.want(lines...)
}

// check asks for every address on a link and looks at what has been said.
func (l Language) check(t *testing.T, f *fakeNetwork, link l2.Link, plan speaker.Announcements) {
	t.Helper()
	c := f.on(link.Name)
	for i := range 16 {
		addr := l.Addr(i)
		claimed := slices.Contains(plan.Claims, speaker.Claim{Addr: l.ip(addr), Link: link.Name})
		if c == nil {
			if claimed {
				t.Errorf("%s on %s is claimed, but no socket is open", addr, link.Name)
			}
			continue
		}
		var reply []string
		if claimed {
			reply = []string{l.Answer(link.MAC, them, addr, l.Addr(99))}
			if said := c.frames(); !slices.Contains(said, l.Greeting(link.MAC, addr)[0]) {
				t.Errorf("%s on %s is not greeted", addr, link.Name)
			}
		}
		if got := c.hear(l.Ask(them, l.Addr(99), addr)); !slices.Equal(got, reply) {
			t.Errorf("%s on %s (claimed: %t) is answered %q, want %q", addr, link.Name, claimed, got, reply)
		}
	}
}
