package bfd

import (
	"testing"
	"time"
)

const ms = time.Millisecond

var (
	t0   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	fast = settings{minTx: 100 * ms, minRx: 100 * ms, multiplier: 3}
)

// noJitter draws the longest interval there is.
func noJitter() float64 { return 1 }

// said is a packet of the other end, 42, which wants the same as fast.
func said(state State) Packet {
	p := Packet{State: state, Multiplier: 3, MyDiscriminator: 42, YourDiscriminator: 7, DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms}
	if state != Up {
		p.DesiredMinTx = slow
	}
	return p
}

// in returns a session that reached a state at t0, by packets alone, and has
// sent what it had to.
func in(state State, set settings) *session {
	s := newSession(set, 7, noJitter, t0)
	switch state {
	case AdminDown:
		s.receive(said(Down), t0)
		s.disable(t0)
	case Init:
		s.receive(said(Down), t0)
	case Up:
		s.receive(said(Init), t0)
		final := said(Up)
		final.Final = true
		s.receive(final, t0)
	}
	s.send(t0)
	return s
}

func TestStateMachine(t *testing.T) {
	tests := []struct {
		from, heard, to State
		why             Diag
	}{
		{AdminDown, AdminDown, AdminDown, AdministrativelyDown},
		{AdminDown, Down, AdminDown, AdministrativelyDown},
		{AdminDown, Init, AdminDown, AdministrativelyDown},
		{AdminDown, Up, AdminDown, AdministrativelyDown},
		{Down, AdminDown, Down, NoDiag},
		{Down, Down, Init, NoDiag},
		{Down, Init, Up, NoDiag},
		{Down, Up, Down, NoDiag},
		{Init, AdminDown, Down, NeighborDown},
		{Init, Down, Init, NoDiag},
		{Init, Init, Up, NoDiag},
		{Init, Up, Up, NoDiag},
		{Up, AdminDown, Down, NeighborDown},
		{Up, Down, Down, NeighborDown},
		{Up, Init, Up, NoDiag},
		{Up, Up, Up, NoDiag},
	}
	for _, tt := range tests {
		t.Run(tt.from.String()+" hears "+tt.heard.String(), func(t *testing.T) {
			s := in(tt.from, fast)
			now := t0.Add(10 * ms)
			s.receive(said(tt.heard), now)
			if s.state != tt.to || s.diag != tt.why {
				t.Errorf("is %s (%s), want %s (%s)", s.state, s.diag, tt.to, tt.why)
			}
			if told := s.due().Equal(now); told != (tt.to != tt.from) {
				t.Errorf("sends at once: %v, but went from %s to %s", told, tt.from, tt.to)
			}
			if p := s.packet(); p.YourDiscriminator != 42 {
				t.Errorf("speaks to %d, want 42", p.YourDiscriminator)
			}
		})
	}
}

