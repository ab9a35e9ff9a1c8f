package ccm

import (
	"context"
	"time"
)

// A burst calls a function once for many changes: when there was none for a while, or
// when the first has waited for long.
type burst struct {
	quiet, most time.Duration
	call        func()
	bell        chan struct{}
}

func newBurst(quiet, most time.Duration, call func()) *burst {
	return &burst{quiet, most, call, make(chan struct{}, 1)}
}

func (b *burst) ring() {
	select {
	case b.bell <- struct{}{}:
	default:
	}
}

func (b *burst) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.bell:
		}
		if !b.settle(ctx) {
			return
		}
		b.call()
	}
}

// settle waits until nothing has changed for a while.
func (b *burst) settle(ctx context.Context) bool {
	last := time.NewTimer(b.most)
	defer last.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-last.C:
			return true
		case <-time.After(b.quiet):
			return true
		case <-b.bell:
		}
	}
}
