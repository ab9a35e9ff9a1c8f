package kube

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A census is who is alive and who is lost, by the last judgement of peers. It is safe for
// concurrent use. Its methods that may lead to another judgement report
// whether they did.
type census struct {
	log *slog.Logger

	mu    sync.Mutex
	peers *peers
	last  judgement // replaced whole, never edited
}

func newCensus(o Options) *census { return &census{log: o.Log, peers: newPeers(o.Node)} }

// judged returns the last judgement.
func (c *census) judged() judgement {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// observe takes in a Lease as the watch brought it.
func (c *census) observe(l *coordinationv1.Lease, now time.Time) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.peers.observe(l, now); err != nil {
		c.log.Warn("a speaker is passed over", "err", err)
	}
	return c.judgeLocked(now)
}

// forget drops a Lease that is gone.
func (c *census) forget(lease string, now time.Time) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers.forget(lease)
	return c.judgeLocked(now)
}

// meet takes in what is known of speakers by their BFD sessions.
func (c *census) meet(contacts map[string]snapshot.Contact, now time.Time) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers.meet(contacts, now)
	return c.judgeLocked(now)
}

// recall takes in who was known at an earlier time, and what this speaker is now,
// and returns the judgement.
func (c *census) recall(self snapshot.Speaker, others []snapshot.Speaker, now time.Time) judgement {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.peers.recalledAt.IsZero() {
		c.peers.recalledAt = now
	}
	c.peers.recalled, c.peers.recalledSelf = others, self
	c.judgeLocked(now)
	return c.last
}

// judge looks anew at all speakers.
func (c *census) judge(now time.Time) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.judgeLocked(now)
}

func (c *census) judgeLocked(now time.Time) (changed bool) {
	next := c.peers.judge(now)
	changed = !equalSpeakers(next.alive, c.last.alive) || !equalSpeakers(next.lost, c.last.lost)
	c.tell(next)
	if changed { // who has the last one may tell by its place that it is the same
		c.last = next
	}
	return changed
}

// tell logs to whom this node has become deaf.
func (c *census) tell(next judgement) {
	for _, sp := range next.alive {
		was := slices.ContainsFunc(c.last.alive, func(o snapshot.Speaker) bool { return o.Node == sp.Node && o.Unheard })
		if sp.Unheard && !was {
			c.log.Warn("a speaker hears us, and we do not hear it: nothing is taken from it", "of", sp.Node)
		}
	}
}

func equalSpeakers(a, b []snapshot.Speaker) bool {
	sameLink := func(x, y snapshot.Link) bool {
		return x.Name == y.Name && x.MAC == y.MAC && x.Unsteady == y.Unsteady && slices.Equal(x.Prefixes, y.Prefixes)
	}
	return slices.EqualFunc(a, b, func(x, y snapshot.Speaker) bool {
		return x.Node == y.Node && x.DataPath == y.DataPath && x.Leaving == y.Leaving && x.Stale == y.Stale && x.BFD == y.BFD &&
			x.Deaf == y.Deaf && x.Unheard == y.Unheard &&
			slices.EqualFunc(x.Links, y.Links, sameLink) &&
			slices.Equal(x.Tunnels, y.Tunnels) && slices.Equal(x.Lacks, y.Lacks)
	})
}
