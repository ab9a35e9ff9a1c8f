package steer

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// three is a cluster of three nodes that take tunnels, seen from n1.
func three(services ...snapshot.Service) snapshot.Snapshot {
	s := snapshot.Snapshot{Services: services}
	for _, n := range []string{"1", "2", "3"} {
		end := ip("192.168.0.1" + n)
		s.Nodes = append(s.Nodes, snapshot.Node{Name: "n" + n, Addrs: []netip.Addr{end}, Internal: []netip.Addr{end}, Ready: true})
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: "n" + n, DataPath: "ipvs", Tunnels: []netip.Addr{end}})
	}
	return s
}

// onN1 is the kernel of n1.
var onN1 = Self{Node: "n1", Tiers: true, Tunnels: []netip.Addr{ip("192.168.0.11")}}

// lan covers every address of the tests.
func lan(edit func(*config.Pool)) config.Config {
	pool := config.Default()
	pool.Pool = ipam.Pool{Name: "lan", Ranges: []ipam.Range{{First: ip("192.0.2.0"), Last: ip("192.0.2.255")}}}
	edit(&pool)
	return config.Config{Pools: []config.Pool{pool}}
}

func TestPlanOfTiers(t *testing.T) {
	a, b := ready("10.244.1.10", "n1"), ready("10.244.2.10", "n2")
	b2 := ready("10.244.2.11", "n2")
	failed := snapshot.Endpoint{Addr: ip("10.244.2.11"), Node: "n2", Ports: web(8080)}
	drains := snapshot.Endpoint{Addr: ip("10.244.2.12"), Node: "n2", Draining: true, Ports: web(8080)}
	local := func(s *snapshot.Service) { s.Local = true }
	udp := func(s *snapshot.Service) { s.Ports[0].Proto = snapshot.UDP }
	overUDP := func(ep snapshot.Endpoint) snapshot.Endpoint {
		ep.Ports = []snapshot.Target{{Name: "web", Proto: snapshot.UDP, Number: 8080}}
		return ep
	}
	with := func(edit func(*snapshot.Snapshot), services ...snapshot.Service) snapshot.Snapshot {
		s := three(services...)
		edit(&s)
		return s
	}
	// lose makes a speaker fall silent.
	lose := func(i int, how func(*snapshot.Speaker)) func(*snapshot.Snapshot) {
		return func(s *snapshot.Snapshot) {
			s.Lost, s.Speakers = slices.Clone(s.Speakers[i:i+1]), slices.Delete(slices.Clone(s.Speakers), i, i+1)
			how(&s.Lost[0])
		}
	}
	nodes := []string{"add node 192.168.0.11", "add node 192.168.0.12", "add node 192.168.0.13"}
	single := []string{
		"add 192.0.2.1:80/tcp rr snat",
		"add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1",
		"add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1"}
	const address = "add address 192.0.2.1"
	rows := func(parts ...any) (all []string) {
		for _, p := range parts {
			switch p := p.(type) {
			case string:
				all = append(all, p)
			case []string:
				all = append(all, p...)
			}
		}
		return all
	}
	tests := []struct {
		name string
		s    snapshot.Snapshot
		self Self
		want []string
	}{
		{"the front chooses a node, the back one of its endpoints",
			three(svc("ns/a", nil, a, b)), onN1,
			rows(nodes,
				"add back 192.0.2.1:80/tcp rr", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", single,
				"add front 192.0.2.1:80/tcp mh,mh-fallback,mh-port", "add front 192.0.2.1:80/tcp -> 192.168.0.11:80 weight 1", "add front 192.0.2.1:80/tcp -> 192.168.0.12:80 weight 1", address)},
		{"a node weighs what its endpoints weigh, and one without any has no back",
			three(svc("ns/a", nil, b, b2, ready("10.244.3.10", "n3"))), onN1,
			rows(nodes,
				"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 10.244.2.11:8080 weight 1", "add 192.0.2.1:80/tcp -> 10.244.3.10:8080 weight 1",
				"add front 192.0.2.1:80/tcp mh,mh-fallback,mh-port", "add front 192.0.2.1:80/tcp -> 192.168.0.12:80 weight 2", "add front 192.0.2.1:80/tcp -> 192.168.0.13:80 weight 1", address)},
		{"a back among several endpoints chooses alike, whichever node asks",
			three(svc("ns/a", nil, b, b2)), Self{Node: "n2", Tiers: true, Tunnels: []netip.Addr{ip("192.168.0.12")}},
			rows(nodes,
				"add back 192.0.2.1:80/tcp mh,mh-fallback,mh-port", "add back 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", "add back 192.0.2.1:80/tcp -> 10.244.2.11:8080 weight 1",
				"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 10.244.2.11:8080 weight 1",
				"add front 192.0.2.1:80/tcp rr", "add front 192.0.2.1:80/tcp -> 192.168.0.12:80 weight 2", address)},
		{"endpoints that fail or drain keep their connections, and get no new ones",
			three(svc("ns/a", nil, a, failed, drains)), onN1,
			rows(nodes,
				"add back 192.0.2.1:80/tcp rr", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1",
				"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 10.244.2.11:8080 weight 0", "add 192.0.2.1:80/tcp -> 10.244.2.12:8080 weight 0",
				"add front 192.0.2.1:80/tcp mh,mh-fallback,mh-port", "add front 192.0.2.1:80/tcp -> 192.168.0.11:80 weight 1", "add front 192.0.2.1:80/tcp -> 192.168.0.12:80 weight 0", address)},
		{"over UDP one that fails goes at once, and one that drains stays",
			three(svc("ns/a", udp, overUDP(a), overUDP(failed), overUDP(drains))), Self{Node: "n1", Tiers: true},
			rows("add 192.0.2.1:80/udp rr snat", "add 192.0.2.1:80/udp -> 10.244.1.10:8080 weight 1", "add 192.0.2.1:80/udp -> 10.244.2.12:8080 weight 0", address)},
		{"with policy Local what comes from outside goes to the endpoints of this node, and clients on it to all",
			three(svc("ns/a", local, a, b)), onN1,
			rows(nodes, "add back 192.0.2.1:80/tcp rr direct", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", single, address)},
		{"with policy Local and no endpoint here connections from outside are refused",
			three(svc("ns/a", local, b)), onN1,
			rows(nodes, "add back 192.0.2.1:80/tcp rr direct",
				"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", address)},
		{"with policy Local and no tiers there are the endpoints of this node only",
			three(svc("ns/a", local, a, b)), Self{Node: "n1"},
			rows("add 192.0.2.1:80/tcp rr", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", address)},
		{"and clients on a node without any are sent to those of others",
			three(svc("ns/a", local, b)), Self{Node: "n1"},
			rows("add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", address)},
		{"a node that takes no tunnels sends none",
			three(svc("ns/a", nil, a, b)), Self{Node: "n1", Tiers: true},
			rows(single, address)},
		{"an endpoint on a node that takes no tunnels keeps the Service from being sent by tunnel",
			with(func(s *snapshot.Snapshot) { s.Speakers[1].Tunnels = nil }, svc("ns/a", nil, a, b)), onN1,
			rows("add node 192.168.0.11", "add node 192.168.0.13", single, address)},
		{"so does a node that no speaker was ever heard of",
			with(func(s *snapshot.Snapshot) { s.Speakers = s.Speakers[:1] }, svc("ns/a", nil, a, b)), onN1,
			rows("add node 192.168.0.11", single, address)},
		{"and an endpoint that is on no node",
			three(svc("ns/a", nil, a, ready("198.51.100.4", ""))), onN1,
			rows(nodes, "add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 198.51.100.4:8080 weight 1", address)},
		{"a tunnel of the other family is none",
			three(svc("ns/a", func(s *snapshot.Service) { s.Ingress[0].Addr = ip("2001:db8::1") }, ready("fd10::7", "n1"))), onN1,
			rows(nodes, "add [2001:db8::1]:80/tcp rr snat", "add [2001:db8::1]:80/tcp -> [fd10::7]:8080 weight 1", "add address 2001:db8::1")},
		{"a pool may forgo the client's address",
			with(func(s *snapshot.Snapshot) { s.Config = lan(func(p *config.Pool) { p.KeepClientIP = false }) }, svc("ns/a", nil, a, b)), onN1,
			rows(nodes, single, address)},
		{"a cluster of one node needs no tunnel",
			with(func(s *snapshot.Snapshot) { s.Nodes, s.Speakers = s.Nodes[:1], s.Speakers[:1] }, svc("ns/a", nil, a)), onN1,
			rows("add node 192.168.0.11", "add back 192.0.2.1:80/tcp rr direct", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1",
				"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", address)},
		{"endpoints on a dead node get no new connections, by either way",
			with(lose(1, func(sp *snapshot.Speaker) { sp.Dead = true }), svc("ns/a", nil, a, b)), onN1,
			rows(nodes, "add back 192.0.2.1:80/tcp rr", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1",
				"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 0",
				"add front 192.0.2.1:80/tcp mh,mh-fallback,mh-port", "add front 192.0.2.1:80/tcp -> 192.168.0.11:80 weight 1", "add front 192.0.2.1:80/tcp -> 192.168.0.12:80 weight 0", address)},
		{"a speaker that falls silent loses nothing as long as its node answers",
			with(lose(1, func(*snapshot.Speaker) {}), svc("ns/a", nil, a, b)), onN1,
			rows(nodes, "add back 192.0.2.1:80/tcp rr", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", single,
				"add front 192.0.2.1:80/tcp mh,mh-fallback,mh-port", "add front 192.0.2.1:80/tcp -> 192.168.0.11:80 weight 1", "add front 192.0.2.1:80/tcp -> 192.168.0.12:80 weight 1", address)},
		{"once it has been silent for long nothing is sent there by tunnel",
			with(lose(1, func(sp *snapshot.Speaker) { sp.Stale, sp.Leaving = true, true }), svc("ns/a", nil, a, b)), onN1,
			rows(nodes, "add back 192.0.2.1:80/tcp rr", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", single,
				"add front 192.0.2.1:80/tcp mh,mh-fallback,mh-port", "add front 192.0.2.1:80/tcp -> 192.168.0.11:80 weight 1", "add front 192.0.2.1:80/tcp -> 192.168.0.12:80 weight 0", address)},
		{"where every endpoint is on a dead node they get connections all the same, but not by tunnel",
			with(lose(1, func(sp *snapshot.Speaker) { sp.Dead = true }), svc("ns/a", nil, b)), onN1,
			rows(nodes, "add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", address)},
		{"nor where the only node with endpoints has had no speaker for long",
			with(lose(1, func(sp *snapshot.Speaker) { sp.Stale = true }), svc("ns/a", nil, b)), onN1,
			rows(nodes, "add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.2.10:8080 weight 1", address)},
		{"a cluster of one node keeps the client's address without tunnels, too",
			with(func(s *snapshot.Snapshot) { s.Nodes, s.Speakers = s.Nodes[:1], nil }, svc("ns/a", nil, a)), Self{Node: "n1", Tiers: true},
			rows("add back 192.0.2.1:80/tcp rr direct", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1",
				"add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", address)},
		{"affinity holds in every tier, and takes the port out of the hash",
			three(svc("ns/a", func(s *snapshot.Service) { s.Affinity = 10 * time.Minute }, a, b)), onN1,
			rows(nodes, "add back 192.0.2.1:80/tcp rr affinity 600 s", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1",
				"add 192.0.2.1:80/tcp rr affinity 600 s snat", single[1:],
				"add front 192.0.2.1:80/tcp mh,mh-fallback affinity 600 s", "add front 192.0.2.1:80/tcp -> 192.168.0.11:80 weight 1", "add front 192.0.2.1:80/tcp -> 192.168.0.12:80 weight 1", address)},
		{"the scheduler of the Service comes before that of the pool",
			with(func(s *snapshot.Snapshot) { s.Config = lan(func(p *config.Pool) { p.Scheduler = "lc" }) },
				svc("ns/a", func(s *snapshot.Service) {
					s.Local, s.Scheduler, s.SchedulerFlags = true, "sh", config.SchedulerFallback
				}, a)), onN1,
			rows(nodes, "add back 192.0.2.1:80/tcp sh,sh-fallback direct", "add back 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1",
				"add 192.0.2.1:80/tcp sh,sh-fallback snat", "add 192.0.2.1:80/tcp -> 10.244.1.10:8080 weight 1", address)},
		{"source ranges of one family shut out the other",
			three(svc("ns/a", func(s *snapshot.Service) {
				s.Local, s.Sources = true, []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.1.0.0/16")}
				s.Ingress = append(s.Ingress, snapshot.Ingress{Addr: ip("2001:db8::1")})
			})), Self{Node: "n1"},
			rows("add 192.0.2.1:80/tcp rr from 10.0.0.0/8 192.0.2.128/25", "add [2001:db8::1]:80/tcp rr from nobody", address, "add address 2001:db8::1")},
		{"node ports of every ready node, for kube-proxy to lead on",
			with(func(s *snapshot.Snapshot) {
				s.Config = lan(func(p *config.Pool) { p.Backends = config.BackendsNodePort })
				s.Nodes[2].Ready = false
			}, svc("ns/a", func(s *snapshot.Service) { s.Ports[0].Node = 30080 }, a)), onN1,
			rows(nodes, "add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 192.168.0.11:30080 weight 1", "add 192.0.2.1:80/tcp -> 192.168.0.12:30080 weight 1", "add 192.0.2.1:80/tcp -> 192.168.0.13:30080 weight 0", address)},
		{"without tiers the node ports of the others: kube-proxy does not lead on what came through the same nftables",
			with(func(s *snapshot.Snapshot) {
				s.Config = lan(func(p *config.Pool) { p.Backends = config.BackendsNodePort })
				s.Nodes[2].Ready = false
			}, svc("ns/a", func(s *snapshot.Service) { s.Ports[0].Node = 30080 }, a)), Self{Node: "n1"},
			rows("add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 192.168.0.12:30080 weight 1", "add 192.0.2.1:80/tcp -> 192.168.0.13:30080 weight 0", address)},
		{"without tiers the node port of this node where no other is ready",
			with(func(s *snapshot.Snapshot) {
				s.Config = lan(func(p *config.Pool) { p.Backends = config.BackendsNodePort })
				s.Nodes[1].Ready, s.Nodes[2].Ready = false, false
			}, svc("ns/a", func(s *snapshot.Service) { s.Ports[0].Node = 30080 }, a)), Self{Node: "n1"},
			rows("add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 192.168.0.11:30080 weight 1", "add 192.0.2.1:80/tcp -> 192.168.0.12:30080 weight 0", "add 192.0.2.1:80/tcp -> 192.168.0.13:30080 weight 0", address)},
		{"with policy Local the node port of this node, if it has an endpoint",
			with(func(s *snapshot.Snapshot) {
				s.Config = lan(func(p *config.Pool) { p.Backends = config.BackendsNodePort })
			},
				svc("ns/a", func(s *snapshot.Service) { s.Ports[0].Node, s.Local = 30080, true }, a)), onN1,
			rows(nodes, "add 192.0.2.1:80/tcp rr", "add 192.0.2.1:80/tcp -> 192.168.0.11:30080 weight 1", address)},
		{"the cluster IP, for kube-proxy to lead on",
			with(func(s *snapshot.Snapshot) {
				s.Config = lan(func(p *config.Pool) { p.Backends = config.BackendsClusterIP })
			},
				svc("ns/a", func(s *snapshot.Service) { s.ClusterIPs = []netip.Addr{ip("fd96::1"), ip("10.96.0.10")} }, a)), onN1,
			rows(nodes, "add 192.0.2.1:80/tcp rr snat", "add 192.0.2.1:80/tcp -> 10.96.0.10:80 weight 1", address)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, listing(Plan(tt.s, tt.self))); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			slices.Reverse(tt.s.Services)
			if diff := cmp.Diff(tt.want, listing(Plan(tt.s, tt.self))); diff != "" {
				t.Errorf("rows depend on the order of Services:\n%s", diff)
			}
		})
	}
}

func TestPlanInPlaceOfKubeProxy(t *testing.T) {
	a, b := ready("10.244.1.10", "n1"), ready("10.244.2.10", "n2")
	proxied := func(edit func(*snapshot.Service)) func(*snapshot.Service) {
		return func(s *snapshot.Service) {
			s.Served, s.Ours, s.Ingress, s.Proxied = false, false, nil, true
			s.ClusterIPs = []netip.Addr{ip("10.96.0.10")}
			if edit != nil {
				edit(s)
			}
		}
	}
	tests := []struct {
		name string
		svc  func(*snapshot.Service)
		want []string
	}{
		{"a cluster IP leads to every endpoint, and keeps the client's address",
			proxied(nil),
			[]string{"add 10.96.0.10:80/tcp rr", "add 10.96.0.10:80/tcp -> 10.244.1.10:8080 weight 1", "add 10.96.0.10:80/tcp -> 10.244.2.10:8080 weight 1", "add address 10.96.0.10"}},
		{"internalTrafficPolicy Local leads to those of this node",
			proxied(func(s *snapshot.Service) { s.InternalLocal = true }),
			[]string{"add 10.96.0.10:80/tcp rr", "add 10.96.0.10:80/tcp -> 10.244.1.10:8080 weight 1", "add address 10.96.0.10"}},
		{"a node port leads to every endpoint, with SNAT",
			proxied(func(s *snapshot.Service) { s.Ports[0].Node = 30080; s.InternalLocal = true }),
			[]string{
				"add 0.0.0.0:30080/tcp rr snat", "add 0.0.0.0:30080/tcp -> 10.244.1.10:8080 weight 1", "add 0.0.0.0:30080/tcp -> 10.244.2.10:8080 weight 1",
				"add 10.96.0.10:80/tcp rr", "add 10.96.0.10:80/tcp -> 10.244.1.10:8080 weight 1", "add address 10.96.0.10"}},
		{"with externalTrafficPolicy Local to those of this node, without",
			proxied(func(s *snapshot.Service) { s.Ports[0].Node = 30080; s.Local = true }),
			[]string{
				"add 0.0.0.0:30080/tcp rr", "add 0.0.0.0:30080/tcp -> 10.244.1.10:8080 weight 1",
				"add 10.96.0.10:80/tcp rr", "add 10.96.0.10:80/tcp -> 10.244.1.10:8080 weight 1", "add 10.96.0.10:80/tcp -> 10.244.2.10:8080 weight 1", "add address 10.96.0.10"}},
		{"an external IP is served like an address of a load balancer, unless it is a node's",
			proxied(func(s *snapshot.Service) {
				s.ClusterIPs = nil
				s.ExternalIPs = []netip.Addr{ip("192.0.2.9"), ip("192.168.0.12")}
				s.Local = true
			}),
			[]string{"add back 192.0.2.9:80/tcp rr direct", "add back 192.0.2.9:80/tcp -> 10.244.1.10:8080 weight 1",
				"add 192.0.2.9:80/tcp rr snat", "add 192.0.2.9:80/tcp -> 10.244.1.10:8080 weight 1", "add 192.0.2.9:80/tcp -> 10.244.2.10:8080 weight 1", "add address 192.0.2.9"}},
		{"source ranges do not hold inside the cluster",
			proxied(func(s *snapshot.Service) { s.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }),
			[]string{"add 10.96.0.10:80/tcp rr", "add 10.96.0.10:80/tcp -> 10.244.1.10:8080 weight 1", "add 10.96.0.10:80/tcp -> 10.244.2.10:8080 weight 1", "add address 10.96.0.10"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := listing(Plan(three(svc("ns/a", tt.svc, a, b)), Self{Node: "n1", Tiers: true}))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
		})
	}
}
