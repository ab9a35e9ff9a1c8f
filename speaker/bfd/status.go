package bfd

import (
	"fmt"
	"sync/atomic"
	"time"
)

// A Status is how one session is. It is comparable, and reads well as JSON.
type Status struct {
	State State
	// RemoteState and RemoteDiag are what the peer has said last: AdminDown if
	// it was taken down on purpose.
	RemoteState State
	Diag        Diag // why State was last left for Down; none once up again
	RemoteDiag  Diag
	Since       time.Time // when State began
	// Tx is the interval between packets that is in use, without jitter; 0 if
	// none may be sent.
	Tx time.Duration
	// Detection is after how long a silence the peer is taken for dead; 0 if
	// it is not there.
	Detection time.Duration
	// Losses is how often Up has ended in Down.
	Losses int
	WasUp  bool // at any time since the session was made
	// Discriminator and RemoteDiscriminator name the session at both ends;
	// the latter is 0 while the peer is not there.
	Discriminator, RemoteDiscriminator uint32
	// Err is what went wrong last in sending or with a socket, or what is
	// wrong with the peer's settings; "" once the session is up.
	Err string
}

func (s Status) String() string {
	return fmt.Sprintf("%s (%s), peer %s (%s)", s.State, s.Diag, s.RemoteState, s.RemoteDiag)
}

// Stats count packets since New, of all sessions together.
type Stats struct {
	Sent, Received uint64 // Received: and believed
	// Malformed are not BFD as we speak it, Distant have come over too many
	// hops, Strange belong to no session.
	Malformed, Distant, Strange uint64
}

type counters struct{ sent, received, malformed, distant, strange atomic.Uint64 }

// Stats returns what was counted.
func (s *Server) Stats() Stats {
	return Stats{
		Sent: s.count.sent.Load(), Received: s.count.received.Load(),
		Malformed: s.count.malformed.Load(), Distant: s.count.distant.Load(), Strange: s.count.strange.Load(),
	}
}
