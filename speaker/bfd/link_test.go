package bfd

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A weather is what a link does to packets.
type weather struct {
	lose, repeat float64 // of all packets
	delay        time.Duration
	cut          bool
}

// A link joins two sessions in simulated time, and holds both to what can be
// said of every packet.
type link struct {
	t       *testing.T
	rnd     *rand.Rand
	now     time.Time
	weather weather
	ends    [2]*session
	flying  []flight
	last    [2]Packet
	sent    [2]time.Time // when last was
	changed [2]time.Time // when settings were
}

// A flight is a packet on its way to an end.
type flight struct {
	at     time.Time
	to     int
	packet Packet
}

func newLink(t *testing.T, rnd *rand.Rand, a, b settings) *link {
	l := &link{t: t, rnd: rnd, now: t0}
	l.ends = [2]*session{newSession(a, 1, rnd.Float64, t0), newSession(b, 2, rnd.Float64, t0)}
	return l
}

// run lets time go by.
func (l *link) run(d time.Duration) {
	for end := l.now.Add(d); ; {
		next := end
		for _, s := range l.ends {
			if at := s.due(); !at.IsZero() && at.Before(next) {
				next = at
			}
		}
		if len(l.flying) > 0 && l.flying[0].at.Before(next) {
			next = l.flying[0].at
		}
		if next.After(l.now) { // a change of timers may make something overdue
			l.now = next
		}
		if !l.now.Before(end) {
			return
		}
		l.step()
	}
}

// step does all that is due now.
func (l *link) step() {
	for len(l.flying) > 0 && !l.flying[0].at.After(l.now) {
		f := l.flying[0]
		l.flying = l.flying[1:]
		if l.ends[f.to].receive(f.packet, l.now) {
			l.carry(f.to, l.ends[f.to].final())
		}
	}
	for i, s := range l.ends {
		if s.missed(l.now) {
			s.expire(l.now)
		}
		if s.ready(l.now) { // as early as it may
			p := s.send(l.now)
			l.judge(i, p)
			l.carry(i, p)
		}
	}
}

// judge holds a packet in its turn against the one before.
func (l *link) judge(from int, p Packet) {
	s, before := l.ends[from], l.last[from]
	floor := s.settings.minTx
	if p.State != Up {
		floor = max(floor, slow)
	}
	if p.Poll { // what is slower waits for the answer
		floor = min(floor, s.tx)
	}
	// A packet with news may come early; one without may not. News may be over
	// before it was told.
	news := s.since.After(l.sent[from]) || l.changed[from].After(l.sent[from])
	if gap := l.now.Sub(l.sent[from]); p == before && !news && gap < floor*3/4 {
		l.t.Errorf("end %d repeats itself after %v, want %v at least: %+v", from, gap, floor*3/4, p)
	}
	if p.Poll && p.State != Up || p.Final || p.Demand || p.Multiplier == 0 || p.MyDiscriminator == 0 {
		l.t.Errorf("end %d says %+v in its turn", from, p)
	}
	if _, err := Decode(p.Append(nil)); err != nil {
		l.t.Errorf("end %d says %+v: %v", from, p, err)
	}
	l.last[from], l.sent[from] = p, l.now
}

func (l *link) carry(from int, p Packet) {
	if l.weather.cut {
		return
	}
	for range 2 {
		if l.rnd.Float64() >= l.weather.lose {
			at := l.now.Add(time.Duration(l.rnd.Float64() * float64(l.weather.delay)))
			l.flying = append(l.flying, flight{at, 1 - from, p})
		}
		if l.rnd.Float64() >= l.weather.repeat {
			break
		}
	}
	slices.SortStableFunc(l.flying, func(a, b flight) int { return a.at.Compare(b.at) })
}

func (l *link) up() bool { return l.ends[0].state == Up && l.ends[1].state == Up }

