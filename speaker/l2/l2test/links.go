package l2test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/speaker/l2"
)

// rest is how long a link rests whose socket has failed though the link itself
// is well.
const rest = 100 * time.Millisecond

// No Sync is needed: the links themselves ring.
func (l Language) linkThatChanges(t *testing.T) {
	down, moved, reborn := eth0, eth0, eth0
	down.Fault = "link is down"
	moved.MAC = l2.MAC{2, 0, 0, 0, 0, 5}
	reborn.Index = 17
	ask := l.asks(them, 10)
	tests := []struct {
		name   string
		states []l2.Link
	}{
		{"down and up", []l2.Link{down, eth0}},
		{"new hardware address", []l2.Link{moved}},
		{"gone and made anew", []l2.Link{{}, reborn}},
		{"replaced between two readings", []l2.Link{reborn}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, f, _ := l.start(t, eth0)
				l.mustSync(t, a, "eth0 10")
				time.Sleep(time.Minute)
				for _, l := range tt.states {
					f.set(l)
				}
				settle()
				last := tt.states[len(tt.states)-1]
				c := f.on("eth0")
				if c == nil {
					t.Fatal("no socket is open")
				}
				if diff := cmp.Diff(l.Greeting(last.MAC, l.Addr(10)), c.frames()); diff != "" {
					t.Errorf("greetings (-want +got):\n%s", diff)
				}
				reply := l.Answer(last.MAC, them, l.Addr(10), l.Addr(1))
				if got := c.hear(ask); !slices.Equal(got, []string{reply}) {
					t.Errorf("asked, says %s, want %s", got, reply)
				}
			})
		})
	}
}

func (l Language) unrelatedLinkEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10")
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

func (l Language) socketThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10")
		for i := range 3 {
			f.on("eth0").failed <- syscall.ENETDOWN
			synctest.Wait()
			if i > 0 { // the first time nobody but the reader says so
				err := a.Sync(t.Context(), l.want("eth0 10"))
				if !errors.Is(err, syscall.ENETDOWN) {
					t.Errorf("Sync() while the link rests = %v, want ENETDOWN", err)
				}
			}
			time.Sleep(rest)
			settle()
			if c := f.on("eth0"); c == nil || f.opened != i+2 {
				t.Fatalf("after failure %d: %d sockets opened", i+1, f.opened)
			} else if diff := cmp.Diff(l.Greeting(us, l.Addr(10)), c.frames()); diff != "" {
				t.Errorf("greetings (-want +got):\n%s", diff)
			}
		}
	})
}

func (l Language) unreadableLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10")
		f.mu.Lock()
		f.err = syscall.EPERM
		f.mu.Unlock()
		f.set()
		f.set()
		if err := a.Sync(t.Context(), l.want("eth0 10")); !errors.Is(err, syscall.EPERM) {
			t.Errorf("Sync() = %v, want EPERM", err)
		}
		if got := f.on("eth0").hear(l.asks(them, 10)); len(got) != 1 {
			t.Errorf("asked, says %s, want one reply", got)
		}
		if got := log.messages(); len(got) != 1 {
			t.Errorf("log %q, want one complaint", got)
		}
	})
}

// Switches forward questions only to those who listen.
func (l Language) listensToGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0, eth1)
		steps := []struct{ claims, groups string }{
			{"eth0 10", "10"},
			{"eth0 10 11", "10 11"},
			{"eth0 10 11 " + l.Twin(10), "10 11"},
			{"eth0 11 " + l.Twin(10), "10 11"}, // the other one is still there
			{"eth0 11", "11"},
			{"eth0 12", "12"},
		}
		for _, s := range steps {
			l.mustSync(t, a, s.claims, "eth1 20")
			if got := f.on("eth0").listensTo(); !slices.Equal(got, l.groups(s.groups)) {
				t.Errorf("with %s: listens to %v, want %s", s.claims, got, s.groups)
			}
		}
		f.set(eth1, l2.Link{Name: "eth0", Index: 17, MAC: us}) // made anew
		if got := f.on("eth0").listensTo(); !slices.Equal(got, l.groups("12")) {
			t.Errorf("made anew: listens to %v, want 12", got)
		}
	})
}

func (l Language) groups(of string) (groups []netip.Addr) {
	for _, n := range strings.Fields(of) {
		groups = append(groups, netip.MustParseAddr(l.Group(l.ip(n).String())))
	}
	return groups
}
