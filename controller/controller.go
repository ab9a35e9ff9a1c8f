package controller

import (
	"context"

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
}

// Pass brings every status in line with the cluster, once.
func (c *Controller) Pass(ctx context.Context) error {
	s, ok := c.Take()
	if !ok {
		return nil // an empty cache must not look like an empty cluster
	}
	if err := c.Writer.Sync(ctx, Plan(s)); err != nil {
		return err
	}
	if c.Passed != nil {
		c.Passed()
	}
	return nil
}