func TestTimers(t *testing.T) {
	slower := settings{minTx: 400 * ms, minRx: 100 * ms, multiplier: 3}
	tests := []struct {
		name      string
		s         func() *session
		pace      time.Duration
		detection time.Duration
		says      [2]time.Duration // desired min TX and required min RX
	}{
		{"a new session sends once a second and misses nobody",
			func() *session { return newSession(fast, 7, noJitter, t0) },
			slow, 0, [2]time.Duration{slow, 100 * ms}},
		{"who wants less than once a second gets it",
			func() *session {
				return newSession(settings{minTx: 5 * time.Second, minRx: time.Second, multiplier: 3}, 7, noJitter, t0)
			},
			5 * time.Second, 0, [2]time.Duration{5 * time.Second, time.Second}},
		{"a passive session says nothing first",
			func() *session {
				return newSession(settings{minTx: 100 * ms, minRx: 100 * ms, multiplier: 3, passive: true}, 7, noJitter, t0)
			},
			0, 0, [2]time.Duration{slow, 100 * ms}},
		{"a passive session answers",
			func() *session {
				return in(Init, settings{minTx: 100 * ms, minRx: 100 * ms, multiplier: 3, passive: true})
			},
			slow, 3 * slow, [2]time.Duration{slow, 100 * ms}},
		{"init is as slow as the other end",
			func() *session { return in(Init, fast) },
			slow, 3 * slow, [2]time.Duration{slow, 100 * ms}},
		{"up is as fast as both want",
			func() *session { return in(Up, fast) },
			100 * ms, 300 * ms, [2]time.Duration{100 * ms, 100 * ms}},
		{"the other end's required min RX holds us back",
			func() *session {
				s, p := in(Up, fast), said(Up)
				p.RequiredMinRx = 250 * ms
				s.receive(p, t0)
				return s
			},
			250 * ms, 300 * ms, [2]time.Duration{100 * ms, 100 * ms}},
		{"the other end's multiplier and interval make the detection time",
			func() *session {
				s, p := in(Up, fast), said(Up)
				p.DesiredMinTx, p.Multiplier = 200*ms, 5
				s.receive(p, t0)
				return s
			},
			100 * ms, 1000 * ms, [2]time.Duration{100 * ms, 100 * ms}},
		{"our required min RX makes the detection time if it is the larger",
			func() *session { return in(Up, settings{minTx: 100 * ms, minRx: 500 * ms, multiplier: 2}) },
			100 * ms, 1500 * ms, [2]time.Duration{100 * ms, 500 * ms}},
		{"required min RX 0 of the other end silences us",
			func() *session {
				s, p := in(Up, fast), said(Up)
				p.RequiredMinRx = 0
				s.receive(p, t0)
				return s
			},
			0, 300 * ms, [2]time.Duration{100 * ms, 100 * ms}},
		{"demand mode of the other end silences us",
			func() *session {
				s, p := in(Up, fast), said(Up)
				p.Demand = true
				s.receive(p, t0)
				return s
			},
			0, 300 * ms, [2]time.Duration{100 * ms, 100 * ms}},
		{"demand mode does not silence a poll",
			func() *session {
				s, p := in(Up, fast), said(Up)
				p.Demand = true
				s.receive(p, t0)
				s.configure(settings{minTx: 50 * ms, minRx: 100 * ms, multiplier: 3}, t0)
				return s
			},
			100 * ms, 300 * ms, [2]time.Duration{50 * ms, 100 * ms}},
		{"down again is slow again, at once",
			func() *session {
				s := in(Up, fast)
				s.receive(said(Down), t0)
				return s
			},
			slow, 3 * slow, [2]time.Duration{slow, 100 * ms}},
		{"slower sending waits for the final",
			func() *session {
				s := in(Up, fast)
				s.configure(slower, t0)
				return s
			},
			100 * ms, 300 * ms, [2]time.Duration{400 * ms, 100 * ms}},
		{"slower sending begins with the final",
			func() *session {
				s := in(Up, fast)
				s.configure(slower, t0)
				s.receive(final(Up), t0)
				return s
			},
			400 * ms, 300 * ms, [2]time.Duration{400 * ms, 100 * ms}},
		{"slower sending needs no final unless up",
			func() *session {
				s := in(Init, fast)
				s.configure(settings{minTx: 3 * time.Second, minRx: 100 * ms, multiplier: 3}, t0)
				return s
			},
			3 * time.Second, 3 * slow, [2]time.Duration{3 * time.Second, 100 * ms}},
		{"faster sending waits for nothing",
			func() *session {
				s := in(Up, slower)
				s.configure(fast, t0)
				return s
			},
			100 * ms, 300 * ms, [2]time.Duration{100 * ms, 100 * ms}},
		{"expecting packets faster waits for the final",
			func() *session {
				s := in(Up, settings{minTx: 100 * ms, minRx: 500 * ms, multiplier: 3})
				s.configure(fast, t0)
				return s
			},
			100 * ms, 1500 * ms, [2]time.Duration{100 * ms, 100 * ms}},
		{"bearing packets slower waits for nothing",
			func() *session {
				s := in(Up, fast)
				s.configure(settings{minTx: 100 * ms, minRx: 500 * ms, multiplier: 3}, t0)
				return s
			},
			100 * ms, 1500 * ms, [2]time.Duration{100 * ms, 500 * ms}},
		{"a final from before a second change ends nothing",
			func() *session {
				s := in(Up, fast)
				s.configure(settings{minTx: 200 * ms, minRx: 100 * ms, multiplier: 3}, t0)
				s.configure(slower, t0)
				s.receive(final(Up), t0)
				return s
			},
			100 * ms, 300 * ms, [2]time.Duration{400 * ms, 100 * ms}},
		{"the final after it does",
			func() *session {
				s := in(Up, fast)
				s.configure(settings{minTx: 200 * ms, minRx: 100 * ms, multiplier: 3}, t0)
				s.configure(slower, t0)
				s.receive(final(Up), t0)
				s.receive(final(Up), t0)
				return s
			},
			400 * ms, 300 * ms, [2]time.Duration{400 * ms, 100 * ms}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.s()
			if s.pace != tt.pace || s.detection() != tt.detection {
				t.Errorf("sends every %v and detects within %v, want %v and %v", s.pace, s.detection(), tt.pace, tt.detection)
			}
			if p := s.packet(); p.DesiredMinTx != tt.says[0] || p.RequiredMinRx != tt.says[1] {
				t.Errorf("says %v and %v, want %v", p.DesiredMinTx, p.RequiredMinRx, tt.says)
			}
			if (s.pace == 0) != s.nextTx.IsZero() {
				t.Errorf("sends every %v, the next at %v", s.pace, s.nextTx)
			}
		})
	}
}

