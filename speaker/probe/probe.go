// Package probe finds out whether a node whose speaker has fallen silent is
// dead, or only its speaker: it pings the node (RFC 792, RFC 4443 §4.1), whose
// kernel answers as long as it runs.
//
// It decides nothing but that, and pings nobody whose speaker is heard.
package probe

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// What is asked of a node: so many times in a row, so long apart, before it is
// taken for dead.
const (
	attempts = 4
	every    = 150 * time.Millisecond
)

// A Pinger asks an address whether it is there.
type Pinger interface {
	// Ping returns whether addr answers within the time.
	Ping(ctx context.Context, addr netip.Addr, within time.Duration) (bool, error)
}

// A Prober watches the nodes whose speakers are lost. Judge belongs to the
// goroutine of the pass; Run is the only one that pings.
type Prober struct {
	Pinger Pinger
	Ring   func() // called when a node was found dead, or is back
	Log    *slog.Logger

	mu    sync.Mutex
	nodes map[string][]netip.Addr // to watch, by name: where each can be asked
	fails map[string]int          // how often in a row each has not answered
	wake  chan struct{}

	last, from []snapshot.Speaker // what Judge has returned last, and for what
}

// New returns a Prober that pings nobody before Run.
func New(p Pinger, ring func(), log *slog.Logger) *Prober {
	return &Prober{Pinger: p, Ring: ring, Log: log, nodes: map[string][]netip.Addr{}, fails: map[string]int{}, wake: make(chan struct{}, 1)}
}

// Judge returns lost with what is known of their nodes, and has those watched
// from now on, and no others. A node that has no address is dead.
func (p *Prober) Judge(lost []snapshot.Speaker, nodes []snapshot.Node) []snapshot.Speaker {
	watch := map[string][]netip.Addr{}
	for _, sp := range lost {
		watch[sp.Node] = addresses(sp, nodes)
	}
	p.mu.Lock()
	p.tell(watch)
	p.nodes = watch
	maps.DeleteFunc(p.fails, func(node string, _ int) bool { _, ok := watch[node]; return !ok })
	next := slices.Clone(lost)
	for i := range next {
		next[i].Dead = len(watch[next[i].Node]) == 0 || p.fails[next[i].Node] >= attempts
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	same := slices.EqualFunc(next, p.last, func(a, b snapshot.Speaker) bool { return a.Dead == b.Dead })
	if !same || !one(lost, p.from) {
		p.last, p.from = next, lost
	}
	return p.last // the same slice for the same answer
}

// tell says whose speakers are lost that were not before, and no more.
func (p *Prober) tell(watch map[string][]netip.Addr) {
	for _, node := range slices.Sorted(maps.Keys(watch)) {
		if _, ok := p.nodes[node]; !ok {
			p.Log.Info("a speaker is lost: its node is asked whether it lives", "of", node)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(p.nodes)) {
		if _, ok := watch[node]; !ok {
			p.Log.Info("a speaker is not lost any more", "of", node)
		}
	}
}

func one(a, b []snapshot.Speaker) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// addresses are where a node can be asked: where it takes tunnels, or else by
// its Node object.
func addresses(sp snapshot.Speaker, nodes []snapshot.Node) []netip.Addr {
	if len(sp.Tunnels) > 0 {
		return sp.Tunnels
	}
	i := slices.IndexFunc(nodes, func(n snapshot.Node) bool { return n.Name == sp.Node })
	if i < 0 {
		return nil
	}
	return nodes[i].Internal
}

// Run pings until ctx ends.
func (p *Prober) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		nodes := p.watched()
		if len(nodes) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-p.wake:
			}
			continue
		}
		if p.round(ctx, nodes) {
			p.Ring()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *Prober) watched() map[string][]netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.nodes)
}

// round asks every node once, all at one time, and reports whether any was
// found dead or is back.
func (p *Prober) round(ctx context.Context, nodes map[string][]netip.Addr) (changed bool) {
	var asking sync.WaitGroup
	for node, addrs := range nodes {
		asking.Go(func() {
			answered := p.answers(ctx, node, addrs)
			p.mu.Lock()
			defer p.mu.Unlock()
			was := p.fails[node] >= attempts
			p.fails[node]++
			if answered {
				p.fails[node] = 0
			}
			switch is := p.fails[node] >= attempts; {
			case was == is || ctx.Err() != nil:
				return
			case is:
				p.Log.Warn("a node is dead: new connections avoid it", "of", node)
			default:
				p.Log.Info("a node lives after all", "of", node)
			}
			changed = true
		})
	}
	asking.Wait()
	return changed
}

// answers is whether any address of a node does. If asking fails, for want of
// the right to or of a route, that is no answer.
func (p *Prober) answers(ctx context.Context, node string, addrs []netip.Addr) bool {
	for _, a := range addrs {
		ok, err := p.Pinger.Ping(ctx, a, every)
		if err != nil {
			p.Log.Debug("pinging a node", "node", node, "addr", a, "err", err)
		}
		if ok {
			return true
		}
	}
	return false
}
