package memory

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/herald-lb/herald/internal/loop"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
)

// The file is written at most every five seconds, and less often where that takes
// long.
const (
	least, most = 5 * time.Second, time.Minute
	share       = 50 // writing may take a fiftieth of the time
)

// A Keeper writes down what the speaker of one node knows. New makes one, Run
// runs it.
type Keeper struct {
	dir, node string
	log       *slog.Logger
	changed   loop.Bell

	mu   sync.Mutex
	last snapshot.Snapshot // as followed last
	due  bool              // it is to be written
}

var _ speaker.Follower = (*Keeper)(nil)

// New returns a Keeper for the speaker of node that writes to dir, making it if
// need be.
func New(dir, node string, log *slog.Logger) *Keeper {
	return &Keeper{dir: dir, node: node, log: log, changed: loop.NewBell()}
}

// Follow implements [speaker.Follower]: what is new is written down soon. What
// was recalled is not.
func (k *Keeper) Follow(_ context.Context, s snapshot.Snapshot) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !s.Recalled.IsZero() || !k.last.Now.IsZero() && s.SameView(k.last) {
		return nil
	}
	k.last, k.due = s, true
	k.changed.Ring()
	return nil
}

// Run writes until ctx ends, and once more then. That nothing can be written is
// logged once: all else works. The first write waits, too: a start has better to do,
// and what it finds at first soon changes.
func (k *Keeper) Run(ctx context.Context) error {
	complaint := ""
	loop.Pause(ctx, least)
	for {
		select {
		case <-ctx.Done():
			k.save(&complaint)
			return nil
		case <-k.changed:
		}
		began := time.Now()
		k.save(&complaint)
		loop.Pause(ctx, min(max(least, share*time.Since(began)), most))
	}
}

// save writes what has not been written. complaint is what was logged last.
func (k *Keeper) save(complaint *string) {
	k.mu.Lock()
	s, due := k.last, k.due
	k.due = false
	k.mu.Unlock()
	if !due {
		return
	}
	text := ""
	if err := write(k.dir, k.node, s); err != nil {
		text = err.Error()
	}
	if text != "" && text != *complaint {
		k.log.Warn("what is known of the cluster cannot be kept: a start without the API server will announce nothing", "err", text)
	}
	*complaint = text
}
