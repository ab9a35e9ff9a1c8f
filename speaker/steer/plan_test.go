package steer

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

func ip(s string) netip.Addr     { return netip.MustParseAddr(s) }
func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
func virt(s string) Virtual      { return Virtual{Addr: ap(s), Proto: snapshot.TCP} }
func tier(t Tier, s string) Virtual {
	v := virt(s)
	v.Tier = t
	return v
}
func at(second int64) time.Time { return time.Unix(second, 0) }
func web(n uint16) []snapshot.Target {
	return []snapshot.Target{{Name: "web", Proto: snapshot.TCP, Number: n}}
}
func listing(t Table) (rows []string) {
	join, _ := Diff(NewTable(), t)
	for _, c := range join {
		rows = append(rows, c.String())
	}
	return rows
}

// ready is an endpoint that takes web traffic on 8080.
func ready(addr, node string) snapshot.Endpoint {
	return snapshot.Endpoint{Addr: ip(addr), Node: node, Ready: true, Ports: web(8080)}
}

// svc is a served Service with one port, 80/tcp, on 192.0.2.1.
func svc(key string, edit func(*snapshot.Service), eps ...snapshot.Endpoint) snapshot.Service {
	s := snapshot.Service{
		Key: key, Served: true, Ours: true, Created: at(1),
		Ingress:   []snapshot.Ingress{{Addr: ip("192.0.2.1")}},
		Ports:     []snapshot.Port{{Name: "web", Proto: snapshot.TCP, Number: 80}},
		Endpoints: eps,
	}
	if edit != nil {
		edit(&s)
	}
	return s
}

