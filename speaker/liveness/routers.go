package liveness

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/bfd"
)

// A Guarded is a Router that wants to know what BFD says of its sessions. Its methods
// do not block.
type Guarded interface {
	speaker.Router
	// Down ends a session at once: BFD has lost the router (RFC 5882 §4.2).
	Down(name string)
	// Up says that the router is there: it is worth a try.
	Up(name string)
}

// A Guard is a Router whose sessions a Watcher watches, those that want it.
type Guard struct {
	Guarded
	watcher *Watcher
	changed func()

	mu   sync.Mutex
	want speaker.Routing // of the last Sync, without routes
}

var _ speaker.Router = (*Guard)(nil)

// Guard has the Watcher watch the sessions of r, by way of the Guard that it returns.
// It is to be called once, before Run. What changes of the states of r has to be said
// to Look; what changes of those of the Guard beside is told by changed, which does not block.
func (w *Watcher) Guard(r Guarded, changed func()) *Guard {
	w.guard = &Guard{Guarded: r, watcher: w, changed: changed}
	return w.guard
}

// Look has the Watcher look at the sessions of routers anew. It never blocks.
func (w *Watcher) Look() { w.changed.Ring() }

// Sync implements [speaker.Router].
func (g *Guard) Sync(ctx context.Context, want speaker.Routing) error {
	err := g.Guarded.Sync(ctx, want)
	g.mu.Lock()
	was := g.want.Sessions
	g.want = want
	g.mu.Unlock()
	if !slices.EqualFunc(was, want.Sessions, func(a, b speaker.Session) bool { return a.Name == b.Name && a.BFD == b.BFD }) {
		g.watcher.Look()
	}
	if !maps.Equal(warnings(was), warnings(want.Sessions)) {
		g.changed()
	}
	return err
}

// warnings returns those of sessions, by name.
func warnings(sessions []speaker.Session) map[string]string {
	all := map[string]string{}
	for _, s := range sessions {
		if s.Warning != "" {
			all[s.Name] = s.Warning
		}
	}
	return all
}

// States implements [speaker.Router], and says how BFD is, and what is wrong with sessions
// as they are wanted.
func (g *Guard) States() []speaker.SessionState {
	states := g.Guarded.States()
	watched := g.watcher.routersNow()
	g.mu.Lock()
	warning := warnings(g.want.Sessions)
	g.mu.Unlock()
	for i := range states {
		st := &states[i]
		if s, ok := watched[st.Name]; ok {
			*st = withBFD(*st, s, time.Now())
		}
		if words := warning[st.Name]; words != "" {
			st.Err = strings.TrimPrefix(st.Err+"; "+words, "; ")
		}
	}
	return states
}

// patience is how long a router has to begin with BFD before it is said that it does not.
const patience = 5 * time.Second

// withBFD adds to the state of a session how BFD is, and what is wrong with it.
func withBFD(st speaker.SessionState, b bfd.Status, now time.Time) speaker.SessionState {
	st.BFD = b.State.String()
	if !st.Up || st.Err != "" || b.State == bfd.Up || now.Sub(b.Since) < patience {
		return st
	}
	switch {
	case b.RemoteState == bfd.AdminDown:
		st.Err = fmt.Sprintf("BFD does not watch the session: the router has taken it down: has it BFD, not shut down, for its neighbour %s?", st.Local)
	case b.Err != "" && !strings.HasSuffix(b.Err, "connection refused"):
		st.Err = "BFD does not watch the session: " + b.Err
	case b.RemoteDiscriminator != 0:
		st.Err = "BFD does not watch the session: the router does not hear this node's packets: a filter drops them"
	default:
		st.Err = fmt.Sprintf("BFD does not watch the session: the router does not answer: has it BFD for its neighbour %s?", st.Local)
	}
	return st
}

// plan returns whom to have BFD sessions with, by the name of the BGPPeer. last is what
// it returned before, and sessions are those of BFD: while its BGP session is up a
// router is watched as it was.
func (g *Guard) plan(own []snapshot.Link, last map[string]bfd.Peer, sessions map[netip.Addr]bfd.Status) map[string]bfd.Peer {
	g.mu.Lock()
	want := g.want
	g.mu.Unlock()
	states := g.Guarded.States()
	plan := PlanRouters(want, states, own)
	for _, st := range states {
		if was, ok := last[st.Name]; ok && st.Up { // what is not up may come up another way
			keep(plan, map[string]bfd.Peer{st.Name: was}, sessions)
		}
	}
	return plan
}

