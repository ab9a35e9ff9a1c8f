package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// A diary is what a pass does, in order: it stands for the kernel and for the
// wire.
type diary struct {
	*steer.Fake
	lines []string
	fails string // what the kernel refuses: a part of a change's words
	had   map[Claim]bool
}

func newDiary() *diary {
	d := &diary{Fake: steer.NewFake(), had: map[Claim]bool{}}
	d.Fake.Fail = func(c steer.Change) error {
		if d.fails != "" && strings.Contains(c.String(), d.fails) {
			return errors.New("no buffer space available")
		}
		d.lines = append(d.lines, c.String())
		return nil
	}
	return d
}

// Sync implements Announcer.
func (d *diary) Sync(_ context.Context, want Announcements) error {
	now := map[Claim]bool{}
	for _, c := range want.Claims {
		now[c] = true
		if !d.had[c] {
			d.lines = append(d.lines, fmt.Sprintf("announce %s on %s", c.Addr, c.Link))
		}
	}
	for c := range d.had {
		if !now[c] {
			d.lines = append(d.lines, fmt.Sprintf("withdraw %s", c.Addr))
		}
	}
	d.had = now
	return nil
}

func (d *diary) read() []string {
	lines := d.lines
	d.lines = nil
	return lines
}

// single is lan with node n1 alone, and one port on the Service.
func single() snapshot.Snapshot {
	s := lan()
	s.Speakers = s.Speakers[:1] // the other node takes no tunnels
	svc := &s.Services[0]
	svc.Ports = []snapshot.Port{{Name: "web", Proto: snapshot.TCP, Number: 80}}
	svc.Endpoints = svc.Endpoints[:1]
	svc.Endpoints[0].Ports = []snapshot.Target{{Name: "web", Proto: snapshot.TCP, Number: 8080}}
	return s
}

func nodeFor(d *diary, take func() (snapshot.Snapshot, bool)) *Node {
	return &Node{
		Name: "n1", Take: take, Announcers: []Announcer{d},
		Steer: &steer.Syncer{Kernel: d, Audit: time.Minute, Log: slog.New(slog.DiscardHandler)},
	}
}

func TestRowsJoinBeforeTheAnnouncementAndLeaveAfterIt(t *testing.T) {
	s := single()
	d := newDiary()
	n := nodeFor(d, func() (snapshot.Snapshot, bool) { // a snapshot is never edited
		now := s
		now.Services = slices.Clone(s.Services)
		return now, true
	})
	pass := func(want ...string) {
		t.Helper()
		if err := n.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d.read()); diff != "" {
			t.Errorf("diary (-want +got):\n%s", diff)
		}
	}
	pass("add 192.0.2.240:80/tcp rr snat", "add 192.0.2.240:80/tcp -> 10.0.0.1:8080 weight 1", "add address 192.0.2.240", "announce 192.0.2.240 on eth0")
	pass()
	s.Services[0].Endpoints[0].Addr = ip("10.0.0.9")
	pass("add 192.0.2.240:80/tcp -> 10.0.0.9:8080 weight 1", "del 192.0.2.240:80/tcp -> 10.0.0.1:8080")
	s.Services[0].Endpoints[0].Ready = false
	pass("withdraw 192.0.2.240", "set 192.0.2.240:80/tcp -> 10.0.0.9:8080 weight 0")
	s.Services[0].Endpoints[0].Ready = true
	pass("set 192.0.2.240:80/tcp -> 10.0.0.9:8080 weight 1", "announce 192.0.2.240 on eth0")
	s.Services = nil
	pass("withdraw 192.0.2.240", "del address 192.0.2.240", "del 192.0.2.240:80/tcp")
}

func TestNothingIsDoneBeforeAllIsRead(t *testing.T) {
	d := newDiary()
	n := nodeFor(d, func() (snapshot.Snapshot, bool) { return snapshot.Snapshot{}, false })
	if err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := d.read(); got != nil {
		t.Errorf("did %v", got)
	}
}

func TestAnAddressWhoseRowsFailIsNotAnnounced(t *testing.T) {
	s := single()
	d := newDiary()
	d.fails = "-> 10.0.0.1"
	passed := 0
	n := nodeFor(d, func() (snapshot.Snapshot, bool) { return s, true })
	n.Passed = func() { passed++ }
	err := n.Pass(t.Context())
	if err == nil || !strings.Contains(err.Error(), "add 192.0.2.240:80/tcp -> 10.0.0.1:8080 weight 1: no buffer space available") {
		t.Errorf("error %v does not name the row", err)
	}
	if diff := cmp.Diff([]string{"add 192.0.2.240:80/tcp rr snat", "add address 192.0.2.240"}, d.read()); diff != "" {
		t.Errorf("diary (-want +got):\n%s", diff)
	}
	d.fails = ""
	if err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"add 192.0.2.240:80/tcp -> 10.0.0.1:8080 weight 1", "announce 192.0.2.240 on eth0"}, d.read()); diff != "" {
		t.Errorf("diary (-want +got):\n%s", diff)
	}
	if passed != 1 {
		t.Errorf("%d of 2 passes count as good, want 1", passed)
	}
}

