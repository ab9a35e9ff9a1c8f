package controller

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

func TestExplainServiceNamesEveryPoolAndWhatRulesItOut(t *testing.T) {
	full := pool("full", "192.0.2.9", "192.0.2.9")
	full.Priority = 10
	asked := pool("asked", "198.51.100.1", "198.51.100.9")
	asked.Auto = false
	six := pool("six", "2001:db8::1", "2001:db8::9")
	other := pool("other", "203.0.113.1", "203.0.113.9")
	pools := []config.Pool{asked, full, six, other}
	s := cluster(pools, svc("ns/a", 1, has("192.0.2.9")), svc("ns/b", 2))
	for i := range s.Services {
		s.Services[i].Pools = []string{"asked", "full", "six"}
	}
	got, ok := ExplainService(s, "ns/b")
	want := `Service ns/b: no address
  asks for   IPv4
  refused    PoolFull: ` + grantDetail(t, s) + `
  pool       full (priority 10): PoolFull: all of its 1 IPv4 addresses are taken
  pool       asked (priority 0): NotAuto: it serves only who name it (assign: OnRequest)
  pool       other (priority 0): NotEligible: its selectors do not match the Service or its namespace
  pool       six (priority 0): WrongFamily: it has no IPv4 address
`
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got, _ = ExplainService(s, "ns/a")
	if !strings.Contains(got, "gets       192.0.2.9 from pool full, which it holds") {
		t.Errorf("ns/a:\n%s", got)
	}
	s.Services[0].Served, s.Services[0].Routed = false, true
	if got, _ := ExplainService(s, s.Services[0].Key); !strings.Contains(got, "routed     by a cloud") {
		t.Errorf("of an address that a cloud routes: %s", got)
	}
	if _, ok := ExplainService(s, "ns/nobody"); ok {
		t.Error("a Service that is not there is explained")
	}
}

// grantDetail returns what the Plan says to ns/b: explanations quote it.
func grantDetail(t *testing.T, s snapshot.Snapshot) string {
	t.Helper()
	for _, c := range plan(s).Services {
		if c.Key == "ns/b" {
			return c.Conditions[0].Message
		}
	}
	t.Fatal("nothing is said to ns/b")
	return ""
}

func TestExplainPool(t *testing.T) {
	pool := lan()
	pool.ReuseAfter = time.Hour
	s := cluster([]config.Pool{pool}, svc("ns/a", 1, has("192.0.2.2")), svc("ns/b", 2))
	s.Now = time.Unix(0, 0)
	s.Nodes = []snapshot.Node{{Name: "n1", Addrs: []netip.Addr{ip("192.0.2.1")}}}
	s.Pools[0].Resting = []snapshot.Rest{{Addr: ip("192.0.2.3"), Owner: "ns/old", Until: time.Unix(60, 0)}}
	got, ok := ExplainPool(s, "lan")
	want := `AddressPool lan
  addresses  192.0.2.1-192.0.2.3
  rules      assign Auto, priority 0
  IPv4       3 in all, 1 assigned, 0 free
  assigned   192.0.2.2 to ns/a
  waiting    ns/b
  resting    192.0.2.3, which ns/old had, until 1970-01-01 00:01:00 UTC
  reserved   192.0.2.1, of node n1
`
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTroublesAreThoseThatAreNew(t *testing.T) {
	old := config.Problem{Object: "lan", Field: "spec.addresses[0]", Reason: config.Overlap, Detail: "belongs to an older pool"}
	before := snapshot.Snapshot{Problems: []config.Problem{old}}
	after := snapshot.Snapshot{
		Problems:     []config.Problem{old},
		PeerProblems: []config.Problem{{Object: "tor", Field: "spec.holdTime", Reason: config.Invalid, Detail: "1s is no hold time"}},
	}
	want := []string{"invalid  BGPPeer tor: spec.holdTime: 1s is no hold time"}
	if diff := cmp.Diff(want, Troubles(before, after)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestForecastSaysWhoGetsAndWhoLoses(t *testing.T) {
	before := cluster([]config.Pool{lan()}, svc("ns/a", 1, has("192.0.2.1")), svc("ns/b", 2, has("192.0.2.2")), svc("ns/c", 3, has("192.0.2.3")), svc("ns/d", 4))
	after := cluster([]config.Pool{pool("lan", "192.0.2.1", "192.0.2.2")},
		svc("ns/a", 1, has("192.0.2.1"), func(s *snapshot.Service) { s.Reassign = "now" }),
		svc("ns/c", 3, has("192.0.2.3")), svc("ns/e", 5))
	var got []string
	lost := 0
	for _, o := range Forecast(before, after) {
		got = append(got, o.String())
		if o.Lost() {
			lost++
		}
	}
	want := []string{
		"moves    ns/a: 192.0.2.1 → 192.0.2.2",
		"releases ns/b: 192.0.2.2",
		"keeps    ns/c: 192.0.2.3, but: no pool covers 192.0.2.3 any more; it is kept until the Service goes or asks for another address",
		"assigns  ns/e: 192.0.2.1",
	}
	if diff := cmp.Diff(want, got); diff != "" || lost != 2 {
		t.Errorf("%d lost (-want +got):\n%s", lost, diff)
	}
	if same := Forecast(before, before); len(same) != 0 {
		t.Errorf("nothing changes, and yet: %v", same)
	}
	if had := before.Services[0].Addrs(); len(had) != 1 || had[0] != ip("192.0.2.1") {
		t.Errorf("the snapshot was edited: %v", had)
	}
}
