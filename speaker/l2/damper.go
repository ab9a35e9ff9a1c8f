package l2

import (
	"sync"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// How a link is taken that comes and goes, as routers dampen interfaces: one that
// comes back a second time within a minute has to be steady for a while before it
// is as good as others again, the longer the more often it does.
const (
	flapMemory              = time.Minute
	steadyLeast, steadyMost = 2 * time.Second, 15 * time.Second
)

// A Damper finds links that come and go. The zero value knows none. It is safe for
// concurrent use.
type Damper struct {
	Ring func() // called once a link may be steady again; never blocks

	mu    sync.Mutex
	links map[string]*flapping
	timer *time.Timer // nil until first needed
}

// A flapping is what a Damper knows of a link.
type flapping struct {
	there  bool
	flaps  int       // times that it came back, each within a minute of the last
	last   time.Time // when it came back, or went
	steady time.Time // when it is as good as others
}

// Mark has links be Unsteady that are, and returns them.
func (d *Damper) Mark(links []snapshot.Link, now time.Time) []snapshot.Link {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.links == nil {
		d.links = map[string]*flapping{}
	}
	here := make(map[string]bool, len(links))
	for _, l := range links {
		here[l.Name] = true
	}
	for name, f := range d.links {
		if f.there && !here[name] {
			f.gone(now)
		}
		if !f.there && now.Sub(f.last) > flapMemory {
			delete(d.links, name)
		}
	}
	var next time.Time
	for i, l := range links {
		f := d.links[l.Name]
		if f == nil {
			f = &flapping{there: true}
			d.links[l.Name] = f
		}
		if !f.there {
			f.back(now)
		}
		links[i].Unsteady = now.Before(f.steady)
		if links[i].Unsteady {
			next = earlier(next, f.steady)
		}
	}
	d.wake(next, now)
	return links
}

func (f *flapping) gone(now time.Time) {
	if now.Sub(f.last) > flapMemory {
		f.flaps = 0
	}
	f.there, f.last = false, now
}

func (f *flapping) back(now time.Time) {
	f.there, f.last = true, now
	if f.flaps++; f.flaps > 1 {
		f.steady = now.Add(min(steadyLeast<<min(f.flaps-2, 8), steadyMost))
	}
}

// wake rings at next, unless that is zero.
func (d *Damper) wake(next, now time.Time) {
	switch {
	case next.IsZero():
	case d.timer == nil:
		d.timer = time.AfterFunc(next.Sub(now), d.Ring)
	default:
		d.timer.Reset(next.Sub(now))
	}
}
