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
	Conflicts uint64 // packets from others than speakers that claim an address of ours
	Probes    uint64 // packets sent to ask whether anybody has an address
	Defences  uint64 // packets sent because of them
	Ignored   uint64 // well-formed, but none of our business
	Malformed uint64 // not of the protocol, or not plausible
	Failures  uint64 // packets that could not be sent

	Answered int       // claims that are answered for now
	Disputes []Dispute // open now, by Claim
	Waits    []Wait    // for others to give up what we are elected for; by Claim
}

// A Dispute is an address of ours that another host uses too.
type Dispute struct {
	Claim speaker.Claim
	MAC   string // of the other host, as last heard
	Since time.Time
}

// A Wait is an address that this node is elected for and does not answer for,
// because another host does.
type Wait struct {
	Claim speaker.Claim
	MAC   string // of the other host
	Node  string // that it is a speaker on; "" if it is none
	Since time.Time
}

// Stats returns the counts. It may be called at any time from anywhere; the
// result must not be edited.
func (a *Announcer) Stats() Stats {
	answered := 0
	for _, at := range a.live.Load().set {
		if at.seat.answers.Load() {
			answered++
		}
	}
	return Stats{
		Answered:  answered,
		Requests:  a.count.requests.Load(),
		Replies:   a.count.replies.Load(),
		Greetings: a.count.greetings.Load(),
		Conflicts: a.count.conflicts.Load(),
		Defences:  a.count.defences.Load(),
		Ignored:   a.count.ignored.Load(),
		Malformed: a.count.malformed.Load(),
		Failures:  a.count.failures.Load(),
		Probes:    a.count.probes.Load(),
		Disputes:  *a.disputes.Load(),
		Waits:     *a.waits.Load(),
	}
}

// counters are what Stats reads.
type counters struct {
	requests, replies, greetings, conflicts, defences, probes atomic.Uint64
	ignored, malformed, failures                              atomic.Uint64
}
