package controller

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// A play is a controller at work on a cluster: each pass is written at once.
type play struct {
	t *testing.T
	s snapshot.Snapshot
	m Memory
}

func newPlay(t *testing.T, pools []config.Pool, services ...snapshot.Service) *play {
	p := &play{t: t, s: cluster(pools, services...)}
	p.s.Now = time.Unix(1000, 0)
	return p
}

// pass runs passes until one has nothing to write, and returns what Services
// were written.
func (p *play) pass() (lines []string) {
	p.t.Helper()
	for range 10 {
		var out Statuses
		out, p.m = Plan(p.s, p.m)
		lines = append(lines, words(out)...)
		written(p.s, out)
		if len(out.Services)+len(out.Claims)+len(out.Pools) == 0 {
			return lines
		}
	}
	p.t.Fatalf("passes never come to an end: %v", lines)
	return nil
}

// has compares what every Service and claim has.
func (p *play) has(want ...string) {
	p.t.Helper()
	var got []string
	for _, svc := range p.s.Services {
		if len(svc.Ingress) > 0 {
			got = append(got, svc.Key+" "+list(svc.Addrs()))
		}
	}
	for _, c := range p.s.Claims {
		got = append(got, "claim "+c.Key+" "+list(c.Addrs))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		p.t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func (p *play) svc(key string) *snapshot.Service {
	i := slices.IndexFunc(p.s.Services, func(s snapshot.Service) bool { return s.Key == key })
	return &p.s.Services[i]
}

func (p *play) add(services ...snapshot.Service) {
	p.s.Services = cluster(nil, append(p.s.Services, services...)...).Services
}

func (p *play) drop(key string) {
	p.s.Services = slices.DeleteFunc(slices.Clone(p.s.Services), func(s snapshot.Service) bool { return s.Key == key })
}

func TestAStatusWipedByHandIsRestored(t *testing.T) {
	p := newPlay(t, []config.Pool{lan()}, svc("ns/a", 1), svc("ns/b", 2))
	p.pass()
	p.drop("ns/a")
	p.pass()
	b := p.svc("ns/b")
	b.Ingress, b.Conditions, b.Ours = nil, nil, false
	p.pass()
	p.has("ns/b 192.0.2.2")
}

func TestAnAddressThatIsRestoredIsToldOf(t *testing.T) {
	p := newPlay(t, []config.Pool{lan()}, svc("ns/a", 1))
	p.pass()
	p.svc("ns/a").Ingress = nil // and the condition stays
	if got, want := p.pass(), []string{"ns/a: 192.0.2.1/Proxy true Assigned event Assigned"}; !slices.Equal(got, want) {
		t.Errorf("wrote %v, want %v", got, want)
	}
}

func TestAWipedAddressThatAnotherHasIsNotTakenBack(t *testing.T) {
	p := newPlay(t, []config.Pool{lan()}, svc("ns/a", 1))
	p.pass()
	a := p.svc("ns/a")
	a.Ingress, a.Conditions, a.Ours = nil, nil, false
	p.add(svc("ns/b", 9, has("192.0.2.1"))) // another controller was quicker
	p.pass()
	p.has("ns/a 192.0.2.2", "ns/b 192.0.2.1")
}

func TestAFreedAddressRests(t *testing.T) {
	pool := lan()
	pool.ReuseAfter = time.Minute
	p := newPlay(t, []config.Pool{pool}, svc("ns/a", 1), svc("ns/b", 2))
	p.pass()
	p.drop("ns/a")
	p.pass()
	if r := p.s.Pools[0].Resting; len(r) != 1 || r[0].Owner != "ns/a" || !r[0].Until.Equal(time.Unix(1060, 0)) {
		t.Errorf("the pool says that %v rest", r)
	}
	p.add(svc("ns/c", 3))
	p.pass()
	p.has("ns/b 192.0.2.2", "ns/c 192.0.2.3")

	p.m = Memory{} // a restart: the pool's status still knows
	p.add(svc("ns/d", 4))
	p.pass()
	p.has("ns/b 192.0.2.2", "ns/c 192.0.2.3")
	if c := p.svc("ns/d").Conditions[0]; c.Reason != string(ipam.Resting) {
		t.Errorf("ns/d waits for %s: %s", c.Reason, c.Message)
	}
	if at := p.m.next(); !at.Equal(time.Unix(1060, 0)) {
		t.Errorf("the next pass is due at %v", at)
	}
	p.s.Now = time.Unix(1060, 0)
	p.pass()
	p.has("ns/b 192.0.2.2", "ns/c 192.0.2.3", "ns/d 192.0.2.1")
	if r := p.s.Pools[0].Resting; len(r) != 0 {
		t.Errorf("the pool still says that %v rest", r)
	}
}

func TestTheSameNameReturnsToItsAddressWhileItRests(t *testing.T) {
	pool := lan()
	pool.ReuseAfter = time.Minute
	p := newPlay(t, []config.Pool{pool}, svc("ns/a", 1), svc("ns/b", 2))
	p.pass()
	p.drop("ns/b")
	p.pass()
	p.add(svc("ns/b", 7, func(s *snapshot.Service) { s.UID = "another" }))
	p.pass()
	p.has("ns/a 192.0.2.1", "ns/b 192.0.2.2")
}

func TestReassignMovesOnceForEachText(t *testing.T) {
	p := newPlay(t, []config.Pool{lan()}, svc("ns/a", 1))
	p.pass()
	p.svc("ns/a").Reassign = "monday"
	p.pass()
	p.has("ns/a 192.0.2.2")
	p.pass()
	p.has("ns/a 192.0.2.2")
	p.svc("ns/a").Reassign = "tuesday"
	p.pass()
	p.has("ns/a 192.0.2.1")
	p.svc("ns/a").Reassign = ""
	p.pass()
	if c := p.svc("ns/a").Conditions; len(c) != 1 {
		t.Errorf("conditions %v", c)
	}
}

func TestReassignWaitsForAnotherAddress(t *testing.T) {
	p := newPlay(t, []config.Pool{pool("lan", "192.0.2.1", "192.0.2.1")}, svc("ns/a", 1))
	p.pass()
	p.svc("ns/a").Reassign = "now"
	p.pass()
	p.has("ns/a 192.0.2.1")
	if c := p.svc("ns/a").Conditions[0]; !c.Status || c.Reason != string(ipam.PoolFull) {
		t.Errorf("condition %+v", c)
	}
	p.s.Config.Pools[0] = lan()
	p.pass()
	p.has("ns/a 192.0.2.2")
}

func TestServicesShareAnAddress(t *testing.T) {
	keyed := func(port uint16, key string) func(*snapshot.Service) {
		return func(s *snapshot.Service) {
			s.Share, s.Namespace = key, "ns"
			s.Ports = []snapshot.Port{{Proto: snapshot.TCP, Number: port}}
		}
	}
	p := newPlay(t, []config.Pool{lan()}, svc("ns/a", 1, keyed(80, "k")), svc("ns/b", 2, keyed(443, "k")), svc("ns/c", 3, keyed(80, "k")))
	p.pass()
	p.has("ns/a 192.0.2.1", "ns/b 192.0.2.1", "ns/c 192.0.2.2")
	if got := p.s.Pools[0].V4.Assigned; got != 2 {
		t.Errorf("the pool counts %d assigned addresses, want 2", got)
	}
	p.svc("ns/b").Share = ""
	p.pass()
	p.has("ns/a 192.0.2.1", "ns/b 192.0.2.3", "ns/c 192.0.2.2")
}

func TestAClaimKeepsAnAddressForItsNamespace(t *testing.T) {
	p := newPlay(t, []config.Pool{lan()})
	p.s.Claims = []snapshot.Claim{{
		Claim: config.Claim{Namespace: "ns", Name: "web", Families: []ipam.Family{ipam.IPv4}},
		Key:   "ns/web", Pools: []string{"lan"}, Created: time.Unix(0, 0),
	}}
	p.pass()
	in := func(ns string) func(*snapshot.Service) {
		return func(s *snapshot.Service) { s.Namespace = ns }
	}
	p.add(svc("ns/a", 1, in("ns")), svc("ns/b", 2, in("ns"), func(s *snapshot.Service) { s.Claim = "web" }), svc("other/c", 3, in("other"), func(s *snapshot.Service) { s.Want = []netip.Addr{ip("192.0.2.1")} }))
	p.pass()
	p.has("ns/a 192.0.2.2", "ns/b 192.0.2.1", "claim ns/web 192.0.2.1")
	p.drop("ns/b")
	p.pass()
	p.has("ns/a 192.0.2.2", "claim ns/web 192.0.2.1")
	if c := p.s.Claims[0].Conditions[0]; !c.Status || c.Message != "192.0.2.1 from pool lan" {
		t.Errorf("the claim says %+v", c)
	}
}

func TestAClaimTakesWhatItsServiceHasAlready(t *testing.T) {
	p := newPlay(t, []config.Pool{lan()}, svc("ns/a", 1, has("192.0.2.3"), func(s *snapshot.Service) { s.Namespace, s.Claim = "ns", "web" }))
	p.s.Claims = []snapshot.Claim{{
		Claim: config.Claim{Namespace: "ns", Name: "web", Families: []ipam.Family{ipam.IPv4}},
		Key:   "ns/web", Pools: []string{"lan"}, Created: time.Unix(0, 0),
	}}
	p.pass()
	p.has("ns/a 192.0.2.3", "claim ns/web 192.0.2.3")
}

func TestAPoolThatLetsAddressesRestLessFreesThem(t *testing.T) {
	pool := pool("lan", "192.0.2.1", "192.0.2.1")
	pool.ReuseAfter = time.Hour
	p := newPlay(t, []config.Pool{pool}, svc("ns/a", 1))
	p.pass()
	p.drop("ns/a")
	p.add(svc("ns/b", 2))
	p.pass()
	p.has()
	p.s.Config.Pools[0].ReuseAfter = time.Minute
	p.pass()
	if at := p.m.next(); !at.Equal(time.Unix(1060, 0)) {
		t.Errorf("it rests until %v", at)
	}
	p.s.Config.Pools[0].ReuseAfter = 0
	p.pass()
	p.has("ns/b 192.0.2.1")
}

func TestANodesAddressIsNeverHandedOut(t *testing.T) {
	p := newPlay(t, []config.Pool{lan()}, svc("ns/a", 1))
	p.s.Nodes = []snapshot.Node{{Name: "n1", Addrs: []netip.Addr{ip("192.0.2.1")}}}
	p.pass()
	p.has("ns/a 192.0.2.2")
	if got := p.s.Pools[0].V4; got.Free != 1 {
		t.Errorf("the pool counts %+v, want 1 free", got)
	}
}

func TestAPoolThatReassignsTakesInWhomNoPoolCovers(t *testing.T) {
	p := newPlay(t, []config.Pool{pool("lan", "192.0.2.1", "192.0.2.1")}, svc("ns/a", 1))
	p.pass()
	p.s.Config.Pools[0] = pool("lan", "192.0.2.7", "192.0.2.8")
	p.pass()
	p.has("ns/a 192.0.2.1")
	p.s.Config.Pools[0].Shrink = true
	p.pass()
	p.has("ns/a 192.0.2.7")
}

func TestAFullPoolIsExhausted(t *testing.T) {
	p := newPlay(t, []config.Pool{pool("lan", "192.0.2.1", "192.0.2.1")}, svc("ns/a", 1))
	p.pass()
	if c := p.s.Pools[0].Conditions[0]; c.Type != Exhausted || !c.Status || !strings.Contains(c.Message, "IPv4") {
		t.Errorf("condition %+v", c)
	}
}