func final(state State) Packet {
	p := said(state)
	p.Final = true
	return p
}

func TestPollSequence(t *testing.T) {
	s := in(Down, fast)
	s.receive(said(Init), t0)
	if s.state != Up || !s.send(t0).Poll {
		t.Error("a session that comes up does not poll")
	}
	if !s.send(t0.Add(time.Second)).Poll {
		t.Error("a poll that is not answered is not repeated")
	}
	poll := said(Up)
	poll.Poll = true
	if !s.receive(poll, t0) {
		t.Error("a poll is not answered")
	}
	if f := s.final(); !f.Final || f.Poll {
		t.Errorf("the answer is %+v, want a final that is no poll", f)
	}
	s.receive(final(Up), t0)
	if p := s.send(t0.Add(2 * time.Second)); p.Poll || p.Final {
		t.Errorf("after the final comes %+v", p)
	}
	s.configure(fast, t0)
	if s.send(t0).Poll {
		t.Error("a change of nothing is polled for")
	}
	s.configure(settings{minTx: 100 * ms, minRx: 100 * ms, multiplier: 9}, t0)
	if p := s.send(t0); p.Poll || p.Multiplier != 9 {
		t.Errorf("a new multiplier is told as %+v, want no poll", p)
	}
	s.disable(t0)
	if s.receive(poll, t0) {
		t.Error("a session that is disabled answers a poll")
	}
}

func TestSilenceEndsASession(t *testing.T) {
	s := in(Up, fast)
	s.receive(said(Up), t0.Add(50*ms))
	if s.missed(t0.Add(349 * ms)) {
		t.Error("missed before the detection time is over")
	}
	now := t0.Add(350 * ms)
	if !s.missed(now) {
		t.Fatal("not missed after the detection time")
	}
	s.expire(now)
	if s.state != Down || s.diag != DetectionTime || s.losses != 1 || !s.wasUp || !s.since.Equal(now) {
		t.Errorf("is %s (%s) with %d losses since %v", s.state, s.diag, s.losses, s.since)
	}
	p := s.send(now)
	if p.YourDiscriminator != 0 || p.State != Down || p.Diag != DetectionTime || p.DesiredMinTx != slow {
		t.Errorf("says %+v, want that it has forgotten the other end", p)
	}
	if s.missed(now.Add(time.Hour)) {
		t.Error("misses somebody who is forgotten")
	}
	s.receive(said(Down), now)
	if s.receive(said(Up), now); s.state != Up || s.losses != 1 {
		t.Errorf("is %s with %d losses, want up again", s.state, s.losses)
	}
}

