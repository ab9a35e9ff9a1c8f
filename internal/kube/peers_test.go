package kube

import (
	"fmt"
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

// A peersStory tells, on the clock of n1, who is alive after each step.
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

func (s *peersStory) alive(want string) {
	s.t.Helper()
	var got []string
	for _, sp := range s.p.alive(s.now) {
		got = append(got, sp.Node)
	}
	if text := strings.Join(got, " "); text != want {
		s.t.Errorf("at %s: alive %q, want %q", s.now.Format("05.000"), text, want)
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

func TestAClockThatDisagreesDoesNoHarm(t *testing.T) {
	s := story(t)
	s.renew("n1")
	for i := range 10 {
		s.after(time.Second)
		s.renew("n1")
		if err := s.p.observe(lease("n2", -3600+i), s.now); err != nil {
			t.Fatal(err)
		}
		s.alive("n1 n2")
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
	if got := s.p.alive(s.now)[0]; got.DataPath != "ipvs" || len(got.Links) != 1 || got.Links[0].Name != "eth0" {
		t.Errorf("facts are lost: %+v", got)
	}
	if !slices.IsSortedFunc(s.p.alive(s.now), func(a, b snapshot.Speaker) int { return strings.Compare(a.Node, b.Node) }) {
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
