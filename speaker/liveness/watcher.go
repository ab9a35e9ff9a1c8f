package liveness

import (
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/herald-lb/herald/internal/loop"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/bfd"
)

// A Watcher keeps the sessions of one node. New makes one, Run runs it.
type Watcher struct {
	node    string
	tell    func(map[string]snapshot.Contact)
	log     *slog.Logger
	server  *bfd.Server
	changed loop.Bell
	guard   *Guard // of routers; nil if there is none

	mu        sync.Mutex
	links     []snapshot.Link             // of this node
	plan      map[string]bfd.Peer         // of speakers, by node
	routers   map[string]bfd.Peer         // by the name of the BGPPeer
	seen      map[string]bfd.Status       // of routers, as last judged
	contacts  map[string]snapshot.Contact // as last told
	complaint string                      // logged last
	left      bool
}

var _ speaker.Follower = (*Watcher)(nil)

// New returns a Watcher for the speaker of node. It tells what changes, from
// one goroutine at a time; the map is not edited any more.
func New(node string, tell func(map[string]snapshot.Contact), log *slog.Logger) *Watcher {
	w := &Watcher{node: node, tell: tell, log: log, changed: loop.NewBell()}
	w.server = bfd.New(bfd.Options{Changed: w.changed.Ring, Log: log})
	return w
}

// Follow implements [speaker.Follower]: it has sessions with the speakers in s.
// What is wrong with one is logged once; where there is none the Leases count.
func (w *Watcher) Follow(_ context.Context, s snapshot.Snapshot) error {
	next := Plan(s, w.node)
	w.mu.Lock()
	defer w.mu.Unlock()
	keep(next, w.plan, w.server.Sessions())
	w.links = linksOf(s, w.node)
	w.sync(next)
	return nil
}

func linksOf(s snapshot.Snapshot, node string) []snapshot.Link {
	if i := slices.IndexFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == node }); i >= 0 {
		return s.Speakers[i].Links
	}
	return nil
}

// sync has sessions with speakers, and with routers as they are now. mu is held.
func (w *Watcher) sync(speakers map[string]bfd.Peer) {
	routers := map[string]bfd.Peer{}
	if w.guard != nil {
		routers = w.guard.plan(w.links, w.routers, w.server.Sessions())
	}
	if maps.Equal(speakers, w.plan) && maps.Equal(routers, w.routers) {
		return
	}
	w.plan, w.routers = speakers, routers
	text := ""
	if err := w.server.Sync(together(speakers, routers)); err != nil {
		text = err.Error()
	}
	if text != "" && text != w.complaint {
		w.log.Warn("BFD does not watch all other speakers and routers", "err", text)
	}
	w.complaint = text
	w.changed.Ring()
}

// Run keeps the sessions until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.server.Run(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-w.changed:
				w.report()
			}
		}
	})
	return g.Wait()
}

// report tells what has changed.
func (w *Watcher) report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left {
		return // it is us who have closed the sessions
	}
	w.sync(w.plan)
	w.reportRouters()
	next := Contacts(w.plan, w.server.Sessions(), w.contacts)
	if maps.Equal(next, w.contacts) {
		return
	}
	for _, node := range slices.Sorted(maps.Keys(next)) {
		switch was, is := w.contacts[node], next[node]; {
		case was == is:
		case is == snapshot.Lost:
			w.log.Info("a speaker does not answer any more", "of", node)
		case is == snapshot.Left:
			w.log.Info("a speaker leaves", "of", node)
		case is == snapshot.Deaf:
			w.log.Warn("a speaker does not hear us, and we hear it: nothing moves", "of", node)
		case is == snapshot.Reached && was != snapshot.Untried:
			w.log.Info("a speaker answers again", "of", node)
		}
	}
	w.contacts = next
	w.tell(next)
}

// Sessions returns how the sessions are, by the node at the other end, and with
// which address of it.
func (w *Watcher) Sessions() map[string]Session {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, all := w.server.Sessions(), make(map[string]Session, len(w.plan))
	for node, peer := range w.plan {
		all[node] = Session{peer.Addr, w.contacts[node], now[peer.Addr]}
	}
	return all
}

// A Session is a BFD session with the speaker of another node.
type Session struct {
	Addr    netip.Addr
	Contact snapshot.Contact // as last told
	bfd.Status
}

// Hears is [Hears] of what was told last.
func (w *Watcher) Hears() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Hears(w.contacts)
}

// Leave tells the others that this speaker goes, on purpose.
func (w *Watcher) Leave() {
	w.mu.Lock()
	w.left = true
	w.mu.Unlock()
	w.server.Leave()
}
