package kube

import (
	"time"
)

// A pace lets something be done once in ownEvery at most. The zero value has let
// nothing be done yet.
type pace struct {
	last  time.Time   // when it was let
	later *time.Timer // rings when it is again; nil until first needed
}

// due reports whether it may be done now, and if so notes that it is. If not, it
// calls ring when it may.
func (p *pace) due(now time.Time, ring func()) bool {
	left := ownEvery - now.Sub(p.last)
	switch {
	case left <= 0:
		p.last = now
		return true
	case p.later == nil:
		p.later = time.AfterFunc(left, ring)
	default:
		p.later.Reset(left)
	}
	return false
}
