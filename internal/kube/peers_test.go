package kube

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/internal/snapshot"
)

func lease(node string, renewed int) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: "herald-speaker-" + node, Namespace: "herald-system",
			Annotations: map[string]string{annotationSpeaker: `{"dataPath":"ipvs","links":[{"name":"eth0","prefixes":["192.0.2.1/24"]}]}`},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       ptr.To(node),
			LeaseDurationSeconds: ptr.To(int32(3)),
			RenewTime:            &metav1.MicroTime{Time: time.Unix(int64(renewed), 0)},
		},
	}
}

// A peersStory tells, on the clock of n1, who is alive and who is lost after each step.
type peersStory struct {
	t   *testing.T
	p   *peers
	now time.Time
	n   int
}

func (s *peersStory) renew(nodes ...string) {
	s.t.Helper()
	s.n++
	for _, node := range nodes {
		if err := s.p.observe(lease(node, s.n), s.now); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *peersStory) alive(want string) { s.t.Helper(); s.found("alive", s.p.judge(s.now).alive, want) }

func (s *peersStory) lost(want string) { s.t.Helper(); s.found("lost", s.p.judge(s.now).lost, want) }

func (s *peersStory) found(how string, speakers []snapshot.Speaker, want string) {
	s.t.Helper()
	var got []string
	for _, sp := range speakers {
		name := sp.Node
		if sp.Leaving && how == "lost" {
			name += "(leaving)"
		}
		if sp.Stale {
			name += "(stale)"
		}
		got = append(got, name)
	}
	if text := strings.Join(got, " "); text != want {
		s.t.Errorf("at %s: %s %q, want %q", s.now.Format("05.000"), how, text, want)
	}
}

// leave renews the Lease of a node that is about to stop.
func (s *peersStory) leave(node string) {
	s.t.Helper()
	s.n++
	l := lease(node, s.n)
	l.Annotations[annotationSpeaker] = `{"dataPath":"ipvs","leaving":true}`
	if err := s.p.observe(l, s.now); err != nil {
		s.t.Fatal(err)
	}
}

// hears renews the Lease of a node that hears others, and is not heard by them.
func (s *peersStory) hears(node string, others ...string) {
	s.t.Helper()
	s.n++
	l := lease(node, s.n)
	l.Annotations[annotationSpeaker] = fmt.Sprintf(`{"dataPath":"ipvs","hears":["%s"]}`, strings.Join(others, `","`))
	if err := s.p.observe(l, s.now); err != nil {
		s.t.Fatal(err)
	}
}

// pass lets so many seconds go by, in each of which nodes renew their Leases.
func (s *peersStory) pass(seconds int, nodes ...string) {
	s.t.Helper()
	for range seconds {
		s.after(time.Second)
		s.renew(nodes...)
		s.p.judge(s.now)
	}
}

func (s *peersStory) after(d time.Duration) { s.now = s.now.Add(d) }

func story(t *testing.T) *peersStory {
	return &peersStory{t: t, p: newPeers("n1"), now: time.Unix(1000, 0)}
}

func TestASilentSpeakerIsDeadAfterItsLease(t *testing.T) {
	s := story(t)
	s.renew("n1", "n2")
	s.alive("n1 n2")
	for range 2 {
		s.after(time.Second)
		s.renew("n1")
		s.alive("n1 n2")
	}
	s.after(time.Second)
	s.renew("n1")
	s.alive("n1")
	s.renew("n1", "n2")
	s.alive("n1 n2")
}

func TestNobodyIsAliveBeforeOnesOwnLeaseIsSeen(t *testing.T) {
	s := story(t)
	s.renew("n2", "n3")
	s.alive("")
	s.renew("n1")
	s.alive("n1 n2 n3")
}

func TestWhoIsCutOffFromTheAPIJudgesNobody(t *testing.T) {
	s := story(t)
	s.renew("n2", "n3") // renewed just before n1 is
	s.after(900 * time.Millisecond)
	s.renew("n1")
	s.alive("n1 n2 n3")
	for range 200 { // the API is gone for 20 s
		s.after(100 * time.Millisecond)
		s.alive("n1 n2 n3")
	}
	s.renew("n1") // it is back; the others need a moment to be heard
	s.alive("n1 n2 n3")
	s.after(time.Second)
	s.renew("n1", "n2")
	s.alive("n1 n2 n3")
	s.after(time.Second)
	s.renew("n1", "n2")
	s.after(time.Second)
	s.renew("n1", "n2")
	s.alive("n1 n2") // n3 has died meanwhile
}

// Who is no speaker goes by the Leases of all, and judges nobody when none is renewed: then
// it is the API that is gone, or nobody is left anyway.
func TestAnOnlookerGoesByTheLeasesOfAll(t *testing.T) {
	s := &peersStory{t: t, p: newPeers(""), now: time.Unix(1000, 0)}
	s.alive("")
	s.renew("n1", "n2")
	s.alive("n1 n2")
	s.pass(3, "n2")
	s.alive("n2")
	s.lost("n1")
	s.pass(2, "n1", "n2")
	s.alive("n1 n2")
	s.after(time.Minute)
	s.alive("n1 n2")
	s.renew("n1")
	s.alive("n1 n2") // n2 has a whole Lease's time to be seen again
	s.pass(3, "n1")
	s.alive("n1")
}

// What a Lease says of when it was renewed is by the clock of its node, which may be
// wrong, and may be set while it runs: that it says something else is what counts.
func TestAClockThatDisagreesDoesNoHarm(t *testing.T) {
	const hour = 3600
	tests := []struct {
		name string
		off  func(second int) int // from ours
	}{
		{"behind", func(int) int { return -hour }},
		{"ahead", func(int) int { return hour }},
		{"put forward between two renewals", func(s int) int { return s / 5 * hour }},
		{"put back between two renewals", func(s int) int { return s / 5 * -hour }},
		{"put forward, and back by more", func(s int) int { return []int{0, hour, -hour}[s/4%3] }},
		{"put back by a second, again and again", func(s int) int { return -2 * s }},
	}
	for _, node := range []string{"n1", "n2"} { // our own, and another's
		for _, tt := range tests {
			t.Run(node+" is "+tt.name, func(t *testing.T) {
				s := story(t)
				s.renew("n1", "n2", "n3")
				for i := range 12 {
					s.after(time.Second)
					for _, n := range []string{"n1", "n2", "n3"} {
						renewed := 10000 + i
						if n == node {
							renewed += tt.off(i)
						}
						if err := s.p.observe(lease(n, renewed), s.now); err != nil {
							t.Fatal(err)
						}
					}
					s.alive("n1 n2 n3")
					s.lost("")
				}
				for range 2 { // n2 and n3 are dead
					s.after(time.Second)
					s.renew("n1")
					s.alive("n1 n2 n3")
				}
				s.after(time.Second)
				s.renew("n1")
				s.alive("n1")
				s.lost("n2 n3")
			})
		}
	}
}

func TestALeaseThatCannotBeReadIsPassedOver(t *testing.T) {
	s := story(t)
	s.renew("n1", "n2")
	bad := lease("n2", 99)
	bad.Annotations[annotationSpeaker] = "{"
	if err := s.p.observe(bad, s.now); err == nil || !strings.Contains(err.Error(), "herald-system/herald-speaker-n2") {
		t.Errorf("error %v does not name the Lease", err)
	}
	s.alive("n1")
	empty := lease("n1", 99)
	empty.Spec.HolderIdentity = nil
	if err := s.p.observe(empty, s.now); err != nil {
		t.Error(err)
	}
	if len(s.p.known) != 0 {
		t.Errorf("a Lease that nobody holds is known: %v", s.p.known)
	}
}

func TestAllAgreeInAnyOrder(t *testing.T) {
	s := story(t)
	for i := 9; i > 0; i-- {
		s.renew(fmt.Sprintf("n%d", i))
	}
	s.alive("n1 n2 n3 n4 n5 n6 n7 n8 n9")
	if got := s.p.judge(s.now).alive[0]; got.DataPath != "ipvs" || len(got.Links) != 1 || got.Links[0].Name != "eth0" {
		t.Errorf("facts are lost: %+v", got)
	}
	if !slices.IsSortedFunc(s.p.judge(s.now).alive, func(a, b snapshot.Speaker) int { return strings.Compare(a.Node, b.Node) }) {
		t.Error("speakers are not sorted")
	}
}

func TestWhoWasDeadBeforeTheAPIWentStaysDead(t *testing.T) {
	s := story(t)
	s.renew("n1", "n2", "n3")
	s.alive("n1 n2 n3")
	for range 3 { // n3 dies; its Lease stays
		s.after(time.Second)
		s.renew("n1", "n2")
	}
	s.alive("n1 n2")
	for range 20 { // the API is gone
		s.after(100 * time.Millisecond)
		s.alive("n1 n2")
	}
	s.renew("n1")
	s.alive("n1 n2")
}

func TestWhoFallsSilentIsLost(t *testing.T) {
	tests := []struct {
		name        string
		play        func(*peersStory)
		alive, lost string
	}{
		{"who renews is not", func(s *peersStory) { s.pass(5, "n1", "n2") }, "n1 n2", ""},
		{"nor who is silent for less than its Lease", func(s *peersStory) { s.pass(2, "n1") }, "n1 n2", ""},
		{"who is silent for longer is", func(s *peersStory) { s.pass(3, "n1") }, "n1", "n2"},
		{"and is not any more once it is heard", func(s *peersStory) { s.pass(3, "n1"); s.renew("n2") }, "n1 n2", ""},
		{"who took its leave is marked as such", func(s *peersStory) { s.leave("n2"); s.pass(5, "n1") }, "n1", "n2(leaving)"},
		{"who came back after it and then falls silent is", func(s *peersStory) {
			s.leave("n2")
			s.pass(1, "n1", "n2")
			s.pass(3, "n1")
		}, "n1", "n2"},
		{"whose Lease is deleted is neither", func(s *peersStory) { s.p.forget("herald-speaker-n2"); s.p.judge(s.now) }, "n1", ""},
		{"also if it was lost", func(s *peersStory) { s.pass(3, "n1"); s.p.forget("herald-speaker-n2") }, "n1", ""},
		{"a leftover counts as alive for the time of its Lease", func(s *peersStory) {
			s.pass(3, "n1", "n2")
			s.renew("n3") // as it was first seen, whenever that was written
			s.pass(2, "n1", "n2")
		}, "n1 n2 n3", ""},
		{"and is lost from then on", func(s *peersStory) { s.renew("n3"); s.pass(3, "n1", "n2") }, "n1 n2", "n3"},
		{"after a minute more it is stale", func(s *peersStory) { s.pass(63, "n1") }, "n1", "n2(stale)"},
		{"and not before", func(s *peersStory) { s.pass(62, "n1") }, "n1", "n2"},
		{"all are at once", func(s *peersStory) { s.renew("n9", "n3"); s.pass(3, "n1") }, "n1", "n2 n3 n9"},
		{"who is cut off from the API loses nobody", func(s *peersStory) { s.pass(9) }, "n1 n2", ""},
		{"and finds nobody again", func(s *peersStory) { s.pass(3, "n1"); s.pass(9) }, "n1", "n2"},
		{"once it is back it waits before it loses anybody", func(s *peersStory) { s.pass(9); s.pass(2, "n1") }, "n1 n2", ""},
		{"but who was lost before stays so", func(s *peersStory) { s.pass(3, "n1"); s.pass(9); s.renew("n1") }, "n1", "n2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := story(t)
			s.renew("n1", "n2")
			s.alive("n1 n2")
			tt.play(s)
			s.alive(tt.alive)
			s.lost(tt.lost)
		})
	}
}

