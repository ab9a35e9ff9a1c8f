package bfd

import "time"

// due returns when to look at s next: to send, or because it is not heard of.
// It is zero if only a packet can bring news.
func (s *session) due() time.Time {
	if s.deadline.IsZero() || !s.nextTx.IsZero() && s.nextTx.Before(s.deadline) {
		return s.nextTx
	}
	return s.deadline
}

// desiredMinTx is bfd.DesiredMinTxInterval: not below a second unless up.
func (s *session) desiredMinTx() time.Duration {
	if s.state == Up {
		return s.settings.minTx
	}
	return max(s.settings.minTx, slow)
}

// retime draws the consequences of whatever has changed for both timers.
//
// While a poll sequence runs the other end may not know our new wishes: until
// it has answered we may send faster, not slower, and have to bear its packets
// coming slower, not expect them faster (RFC 5880 §6.8.3).
func (s *session) retime(now time.Time) {
	if s.polling {
		s.tx = min(s.tx, s.desiredMinTx())
		s.rx = max(s.rx, s.settings.minRx)
	} else {
		s.tx, s.rx = s.desiredMinTx(), s.settings.minRx
	}
	s.setPace(now)
	s.setDeadline()
}

// setPace sets the interval between packets (RFC 5880 §6.8.2), and moves the
// next one if that has changed.
func (s *session) setPace(now time.Time) {
	pace := max(s.tx, s.remote.minRx)
	if s.silent() {
		pace = 0
	}
	if pace == s.pace {
		return
	}
	s.pace = pace
	if pace == 0 {
		s.nextTx = time.Time{}
		return
	}
	s.nextTx = s.lastTx.Add(s.jittered(pace))
	if s.nextTx.Before(now) {
		s.nextTx = now
	}
}

// silent is whether nothing may be sent, but for answers (RFC 5880 §6.8.7).
func (s *session) silent() bool {
	asleep := s.remote.demand && s.state == Up && s.remote.state == Up && !s.polling
	return s.remote.minRx == 0 || s.settings.passive && s.remote.your == 0 || asleep
}

// hurry has the next packet sent at once, if any may be sent.
func (s *session) hurry(now time.Time) {
	if s.pace > 0 {
		s.nextTx = now
	}
}

// setDeadline sets when the other end has to be heard of again.
func (s *session) setDeadline() {
	detection := s.detection()
	switch {
	case s.lastRx.IsZero():
		s.deadline = time.Time{}
	case !s.reprieved || detection != s.lastDetection:
		s.deadline = s.lastRx.Add(detection)
	}
	s.lastDetection = detection
}

// detection is how long the other end may be silent (RFC 5880 §6.8.4); 0 if
// it is not there.
func (s *session) detection() time.Duration {
	return time.Duration(s.remote.multiplier) * max(s.rx, s.remote.minTx)
}

// early is how long before its time a packet may go, if another goes anyway:
// waking up costs more than sending.
const early = 4 * time.Millisecond

// lead is how early packets at an interval of d may go.
func lead(d time.Duration) time.Duration { return min(early, d/8) }

// ready is whether it is time to send, or nearly.
func (s *session) ready(now time.Time) bool {
	return !s.nextTx.IsZero() && !s.nextTx.After(now.Add(lead(s.pace)))
}

// jittered shortens an interval by up to a quarter, lead included, so that
// sessions do not fall into step, and by a tenth at least if one packet late is
// one too late (RFC 5880 §6.8.7).
func (s *session) jittered(d time.Duration) time.Duration {
	shortest, longest := d*3/4+lead(d), d
	if s.settings.multiplier == 1 {
		longest = d * 9 / 10
	}
	return shortest + time.Duration(float64(longest-shortest)*s.random())
}
