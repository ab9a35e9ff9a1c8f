package steer

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// told is a Route as people read it.
func told(r Route, err error) []string {
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	lines := []string{r.Service}
	for _, h := range r.Hops {
		lines = append(lines, h.String())
	}
	if r.Refused != "" {
		lines = append(lines, "refused: "+r.Refused)
	}
	return lines
}

func TestTrace(t *testing.T) {
	a, b, c := ready("10.244.1.10", "n1"), ready("10.244.2.10", "n2"), ready("10.244.3.10", "n3")
	b2 := ready("10.244.2.11", "n2")
	outside := Flow{ap("198.51.100.7:40000"), ap("192.0.2.1:80"), snapshot.TCP}
	from := func(client string) Flow { f := outside; f.Client = ap(client); return f }
	to := func(virtual string) Flow { f := outside; f.Virtual = ap(virtual); return f }
	with := func(s snapshot.Snapshot, edit func(*snapshot.Snapshot)) snapshot.Snapshot {
		edit(&s)
		return s
	}
	pods := func(s *snapshot.Snapshot) {
		s.Nodes[0].PodCIDRs = []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}
	}
	scheduled := func(name string, flags config.SchedulerFlags) func(*snapshot.Service) {
		return func(s *snapshot.Service) { s.Scheduler, s.SchedulerFlags = name, flags }
	}
	local := func(s *snapshot.Service) { s.Local = true }
	drains := snapshot.Endpoint{Addr: ip("10.244.1.10"), Node: "n1", Draining: true, Ports: web(8080)}
	tests := []struct {
		name string
		s    snapshot.Snapshot
		flow Flow
		want []string
	}{
		{"the front chooses a node, the node an endpoint", three(svc("ns/a", nil, a, b, c)), outside,
			[]string{"ns/a", "n1: front mh,mh-fallback,mh-port chooses n1 of 3, by tunnel to 192.168.0.11",
				"n1: back rr has one: 10.244.1.10:8080, which sees the client's address"}},
		{"another flow goes elsewhere", three(svc("ns/a", nil, a, b, c)), from("198.51.100.7:40002"),
			[]string{"ns/a", "n1: front mh,mh-fallback,mh-port chooses n2 of 3, by tunnel to 192.168.0.12",
				"n2: back rr has one: 10.244.2.10:8080, which sees the client's address"}},
		{"a node with several endpoints chooses by mh, too", three(svc("ns/a", nil, b, b2)), outside,
			[]string{"ns/a", "n1: front rr has one: n2, by tunnel to 192.168.0.12",
				"n2: back mh,mh-fallback,mh-port chooses 10.244.2.11:8080 of 2, which sees the client's address"}},
		{"where the front takes turns each node is one of several", three(svc("ns/a", scheduled("rr", 0), a, b, b2)), outside,
			[]string{"ns/a", "n1: front rr takes turns: one of n1 n2, by tunnel",
				"n1: back rr has one: 10.244.1.10:8080, which sees the client's address",
				"n2: back rr takes turns: one of 10.244.2.10:8080 10.244.2.11:8080, which sees the client's address"}},
		{"what goes by connections cannot be told", three(svc("ns/a", scheduled("lc", 0), b, b2)), outside,
			[]string{"ns/a", "n1: front lc has one: n2, by tunnel to 192.168.0.12",
				"n2: back lc goes by the connections that there are: one of 10.244.2.10:8080 10.244.2.11:8080, which sees the client's address"}},
		{"with policy Local the node itself chooses", three(svc("ns/a", local, a, b)), outside,
			[]string{"ns/a", "n1: back rr has one: 10.244.1.10:8080, which sees the client's address"}},
		{"with policy Local a node without endpoints refuses", three(svc("ns/a", local, b)), outside,
			[]string{"ns/a", "n1: back rr leads nowhere: the Service has no endpoint here", "refused: no endpoint takes the connection"}},
		{"a pod of the node meets the single server", with(three(svc("ns/a", nil, a, b)), pods), from("10.244.1.99:40000"),
			[]string{"ns/a", "n1: rr takes turns: one of 10.244.1.10:8080 10.244.2.10:8080, which sees an address of n1"}},
		{"of the node itself one does not know by which address it comes", three(svc("ns/a", scheduled("mh", 0), a, b)), from("192.168.0.11:40000"),
			[]string{"ns/a", "n1: mh hashes an address that the node chooses for itself: one of 10.244.1.10:8080 10.244.2.10:8080, which sees an address of n1"}},
		{"nftables draws", with(three(svc("ns/a", scheduled("mh", 0), a, b)), func(s *snapshot.Snapshot) { s.Speakers[0].DataPath = "nft" }), outside,
			[]string{"ns/a", "n1: mh draws by nftables: one of 10.244.1.10:8080 10.244.2.10:8080, which sees an address of n1"}},
		{"without a fallback who drains takes its flows along", three(svc("ns/a", func(s *snapshot.Service) { local(s); scheduled("mh", 0)(s) },
			snapshot.Endpoint{Addr: ip("10.244.1.10"), Node: "n1", Ports: web(8080)}, ready("10.244.1.11", "n1"))), from("198.51.100.10:40000"),
			[]string{"ns/a", "n1: back mh leads nowhere: it has chosen 10.244.1.10:8080, which takes no new connections, and was not told to fall back to another", "refused: no endpoint takes the connection"}},
		{"an endpoint that drains serves where there is no other", three(svc("ns/a", local, drains)), outside,
			[]string{"ns/a", "n1: back rr has one: 10.244.1.10:8080, which sees the client's address"}},
		{"no endpoint at all", three(svc("ns/a", nil)), outside,
			[]string{"ns/a", "n1: rr leads nowhere: the Service has no endpoint here", "refused: no endpoint takes the connection"}},
		{"none that is ready", three(svc("ns/a", nil, snapshot.Endpoint{Addr: ip("10.244.1.10"), Node: "n1", Ports: web(8080)})), outside,
			[]string{"ns/a", "n1: front rr leads nowhere: no endpoint is ready", "refused: no endpoint takes the connection"}},
		{"source ranges", three(svc("ns/a", func(s *snapshot.Service) { s.Sources = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, a)), outside,
			[]string{"ns/a", "refused: only clients from 10.0.0.0/8 may connect"}},
		{"source ranges of the other family", three(svc("ns/a", func(s *snapshot.Service) { s.Sources = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")} }, a)), outside,
			[]string{"ns/a", "refused: only clients of the other family may connect"}},
		{"an address of nobody", three(svc("ns/a", nil, a)), to("192.0.2.9:80"), []string{"error: 192.0.2.9 belongs to no Service"}},
		{"a port that the Service has not", three(svc("ns/a", nil, a)), to("192.0.2.1:81"),
			[]string{"error: 192.0.2.1 is of ns/a, which has no port 81/tcp, but 80/tcp"}},
		{"a cluster IP that kube-proxy steers", three(svc("ns/a", func(s *snapshot.Service) { s.ClusterIPs = []netip.Addr{ip("10.96.0.10")} }, a)), to("10.96.0.10:80"),
			[]string{"error: 10.96.0.10 is of ns/a, but not by Herald"}},
		{"a node port in the place of kube-proxy", three(svc("ns/a", func(s *snapshot.Service) {
			s.Proxied, s.Ports[0].Node, s.ClusterIPs = true, 30080, []netip.Addr{ip("10.96.0.10")}
		}, b)), to("192.168.0.11:30080"),
			[]string{"ns/a", "n1: rr has one: 10.244.2.10:8080, which sees an address of n1"}},
		{"a port of the node that is none", three(svc("ns/a", nil, b)), to("192.168.0.11:22"),
			[]string{"error: 192.168.0.11 is an address of a node, and 22/tcp no node port that Herald steers"}},
		{"a pool that kube-proxy steers for", with(three(svc("ns/a", nil, a)), func(s *snapshot.Snapshot) {
			s.Config = lan(func(p *config.Pool) { p.Steer = config.SteerServiceProxy })
		}), outside,
			[]string{"error: 192.0.2.1 is of ns/a, but its pool lan leaves steering to kube-proxy"}},
		{"a node that does not steer", with(three(svc("ns/a", nil, a)), func(s *snapshot.Snapshot) { s.Speakers[0].DataPath = "" }), outside,
			[]string{"error: node n1 has no speaker that steers"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, told(Trace(tt.s, "n1", tt.flow))); diff != "" {
				t.Errorf("route (-want +got):\n%s", diff)
			}
		})
	}
}

// Where mh chooses in both tiers, a flow ends at the same endpoint whichever
// node it arrives at: that is what connections survive a move by.
func TestEveryNodeTracesToTheSameEndpoint(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	ended := 0
	for range 60 {
		s := randomTiers(r)
		for i := range 10 {
			f := Flow{netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(r.Uint32())}), uint16(r.Uint32())), ap("192.0.2.1:80"), snapshot.TCP}
			first, err := Trace(s, "n1", f)
			if err != nil {
				t.Fatal(err)
			}
			end, told := first.End()
			if told {
				ended++
			} else if first.Refused == "" {
				t.Fatalf("flow %d of %v cannot be told: %v", i, s.Services, first)
			}
			for _, n := range s.Nodes[1:] {
				next, err := Trace(s, n.Name, f)
				if err != nil {
					t.Fatal(err)
				}
				if again, ok := next.End(); ok != told || again != end {
					t.Fatalf("%s: from n1 it ends at %v, from %s at %v", f, first, n.Name, next)
				}
			}
		}
	}
	if ended < 300 {
		t.Errorf("only %d of 600 flows got anywhere", ended)
	}
}