func TestBeforeTheFirstJudgementNobodyIsMissed(t *testing.T) {
	s := story(t)
	s.renew("n2", "n3")
	s.alive("")
	s.lost("n2(leaving) n3(leaving)")
	s.renew("n1")
	s.alive("n1 n2 n3")
	s.lost("")
}

func TestTheLostAreKnownAsTheyWereLastHeard(t *testing.T) {
	s := story(t)
	s.renew("n1", "n2")
	s.pass(3, "n1")
	lost := s.p.judge(s.now).lost
	if len(lost) != 1 || lost[0].DataPath != "ipvs" || len(lost[0].Links) != 1 {
		t.Errorf("lost %+v", lost)
	}
}

// Whatever of a speaker's facts changes, who plans by them has to look again.
func TestACensusRingsForNews(t *testing.T) {
	says := func(text string, renewed int) *coordinationv1.Lease {
		l := lease("n1", renewed)
		l.Annotations[annotationSpeaker] = text
		return l
	}
	tests := []struct {
		name, before, after string
		rings               bool
	}{
		{"the same again is no news", `{"tunnels":["192.0.2.1"],"lacks":["no tunnels"]}`, `{"tunnels":["192.0.2.1"],"lacks":["no tunnels"]}`, false},
		{"the end of a tunnel is", `{}`, `{"tunnels":["192.0.2.1"]}`, true},
		{"another one is", `{"tunnels":["192.0.2.1"]}`, `{"tunnels":["192.0.2.2"]}`, true},
		{"a hardware address is", `{"links":[{"name":"eth0"}]}`, `{"links":[{"name":"eth0","mac":"02:00:00:00:00:01"}]}`, true},
		{"speaking BFD is", `{}`, `{"bfd":true}`, true},
		{"that it hears one that does not hear it is not, to others", `{}`, `{"hears":["n2"]}`, false},
		{"what the kernel lacks is", `{}`, `{"lacks":["no mh"]}`, true},
		{"a field of a later version is not", `{}`, `{"later":1}`, false},
		{"no address is no end of a tunnel", `{}`, `{"tunnels":[""]}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, now := newCensus(Options{Node: "n1", Log: slog.New(slog.DiscardHandler)}), time.Unix(1000, 0)
			if !c.observe(says(tt.before, 1), now) {
				t.Error("a first speaker is no news")
			}
			if got := c.observe(says(tt.after, 2), now); got != tt.rings {
				t.Errorf("it rings: %t, want %t", got, tt.rings)
			}
		})
	}
	c, now := newCensus(Options{Node: "n1", Log: slog.New(slog.DiscardHandler)}), time.Unix(1000, 0)
	c.observe(lease("n1", 1), now)
	c.observe(lease("n2", 1), now)
	for second := range 3 {
		now = now.Add(time.Second)
		if rang := c.observe(lease("n1", 2+second), now); rang != (second == 2) {
			t.Errorf("after %d s without n2 it rings: %t", second+1, rang)
		}
	}
	if got := c.judged(); len(got.alive) != 1 || len(got.lost) != 1 {
		t.Errorf("judged %+v", got)
	}
	for _, step := range []struct {
		says  snapshot.Contact
		rings bool
	}{{snapshot.Lost, false}, {snapshot.Reached, true}, {snapshot.Reached, false}, {snapshot.Left, true}, {snapshot.Lost, true}, {snapshot.Deaf, true}, {snapshot.Reached, true}} {
		if got := c.meet(map[string]snapshot.Contact{"n2": step.says}, now); got != step.rings {
			t.Errorf("n2, which is silent, has contact %d: it rings: %t", step.says, got)
		}
	}
}
