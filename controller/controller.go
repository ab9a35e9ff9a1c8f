package controller

import (
	"context"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A Writer brings statuses into the API.
type Writer interface {
	// Sync writes all of want. Each is written only over the version it was
	// planned for. One that fails does not stop the others; the error names
	// each.
	Sync(ctx context.Context, want Statuses) error
}

// A Controller runs the pass of the controller.
type Controller struct {
	// Take returns the cluster as it is now; ok is false until everything
	// that a Snapshot is made of has been read once.
	Take   func() (s snapshot.Snapshot, ok bool)
	Writer Writer
	// Passed is called after each pass that did what it should; may be nil.
	Passed func()
	// Wake is told when the next pass has something to do by the mere passing
	// of time, if it ever has; may be nil.
	Wake func(at time.Time)

	memory Memory
}

// Pass brings every status in line with the cluster, once.
func (c *Controller) Pass(ctx context.Context) error {
	s, ok := c.Take()
	if !ok {
		return nil // an empty cache must not look like an empty cluster
	}
	want, memory := Plan(s, c.memory)
	c.memory = memory
	if at := memory.next(); c.Wake != nil && !at.IsZero() {
		c.Wake(at)
	}
	if err := c.Writer.Sync(ctx, want); err != nil {
		return err
	}
	if c.Passed != nil {
		c.Passed()
	}
	return nil
}
