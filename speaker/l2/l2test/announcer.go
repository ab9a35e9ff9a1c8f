package l2test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/speaker/l2"
)

func (l Language) answers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0, eth1)
		l.mustSync(t, a, "eth0 10 11", "eth1 20", "eth0 "+l.Foreign)
		time.Sleep(time.Minute) // the greetings are over
		c := f.on("eth0")
		for _, p := range l.Promises(us, them) {
			before := a.Stats().Conflicts
			if got := strings.Join(c.hear(p.Frame), "; "); got != p.Reply {
				t.Errorf("%s:\n got %q\nwant %q", p.Name, got, p.Reply)
			}
			if got := a.Stats().Conflicts > before; got != p.conflict() {
				t.Errorf("%s: conflict %t, want %t", p.Name, got, p.conflict())
			}
		}
	})
}

func (l Language) greetsInABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		began := time.Now().Add(checked)
		l.mustSync(t, a, "eth0 10")
		time.Sleep(time.Hour)
		var got, wanted []string
		for _, s := range f.on("eth0").said() {
			got = append(got, fmt.Sprint(s.at.Sub(began), " ", s.frame))
		}
		for _, at := range []string{"0s", "100ms", "400ms", "1.4s", "3.4s"} {
			for _, frame := range l.Greeting(us, l.Addr(10)) {
				wanted = append(wanted, at+" "+frame)
			}
		}
		if diff := cmp.Diff(wanted, got); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
		if got := a.Stats().Greetings; got != uint64(len(wanted)) {
			t.Errorf("counted %d greetings, want %d", got, len(wanted))
		}
	})
}

func (l Language) greetsOnlyWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		steps := []struct {
			name string
			want string
			says []string
		}{
			{"first", "eth0 10", l.Greeting(us, l.Addr(10))},
			{"the same again", "eth0 10", nil},
			{"one more", "eth0 10 11", l.Greeting(us, l.Addr(11))},
			{"one less", "eth0 11", nil},
			{"and back", "eth0 10 11", l.Greeting(us, l.Addr(10))},
			{"given twice", "eth0 10 10 11", nil},
			{"only the second", "eth0 11", nil},
			{"only the first", "eth0 10", l.Greeting(us, l.Addr(10))},
		}
		for _, s := range steps {
			time.Sleep(time.Minute)
			before := len(f.on("eth0").frames())
			l.mustSync(t, a, s.want)
			if diff := cmp.Diff(s.says, f.on("eth0").frames()[before:], equateEmpty); diff != "" {
				t.Errorf("%s (-want +got):\n%s", s.name, diff)
			}
			l.check(t, f, eth0, l.want(s.want))
		}
	})
}

var equateEmpty = cmp.Transformer("nil", func(s []string) string { return strings.Join(s, "\n") })

func (l Language) withdrawnIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10 11")
		time.Sleep(200 * time.Millisecond) // in the middle of the burst
		c := f.on("eth0")
		l.mustSync(t, a, "eth0 11")
		before := len(c.frames())
		time.Sleep(time.Minute)
		for _, frame := range c.frames()[before:] {
			if strings.Contains(frame, l.Addr(10)) {
				t.Errorf("after it was withdrawn: %s", frame)
			}
		}
		if got := c.hear(l.asks(them, 10)); len(got) != 0 {
			t.Errorf("after it was withdrawn: %s", got)
		}
		l.mustSync(t, a)
		if f.on("eth0") != nil {
			t.Errorf("a link without a claim still has a socket")
		}
	})
}

func (l Language) syncBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := l.host(eth0)
		a := l.New(l2.Options{Network: f})
		l.mustSync(t, a, "eth0 10")
		if f.opened != 0 {
			t.Errorf("a socket is open before Run")
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- a.Run(ctx) }()
		settle()
		if diff := cmp.Diff(l.Greeting(us, l.Addr(10)), f.on("eth0").frames()); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
		if f.on("eth0") != nil {
			t.Errorf("a socket is open after Run")
		}
		if err := a.Sync(t.Context(), l.want()); !errors.Is(err, l2.ErrStopped) {
			t.Errorf("Sync() after Run = %v, want %v", err, l2.ErrStopped)
		}
		if err := a.Run(t.Context()); err == nil {
			t.Errorf("a second Run succeeds")
		}
	})
}

func (l Language) errorsNameClaimAndLink(t *testing.T) {
	down, noARP := eth0, eth0
	down.Fault, noARP.Fault = "link is down", "ARP is off on this link"
	tests := []struct {
		name  string
		links []l2.Link
		claim string
		want  string
	}{
		{"link that is not there", nil, "eth9 10", "announcing " + l.Addr(10) + " on eth9: no such link"},
		{"link that is down", []l2.Link{down}, "eth0 10", "announcing " + l.Addr(10) + " on eth0: link is down"},
		{"link without ARP", []l2.Link{noARP}, "eth0 10", "announcing " + l.Addr(10) + " on eth0: ARP is off on this link"},
		{"many claims are cut short", nil, "eth9 5 4 3 2 1",
			"announcing " + strings.Join([]string{l.Addr(1), l.Addr(2), l.Addr(3), l.Addr(4)}, ", ") + " and 1 more on eth9: no such link"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _, _ := l.start(t, tt.links...)
				if err := a.Sync(t.Context(), l.want(tt.claim)); err == nil || err.Error() != tt.want {
					t.Errorf("Sync() = %v, want %s", err, tt.want)
				}
			})
		})
	}
}

func (l Language) oneLinkFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth1)
		err := a.Sync(t.Context(), l.want("eth0 10", "eth1 20"))
		if err == nil || err.Error() != "announcing "+l.Addr(10)+" on eth0: no such link" {
			t.Errorf("Sync() = %v", err)
		}
		settle()
		if diff := cmp.Diff(l.Greeting(also, l.Addr(20)), f.on("eth1").frames()); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
	})
}

func (l Language) failedGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, _ := l.start(t, eth0)
		l.mustSync(t, a, "eth0 10")
		time.Sleep(time.Minute)
		c := f.on("eth0")
		l.mustSync(t, a, "eth0 10 11")
		before := len(c.frames())
		if want := l.Greeting(us, l.Addr(11)); before < len(want) {
			t.Fatalf("said %q, want %q", c.frames(), want)
		}
		time.Sleep(50 * time.Millisecond)
		c.refuseWith(syscall.ENOBUFS)
		time.Sleep(time.Second)
		c.refuseWith(nil)
		time.Sleep(250 * time.Millisecond)
		if diff := cmp.Diff(l.Greeting(us, l.Addr(11)), c.frames()[before:]); diff != "" {
			t.Errorf("greetings (-want +got):\n%s", diff)
		}
		if got := a.Stats().Failures; got != 5 {
			t.Errorf("counted %d failures, want 5", got)
		}
	})
}
