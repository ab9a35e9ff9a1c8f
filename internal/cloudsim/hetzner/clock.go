package hetzner

import (
	"sync"
	"time"
)

// A Clock says what time it is in a cloud.
type Clock interface{ Now() time.Time }

type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

// A VirtualClock stands still until it is advanced.
type VirtualClock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

// NewVirtualClock returns a clock that shows now.
func NewVirtualClock(now time.Time) *VirtualClock { return &VirtualClock{now: now} }

// Now implements [Clock].
func (c *VirtualClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock by d.
func (c *VirtualClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