// PlanRouters returns with which routers to have BFD sessions, by the name of the BGPPeer:
// those whose session wants it and has come up once, from the address that it has
// come up with. Which hops BFD goes is for both ends to know (RFC 5881, 5883):
// as routers do it, it is for a neighbour where the session is, or its router is
// on a link of this node, one of own. They are Lasting: that this speaker leaves BGP tells
// them, once they have found other ways, and some take AdminDown for a loss.
func PlanRouters(want speaker.Routing, states []speaker.SessionState, own []snapshot.Link) map[string]bfd.Peer {
	plan := map[string]bfd.Peer{}
	for _, s := range want.Sessions {
		i := slices.IndexFunc(states, func(st speaker.SessionState) bool { return st.Name == s.Name })
		if s.BFD.Interval == 0 || i < 0 || !states[i].Addr.IsValid() || !states[i].Local.IsValid() {
			continue
		}
		st := states[i]
		far := s.Hops > 1 || st.PeerASN == s.LocalASN && !near(own, st.Addr)
		plan[s.Name] = bfd.Peer{
			Addr: st.Addr, Local: st.Local, Multihop: far && !st.Addr.IsLinkLocalUnicast(),
			MinTx: s.BFD.Interval, MinRx: s.BFD.Interval, Multiplier: s.BFD.Multiplier,
			Lasting: true,
		}
	}
	return plan
}

// together returns one peer for each address. Where several are to be watched at one, it is
// as fast as the fastest wants it; of those that go other ways the first by name
// counts, speakers before routers.
func together(speakers, routers map[string]bfd.Peer) []bfd.Peer {
	all := make(map[netip.Addr]bfd.Peer, len(speakers)+len(routers))
	for _, plan := range []map[string]bfd.Peer{speakers, routers} {
		for _, name := range slices.Sorted(maps.Keys(plan)) {
			p := plan[name]
			if was, ok := all[p.Addr]; ok {
				p = merge(was, p)
			}
			all[p.Addr] = p
		}
	}
	return slices.Collect(maps.Values(all))
}

// merge returns a with what b wants that a does not.
func merge(a, b bfd.Peer) bfd.Peer {
	if b.MinTx*time.Duration(b.Multiplier) < a.MinTx*time.Duration(a.Multiplier) {
		a.MinTx, a.MinRx, a.Multiplier = b.MinTx, b.MinRx, b.Multiplier
	}
	a.Lasting = a.Lasting || b.Lasting
	return a
}

// A verdict is what a change of a BFD session means for that which it watches.
type verdict uint8

const (
	asBefore verdict = iota
	lost             // the way to the router is down
	back             // it is there again
)

// judge compares a BFD session with what it was. That a router has taken BFD down
// on purpose says nothing of the way to it (RFC 5882 §3.2).
func judge(was, is bfd.Status) verdict {
	if was.Discriminator != is.Discriminator { // it is another
		was = bfd.Status{}
	}
	switch {
	case is.State == bfd.Up && is.Losses == was.Losses:
		if was.State != bfd.Up {
			return back
		}
	case is.State == bfd.Up: // it was away, and we have not seen it
		return lost
	case was.State == bfd.Up && is.RemoteState != bfd.AdminDown:
		return lost
	}
	return asBefore
}

// reportRouters tells the guarded what has changed. mu is held.
func (w *Watcher) reportRouters() {
	if w.guard == nil {
		return
	}
	now, seen := w.server.Sessions(), make(map[string]bfd.Status, len(w.routers))
	for _, name := range slices.Sorted(maps.Keys(w.routers)) {
		is := now[w.routers[name].Addr]
		seen[name] = is
		if w.seen[name].State != is.State || w.seen[name].Discriminator != is.Discriminator {
			w.guard.changed()
			time.AfterFunc(patience, w.guard.changed) // there may be something to say of it then
		}
		switch judge(w.seen[name], is) {
		case lost:
			w.log.Warn("BFD has lost a router: its session ends", "peer", name, "router", w.routers[name].Addr, "why", is.Diag, "router says", is.RemoteDiag)
			w.guard.Down(name)
		case back:
			w.guard.Up(name)
		}
	}
	w.seen = seen
}

// routersNow returns how the BFD sessions with routers are, by the name of the BGPPeer.
func (w *Watcher) routersNow() map[string]bfd.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, all := w.server.Sessions(), make(map[string]bfd.Status, len(w.routers))
	for name, p := range w.routers {
		if s, ok := now[p.Addr]; ok {
			all[name] = s
		}
	}
	return all
}
