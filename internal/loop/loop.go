// Package loop runs a pass whenever something has changed.
//
// It is written once, for the controller and the speaker alike. It knows
// nothing of what a pass does, and carries no news to it: a Bell says "look
// again", never what changed.
package loop

import (
	"context"
	"log/slog"
	"time"
)

// A Bell wakes a Loop. Any number of rings before the next pass count as one.
// Make it with NewBell.
type Bell chan struct{}

// NewBell returns a Bell that has not been rung.
func NewBell() Bell { return make(Bell, 1) }

// Ring wakes the Loop. It never blocks.
func (b Bell) Ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// A Loop runs Pass when its Bell rings, after a failure, and from time to time.
type Loop struct {
	Bell Bell
	Pass func(context.Context) error
	// Gap is the least time between the end of a pass and the start of the
	// next, in which rings gather.
	Gap time.Duration
	// Resync is the time after which a pass is run although nobody rang.
	Resync time.Duration
	// Retry is the time after which a failed pass is run again; it doubles
	// with every further failure, up to Resync.
	Retry time.Duration
	Log   *slog.Logger
}

// Run blocks until ctx ends. It runs a first pass at once. Passes never
// overlap, so what only Pass touches needs no lock.
func (l *Loop) Run(ctx context.Context) {
	retry := l.Retry
	for ctx.Err() == nil {
		wait := l.Resync
		if err := l.Pass(ctx); err != nil && ctx.Err() == nil {
			l.Log.Error("pass failed", "retry", retry, "err", err)
			wait, retry = retry, min(2*retry, l.Resync)
		} else {
			retry = l.Retry
		}
		sleep(ctx, l.Gap, nil)
		sleep(ctx, wait-l.Gap, l.Bell)
	}
}

// sleep returns after d, at once when b rings, or when ctx ends.
func sleep(ctx context.Context, d time.Duration, b Bell) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b:
	case <-ctx.Done():
	}
}

// Pause waits for d, and reports whether it ended before ctx did.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