func TestPlan(t *testing.T) {
	draining := snapshot.Endpoint{Addr: ip("10.244.1.9"), Node: "n1", Draining: true, Ports: web(8080)}
	pool := config.Default()
	pool.Pool = ipam.Pool{Name: "lan", Ranges: []ipam.Range{{First: ip("192.0.2.0"), Last: ip("192.0.2.255")}}}
	pool.Scheduler = "lc"
	left := pool
	left.Steer = config.SteerServiceProxy
	nodes := []snapshot.Node{
		{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}},
		{Name: "n2", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}},
	}
	tests := []struct {
		name     string
		services []snapshot.Service
		pools    []config.Pool
		want     []string
	}{
		{"what a cloud routes is steered as what Herald has assigned",
			[]snapshot.Service{svc("ns/a", func(s *snapshot.Service) { s.Served, s.Ours, s.Routed = false, false, true }, ready("10.244.1.10", "n1"), ready("10.244.2.10", "n2"))}, nil,
			[]string{"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", "add address 192.0.2.1"}},
		{"every endpoint is a destination, with SNAT, whichever node it is on",
			[]snapshot.Service{svc("ns/a", nil, ready("10.244.1.10", "n1"), ready("10.244.2.10", "n2"))}, nil,
			[]string{"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", "add address 192.0.2.1"}},
		{"with externalTrafficPolicy Local only those on this node, or on no node, and no SNAT",
			[]snapshot.Service{svc("ns/a", func(s *snapshot.Service) { s.Local = true }, ready("10.244.1.10", "n1"), ready("10.244.2.10", "n2"), ready("198.51.100.4", ""))}, nil,
			[]string{"add 192.0.2.1:80/tcp rr", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 198.51.100.4:8080 weight 1", "add address 192.0.2.1"}},
		{"the pool's scheduler is used",
			[]snapshot.Service{svc("ns/a", nil)}, []config.Pool{pool},
			[]string{"add 192.0.2.1:80/tcp lc snat", "add address 192.0.2.1"}},
		{"a pool that leaves steering to kube-proxy has no rows",
			[]snapshot.Service{svc("ns/a", nil, ready("10.244.1.10", "n1"))}, []config.Pool{left}, nil},
		{"a Service that is not served has no rows",
			[]snapshot.Service{svc("ns/a", func(s *snapshot.Service) { s.Served = false }, ready("10.244.1.10", "n1"))}, nil, nil},
		{"a Service with a restriction that cannot be kept has no rows",
			[]snapshot.Service{svc("ns/a", func(s *snapshot.Service) { s.Closed = true }, ready("10.244.1.10", "n1"))}, nil, nil},
		{"an address that Herald has not assigned has no rows",
			[]snapshot.Service{svc("ns/a", func(s *snapshot.Service) { s.Ours = false }, ready("10.244.1.10", "n1"))}, nil, nil},
		{"a draining endpoint serves only where none is ready",
			[]snapshot.Service{svc("ns/a", nil, draining)}, nil,
			[]string{"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.9:8080 weight 1", "add address 192.0.2.1"}},
		{"a draining endpoint gets no new connections where another is ready, and keeps those it has",
			[]snapshot.Service{svc("ns/a", nil, draining, ready("10.244.2.10", "n2"))}, nil,
			[]string{"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.9:8080 weight 0", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", "add address 192.0.2.1"}},
		{"an endpoint of the other family is no destination",
			[]snapshot.Service{svc("ns/a", nil, ready("fd10::1", "n1"))}, nil,
			[]string{"add 192.0.2.1:80/tcp rr snat", "add address 192.0.2.1"}},
		{"each port has the targets of its own name and protocol",
			[]snapshot.Service{svc("ns/a", func(s *snapshot.Service) {
				s.Ports = []snapshot.Port{{Name: "web", Proto: snapshot.TCP, Number: 80}, {Name: "dns", Proto: snapshot.UDP, Number: 53}}
			}, snapshot.Endpoint{Addr: ip("10.244.1.10"), Ready: true, Ports: []snapshot.Target{
				{Name: "web", Proto: snapshot.TCP, Number: 8080}, {Name: "dns", Proto: snapshot.UDP, Number: 5353}, {Name: "dns", Proto: snapshot.TCP, Number: 5354}}})}, nil,
			[]string{"add 192.0.2.1:53/udp rr snat", "add 192.0.2.1:53/udp -> 10.244.1.10:5353 weight 1", "add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", "add address 192.0.2.1"}},
		{"a named target port may differ from pod to pod",
			[]snapshot.Service{svc("ns/a", nil, ready("10.244.1.10", "n1"), snapshot.Endpoint{Addr: ip("10.244.1.11"), Ready: true, Ports: web(9090)})}, nil,
			[]string{"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 10.244.1.11:9090 weight 1", "add address 192.0.2.1"}},
		{"of two Services on one address and port the older is steered",
			[]snapshot.Service{svc("ns/a", func(s *snapshot.Service) { s.Created = at(2) }, ready("10.244.1.10", "n1")), svc("ns/b", nil, ready("10.244.1.11", "n1"))}, nil,
			[]string{"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.11:8080 weight 1", "add address 192.0.2.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshot.Snapshot{Services: tt.services, Nodes: nodes, Config: config.Config{Pools: tt.pools}}
			want := append([]string{"add pods 10.244.1.0/24"}, tt.want...)
			if diff := cmp.Diff(want, listing(Plan(s, Self{Node: "n1"}))); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			slices.Reverse(s.Services)
			if diff := cmp.Diff(want, listing(Plan(s, Self{Node: "n1"}))); diff != "" {
				t.Errorf("rows depend on the order of Services:\n%s", diff)
			}
		})
	}
}

func TestChangesReadAsTheyStandInLogs(t *testing.T) {
	for want, c := range map[string]Change{
		"set 192.0.2.1:80/tcp rr":                        {Verb: Set, Virtual: virt("192.0.2.1:80"), Server: Server{Scheduler: "rr"}},
		"del 192.0.2.1:80/tcp":                           {Verb: Del, Virtual: virt("192.0.2.1:80")},
		"del [2001:db8::1]:80/tcp -> [fd10::7]:8080":     {Verb: Del, Virtual: virt("[2001:db8::1]:80"), Real: ap("[fd10::7]:8080")},
		"set 192.0.2.1:80/tcp -> 10.0.0.7:8080 weight 0": {Verb: Set, Virtual: virt("192.0.2.1:80"), Real: ap("10.0.0.7:8080")},
		"del address 192.0.2.1":                          {Verb: Del, Addr: ip("192.0.2.1")},
		"add pods 10.0.0.0/8":                            {Verb: Add, Pods: netip.MustParsePrefix("10.0.0.0/8")},
		"del node 192.0.2.11":                            {Verb: Del, Node: ip("192.0.2.11")},
		"add front 192.0.2.1:80/tcp mh,mh-fallback,mh-port affinity 600 s": {Verb: Add, Virtual: tier(Front, "192.0.2.1:80"),
			Server: Server{Scheduler: "mh", Flags: config.SchedulerFallback | config.SchedulerPort, Affinity: 600}},
		"set 192.0.2.1:80/tcp sh,sh-port snat from 10.0.0.0/8 192.0.2.7/32": {Verb: Set, Virtual: virt("192.0.2.1:80"),
			Server: Server{Scheduler: "sh", Flags: config.SchedulerPort, SNAT: true, Sources: "10.0.0.0/8 192.0.2.7/32"}},
		"add back 192.0.2.1:80/tcp rr direct": {Verb: Add, Virtual: tier(Back, "192.0.2.1:80"), Server: Server{Scheduler: "rr", Direct: true}},
	} {
		if got := c.String(); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}

// random returns a table of up to a dozen servers.
func random(rnd *rand.Rand) Table {
	t := NewTable()
	for range rnd.IntN(12) {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(rnd.IntN(4))})
		v := Virtual{Addr: netip.AddrPortFrom(addr, uint16(80+rnd.IntN(3))), Proto: []snapshot.Proto{snapshot.TCP, snapshot.UDP}[rnd.IntN(2)]}
		t.Servers[v] = Server{Scheduler: []string{"rr", "lc"}[rnd.IntN(2)], SNAT: rnd.IntN(2) == 0}
		for range rnd.IntN(4) {
			real := netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + rnd.IntN(5))})
			t.Dests[Dest{v, netip.AddrPortFrom(real, 8080)}] = rnd.IntN(3)
		}
		t.Addrs[addr] = true
	}
	if rnd.IntN(2) == 0 {
		t.Pods[netip.MustParsePrefix("10.0.0.0/24")] = true
	}
	return t
}

// From any table Diff reaches any other, and no address is ever in while one
// of its rows is still to come or already gone.
func TestDiffReachesEveryTable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		have, want := random(rnd), random(rnd)
		f := NewFake()
		if err := f.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.rows = have
		join, leave := Diff(have, want)
		if err := f.Apply(t.Context(), join); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		joined, err := f.Table(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for a, ok := range standing(joined, want) {
			if !ok {
				t.Fatalf("round %d: %s is not ready after all has joined", round, a)
			}
		}
		if err := f.Apply(t.Context(), leave); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if diff := cmp.Diff(listing(want), listing(f.rows)); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
		if again, gone := Diff(f.rows, want); len(again)+len(gone) > 0 {
			t.Fatalf("round %d: a second Diff has changes: %v %v", round, again, gone)
		}
	}
}
