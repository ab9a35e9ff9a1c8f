package controller

import (
	"fmt"
	"math/rand/v2"
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

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// pool is a pool of the addresses from first to last.
func pool(name, first, last string) config.Pool {
	p := config.Default()
	p.Pool = ipam.Pool{Name: name, Auto: true, Ranges: []ipam.Range{{First: ip(first), Last: ip(last)}}}
	return p
}

func lan() config.Pool { return pool("lan", "192.0.2.1", "192.0.2.3") }

// svc is a Service of a served class, created at second age, without a status.
func svc(key string, age int64, edits ...func(*snapshot.Service)) snapshot.Service {
	s := snapshot.Service{
		Key: key, UID: "uid-" + key, Version: "1", Created: time.Unix(age, 0),
		Served: true, Families: []ipam.Family{ipam.IPv4}, Pools: []string{"lan", "lan2"},
	}
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

// has gives a Service the status that Herald writes for addr from lan.
func has(addr string) func(*snapshot.Service) {
	return func(s *snapshot.Service) {
		s.Ours = true
		s.Ingress = []snapshot.Ingress{{Addr: ip(addr), Mode: "Proxy"}}
		s.Conditions = assignment(true, Assigned, addr+" from pool lan")
	}
}

func cluster(pools []config.Pool, services ...snapshot.Service) snapshot.Snapshot {
	slices.SortFunc(services, func(a, b snapshot.Service) int { return strings.Compare(a.Key, b.Key) })
	s := snapshot.Snapshot{Services: services}
	for _, p := range pools {
		s.Config.Pools = append(s.Config.Pools, p)
		s.Pools = append(s.Pools, snapshot.PoolStatus{Name: p.Name, Conditions: poolConditions(snapshot.PoolStatus{Name: p.Name}, nil), Observed: true})
	}
	return s
}

// plan is Plan for a controller that remembers nothing.
func plan(s snapshot.Snapshot) Statuses {
	out, _ := Plan(s, Memory{})
	return out
}

// words returns what a plan writes to Services, a line for each.
func words(p Statuses) []string {
	var out []string
	for _, s := range p.Services {
		line := s.Key + ":"
		for _, in := range s.Ingress {
			line += fmt.Sprintf(" %s/%s", in.Addr, in.Mode)
		}
		for _, c := range s.Conditions {
			line += fmt.Sprintf(" %t %s", c.Status, c.Reason)
		}
		for _, e := range s.Events {
			line += " event " + e.Reason
		}
		out = append(out, line)
	}
	return out
}

func TestPlan(t *testing.T) {
	proxied := lan()
	proxied.Steer = config.SteerServiceProxy
	tests := []struct {
		name     string
		pools    []config.Pool
		services []snapshot.Service
		want     []string
	}{
		{"a Service gets the first address of the pool", []config.Pool{lan()}, []snapshot.Service{svc("ns/a", 1)},
			[]string{"ns/a: 192.0.2.1/Proxy true Assigned event Assigned"}},
		{"what is as it should be is not written", []config.Pool{lan()}, []snapshot.Service{svc("ns/a", 1, has("192.0.2.2"))}, nil},
		{"a holder keeps its address from a newcomer that sorts first", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 9), svc("ns/z", 1, has("192.0.2.1"))},
			[]string{"ns/a: 192.0.2.2/Proxy true Assigned event Assigned"}},
		{"without a pool a Service waits, and is told why", nil, []snapshot.Service{svc("ns/a", 1)},
			[]string{"ns/a: false NoPool event NoPool"}},
		{"in a full pool the one too many waits", []config.Pool{pool("lan", "192.0.2.1", "192.0.2.1")},
			[]snapshot.Service{svc("ns/a", 1, has("192.0.2.1")), svc("ns/b", 2)},
			[]string{"ns/b: false PoolFull event PoolFull"}},
		{"kube-proxy is told to steer where Herald does not", []config.Pool{proxied}, []snapshot.Service{svc("ns/a", 1)},
			[]string{"ns/a: 192.0.2.1/VIP true Assigned event Assigned"}},
		{"a Service that is not served any more is released", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, has("192.0.2.1"), func(s *snapshot.Service) { s.Served = false })},
			[]string{"ns/a: event AddressReleased"}},
		{"a Service that never was Herald's is not touched", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, func(s *snapshot.Service) {
				s.Served = false
				s.Ingress = []snapshot.Ingress{{Addr: ip("203.0.113.1")}}
			})}, nil},
		{"a Service that stopped waiting loses its condition, silently", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, func(s *snapshot.Service) {
				s.Served = false
				s.Conditions = assignment(false, "PoolFull", "x")
			})}, []string{"ns/a:"}},
		{"an address of somebody else is left alone, and said to be", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, func(s *snapshot.Service) { s.Ingress = []snapshot.Ingress{{Addr: ip("203.0.113.1")}} })},
			[]string{"ns/a: 203.0.113.1/ false ForeignAddress event ForeignAddress"}},
		{"a host name of somebody else is left alone, and said to be", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, func(s *snapshot.Service) { s.Named = true })},
			[]string{"ns/a: false ForeignAddress event ForeignAddress"}},
		{"an unmarked address that a pool covers is adopted", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, func(s *snapshot.Service) { s.Ingress = []snapshot.Ingress{{Addr: ip("192.0.2.3")}} }), svc("ns/b", 0)},
			[]string{"ns/a: 192.0.2.3/Proxy true Assigned event Assigned", "ns/b: 192.0.2.1/Proxy true Assigned event Assigned"}},
		{"an address whose pool is gone is kept", nil, []snapshot.Service{svc("ns/a", 1, has("192.0.2.1"))},
			[]string{"ns/a: 192.0.2.1/Proxy true OutsidePools event OutsidePools"}},
		{"of two that hold one address the older keeps it and the other moves", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 2, has("192.0.2.1")), svc("ns/b", 1, has("192.0.2.1"))},
			[]string{"ns/a: 192.0.2.2/Proxy true Assigned event Assigned"}},
		{"a request that cannot be read gets nothing", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, func(s *snapshot.Service) { s.Invalid = "annotation x: no IP address" })},
			[]string{"ns/a: false InvalidRequest event InvalidRequest"}},
		{"a request that cannot be read loses nothing", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, has("192.0.2.2"), func(s *snapshot.Service) { s.Invalid = "annotation x: no IP address" })},
			[]string{"ns/a: 192.0.2.2/Proxy true InvalidRequest event InvalidRequest"}},
		{"who asks for an address that another has keeps its own", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, has("192.0.2.1")), svc("ns/b", 2, has("192.0.2.2"), func(s *snapshot.Service) { s.Want = []netip.Addr{ip("192.0.2.1")} })},
			[]string{"ns/b: 192.0.2.2/Proxy true AddressTaken event AddressTaken"}},
		{"one family of two is better than none", []config.Pool{lan()},
			[]snapshot.Service{svc("ns/a", 1, func(s *snapshot.Service) { s.Families = []ipam.Family{ipam.IPv4, ipam.IPv6} })},
			[]string{"ns/a: 192.0.2.1/Proxy true PartlyAssigned event PartlyAssigned"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := Plan(cluster(tt.pools, tt.services...), Memory{})
			if diff := cmp.Diff(tt.want, words(got)); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMessagesNameThePool(t *testing.T) {
	full := plan(cluster([]config.Pool{pool("lan", "192.0.2.1", "192.0.2.1")}, svc("ns/a", 1, has("192.0.2.1")), svc("ns/b", 2)))
	if m := full.Services[0].Conditions[0].Message; !strings.Contains(m, "lan") {
		t.Errorf("%q does not name the pool", m)
	}
}

func TestPoolStatusCounts(t *testing.T) {
	s := cluster([]config.Pool{lan()}, svc("ns/a", 1), svc("ns/b", 2, has("192.0.2.3")))
	got := plan(s).Pools
	if len(got) != 1 || got[0].V4 != (snapshot.Count{Total: 3, Assigned: 2, Free: 1}) || got[0].V6 != (snapshot.Count{}) {
		t.Errorf("pools: %+v", got)
	}
	s.Problems = []config.Problem{{Object: "lan", Field: "spec.addresses[0]", Reason: config.Overlap, Detail: "belongs to pool old"}}
	got = plan(s).Pools
	if c := got[0].Conditions[2]; c.Status || c.Reason != config.Overlap || c.Message != "spec.addresses[0]: belongs to pool old" || len(got[0].Events) != 1 {
		t.Errorf("a problem is not shown: %+v", got[0])
	}
}

// Through random edits, with passes that are lost before they are written as
// by a crash: no address is given twice, none changes unasked, and a pass
// after a pass has nothing to write.
func TestPlanIsStable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	s := cluster([]config.Pool{pool("lan", "192.0.2.1", "192.0.2.6"), pool("lan2", "198.51.100.1", "198.51.100.3")})
	for round := range 2000 {
		i := rnd.IntN(12)
		key := fmt.Sprintf("ns/%02d", i)
		at := slices.IndexFunc(s.Services, func(x snapshot.Service) bool { return x.Key == key })
		switch {
		case at < 0:
			s.Services = cluster(nil, append(s.Services, svc(key, int64(round)))...).Services
		case rnd.IntN(3) == 0:
			s.Services[at].Served = !s.Services[at].Served
		default:
			s.Services = slices.Delete(s.Services, at, at+1)
		}
		p := plan(s)
		if rnd.IntN(4) == 0 {
			continue // crashed before it could write
		}
		before := map[string][]netip.Addr{}
		for _, x := range s.Services {
			before[x.Key] = x.Addrs()
		}
		written(s, p)
		owner := map[netip.Addr]string{}
		for _, x := range s.Services {
			if had := before[x.Key]; x.Served && len(had) > 0 && !slices.Equal(had, x.Addrs()) {
				t.Fatalf("round %d: %s had %v and has %v", round, x.Key, had, x.Addrs())
			}
			for _, a := range x.Addrs() {
				if other, taken := owner[a]; taken {
					t.Fatalf("round %d: %s is given to %s and %s", round, a, other, x.Key)
				}
				owner[a] = x.Key
			}
		}
		if again := plan(s); len(again.Services)+len(again.Pools) > 0 {
			t.Fatalf("round %d: a second pass writes %v %v", round, words(again), again.Pools)
		}
	}
}

func BenchmarkPlanThatChangesNothing(b *testing.B) {
	s := cluster([]config.Pool{pool("lan", "10.0.0.0", "10.0.255.255")})
	for i := range 10000 {
		s.Services = append(s.Services, svc(fmt.Sprintf("ns/%05d", i), int64(i)))
	}
	written(s, plan(s))
	b.ReportAllocs()
	for b.Loop() {
		if p := plan(s); len(p.Services)+len(p.Pools) > 0 {
			b.Fatal("it writes")
		}
	}
}

func TestAPoolStatusOfAnEarlierSpecIsWrittenAnew(t *testing.T) {
	s := cluster([]config.Pool{lan()})
	s.Pools[0].V4 = snapshot.Count{Total: 3, Free: 3}
	if got := plan(s).Pools; len(got) != 0 {
		t.Fatalf("what is right is written: %+v", got)
	}
	s.Pools[0].Observed = false
	if got := plan(s).Pools; len(got) != 1 || !got[0].Observed || len(got[0].Events) != 0 {
		t.Errorf("pools: %+v", got)
	}
}

// The API server clears the status of a Service whose type changes, before
// Herald sees it.
func TestAReleaseWithoutAnAddressIsStillASentence(t *testing.T) {
	gone := svc("ns/a", 1, has("192.0.2.1"), func(s *snapshot.Service) { s.Served, s.Ingress = false, nil })
	got := plan(cluster([]config.Pool{lan()}, gone)).Services
	if len(got) != 1 || len(got[0].Events) != 1 || got[0].Events[0].Message != "released its address" {
		t.Errorf("services: %+v", got)
	}
}
