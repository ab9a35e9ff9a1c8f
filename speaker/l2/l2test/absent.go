package l2test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-lb/herald/speaker"
)

// To ask for hundreds of addresses may take longer than what others are taken for
// dead after. Who took himself for absent for that would begin again and again.
func (l Language) busyIsNotAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := l.host(eth0)
		f.slow = 2 * time.Millisecond
		a, log := l.runOn(t, f)
		line, many := "eth0", 200
		for i := range many {
			line += fmt.Sprint(" ", 10+i)
		}
		announce(t, a, l.want(line))
		pass(10 * time.Second)
		if got := a.Stats().Answered; got != many {
			t.Errorf("%d of %d addresses are answered for", got, many)
		}
		if got := log.messages(); len(got) > 0 {
			t.Errorf("log %q", got)
		}
	})
}

// A process that was stopped finds in its sockets what others said meanwhile. By
// then it does not hold any more, and nothing must come of it: neither is an
// address taken without a question, because a speaker that was well then had it,
// nor is one given up.
func (l Language) whatCameMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := l.start(t, eth0)
		want := l.want("eth0 10")
		want.Node, want.Peers = "n1", []speaker.Peer{{Node: "n2", MACs: [][6]byte{them}, Alive: true}}
		if err := a.Sync(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		old := f.on("eth0")
		f.mu.Lock()
		f.stall = 2 * time.Second
		f.mu.Unlock()
		f.ring()
		time.Sleep(time.Second)
		if said := old.hear(l.Claim(them, l.Addr(10))); len(said) > 0 {
			t.Errorf("says %q while it is not there", said)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		c := f.on("eth0")
		if c == old {
			t.Fatal("it listens to the old socket still")
		}
		if said := c.hear(l.asks(them, 10)); len(said) > 0 || len(c.said()) > 0 {
			t.Errorf("says %q before it has asked", c.frames())
		}
		settle()
		if said := c.hear(l.asks(them, 10)); !slices.Equal(said, []string{l.Answer(us, them, l.Addr(10), l.Addr(1))}) {
			t.Errorf("says %q once it has asked and nobody has answered", said)
		}
		if got := log.messages(); len(got) != 1 {
			t.Errorf("log %q, want that it was not there, and nothing else", got)
		}
	})
}

// A peer whose cable was out for a moment is heard again before he is known to have
// the link again: he takes what he takes as ever.
func (l Language) peerWithoutLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, f, log := l.start(t, eth0)
		want := l.want("eth0 10")
		want.Node = "n1"
		for _, macs := range [][][6]byte{{them}, nil} {
			want.Peers = []speaker.Peer{{Node: "n2", MACs: macs, Alive: true}}
			if err := a.Sync(t.Context(), want); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		c := f.on("eth0")
		if said := c.hear(l.Claim(them, l.Addr(10))); len(said) > 0 {
			t.Errorf("defends it against a peer: %q", said)
		}
		if said := c.hear(l.asks(them, 10)); len(said) > 0 {
			t.Errorf("answers for what a peer has taken: %q", said)
		}
		if s := a.Stats(); s.Conflicts != 0 || len(s.Disputes) != 0 {
			t.Errorf("counted %d conflicts, disputes %v; log %q", s.Conflicts, s.Disputes, log.messages())
		}

		want.Peers = nil
		if err := a.Sync(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		c.hear(l.Claim(them, l.Addr(10)))
		if s := a.Stats(); s.Conflicts != 1 {
			t.Errorf("counted %d conflicts with one that is no peer any more, want 1", s.Conflicts)
		}
	})
}
