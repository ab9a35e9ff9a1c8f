package l2

import (
	"sync/atomic"
	"time"

	"github.com/herald-lb/herald/speaker"
)

// Stats says what an Announcer has done since it was made. Packets that the
// kernel's filter holds back are not counted: nobody sees them.
type Stats struct {
	Requests  uint64 // for an address we claim
	Replies   uint64 // sent
	Greetings uint64 // packets sent that nobody had asked for
	Conflicts uint64 // packets from others that claim an address of ours
	Defences  uint64 // packets sent because of them
	Ignored   uint64 // well-formed, but none of our business
	Malformed uint64 // not of the protocol, or not plausible
	Failures  uint64 // packets that could not be sent

	Disputes []Dispute // open now, by Claim
}

// A Dispute is an address of ours that another host uses too.
type Dispute struct {
	Claim speaker.Claim
	MAC   string // of the other host, as last heard
	Since time.Time
}

// Stats returns the counts. It may be called at any time from anywhere; the
// result must not be edited.
func (a *Announcer) Stats() Stats {
	return Stats{
		Requests:  a.count.requests.Load(),
		Replies:   a.count.replies.Load(),
		Greetings: a.count.greetings.Load(),
		Conflicts: a.count.conflicts.Load(),
		Defences:  a.count.defences.Load(),
		Ignored:   a.count.ignored.Load(),
		Malformed: a.count.malformed.Load(),
		Failures:  a.count.failures.Load(),
		Disputes:  *a.disputes.Load(),
	}
}

// counters are what Stats reads.
type counters struct {
	requests, replies, greetings, conflicts, defences atomic.Uint64
	ignored, malformed, failures                      atomic.Uint64
}
