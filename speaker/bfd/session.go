package bfd

import "time"

// slow is how often at most packets are sent before a session is up (RFC 5880
// §6.8.3), and polite towards who does not speak BFD.
const slow = time.Second

// Settings are what one end wants of a session.
type settings struct {
	minTx      time.Duration // send no faster
	minRx      time.Duration // be sent to no faster; never 0
	multiplier uint8         // so many packets may be lost, less one
	passive    bool          // send nothing before the other end does
}

// A session is one end of RFC 5880 §6, and pure: it has no socket and no
// clock. Times come in as arguments, which never run backwards, and packets go
// in and out as values. Its owner asks due when to look at it next.
//
// The names of the RFC's variables stand beside ours.
type session struct {
	settings settings
	my       uint32         // bfd.LocalDiscr
	random   func() float64 // of [0, 1), for jitter

	state State // bfd.SessionState
	diag  Diag  // bfd.LocalDiag
	since time.Time

	wasUp  bool
	losses int // times that up ended by somebody else's doing

	remote remote

	// tx and rx are what counts of our own wishes. They lag behind what we
	// send while a poll sequence runs; see retime.
	tx, rx  time.Duration
	polling bool
	again   bool // wishes have changed since the poll began: one more

	pace          time.Duration // between packets, without jitter; 0 for silence
	lastTx        time.Time
	nextTx        time.Time // zero: never
	lastRx        time.Time
	deadline      time.Time // to be heard of before; zero: nobody is there to be missed
	reprieved     bool
	lastDetection time.Duration // what deadline was made of
}

// A remote is what is known of the other end: what it has said last.
type remote struct {
	your       uint32 // bfd.RemoteDiscr; 0: unknown, or forgotten
	state      State  // bfd.RemoteSessionState
	diag       Diag
	minTx      time.Duration
	minRx      time.Duration // bfd.RemoteMinRxInterval; 0: it wants no packets
	multiplier uint8
	demand     bool // bfd.RemoteDemandMode
}

// unheard is the other end before its first packet (RFC 5880 §6.8.1).
var unheard = remote{state: Down, minRx: time.Microsecond}

// newSession returns a session that is down and, unless passive, about to send.
func newSession(set settings, my uint32, random func() float64, now time.Time) *session {
	s := &session{settings: set, my: my, random: random, state: Down, since: now, remote: unheard}
	s.retime(now)
	return s
}

// receive takes a packet that is for this session, and reports whether it is a
// poll, to be answered at once with final (RFC 5880 §6.8.6).
func (s *session) receive(p Packet, now time.Time) (answer bool) {
	s.remote = remote{
		your: p.MyDiscriminator, state: p.State, diag: p.Diag, multiplier: p.Multiplier,
		minTx: p.DesiredMinTx, minRx: p.RequiredMinRx, demand: p.Demand,
	}
	s.lastRx, s.reprieved = now, false
	if p.Final && s.polling {
		// The final may answer a packet from before the last change.
		s.polling, s.again = s.again, false
	}
	if s.state != AdminDown {
		s.follow(p.State, now)
	}
	s.retime(now)
	return p.Poll && s.state != AdminDown
}

// follow moves the state machine of RFC 5880 §6.2.
func (s *session) follow(other State, now time.Time) {
	switch {
	case other == AdminDown && s.state != Down:
		s.enter(Down, NeighborDown, now)
	case other == AdminDown:
	case s.state == Down && other == Down:
		s.enter(Init, s.diag, now)
	case s.state == Down && other == Init, s.state == Init && other != Down:
		s.enter(Up, NoDiag, now)
	case s.state == Up && other == Down:
		s.enter(Down, NeighborDown, now)
	}
}

// enter changes the state, which the other end is told at once (RFC 5880
// §6.8.7) and not at the next turn.
func (s *session) enter(to State, why Diag, now time.Time) {
	if s.state == Up && to == Down {
		s.losses++
	}
	s.state, s.diag, s.since = to, why, now
	// Reaching up, we want to be faster than slow, which takes a poll.
	s.polling, s.again = to == Up, false
	s.wasUp = s.wasUp || to == Up
	s.retime(now)
	s.hurry(now)
}

// configure changes what is wanted of a session that goes on.
func (s *session) configure(set settings, now time.Time) {
	old, said := s.settings, s.packet()
	s.settings = set
	if s.state == Up && (old.minTx != set.minTx || old.minRx != set.minRx) {
		s.again = s.polling
		s.polling = true
	}
	s.retime(now)
	if s.packet() != said {
		s.hurry(now)
	}
}

// disable takes the session down for good, and the other end is told that
// nothing is wrong with the path.
func (s *session) disable(now time.Time) {
	if s.state != AdminDown {
		s.enter(AdminDown, AdministrativelyDown, now)
	}
	s.hurry(now)
}

// missed is whether nothing was heard for the detection time.
func (s *session) missed(now time.Time) bool {
	return !s.deadline.IsZero() && !now.Before(s.deadline)
}

// reprieve puts the deadline off, and reports whether it could: that is
// granted once in a silence.
func (s *session) reprieve(until time.Time) bool {
	if s.reprieved {
		return false
	}
	s.reprieved, s.deadline = true, until
	return true
}

// expire is to be called if the deadline was missed. Whoever is silent that
// long is forgotten (RFC 5880 §6.8.1), even by a session that is not up: it may
// come back as another, with a discriminator of its own.
func (s *session) expire(now time.Time) {
	said := s.remote
	s.remote = unheard
	s.remote.state, s.remote.diag = said.state, said.diag // to be shown; they do nothing
	s.lastRx = time.Time{}
	if s.state == Up || s.state == Init {
		s.enter(Down, DetectionTime, now)
	}
	s.retime(now)
}

// send returns the packet whose turn it is, and sets the next one's.
func (s *session) send(now time.Time) Packet {
	s.lastTx, s.nextTx = now, time.Time{}
	if s.pace > 0 {
		s.nextTx = now.Add(s.jittered(s.pace))
	}
	p := s.packet()
	p.Poll = s.polling
	return p
}

// final returns the answer to a poll. It takes no one's turn.
func (s *session) final() Packet {
	p := s.packet()
	p.Final = true
	return p
}

// packet returns what there is to say, in neither a poll nor a final.
func (s *session) packet() Packet {
	return Packet{
		State: s.state, Diag: s.diag, Multiplier: s.settings.multiplier,
		MyDiscriminator: s.my, YourDiscriminator: s.remote.your,
		DesiredMinTx: s.desiredMinTx(), RequiredMinRx: s.settings.minRx,
	}
}
