package kube

import (
	"context"
	"time"
)

// catchUpEvery is the time between two looks at whether the cache is behind.
const catchUpEvery = 100 * time.Millisecond

// pause waits for d, and reports whether it ended before ctx did.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
