package steer

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newSyncer(k Kernel) *Syncer {
	return &Syncer{Kernel: k, Audit: time.Minute, Log: slog.New(slog.DiscardHandler)}
}

// one is a table with one server, one destination, one address.
func one(real string) Table {
	t := NewTable()
	v := virt("192.0.2.1:80")
	t.Servers[v] = Server{Scheduler: "rr"}
	t.Dests[Dest{v, ap(real)}] = 1
	t.Addrs[v.Addr.Addr()] = true
	return t
}

func made(f *Fake) (out []string) {
	for _, c := range f.Made {
		out = append(out, c.String())
	}
	f.Made = nil
	return out
}

func TestJoinAddsAndLeaveRemoves(t *testing.T) {
	f := NewFake()
	s := newSyncer(f)
	if _, err := s.Join(t.Context(), at(0), one("10.0.0.1:8080"), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	made(f)
	moved := one("10.0.0.2:8080")
	in, err := s.Join(t.Context(), at(1), moved, nil)
	if err != nil || !in[ip("192.0.2.1")] {
		t.Fatalf("Join: %v, %v", in, err)
	}
	if diff := cmp.Diff([]string{"add 192.0.2.1:80/tcp -> 10.0.0.2:8080 weight 1"}, made(f)); diff != "" {
		t.Errorf("Join made (-want +got):\n%s", diff)
	}
	if err := s.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"del 192.0.2.1:80/tcp -> 10.0.0.1:8080"}, made(f)); diff != "" {
		t.Errorf("Leave made (-want +got):\n%s", diff)
	}
}

func TestARestartTouchesNoRowThatIsRight(t *testing.T) {
	f := NewFake()
	want := one("10.0.0.1:8080")
	if _, err := newSyncer(f).Join(t.Context(), at(0), want, nil); err != nil {
		t.Fatal(err)
	}
	made(f)
	again := newSyncer(f)
	in, err := again.Join(t.Context(), at(1), want, nil)
	if err != nil || !in[ip("192.0.2.1")] {
		t.Fatalf("Join: %v, %v", in, err)
	}
	if err := again.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := made(f); got != nil {
		t.Errorf("the restart made %v", got)
	}
}

func TestARowThatFailsKeepsOnlyItsOwnAddressBack(t *testing.T) {
	f := NewFake()
	want := one("10.0.0.1:8080")
	bad := virt("192.0.2.9:80")
	want.Servers[bad] = Server{Scheduler: "rr"}
	want.Addrs[bad.Addr.Addr()] = true
	f.Fail = func(c Change) error {
		if c.Virtual == bad {
			return errors.New("no buffer space available")
		}
		return nil
	}
	s := newSyncer(f)
	in, err := s.Join(t.Context(), at(0), want, nil)
	if err == nil || !strings.Contains(err.Error(), "add 192.0.2.9:80/tcp rr: no buffer space available") {
		t.Errorf("error %v does not name the row", err)
	}
	if !in[ip("192.0.2.1")] || in[ip("192.0.2.9")] {
		t.Errorf("ready: %v", in)
	}
	f.Fail = nil
	if in, err = s.Join(t.Context(), at(1), want, nil); err != nil || !in[ip("192.0.2.9")] {
		t.Errorf("it is not mended by the next pass: %v, %v", in, err)
	}
}

func TestWhatLeavesGoesThoughARowCannotJoin(t *testing.T) {
	f := NewFake()
	s := newSyncer(f)
	if _, err := s.Join(t.Context(), at(0), one("10.0.0.1:8080"), nil); err != nil {
		t.Fatal(err)
	}
	f.Fail = func(c Change) error {
		if c.Verb == Add {
			return errors.New("no such module")
		}
		return nil
	}
	other := NewTable()
	other.Servers[virt("192.0.2.9:80")] = Server{Scheduler: "rr"}
	if _, err := s.Join(t.Context(), at(1), other, nil); err == nil {
		t.Fatal("the failure is not reported")
	}
	if err := s.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(f.rows.Servers)+len(f.rows.Dests)+len(f.rows.Addrs) != 0 {
		t.Errorf("left behind: %v", listing(f.rows))
	}
}

func TestAnAuditRepairsAndCounts(t *testing.T) {
	f := NewFake()
	s := newSyncer(f)
	want := one("10.0.0.1:8080")
	pass := func(second int64) {
		t.Helper()
		if _, err := s.Join(t.Context(), at(second), want, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass(0)
	f.Disturb(func(rows Table) {
		clear(rows.Dests)
		rows.Servers[virt("192.0.2.7:7")] = Server{Scheduler: "rr"}
	})
	pass(30)
	if s.Repaired != 0 {
		t.Errorf("repaired %d before the audit is due", s.Repaired)
	}
	pass(61)
	if s.Repaired != 2 {
		t.Errorf("repaired %d, want 2", s.Repaired)
	}
	if diff := cmp.Diff(listing(want), listing(f.rows)); diff != "" {
		t.Errorf("after the audit (-want +got):\n%s", diff)
	}
}

// From any table, through any failures, passes reach any other table.
func TestPassesConverge(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	f := NewFake()
	s := newSyncer(f)
	for round := range 300 {
		want := random(rnd)
		f.Fail = func(Change) error {
			if rnd.IntN(2) == 0 {
				return errors.New("no buffer space available")
			}
			return nil
		}
		_, _ = s.Join(t.Context(), at(int64(round)), want, nil) // fails, as it may
		_ = s.Leave(t.Context())
		f.Fail = nil
		if _, err := s.Join(t.Context(), at(int64(round)), want, nil); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := s.Leave(t.Context()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if diff := cmp.Diff(listing(want), listing(f.rows)); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
	}
}

// What the rows stand in is repaired by Prepare; an audit counts it and says so
// once, but for what it was made of at first.
func TestAnAuditSaysWhatWasMended(t *testing.T) {
	var log strings.Builder
	f := NewFake()
	s := &Syncer{Kernel: f, Audit: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))}
	pass := func(second int64) {
		t.Helper()
		if _, err := s.Join(t.Context(), at(second), one("10.0.0.1:8080"), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.Broke = []string{"link herald0"} // it is made
	pass(0)
	if s.Repaired != 0 {
		t.Errorf("%d repaired at the start", s.Repaired)
	}
	f.Broke = []string{"link herald0", "sysctl net/ipv4/ip_forward"}
	pass(60)
	pass(120)
	if n := strings.Count(log.String(), "changed by somebody else"); s.Repaired != 2 || n != 1 || !strings.Contains(log.String(), "ip_forward") {
		t.Errorf("%d repaired, said %d times:\n%s", s.Repaired, n, log.String())
	}
}
