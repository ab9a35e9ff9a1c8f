package bfd

import (
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestTwoServersComeUpAndNoticeACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment, _, servers := pair(t)
		before := servers[0].changes
		segment.set(func() { segment.cut = true })
		begin := time.Now()
		time.Sleep(99 * ms) // a packet may have come 50 ms ago
		for _, s := range servers {
			if got := s.one(t); got.State != Up {
				t.Errorf("is %v long before the detection time is over", got)
			}
		}
		time.Sleep(51 * ms)
		for _, s := range servers {
			got := s.one(t)
			if got.State != Down || got.Diag != DetectionTime || got.Losses != 1 || !got.WasUp || got.Detection != 0 || got.RemoteDiscriminator != 0 {
				t.Errorf("is %+v, want down", got)
			}
			if after := got.Since.Sub(begin); after < 100*ms || after > 150*ms {
				t.Errorf("has noticed after %v, want 100 to 150 ms", after)
			}
		}
		if servers[0].changes == before || !strings.Contains(servers[0].log.String(), `a BFD session is down" peer=192.0.2.2 why="control detection time expired"`) {
			t.Errorf("nobody was told; the log says\n%s", servers[0].log)
		}
		segment.set(func() { segment.cut = false })
		time.Sleep(3 * time.Second)
		for _, s := range servers {
			if got := s.one(t); got.State != Up || got.Losses != 1 {
				t.Errorf("is %v with %d losses, want up again", got, got.Losses)
			}
		}
	})
}

// stallUnderTest is ten detection times.
const stallUnderTest = 1500 * ms

// A process that does not get the CPU finds, when it does again, that its
// peers have not been silent.
func TestOwnAbsenceIsNotSilence(t *testing.T) {
	tests := []struct {
		name  string
		stall func(*fakeSegment, *fakeHost)
	}{
		{"the process was not scheduled: packets wait in the socket",
			func(_ *fakeSegment, h *fakeHost) { h.set(func() { h.stall = stallUnderTest }) }},
		{"the whole machine was paused: packets come a moment later",
			func(s *fakeSegment, h *fakeHost) {
				h.set(func() { h.stall = stallUnderTest })
				s.set(func() { s.hold = true })
				h.set(func() { h.awake = func() { time.AfterFunc(settling/2, s.release) } })
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				segment, hosts, servers := pair(t)
				// The other end is patient: it would notice, too.
				patient := peer("192.0.2.2")
				patient.Multiplier = 255
				if err := servers[0].Sync([]Peer{patient}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				tt.stall(segment, hosts[0])
				time.Sleep(stallUnderTest + time.Second)
				if got := servers[0].one(t); got.State != Up || got.Losses != 0 || got.Detection != 150*ms {
					t.Errorf("is %v with %d losses, want up: its peer has never been silent", got, got.Losses)
				}
			})
		})
	}
}

// What has come counts before what is due, even where the loop is so little
// late that nobody would call it absent.
func TestWhatHasComeIsReadFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, hosts, servers := pair(t)
		fastest := func(addr string, multiplier uint8) []Peer {
			return []Peer{{Addr: ip(addr), MinTx: shortest, MinRx: shortest, Multiplier: multiplier}}
		}
		for i, peers := range [][]Peer{fastest("192.0.2.2", 255), fastest("192.0.2.1", 3)} {
			if err := servers[i].Sync(peers); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		for range 200 {
			hosts[0].set(func() { hosts[0].stall = shortest*3/4 + late - ms })
			time.Sleep(101 * ms)
		}
		if got := servers[0].one(t); got.State != Up || got.Losses != 0 || got.Detection != 3*shortest {
			t.Errorf("is %v with %d losses, want up", got, got.Losses)
		}
	})
}

// Nor does it matter that the process loses the CPU just when it has looked, and
// what comes then is in the socket while it thinks about whom it has not heard.
func TestWhatComesBehindTheLookCountsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, hosts, servers := pair(t)
		patient := peer("192.0.2.2")
		patient.Multiplier = 255
		if err := servers[0].Sync([]Peer{patient}); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			hosts[0].set(func() { hosts[0].pause = 400 * ms })
			time.Sleep(time.Second)
		}
		if got := servers[0].one(t); got.State != Up || got.Losses != 0 || got.Detection != 150*ms {
			t.Errorf("is %v with %d losses, want up", got, got.Losses)
		}
	})
}

func TestAbsenceDoesNotHideSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment, hosts, servers := pair(t)
		segment.set(func() { segment.cut = true })
		hosts[0].set(func() { hosts[0].stall = stallUnderTest })
		time.Sleep(stallUnderTest + 50*ms + settling + ms)
		if got := servers[0].one(t); got.State != Down || got.Diag != DetectionTime {
			t.Errorf("is %v, want down as soon as it could look", got)
		}
	})
}

func TestLeaveTellsAllAtOnceAndStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment, hosts, servers := pair(t)
		begin := time.Now()
		servers[0].Leave()
		if took := time.Since(begin); took > 100*ms {
			t.Errorf("leaving takes %v", took)
		}
		said := hosts[0].said()
		if len(said) < farewells || said[len(said)-1].State != AdminDown || said[len(said)-1].Diag != AdministrativelyDown {
			t.Errorf("says %v, want AdminDown %d times", said, farewells)
		}
		other := servers[1].one(t)
		if other.State != Down || other.Diag != NeighborDown || other.RemoteState != AdminDown || other.RemoteDiag != AdministrativelyDown {
			t.Errorf("the peer is %v, want down because of AdminDown", other)
		}
		if strings.Contains(servers[1].log.String(), "WARN") {
			t.Errorf("the peer is worried:\n%s", servers[1].log)
		}
		time.Sleep(10 * time.Second)
		if got := states(hosts[0].said()); !slices.Equal(got, []State{AdminDown}) {
			t.Errorf("says %v afterwards, want AdminDown and nothing else", got)
		}
		// Also to whom it meets later.
		segment.host("192.0.2.3")
		if err := servers[0].Sync([]Peer{peer("192.0.2.2"), peer("192.0.2.3")}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for addr, got := range servers[0].Sessions() {
			if got.State != AdminDown || got.Losses != 0 {
				t.Errorf("%s is %v, want admin-down", addr, got)
			}
		}
	})
}

func TestSyncDisturbsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment, hosts, servers := pair(t)
		third := start(t, segment.host("192.0.2.3"), peer("192.0.2.1"))
		old := servers[0].one(t)
		stayed := func(when string) {
			t.Helper()
			synctest.Wait()
			got := servers[0].Sessions()[ip("192.0.2.2")]
			if got.State != Up || got.Losses != 0 || got.Discriminator != old.Discriminator || got.Since != old.Since {
				t.Errorf("%s: it is %+v, was %+v", when, got, old)
			}
		}
		sync := func(peers ...Peer) {
			t.Helper()
			if err := servers[0].Sync(peers); err != nil {
				t.Fatal(err)
			}
		}
		sync(peer("192.0.2.2"), peer("192.0.2.3"))
		if _, there := servers[0].Sessions()[ip("192.0.2.3")]; !there {
			t.Error("a new peer is not there when Sync returns")
		}
		time.Sleep(3 * time.Second)
		stayed("a peer was added")
		if got := third.one(t); got.State != Up {
			t.Errorf("the peer that was added is %v", got)
		}

		slower := peer("192.0.2.2")
		slower.MinTx, slower.MinRx, slower.Multiplier = 400*ms, 200*ms, 5
		sync(slower, peer("192.0.2.3"))
		time.Sleep(3 * time.Second)
		stayed("its timers were changed")
		if got := servers[0].Sessions()[ip("192.0.2.2")]; got.Tx != 400*ms || got.Detection != 600*ms {
			t.Errorf("sends every %v, detects within %v, want 400 and 600 ms", got.Tx, got.Detection)
		}
		if got := servers[1].one(t); got.Tx != 200*ms || got.Detection != 2*time.Second || got.Losses != 0 {
			t.Errorf("the peer sends every %v, detects within %v, want 200 ms and 2 s", got.Tx, got.Detection)
		}

		hosts[0].said()
		sync(slower)
		stayed("another was removed")
		if got := third.one(t); got.State != Down || got.RemoteState != AdminDown {
			t.Errorf("the peer that was removed is %v, want told AdminDown", got)
		}
		slower.Local = ip("192.0.2.1")
		sync(slower)
		time.Sleep(3 * time.Second)
		if got := servers[0].one(t); got.State != Up || got.Discriminator == old.Discriminator {
			t.Errorf("with another source address it is %+v, want another session, up", got)
		}
	})
}

func TestAnInvalidPeerHarmsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment, _, servers := pair(t)
		third := start(t, segment.host("192.0.2.3"), peer("192.0.2.1"))
		bad := peer("192.0.2.2")
		bad.MinTx = time.Millisecond
		err := servers[0].Sync([]Peer{bad, peer("192.0.2.3"), peer("192.0.2.3")})
		want := "BFD peer 192.0.2.2: MinTx: 1ms: write 10ms to 1m0s\n" +
			"BFD peer 192.0.2.3: Addr: there is a peer with this address already: leave one out"
		if err == nil || err.Error() != want {
			t.Errorf("Sync() = %v\nwant     %v", err, want)
		}
		time.Sleep(3 * time.Second)
		got := servers[0].Sessions()[ip("192.0.2.2")]
		if got.State != Up || got.Losses != 0 || !strings.Contains(got.Err, "MinTx") {
			t.Errorf("what is invalid now is %v (%s), want up as before, and told", got, got.Err)
		}
		if got := third.one(t); got.State != Up {
			t.Errorf("the other is %v", got)
		}
		if err := servers[0].Sync([]Peer{peer("192.0.2.2")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := servers[0].one(t); got.Err != "" || got.Losses != 0 {
			t.Errorf("put right it is %v (%s)", got, got.Err)
		}
	})
}

func TestAPortThatIsTakenIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment := newSegment()
		a, b := segment.host("192.0.2.1"), segment.host("192.0.2.2")
		a.taken[Port{}] = true
		other := start(t, b, peer("192.0.2.1"))
		s := start(t, a)
		err := s.Sync([]Peer{peer("192.0.2.2")})
		if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "bfdd") || !strings.Contains(err.Error(), "3784") {
			t.Errorf("Sync() = %v, want who has the port", err)
		}
		if got := s.one(t); got.State != Down || got.Err == "" {
			t.Errorf("is %v (%q)", got, got.Err)
		}
		a.set(func() { a.taken[Port{}] = false })
		time.Sleep(4 * time.Second)
		if got := s.one(t); got.State != Up || got.Err != "" {
			t.Errorf("with the port free again it is %v (%q)", got, got.Err)
		}
		// A socket that breaks is opened anew.
		a.set(func() { a.listeners[Port{}].breaks(errors.New("broken")) })
		time.Sleep(5 * time.Second)
		if got := s.one(t); got.State != Up || other.one(t).State != Up {
			t.Errorf("with another socket it is %v", got)
		}
		if err := s.Sync(nil); err != nil || len(a.listeners)+len(a.sources) != 0 {
			t.Errorf("without peers: %v, %d and %d sockets open", err, len(a.listeners), len(a.sources))
		}
	})
}

func TestWhatCannotBeSentIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, hosts, servers := pair(t)
		hosts[0].set(func() { hosts[0].refuse = syscall.ENETUNREACH })
		time.Sleep(500 * ms)
		if got := servers[0].one(t); got.State != Down || got.Diag != NeighborDown || got.Err != "network is unreachable" {
			t.Errorf("is %v (%q)", got, got.Err)
		}
		hosts[0].set(func() { hosts[0].refuse = nil })
		time.Sleep(3 * time.Second)
		if got := servers[0].one(t); got.State != Up || got.Err != "" {
			t.Errorf("is %v (%q), want up", got, got.Err)
		}
	})
}

func TestStrangersAreNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, hosts, servers := pair(t)
		mine := servers[0].one(t).Discriminator
		down := Packet{State: Down, Multiplier: 3, MyDiscriminator: 5, YourDiscriminator: mine, DesiredMinTx: slow, RequiredMinRx: slow}
		nobody := down
		nobody.YourDiscriminator = mine + 1
		initial := down
		initial.YourDiscriminator = 0
		tests := []struct {
			name     string
			packet   Packet
			from, to string
			ttl      int
			multihop bool
			want     Stats
		}{
			{"over a hop too many", down, "192.0.2.2", "192.0.2.1", 254, false, Stats{Distant: 1}},
			{"without a TTL", down, "192.0.2.2", "192.0.2.1", -1, false, Stats{Distant: 1}},
			{"from somebody else", down, "192.0.2.9", "192.0.2.1", 255, false, Stats{Strange: 1}},
			{"from somebody else who knows nobody", initial, "192.0.2.9", "192.0.2.1", 255, false, Stats{Strange: 1}},
			{"for a discriminator that is not there", nobody, "192.0.2.2", "192.0.2.1", 255, false, Stats{Strange: 1}},
			{"to the port of multihop", down, "192.0.2.2", "192.0.2.1", 255, true, Stats{}}, // not even open
			{"malformed", Packet{MyDiscriminator: 5}, "192.0.2.2", "192.0.2.1", 255, false, Stats{Malformed: 1}},
		}
		for _, tt := range tests {
			before := servers[0].Stats()
			d := Datagram{From: ip(tt.from), To: ip(tt.to), TTL: tt.ttl}
			d.Len = copy(d.Data[:], tt.packet.Append(nil))
			hosts[0].hear(Port{Multihop: tt.multihop}, d)
			if got := servers[0].one(t); got.State != Up {
				t.Fatalf("%s: %v", tt.name, got)
			}
			now := servers[0].Stats()
			got := Stats{Malformed: now.Malformed - before.Malformed, Distant: now.Distant - before.Distant, Strange: now.Strange - before.Strange}
			if got != tt.want {
				t.Errorf("%s: counted %+v, want %+v", tt.name, got, tt.want)
			}
		}
		d := Datagram{From: ip("192.0.2.2"), To: ip("192.0.2.1"), TTL: 255}
		d.Len = copy(d.Data[:], down.Append(nil))
		hosts[0].hear(Port{}, d)
		if got := servers[0].one(t); got.State != Down || got.Diag != NeighborDown {
			t.Errorf("the peer itself is not believed: %v", got)
		}
	})
}

func TestMultihopGoesByItsLocalAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment := newSegment()
		segment.ttl = 60
		far := func(addr, local string) Peer {
			p := peer(addr)
			p.Multihop, p.Local = true, ip(local)
			return p
		}
		h := segment.host("192.0.2.1")
		a := start(t, h, far("198.51.100.1", "192.0.2.1"))
		start(t, segment.host("198.51.100.1"), far("192.0.2.1", "198.51.100.1"))
		time.Sleep(3 * time.Second)
		if got := a.one(t); got.State != Up {
			t.Fatalf("is %v, want up", got)
		}
		d := Datagram{From: ip("198.51.100.1"), To: ip("192.0.2.77"), TTL: 60}
		d.Len = copy(d.Data[:], said(Down).Append(nil))
		h.hear(Port{Multihop: true}, d)
		if got := a.one(t); got.State != Up || a.Stats().Strange == 0 {
			t.Errorf("what was sent to another of our addresses is believed: %v", got)
		}
	})
}

func TestTwoPassiveSessionsAreSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment := newSegment()
		a, b := segment.host("192.0.2.1"), segment.host("192.0.2.2")
		quiet := peer("192.0.2.1")
		quiet.Passive = true
		s := start(t, b, quiet)
		time.Sleep(time.Minute)
		if got := b.said(); len(got) > 0 {
			t.Errorf("a passive session says %v", got)
		}
		start(t, a, peer("192.0.2.2"))
		time.Sleep(3 * time.Second)
		if got := s.one(t); got.State != Up {
			t.Errorf("is %v, want up", got)
		}
	})
}

func TestBeforeAndAfterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		segment := newSegment()
		s := start(t, segment.host("192.0.2.1"), peer("192.0.2.2"))
		if err := s.Run(t.Context()); err == nil {
			t.Error("runs twice")
		}
		s.stop()
		synctest.Wait()
		if err := s.Sync(nil); !errors.Is(err, errStopped) {
			t.Errorf("Sync() after the end = %v", err)
		}
		s.Leave()
	})
}
