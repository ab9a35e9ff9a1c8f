package bgp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/herald-lb/herald/speaker"
)

// Options are what a Speaker is made from.
type Options struct {
	Log *slog.Logger // nil: nothing is logged
	// Changed is called after any change of what States returns, but for the
	// count of what routers offer; nil if nobody wants to know. It must not block.
	Changed func()
}

// A Speaker keeps one session with each router. New makes one, Run runs it.
type Speaker struct {
	log     *slog.Logger
	changed func()

	mu       sync.Mutex
	want     map[string]speaker.Session // by name; what Run begins with; replaced whole, never edited
	sessions map[string]*kept
	refused  map[string]error // what of the last Sync cannot be done, by name
	run      context.Context  // of Run; nil before it
	ended    bool
	running  sync.WaitGroup
}

// A kept is a session with what ends it.
type kept struct {
	*session
	end context.CancelCauseFunc
}

var _ speaker.Router = (*Speaker)(nil)

// New returns a Speaker without sessions. It opens and starts nothing.
func New(o Options) *Speaker {
	s := &Speaker{log: o.Log, changed: o.Changed, want: map[string]speaker.Session{}, sessions: map[string]*kept{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.changed == nil {
		s.changed = func() {}
	}
	return s
}

// Run keeps the sessions until ctx ends. Then routers are told that this
// speaker stops; those that keep our routes meanwhile (GracefulRestart) just
// lose the connection. It can be run once.
func (s *Speaker) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.run != nil {
		s.mu.Unlock()
		return errors.New("running the BGP speaker twice")
	}
	// The sessions end by a cause of their own.
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s.run = inner
	for _, w := range s.want {
		s.open(w)
	}
	s.mu.Unlock()

	<-ctx.Done()
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	cancel(errLeaving)
	s.running.Wait()
	return nil
}

// open starts a session.
func (s *Speaker) open(w speaker.Session) {
	ctx, end := context.WithCancelCause(s.run)
	k := &kept{newSession(w, s.log, s.changed), end}
	s.sessions[w.Name] = k
	s.running.Go(func() { k.session.run(ctx) })
}

// Sync implements [speaker.Router]. Routers with which a session is up have been told
// when it returns, as far as it takes GoBGP: what GoBGP has is sent at once. It waits
// for nothing else: a session that begins, or ends, comes to it later. Before Run, it
// only checks and notes what is wanted.
func (s *Speaker) Sync(ctx context.Context, want speaker.Routing) error {
	next, refused := valid(want, s.wanted())
	s.refuse(refused)
	errs := map[string]error{}
	for name, done := range s.adopt(next, refused) {
		select {
		case err := <-done:
			if err != nil {
				errs[name] = fmt.Errorf("BGP session %q: %w", name, err)
			}
		case <-ctx.Done():
			errs[name] = fmt.Errorf("BGP session %q: %w", name, context.Cause(ctx))
		}
	}
	return join(errs)
}

// wanted returns what the sessions are to be so far, by name. It is not to be edited.
func (s *Speaker) wanted() map[string]speaker.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want
}

// refuse notes which sessions cannot be as they are wanted. That is no error of Sync,
// which could do nothing else the next time: it is seen in States.
func (s *Speaker) refuse(errs map[string]error) {
	s.mu.Lock()
	was := s.refused
	s.refused = errs
	s.mu.Unlock()
	sameWords := func(a, b error) bool { return b != nil && a.Error() == b.Error() }
	if maps.EqualFunc(was, errs, sameWords) {
		return
	}
	for name, err := range errs {
		if !sameWords(err, was[name]) {
			s.log.Warn("a BGP session cannot be as it is wanted", "peer", name, "err", err)
		}
	}
	s.changed()
}

// adopt makes the sessions those of next, and leaves those of which it has none, and
// that were refused, as they are. It returns, by name, what comes of each.
func (s *Speaker) adopt(next map[string]wanted, refused map[string]error) map[string]<-chan error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range refused {
		w, lives := s.want[name]
		if _, valid := next[name]; lives && !valid {
			next[name] = wanted{Session: w}
		}
	}
	s.want = make(map[string]speaker.Session, len(next))
	for name, w := range next {
		s.want[name] = w.Session
	}
	waits := map[string]<-chan error{}
	if s.run == nil || s.ended {
		return waits
	}
	for name, k := range s.sessions {
		if _, ok := next[name]; !ok {
			k.end(errRemoved)
			delete(s.sessions, name)
		}
	}
	for name, w := range next {
		if k, ok := s.sessions[name]; ok {
			waits[name] = k.order(w)
			continue
		}
		s.open(w.Session)
	}
	return waits
}

// States implements [speaker.Router]. A session that was refused is one that is idle,
// unless it goes on as it was.
func (s *Speaker) States() []speaker.SessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := make([]speaker.SessionState, 0, len(s.sessions))
	for name, k := range s.sessions {
		st := k.show()
		if err := s.refused[name]; err != nil {
			st.Err = asItWas(err, st.Err)
		}
		states = append(states, st)
	}
	for name, err := range s.refused {
		if s.sessions[name] == nil {
			states = append(states, speaker.SessionState{Name: name, State: "idle", Err: err.Error()})
		}
	}
	slices.SortFunc(states, func(a, b speaker.SessionState) int { return cmp.Compare(a.Name, b.Name) })
	return states
}

// asItWas says why a session goes on as it was, beside what is wrong with it anyway.
func asItWas(refused error, wrong string) string {
	text := refused.Error() + ": the session goes on as it was before"
	if wrong != "" {
		text += "; " + wrong
	}
	return text
}

// Down ends a session at once, as BFD has lost the router (RFC 5882 §4.2). It is
// tried again like any other that was lost.
func (s *Speaker) Down(name string) { s.ring(name, func(k *kept) chan struct{} { return k.down }) }

// Up says that a router is there: one that is not connected to is dialled now.
func (s *Speaker) Up(name string) { s.ring(name, func(k *kept) chan struct{} { return k.again }) }

func (s *Speaker) ring(name string, bell func(*kept) chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.sessions[name]; ok {
		select {
		case bell(k) <- struct{}{}:
		default:
		}
	}
}
