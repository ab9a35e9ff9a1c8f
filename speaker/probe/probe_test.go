package probe

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/icmp"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A fake answers for the addresses that are up.
type fake struct {
	mu    sync.Mutex
	up    map[netip.Addr]bool
	asked map[netip.Addr]int
	err   error
}

func (f *fake) Ping(_ context.Context, addr netip.Addr, within time.Duration) (bool, error) {
	f.mu.Lock()
	up, err := f.up[addr], f.err
	f.asked[addr]++
	f.mu.Unlock()
	if !up {
		time.Sleep(within) // nobody answers: fake time
	}
	return up && err == nil, err
}

func (f *fake) set(addr netip.Addr, up bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up[addr] = up
}

var (
	one4 = netip.MustParseAddr("192.0.2.11")
	two4 = netip.MustParseAddr("192.0.2.12")
)

func lost(node string, tunnels ...netip.Addr) snapshot.Speaker {
	return snapshot.Speaker{Node: node, Tunnels: tunnels}
}

// probed runs play beside a Prober, in fake time.
func probed(t *testing.T, f *fake, play func(p *Prober, rang *atomic.Int32)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var rang atomic.Int32
		p := New(f, func() { rang.Add(1) }, slog.New(slog.DiscardHandler))
		done := make(chan error)
		go func() { done <- p.Run(ctx) }()
		play(p, &rang)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// What a node's administrator has to know is said once.
func TestWhatBecomesOfANodeIsSaidOnce(t *testing.T) {
	f := newFake()
	var said strings.Builder
	probed(t, f, func(p *Prober, _ *atomic.Int32) {
		p.Log = slog.New(slog.NewTextHandler(&said, nil))
		speakers := []snapshot.Speaker{lost("n1", one4)}
		for range 3 {
			p.Judge(speakers, nil)
			time.Sleep(10 * time.Second)
		}
		f.set(one4, true)
		time.Sleep(10 * time.Second)
		p.Judge(nil, nil)
		p.Judge(nil, nil)
	})
	for _, want := range []string{"a speaker is lost", "a node is dead", "a node lives", "a speaker is not lost"} {
		if n := strings.Count(said.String(), want); n != 1 {
			t.Errorf("%q is said %d times:\n%s", want, n, said.String())
		}
	}
}

func newFake(up ...netip.Addr) *fake {
	f := &fake{up: map[netip.Addr]bool{}, asked: map[netip.Addr]int{}}
	for _, a := range up {
		f.up[a] = true
	}
	return f
}

func TestANodeThatAnswersIsNotDead(t *testing.T) {
	f := newFake(one4)
	probed(t, f, func(p *Prober, rang *atomic.Int32) {
		speakers := []snapshot.Speaker{lost("n1", one4)}
		for range 20 {
			if got := p.Judge(speakers, nil); got[0].Dead {
				t.Fatal("it is taken for dead")
			}
			time.Sleep(time.Second)
		}
		if rang.Load() > 0 {
			t.Error("it rings for no news")
		}
	})
}

func TestANodeThatDoesNotAnswerIsDeadWithinASecondAndComesBack(t *testing.T) {
	f := newFake(one4)
	probed(t, f, func(p *Prober, rang *atomic.Int32) {
		speakers := []snapshot.Speaker{lost("n1", one4), lost("n2", two4)}
		if got := p.Judge(speakers, nil); got[1].Dead {
			t.Error("a node is taken for dead before it was asked")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := p.Judge(speakers, nil); got[0].Dead || !got[1].Dead || rang.Load() != 1 {
			t.Errorf("after a second: %+v, rang %d times", got, rang.Load())
		}
		f.set(two4, true)
		time.Sleep(time.Second)
		synctest.Wait()
		if got := p.Judge(speakers, nil); got[1].Dead || rang.Load() != 2 {
			t.Errorf("it is back: %+v, rang %d times", got, rang.Load())
		}
	})
}

func TestNobodyIsPingedWhoseSpeakerIsHeard(t *testing.T) {
	f := newFake(one4)
	probed(t, f, func(p *Prober, _ *atomic.Int32) {
		p.Judge([]snapshot.Speaker{lost("n1", one4)}, nil)
		time.Sleep(time.Second)
		p.Judge(nil, nil)
		time.Sleep(time.Second)
		before := f.asked[one4]
		time.Sleep(time.Minute)
		if f.asked[one4] != before || before == 0 {
			t.Errorf("asked %d times, then %d", before, f.asked[one4])
		}
	})
}

func TestANodeWithoutTunnelsIsAskedAtItsInternalAddress(t *testing.T) {
	f := newFake(one4)
	probed(t, f, func(p *Prober, _ *atomic.Int32) {
		nodes := []snapshot.Node{{Name: "n1", Internal: []netip.Addr{two4, one4}}}
		speakers := []snapshot.Speaker{lost("n1"), lost("n9")}
		p.Judge(speakers, nodes)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := p.Judge(speakers, nodes); got[0].Dead || !got[1].Dead {
			t.Errorf("judged %+v, want n1 alive by its second address, n9 dead for want of one", got)
		}
	})
}

func TestWhoCannotPingTakesLostNodesForDead(t *testing.T) {
	f := newFake(one4)
	f.err = errors.New("operation not permitted")
	probed(t, f, func(p *Prober, _ *atomic.Int32) {
		speakers := []snapshot.Speaker{lost("n1", one4)}
		p.Judge(speakers, nil)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := p.Judge(speakers, nil); !got[0].Dead {
			t.Errorf("judged %+v, want dead", got)
		}
	})
}

// Who compares snapshots by their place must not see news where there are none.
func TestTheSameJudgementIsTheSameSlice(t *testing.T) {
	p := New(newFake(), func() {}, slog.New(slog.DiscardHandler))
	speakers := []snapshot.Speaker{lost("n1", one4)}
	a, b := p.Judge(speakers, nil), p.Judge(speakers, nil)
	if &a[0] != &b[0] {
		t.Error("two judgements of the same are two slices")
	}
	p.fails["n1"] = attempts
	if c := p.Judge(speakers, nil); &c[0] == &b[0] || b[0].Dead || !c[0].Dead {
		t.Errorf("news: %+v, before %+v", c, b)
	}
}

func FuzzReply(f *testing.F) {
	ask := icmp.Echo{ID: 1, Seq: 2}
	good, err := (&icmp.Message{Type: family4.reply, Body: &ask}).Marshal(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, fam := range []family{family4, family6} {
			if fam.isReply(packet, ask) && len(packet) < 8 {
				t.Errorf("%v is taken for a reply", packet)
			}
		}
	})
}
