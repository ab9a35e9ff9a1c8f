package steer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"time"
)

// A Syncer keeps one Kernel in step with the table that is wanted. It belongs
// to the goroutine of the pass.
type Syncer struct {
	Kernel Kernel
	// Audit is how often the kernel is listed although nothing went wrong.
	Audit time.Duration
	Log   *slog.Logger

	// have is what the kernel last listed, or acknowledged since. If settled it
	// is the want of the last pass itself, which the next plan may edit.
	have    Table
	known   bool      // whether the kernel was ever listed, so that have is one
	doubt   bool      // something failed since: list the kernel before the next change
	audited time.Time // when the kernel was last prepared and listed
	settled bool      // have is what the last pass wanted, in every row
	want    Table     // of this pass
	joined  bool      // all of want that was missing has joined
	edited  bool      // have is want already, and its changes are still to be made
	leave   []Change  // what Leave has to do
	stand   map[netip.Addr]bool

	// Repaired counts rows, and things that they stand in, that an audit found
	// other than they were left.
	Repaired int
}

// Join brings in every row of want that is missing or different, and returns
// the addresses that may be announced: those whose rows all stand in the
// kernel, as it has listed or acknowledged them. Touched are the rows that differ
// from what the last Join wanted; nil says that want is another table, and that
// nobody has edited the last.
func (s *Syncer) Join(ctx context.Context, now time.Time, want Table, touched *Touched) (map[netip.Addr]bool, error) {
	s.edited = s.settled && touched != nil
	s.settled, s.joined, s.want = false, false, want
	if !s.known || s.doubt || now.Sub(s.audited) >= s.Audit {
		was := s.have
		if s.edited {
			was = touched.before(want)
		}
		if err := s.audit(ctx, now, was); err != nil {
			s.have, s.edited = was.Clone(), false // nobody else's any more
			return nil, err
		}
	}
	whole := !s.edited
	var join []Change
	if whole {
		join, s.leave = Diff(s.have, want)
	} else {
		join, s.leave = DiffOf(touched, want)
	}
	err := s.apply(ctx, join)
	if err != nil {
		// What failed is not known: the kernel itself says what stands.
		listed, e := s.Kernel.Table(ctx)
		if e != nil {
			s.leave = nil
			return nil, errors.Join(err, fmt.Errorf("reading back what joined: %w", e))
		}
		s.have, s.edited = listed, false
		_, s.leave = Diff(s.have, want)
	}
	s.joined = err == nil
	if whole || err != nil {
		s.stand = standing(s.have, want)
		return s.stand, err
	}
	for a := range touched.Addrs {
		delete(s.stand, a)
		if want.Addrs[a] {
			s.stand[a] = true
		}
	}
	return s.stand, nil
}

// Leave takes away every row that the want of Join has not. It follows Join,
// and whatever announces the addresses has withdrawn by then those that leave.
func (s *Syncer) Leave(ctx context.Context) error {
	leave := s.leave
	s.leave = nil
	err := s.apply(ctx, leave)
	if s.settled = err == nil && s.joined; s.settled {
		s.have = s.want // which is the same, and one of both is enough
	}
	return err
}

// audit prepares the kernel and looks whether it has what it was left with. If
// it has not, it is listed, and said what somebody changed.
func (s *Syncer) audit(ctx context.Context, now time.Time, was Table) error {
	if err := s.Kernel.Prepare(ctx); err != nil {
		return fmt.Errorf("preparing %s: %w", s.Kernel.Name(), err)
	}
	counts := s.known && !s.doubt
	if counts {
		switch same, err := s.Kernel.Holds(ctx, was); {
		case err != nil:
			return fmt.Errorf("auditing %s: %w", s.Kernel.Name(), err)
		case same:
			s.audited = now
			s.repaired(nil, s.Kernel.Mended())
			return nil
		}
	}
	listed, err := s.Kernel.Table(ctx)
	if err != nil {
		return fmt.Errorf("listing %s: %w", s.Kernel.Name(), err)
	}
	mended := s.Kernel.Mended()
	if counts {
		missing, surplus := Diff(listed, was)
		s.repaired(append(missing, surplus...), mended)
	}
	s.have, s.edited, s.known, s.doubt, s.audited = listed, false, true, false, now
	return nil
}

// repaired counts and says what somebody else has changed.
func (s *Syncer) repaired(rows []Change, mended []string) {
	n := len(rows) + len(mended)
	if n == 0 {
		return
	}
	s.Repaired += n
	first := ""
	if len(rows) > 0 {
		first = rows[0].String()
	}
	s.Log.Warn("rows were changed by somebody else, repairing them", "kernel", s.Kernel.Name(),
		"rows", len(rows), "first", first, "beside", mended)
}

// apply makes changes. If all succeed they are in have from now on: each was
// acknowledged by the kernel.
func (s *Syncer) apply(ctx context.Context, changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	if err := s.Kernel.Apply(ctx, changes); err != nil {
		s.doubt = true
		return err
	}
	if !s.edited {
		s.have.make(changes)
	}
	for i, c := range changes {
		if i == mostLogged {
			s.Log.Info("steering", "kernel", s.Kernel.Name(), "changes", len(changes)-i, "beside", "those before")
			break
		}
		s.Log.Info("steering", "kernel", s.Kernel.Name(), "change", c.String())
	}
	return nil
}

// mostLogged changes of one pass have a line each in the log.
const mostLogged = 1000

// standing returns the addresses of want whose rows all stand in have. A weight
// that has still to be taken away is no hindrance.
func standing(have, want Table) map[netip.Addr]bool {
	in := make(map[netip.Addr]bool, len(want.Addrs))
	for a := range want.Addrs {
		in[a] = have.Addrs[a]
	}
	for v, server := range want.Servers {
		if got, ok := have.Servers[v]; !ok || got != server {
			in[v.Addr.Addr()] = false
		}
	}
	for d, weight := range want.Dests {
		if got, ok := have.Dests[d]; !ok || got != weight && weight > 0 {
			in[d.Virtual.Addr.Addr()] = false
		}
	}
	return in
}

// make makes changes of t that were made in the kernel.
func (t Table) make(changes []Change) {
	gone := map[Virtual]bool{}
	for _, c := range changes {
		switch c.Kind() {
		case KindAddr:
			put(t.Addrs, c.Verb, c.Addr, true)
		case KindPods:
			put(t.Pods, c.Verb, c.Pods, true)
		case KindNode:
			put(t.Nodes, c.Verb, c.Node, true)
		case KindDest:
			put(t.Dests, c.Verb, Dest{c.Virtual, c.Real}, c.Weight)
		case KindServer:
			put(t.Servers, c.Verb, c.Virtual, c.Server)
			if c.Verb == Del {
				gone[c.Virtual] = true
			}
		}
	}
	if len(gone) > 0 { // with their destinations
		maps.DeleteFunc(t.Dests, func(d Dest, _ int) bool { return gone[d.Virtual] })
	}
}

func put[K comparable, V any](rows map[K]V, verb Verb, k K, v V) {
	if verb == Del {
		delete(rows, k)
		return
	}
	rows[k] = v
}
