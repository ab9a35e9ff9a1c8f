package kube

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
	"github.com/herald-lb/herald/speaker/bfd"
)

// What a speaker writes is what the controller reads, as far as that needs it.
func TestAReportIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 11, 26, 10, 0, 0, 123456000, time.UTC)
	addr := netip.MustParseAddr("192.0.2.1")
	said := snapshot.Report{
		Speaker: snapshot.Speaker{Node: "n1", DataPath: "ipvs", Lacks: []string{"tunnels"}, Links: []snapshot.Link{{
			Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 1}, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}}}},
		Peers: []snapshot.PeerReport{
			{Node: "n2", Addr: netip.MustParseAddr("192.0.2.12"), State: bfd.Up.String(), Up: true, Since: at},
			{Node: "n3", Addr: netip.MustParseAddr("192.0.2.13"), State: bfd.Down.String(), Since: at, Losses: 2, Err: "no answer"},
			{Node: "n4", Addr: netip.MustParseAddr("192.0.2.14"), State: bfd.Init.String(), Deaf: true, Since: at, Err: "deaf"},
		},
		Told:      []ipam.Range{{First: addr, Last: addr.Next()}, {First: netip.MustParseAddr("2001:db8::1"), Last: netip.MustParseAddr("2001:db8::1")}},
		Answers:   []snapshot.Answer{{Addr: addr, Link: "eth0", Since: at}},
		Conflicts: []snapshot.Conflict{{Addr: addr.Next(), Link: "eth0", MAC: "02:00:00:00:00:66", Since: at.Truncate(time.Second)}},
		Draining:  true,
		Routers: []snapshot.RouterReport{
			{Peer: "r1", Addr: addr, State: "established", Up: true, Since: at.Truncate(time.Second), ASN: 65001, Sent: 7, BFD: "up"},
			{Peer: "r2", State: "idle", Since: at.Truncate(time.Second), Flaps: 3, Err: "nobody is there"},
		},
	}
	written := reportOf(said)
	if written.Reached != "1/3" || written.Announced != 1 || written.Conflicted != 1 || written.Links[0].MAC != "02:00:00:00:00:01" ||
		len(written.Told) != 2 || written.Told[0] != "192.0.2.1-192.0.2.2" {
		t.Errorf("written %+v", written)
	}
	if r := written.Routers; written.Established != "1/2" || r[0].Address != "192.0.2.1" || r[0].ASN != 65001 || r[1].Address != "" || r[1].Losses != 3 {
		t.Errorf("routers are written as %s, %+v", written.Established, r)
	}
	got := readReport(&v1alpha1.SpeakerStatus{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: written})
	want := snapshot.Report{
		Speaker:   snapshot.Speaker{Node: "n1", DataPath: "ipvs", Lacks: []string{"tunnels"}},
		Peers:     []snapshot.PeerReport{{Node: "n2", State: "up", Up: true}, {Node: "n3", State: "down", Err: "no answer"}, {Node: "n4", State: "init", Deaf: true, Err: "deaf"}},
		Routers:   said.Routers,
		Told:      said.Told,
		Answers:   said.Answers,
		Conflicts: said.Conflicts,
		Draining:  true,
	}
	byValue := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

func TestAReportIsWrittenForWhatMatters(t *testing.T) {
	was := v1alpha1.SpeakerReport{Routers: []v1alpha1.SpeakerRouter{
		{Peer: "up", State: established, Since: metav1.Unix(10, 0), Routes: 3},
		{Peer: "down", State: "connect", Since: metav1.Unix(10, 0), Error: "connection refused"},
	}}
	tests := []struct {
		name string
		edit func(up, down *v1alpha1.SpeakerRouter)
		ago  time.Duration
		want bool
	}{
		{"nothing new", func(_, _ *v1alpha1.SpeakerRouter) {}, time.Hour, false},
		{"a router is dialled again", func(_, d *v1alpha1.SpeakerRouter) { d.State, d.Since = "idle", metav1.Unix(15, 0) }, time.Second, false},
		{"and again, for long", func(_, d *v1alpha1.SpeakerRouter) { d.State, d.Since = "idle", metav1.Unix(15, 0) }, reportResync, true},
		{"and fails in another way", func(_, d *v1alpha1.SpeakerRouter) { d.Error = "connection timed out" }, time.Second, true},
		{"it answers", func(_, d *v1alpha1.SpeakerRouter) { d.State, d.Error = established, "" }, time.Second, true},
		{"a session was lost and is back", func(u, _ *v1alpha1.SpeakerRouter) { u.Since, u.Losses = metav1.Unix(15, 0), 1 }, time.Second, false},
		{"a session is lost", func(u, _ *v1alpha1.SpeakerRouter) { u.State, u.Losses, u.Routes = "idle", 1, 0 }, time.Second, true},
		{"other routes", func(u, _ *v1alpha1.SpeakerRouter) { u.Routes = 4 }, time.Second, true},
	}
	for _, tt := range tests {
		next := was
		next.Routers = slices.Clone(was.Routers)
		tt.edit(&next.Routers[0], &next.Routers[1])
		if got := worthWriting(was, next, tt.ago); got != tt.want {
			t.Errorf("%s, %s later: written %t, want %t", tt.name, tt.ago, got, tt.want)
		}
	}
	if was.Routers[1].State != "connect" {
		t.Error("what was written was edited")
	}
}

func TestAReportNamesNotMoreThanAnObjectHolds(t *testing.T) {
	var r snapshot.Report
	a := netip.MustParseAddr("10.0.0.0")
	for range reportMost + 5 {
		r.Answers = append(r.Answers, snapshot.Answer{Addr: a, Link: "eth0"})
		a = a.Next()
	}
	if got := reportOf(r); len(got.Addresses) != reportMost || got.Announced != reportMost+5 {
		t.Errorf("%d addresses named, %d counted", len(got.Addresses), got.Announced)
	}
}