func TestASpeakerThatRestartsTouchesNothingThatIsRight(t *testing.T) {
	s := single()
	d := newDiary()
	take := func() (snapshot.Snapshot, bool) { return s, true }
	if err := nodeFor(d, take).Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.read()
	d.had = map[Claim]bool{} // sockets die with the process, rows do not
	if err := nodeFor(d, take).Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"announce 192.0.2.240 on eth0"}, d.read()); diff != "" {
		t.Errorf("diary (-want +got):\n%s", diff)
	}
}

func TestANodeThatCannotSteerAnnouncesNothingItWouldHaveTo(t *testing.T) {
	s := single()
	d := newDiary()
	n := nodeFor(d, func() (snapshot.Snapshot, bool) { return s, true })
	n.Steer = nil
	s.Speakers[0].DataPath = ""
	if err := n.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := d.read(); got != nil {
		t.Errorf("did %v", got)
	}
	var none map[netip.Addr]bool
	if got := Plan(s, "n1", none).Claims; got != nil {
		t.Errorf("claims %v", got)
	}
}

// follower lets a function follow.
type follower func(snapshot.Snapshot) error

func (f follower) Follow(_ context.Context, s snapshot.Snapshot) error { return f(s) }

func TestFollowersComeLastAndHoldUpNothing(t *testing.T) {
	s := single()
	d := newDiary()
	n := nodeFor(d, func() (snapshot.Snapshot, bool) { return s, true })
	passed := 0
	n.Passed = func() { passed++ }
	follows := func(line string) Follower {
		return follower(func(got snapshot.Snapshot) error {
			if len(got.Services) != len(s.Services) {
				t.Errorf("%s: %d Services, want %d", line, len(got.Services), len(s.Services))
			}
			d.lines = append(d.lines, line)
			return errors.New(line + ": address already in use")
		})
	}
	n.Followers = []Follower{follows("the first follows"), follows("the second follows")}
	err := n.Pass(t.Context())
	for _, want := range []string{"the first follows: address already in use", "the second follows: address already in use"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
	got := d.read()
	if diff := cmp.Diff([]string{"announce 192.0.2.240 on eth0", "the first follows", "the second follows"}, got[max(0, len(got)-3):]); diff != "" {
		t.Errorf("end of the diary (-want +got):\n%s", diff)
	}
	if passed != 1 {
		t.Errorf("%d passes count as good, want 1: the node serves", passed)
	}
}

// A book is what routers were told.
type book []Routing

func (b *book) Sync(_ context.Context, want Routing) error {
	*b = append(*b, want)
	return nil
}

func (*book) States() []SessionState { return nil }

// last returns what one router knows of the first address: "", "told" or "leaving".
func (b *book) last() string {
	routes := (*b)[len(*b)-1].Sessions[0].Routes
	switch {
	case len(routes) == 0:
		return ""
	case routes[0].Leaving:
		return "leaving"
	}
	return "told"
}

// A speaker that has just come back does not repeat that it leaves, which its Lease
// says from before.
func TestASpeakerThatIsBackDoesNotLeave(t *testing.T) {
	s, told := routed(), &book{}
	s.Config.Pools[0].Steer = config.SteerServiceProxy
	speakerOf(&s, "n1").Leaving = true
	n := &Node{Name: "n1", Take: func() (snapshot.Snapshot, bool) { return s, true }, Router: told}
	if err := n.Pass(t.Context()); err != nil || told.last() != "told" {
		t.Errorf("%q is told, %v", told.last(), err)
	}
	if !speakerOf(&s, "n1").Leaving {
		t.Error("what was taken was edited")
	}
}

// Routers are told to find other ways than a drained node, and then nothing; and
// everything again at once.
func TestADrainedNodeIsRelievedAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, told, rung := routed(), &book{}, 0
		s.Config.Pools[0].Steer = config.SteerServiceProxy
		n := &Node{Name: "n1", Take: func() (snapshot.Snapshot, bool) { return s, true }, Router: told, Ring: func() { rung++ }}
		pass := func(drain bool, want string) {
			t.Helper()
			s.Nodes = slices.Clone(s.Nodes) // what was taken is never edited
			nodeOf(&s, "n1").Draining = drain
			if err := n.Pass(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := told.last(); got != want {
				t.Errorf("%q is told, want %q", got, want)
			}
		}
		pass(false, "told")
		pass(true, "leaving")
		time.Sleep(relief - time.Nanosecond)
		pass(true, "leaving")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if rung != 1 {
			t.Fatalf("another pass was asked for %d times", rung)
		}
		pass(true, "")
		pass(false, "told")
		pass(true, "leaving")
		if err := n.Yield(t.Context()); err != nil || told.last() != "leaving" {
			t.Errorf("%q is told by a node that stops, %v", told.last(), err)
		}
		time.Sleep(relief)
	})
}
