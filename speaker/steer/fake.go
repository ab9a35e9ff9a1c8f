package steer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
)

// A Fake is a Kernel in memory, for tests. It refuses what a real one refuses,
// with the same errors; package kerneltest holds both to it.
type Fake struct {
	// Fail, if set, is asked before each change; its error is the kernel's.
	Fail func(Change) error
	// Broken, if set, is what Prepare and Table fail with.
	Broken error
	// Tunnels are what Self says.
	Tunnels []netip.Addr
	// Broke is what the next Mended returns: what somebody has broken.
	Broke []string
	// Made are the changes that succeeded, in order.
	Made []Change

	rows     Table
	prepared bool
}

// NewFake returns a Fake without rows, not yet prepared.
func NewFake() *Fake { return &Fake{rows: NewTable()} }

// Name implements [Kernel].
func (f *Fake) Name() string { return "fake" }

// Self implements [Kernel].
func (f *Fake) Self() Self { return Self{Tiers: true, Tunnels: f.Tunnels} }

// Mended implements [Kernel].
func (f *Fake) Mended() []string {
	mended := f.Broke
	f.Broke = nil
	return mended
}

// Lacks implements [Kernel].
func (f *Fake) Lacks() []string { return nil }

// Prepare implements [Kernel].
func (f *Fake) Prepare(context.Context) error {
	f.prepared = f.Broken == nil
	return f.Broken
}

// Holds implements [Kernel].
func (f *Fake) Holds(ctx context.Context, want Table) (bool, error) {
	have, err := f.Table(ctx)
	return err == nil && Same(have, want), err
}

// Table implements [Kernel].
func (f *Fake) Table(context.Context) (Table, error) {
	switch {
	case f.Broken != nil:
		return Table{}, f.Broken
	case !f.prepared:
		return Table{}, errNotPrepared
	}
	return f.rows.Clone(), nil
}

var errNotPrepared = errors.New("the kernel is not prepared")

// Apply implements [Kernel].
func (f *Fake) Apply(_ context.Context, changes []Change) error {
	if !f.prepared {
		return errNotPrepared
	}
	var errs []error
	for _, c := range changes {
		if err := f.change(c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c, err))
			continue
		}
		f.Made = append(f.Made, c)
	}
	return errors.Join(errs...)
}

func (f *Fake) change(c Change) error {
	if f.Fail != nil {
		if err := f.Fail(c); err != nil {
			return err
		}
	}
	if err := Check(c); err != nil {
		return err
	}
	switch c.Kind() {
	case KindAddr:
		return changeRow(f.rows.Addrs, c.Verb, c.Addr, true)
	case KindPods:
		return changeRow(f.rows.Pods, c.Verb, c.Pods, true)
	case KindNode:
		return changeRow(f.rows.Nodes, c.Verb, c.Node, true)
	case KindDest:
		if _, ok := f.rows.Servers[c.Virtual]; !ok {
			return os.ErrNotExist
		}
		return changeRow(f.rows.Dests, c.Verb, Dest{c.Virtual, c.Real}, c.Weight)
	}
	if c.Verb == Del { // takes its destinations along, as IPVS does
		maps.DeleteFunc(f.rows.Dests, func(d Dest, _ int) bool { return d.Virtual == c.Virtual })
	}
	return changeRow(f.rows.Servers, c.Verb, c.Virtual, c.Server)
}

func changeRow[K comparable, V any](rows map[K]V, verb Verb, k K, v V) error {
	_, exists := rows[k]
	switch {
	case verb == Add && exists:
		return os.ErrExist
	case verb != Add && !exists:
		return os.ErrNotExist
	case verb == Del:
		delete(rows, k)
	default:
		rows[k] = v
	}
	return nil
}

// Disturb lets a test change the rows behind Herald's back.
func (f *Fake) Disturb(change func(Table)) { change(f.rows) }

// Remove implements [Kernel].
func (f *Fake) Remove(context.Context) error {
	f.rows, f.prepared = NewTable(), false
	return nil
}

// Close implements [Kernel]. The rows stay, as they do in a kernel.
func (f *Fake) Close() error {
	f.prepared = false
	return nil
}