// randomTiers is a cluster of up to six nodes with one Service by mh.
func randomTiers(r *rand.Rand) snapshot.Snapshot {
	var s snapshot.Snapshot
	a := svc("ns/a", func(s *snapshot.Service) {
		s.Scheduler, s.SchedulerFlags = "mh", config.SchedulerPort|config.SchedulerFallback
		s.Affinity = time.Duration(r.IntN(2)) * time.Minute
	})
	for n := range 2 + r.IntN(5) {
		node, end := fmt.Sprintf("n%d", n+1), netip.AddrFrom4([4]byte{192, 168, 0, byte(11 + n)})
		s.Nodes = append(s.Nodes, snapshot.Node{Name: node, Addrs: []netip.Addr{end}, Ready: true})
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: node, DataPath: "ipvs", Tunnels: []netip.Addr{end}, Leaving: r.IntN(5) == 0})
		for e := range r.IntN(4) {
			ep := ready(fmt.Sprintf("10.244.%d.%d", n+1, 10+e), node)
			ep.Ready, ep.Draining = r.IntN(4) > 0, r.IntN(2) == 0
			a.Endpoints = append(a.Endpoints, ep)
		}
	}
	r.Shuffle(len(a.Endpoints), func(i, j int) { a.Endpoints[i], a.Endpoints[j] = a.Endpoints[j], a.Endpoints[i] })
	s.Services = []snapshot.Service{a}
	return s
}

func TestATraceEndsWhereTheTableHasADestination(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 100 {
		s := randomTiers(r)
		s.Services[0].Local = r.IntN(2) == 0
		f := Flow{netip.AddrPortFrom(ip("198.51.100.1"), uint16(r.Uint32())), ap("192.0.2.1:80"), snapshot.TCP}
		route, err := Trace(s, "n1", f)
		if err != nil {
			t.Fatal(err)
		}
		end, ok := route.End()
		known := slices.ContainsFunc(s.Services[0].Endpoints, func(ep snapshot.Endpoint) bool { return netip.AddrPortFrom(ep.Addr, 8080) == end })
		if ok && !known || !ok && route.Refused == "" {
			t.Errorf("%s ends at %s, %v: %v", f, end, ok, route)
		}
	}
}