func anySettings(rnd *rand.Rand) settings {
	times := []time.Duration{50 * ms, 100 * ms, 300 * ms, 1500 * ms}
	return settings{
		minTx: times[rnd.IntN(len(times))], minRx: times[rnd.IntN(len(times))],
		multiplier: uint8(2 + rnd.IntN(4)),
	}
}

// Whatever the link has done and however often both ends have changed their
// minds: once it is good both come up and agree on the timers, and once it is
// cut both notice in the time they have said.
func TestTwoSessionsAgreeInTheEnd(t *testing.T) {
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		l := newLink(t, rnd, anySettings(rnd), anySettings(rnd))
		l.ends[1].settings.passive = rnd.IntN(2) == 0
		for range 20 {
			l.weather = weather{lose: rnd.Float64() * 0.6, repeat: rnd.Float64() / 2, delay: time.Duration(rnd.IntN(200)) * ms, cut: rnd.IntN(8) == 0}
			l.run(time.Duration(1+rnd.IntN(5000)) * ms)
			set := anySettings(rnd)
			i := rnd.IntN(2)
			set.passive = l.ends[i].settings.passive
			l.ends[i].configure(set, l.now)
			l.changed[i] = l.now
		}
		l.weather = weather{delay: 5 * ms}
		l.run(30 * time.Second)
		agreed(t, seed, l)
		cut(t, seed, l)
	}
}

func agreed(t *testing.T, seed uint64, l *link) {
	t.Helper()
	if !l.up() {
		t.Fatalf("seed %d: %s and %s, want up", seed, l.ends[0].state, l.ends[1].state)
	}
	for i, s := range l.ends {
		other := l.ends[1-i]
		pace := max(s.settings.minTx, other.settings.minRx)
		if s.polling || s.pace != pace || s.remote.your != other.my {
			t.Errorf("seed %d: end %d sends every %v (polling: %v), want %v", seed, i, s.pace, s.polling, pace)
		}
		if want := time.Duration(s.settings.multiplier) * pace; other.detection() != want {
			t.Errorf("seed %d: end %d detects within %v, want %v", seed, 1-i, other.detection(), want)
		}
	}
	losses := l.ends[0].losses + l.ends[1].losses
	l.run(time.Minute)
	if l.ends[0].losses+l.ends[1].losses != losses {
		t.Errorf("seed %d: a good link flaps", seed)
	}
}

func cut(t *testing.T, seed uint64, l *link) {
	t.Helper()
	l.weather.cut, l.flying = true, nil
	begin := l.now
	for i, s := range l.ends {
		if earliest := s.detection() - s.remotePace(); s.deadline.Sub(begin) < earliest-10*ms || s.deadline.Sub(begin) > s.detection() {
			t.Errorf("seed %d: end %d would detect after %v, want %v to %v", seed, i, s.deadline.Sub(begin), earliest, s.detection())
		}
	}
	l.run(max(l.ends[0].detection(), l.ends[1].detection()) + ms)
	for i, s := range l.ends {
		if s.state != Down || s.diag != DetectionTime {
			t.Errorf("seed %d: end %d is %s (%s), want down", seed, i, s.state, s.diag)
		}
	}
}

// remotePace is how far apart the packets are that s expects.
func (s *session) remotePace() time.Duration { return max(s.rx, s.remote.minTx) }

func TestALossOfFewerThanTheMultiplierIsBorne(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	l := newLink(t, rnd, fast, fast)
	l.run(5 * time.Second)
	if !l.up() {
		t.Fatal("does not come up")
	}
	for range 100 {
		l.weather.cut = true
		l.run(149 * ms) // two packets at most, 75 ms apart or more
		l.weather.cut = false
		l.run(200 * ms)
	}
	if !l.up() || l.ends[0].losses+l.ends[1].losses > 0 {
		t.Errorf("%d and %d losses, want none", l.ends[0].losses, l.ends[1].losses)
	}
}
