package l2test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
)

// A segment joins the links eth0 of several hosts, each with an Announcer. Frames
// take a moment, a different one each time, but none passes another. It can be
// parted.
type segment struct {
	l     Language
	hosts []*host

	mu    sync.Mutex
	rnd   *rand.Rand
	deaf  int                  // the host that hears no other; -1 for none
	heard map[string]string    // who gave each answer to a client, as a frame
	last  map[[2]int]time.Time // when the last frame of each host to each other comes in
}

// A host is a node on a segment.
type host struct {
	index int
	node  string
	link  l2.Link
	net   *fakeNetwork
	side  int // of the segment, where it is parted; segment.mu guards it

	a     *l2.Announcer // nil while it is dead
	stop  func()
	ended chan error
}

// segment returns one with n hosts, none of which runs.
func (l Language) segment(seed uint64, n int) *segment {
	s := &segment{l: l, deaf: -1, rnd: rand.New(rand.NewPCG(seed, 3)), heard: map[string]string{}, last: map[[2]int]time.Time{}}
	for i := range n {
		h := &host{
			index: i, node: fmt.Sprintf("n%d", i+1),
			link: l2.Link{Name: "eth0", Index: 2, MAC: l2.MAC{2, 0, 0, 0, 1, byte(i + 1)}},
		}
		h.net = l.host(h.link)
		h.net.wire = func(_ *fakeConn, frame []byte) { s.carry(h, frame) }
		s.hosts = append(s.hosts, h)
	}
	return s
}

// carry brings a frame to those whom it is for, on its side.
func (s *segment) carry(from *host, frame []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := l2.MAC(frame)
	if to == them {
		s.heard[s.l.Text(frame)] = from.node
		return
	}
	for _, h := range s.hosts {
		if h == from || h.index == s.deaf || h.side != from.side || to != h.link.MAC && !to.Group() {
			continue
		}
		way := [2]int{from.index, h.index}
		at := time.Now().Add(100*time.Microsecond + time.Duration(s.rnd.Int64N(int64(3*time.Millisecond))))
		if last := s.last[way]; !at.After(last) {
			at = last.Add(time.Microsecond)
		}
		s.last[way] = at
		time.AfterFunc(time.Until(at), func() {
			if c := h.net.on("eth0"); c != nil && s.joined(from, h) {
				c.deliver(frame)
			}
		})
	}
}

// joined is whether what a host says comes to another.
func (s *segment) joined(a, b *host) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return a.side == b.side && b.index != s.deaf
}

// part puts each host on a side.
func (s *segment) part(sides ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range s.hosts {
		h.side = sides[i]
	}
}

// deafen makes one host hear no other any more; -1 for none.
func (s *segment) deafen(host int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = host
}

func (s *segment) heal() { s.part(make([]int, len(s.hosts))...) }

// boot runs a new Announcer on a host, until halt or the end of the test.
func (s *segment) boot(t *testing.T, h *host) {
	t.Helper()
	h.a = s.l.New(l2.Options{Log: slog.New(slog.DiscardHandler), Network: h.net})
	ctx, stop := context.WithCancel(t.Context())
	a, ended := h.a, make(chan error, 1)
	h.stop, h.ended = stop, ended
	go func() { ended <- a.Run(ctx) }()
	<-a.Started()
	t.Cleanup(func() { s.halt(t, h) })
}

// halt ends the Announcer of a host, without a word to anybody.
func (s *segment) halt(t *testing.T, h *host) {
	t.Helper()
	if h.a == nil {
		return
	}
	h.stop()
	if err := <-h.ended; err != nil {
		t.Errorf("%s: Run() = %v", h.node, err)
	}
	h.a = nil
}

// peersOf are the others, as h takes them to be.
func (s *segment) peersOf(h *host, alive func(*host) bool) (peers []speaker.Peer) {
	for _, o := range s.hosts {
		if o != h {
			peers = append(peers, speaker.Peer{Node: o.node, MACs: [][6]byte{o.link.MAC}, Alive: alive(o)})
		}
	}
	return peers
}

// ask asks every host at once, whatever its side, and returns who answers for
// each address, sorted. It takes no time.
func (s *segment) ask(numbers []int) map[int][]string {
	s.mu.Lock()
	clear(s.heard)
	s.mu.Unlock()
	for _, h := range s.hosts {
		c := h.net.on("eth0")
		if c == nil {
			continue
		}
		for _, n := range numbers {
			c.deliver(s.l.asks(them, n))
		}
	}
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := map[int][]string{}
	for _, h := range s.hosts {
		for _, n := range numbers {
			if s.heard[s.l.Answer(h.link.MAC, them, s.l.Addr(n), s.l.Addr(1))] == h.node {
				answer[n] = append(answer[n], h.node)
			}
		}
	}
	return answer
}
