package kube

import (
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// patience is how long a start waits for the API before it goes by what an
// earlier process knew.
const patience = 3 * time.Second

// A Memory is what a speaker goes by that starts where the API cannot be read.
type Memory struct {
	// Load returns what an earlier process knew last. It is called once at most.
	// Its error is [fs.ErrNotExist] if there was none.
	Load func() (snapshot.Snapshot, error)
	// Self returns what this speaker can do just now: with the API its own Lease
	// says so.
	Self func() (snapshot.Speaker, error)

	loaded bool
	known  snapshot.Snapshot // Recalled is zero if nothing is
}

// recall is Take while the API cannot be read. Who is alive is found out by BFD.
func (s *Source) recall(now time.Time) (snap snapshot.Snapshot, ok bool) {
	m := &s.o.Memory
	if m.Load == nil || !s.impatient.Load() {
		return snap, false
	}
	if !m.loaded {
		m.loaded = true
		known, err := m.Load()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			s.o.Log.Warn("waiting for the API server: nothing is known from an earlier time")
		case err != nil:
			s.o.Log.Warn("waiting for the API server: what was known earlier is of no use", "err", err)
		default:
			m.known = known
			s.o.Log.Warn("the API server cannot be read: going by what was known last", "read", known.Recalled)
		}
	}
	if m.known.Recalled.IsZero() {
		return snap, false
	}
	self, err := m.Self()
	if err != nil {
		s.o.Log.Warn("reading what this node can do", "err", err)
		return snap, false
	}
	others := slices.DeleteFunc(slices.Concat(m.known.Speakers, m.known.Lost), func(sp snapshot.Speaker) bool { return sp.Node == self.Node })
	judged := s.census.recall(self, others, now)
	snap = m.known
	snap.Now, snap.Speakers, snap.Lost = now, judged.alive, judged.lost
	return snap, true
}