func TestSilenceIsForgottenInAnyState(t *testing.T) {
	for _, state := range []State{AdminDown, Down, Init} {
		s := in(state, fast)
		p := said(AdminDown)
		if state == Init {
			p = said(Down)
		}
		p.RequiredMinRx = 0
		s.receive(p, t0)
		now := t0.Add(time.Hour)
		if !s.missed(now) {
			t.Fatalf("%s: the other end is not missed", state)
		}
		s.expire(now)
		want := state
		if state == Init {
			want = Down
		}
		if s.state != want || s.packet().YourDiscriminator != 0 || s.losses != 0 {
			t.Errorf("%s: is %s and speaks to %d", state, s.state, s.packet().YourDiscriminator)
		}
		// It wanted to be sent nothing, but it is gone: whoever comes may not.
		if s.pace != slow {
			t.Errorf("%s: sends every %v, want %v", state, s.pace, slow)
		}
	}
}

func TestOneReprieveInASilence(t *testing.T) {
	s := in(Up, fast)
	late := t0.Add(400 * ms)
	if !s.reprieve(late.Add(10*ms)) || s.missed(late) || !s.missed(late.Add(10*ms)) {
		t.Error("a reprieve does not put the deadline off by what it says")
	}
	if s.reprieve(late.Add(20 * ms)) {
		t.Error("granted twice in one silence")
	}
	s.receive(said(Up), late)
	if s.missed(late.Add(299*ms)) || !s.missed(late.Add(300*ms)) {
		t.Error("a packet after a reprieve does not begin a new detection time")
	}
	if !s.reprieve(late.Add(time.Second)) {
		t.Error("not granted in the next silence")
	}
}

func TestJitter(t *testing.T) {
	draw := 0.0
	s := newSession(fast, 7, func() float64 { return draw }, t0)
	tests := []struct {
		name       string
		multiplier uint8
		draw       float64
		want       time.Duration
	}{
		{"a quarter less at most, but for the lead", 3, 0, 750*ms + early},
		{"nothing less at least", 3, 1, 1000 * ms},
		{"a quarter less at most, but for the lead, with multiplier 1", 1, 0, 750*ms + early},
		{"a tenth less at least, with multiplier 1", 1, 1, 900 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			draw, s.settings.multiplier = tt.draw, tt.multiplier
			s.send(t0)
			if got := s.nextTx.Sub(t0).Round(time.Microsecond); got != tt.want {
				t.Errorf("the next packet comes after %v, want %v", got, tt.want)
			}
			if s.ready(t0.Add(750*ms - 1)) {
				t.Error("the next packet may come even earlier")
			}
		})
	}
}

func TestAFasterPaceMovesTheNextPacket(t *testing.T) {
	s := in(Init, fast)
	s.receive(said(Up), t0.Add(600*ms)) // up: 1 s becomes 100 ms, and that is over
	if !s.due().Equal(t0.Add(600 * ms)) {
		t.Errorf("due at %v, want at once", s.due().Sub(t0))
	}
	s.send(t0.Add(600 * ms))
	p := said(Up)
	p.RequiredMinRx = 200 * ms
	s.receive(p, t0.Add(620*ms))
	if got := s.nextTx.Sub(t0); got != 800*ms {
		t.Errorf("due at %v, want the slower pace after the last packet, 800 ms", got)
	}
}
