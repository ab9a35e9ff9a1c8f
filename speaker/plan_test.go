package speaker

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// lan is a cluster of three nodes on 192.0.2.0/24, with one Service on
// 192.0.2.240 that has a ready endpoint on each node.
func lan() snapshot.Snapshot {
	pool := config.Default()
	pool.Pool = ipam.Pool{Name: "lan", Ranges: []ipam.Range{{First: ip("192.0.2.240"), Last: ip("192.0.2.250")}}}
	s := snapshot.Snapshot{Config: config.Config{Pools: []config.Pool{pool}}}
	svc := snapshot.Service{
		Key: "ns/a", Served: true, Ours: true,
		Ingress: []snapshot.Ingress{{Addr: ip("192.0.2.240"), Mode: "Proxy"}},
	}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		s.Nodes = append(s.Nodes, snapshot.Node{Name: name, Announces: []string{"lan"}})
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: name, DataPath: "ipvs", Links: []snapshot.Link{
			{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", i+1))}},
			{Name: "eth1", Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/24", i+1))}},
		}})
		svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{
			Addr: ip(fmt.Sprintf("10.0.%d.1", i)), Node: name, Ready: true,
		})
	}
	s.Services = []snapshot.Service{svc}
	return s
}

// announcers returns, for each claim, who makes it: "address link node".
func announcers(s snapshot.Snapshot, unready ...netip.Addr) []string {
	ready := allReady(s)
	for _, a := range unready {
		ready[a] = false
	}
	var out []string
	for _, n := range s.Nodes {
		for _, c := range Plan(s, n.Name, ready).Claims {
			out = append(out, fmt.Sprintf("%s %s %s", c.Addr, c.Link, n.Name))
		}
	}
	slices.Sort(out)
	return out
}

// An IPv6 address is elected like any other, of the nodes that have its subnet:
// a global or unique local one, and no /128, which says nothing of the segment. It is
// of no use where only IPv4 has an endpoint, as for a moment when Endpoints come.
func TestPlanOfBothFamilies(t *testing.T) {
	tests := []struct{ prefix, addr, endpoint, link string }{
		{"2001:db8::%d/64", "2001:db8::f0", "fd10::1", "eth1"},
		{"fd50::%d/64", "fd50::f0", "fd10::1", "eth1"},
		{"fd50::%d/64", "fd51::f0", "fd10::1", ""},
		{"fd50::%d/128", "fd50::f0", "fd10::1", ""},
		{"fd50::%d/64", "fd50::f0", "10.0.0.9", ""},
	}
	for _, tt := range tests {
		s := lan()
		s.Services[0].Endpoints = append(s.Services[0].Endpoints, snapshot.Endpoint{Addr: ip(tt.endpoint), Node: "n1", Ready: true})
		s.Config.Pools[0].Ranges = append(s.Config.Pools[0].Ranges, ipam.Range{First: ip(tt.addr), Last: ip(tt.addr)})
		s.Services[0].Ingress = append(s.Services[0].Ingress, snapshot.Ingress{Addr: ip(tt.addr), Mode: "Proxy"})
		for i := range s.Speakers {
			s.Speakers[i].Links[1].Prefixes = append(s.Speakers[i].Links[1].Prefixes, netip.MustParsePrefix(fmt.Sprintf(tt.prefix, i+1)))
		}
		want := []string{"192.0.2.240 eth0 n1"}
		if tt.link != "" {
			owner, _ := Owner(s, ip(tt.addr))
			want = append(want, fmt.Sprintf("%s %s %s", tt.addr, tt.link, owner))
		}
		if got := announcers(s); !slices.Equal(got, want) {
			t.Errorf("%s on %s: announced %v, want %v", tt.addr, tt.prefix, got, want)
		}
	}
}

func TestPlan(t *testing.T) {
	const winner, second = "n1", "n3" // for 192.0.2.240, see the first row
	tests := []struct {
		name string
		edit func(*snapshot.Snapshot)
		want []string
	}{
		{"one node announces, on the link whose subnet holds the address", func(*snapshot.Snapshot) {},
			[]string{"192.0.2.240 eth0 " + winner}},
		{"another does when its speaker is dead",
			func(s *snapshot.Snapshot) { s.Speakers = speakersWithout(s, winner) }, []string{"192.0.2.240 eth0 " + second}},
		{"another does when its speaker is leaving",
			func(s *snapshot.Snapshot) { speakerOf(s, winner).Leaving = true }, []string{"192.0.2.240 eth0 " + second}},
		{"a speaker that is leaving stays where no other is left",
			func(s *snapshot.Snapshot) {
				for i := range s.Speakers {
					s.Speakers[i].Leaving = true
				}
			}, []string{"192.0.2.240 eth0 " + winner}},
		{"another does when its link comes and goes",
			func(s *snapshot.Snapshot) { speakerOf(s, winner).Links[0].Unsteady = true }, []string{"192.0.2.240 eth0 " + second}},
		{"a link that comes and goes is better than none",
			func(s *snapshot.Snapshot) {
				speakerOf(s, winner).Links[0].Unsteady = true
				s.Speakers = []snapshot.Speaker{*speakerOf(s, winner)}
			}, []string{"192.0.2.240 eth0 " + winner}},
		{"another does when its data path is gone",
			func(s *snapshot.Snapshot) { speakerOf(s, winner).DataPath = "" }, []string{"192.0.2.240 eth0 " + second}},
		{"a node without a data path may announce what kube-proxy steers",
			func(s *snapshot.Snapshot) {
				s.Config.Pools[0].Steer = config.SteerServiceProxy
				for i := range s.Speakers {
					s.Speakers[i].DataPath = ""
				}
			}, []string{"192.0.2.240 eth0 " + winner}},
		{"another does when its link is gone",
			func(s *snapshot.Snapshot) { speakerOf(s, winner).Links = nil }, []string{"192.0.2.240 eth0 " + second}},
		{"nobody does where no link holds the address",
			func(s *snapshot.Snapshot) { s.Services[0].Ingress[0].Addr = ip("203.0.113.1") }, nil},
		{"another does when its node is excluded",
			func(s *snapshot.Snapshot) { nodeOf(s, winner).Excluded = "a label" }, []string{"192.0.2.240 eth0 " + second}},
		{"another does when its Node is deleted",
			func(s *snapshot.Snapshot) {
				s.Nodes = slices.DeleteFunc(s.Nodes, func(n snapshot.Node) bool { return n.Name == winner })
			}, []string{"192.0.2.240 eth0 " + second}},
		{"another does when the pool does not select the node",
			func(s *snapshot.Snapshot) { nodeOf(s, winner).Announces = nil }, []string{"192.0.2.240 eth0 " + second}},
		{"nobody does when the pool does not allow the link",
			func(s *snapshot.Snapshot) { s.Config.Pools[0].Layer2.Interfaces = []string{"eth1", "bond*"} }, nil},
		{"a glob allows links",
			func(s *snapshot.Snapshot) { s.Config.Pools[0].Layer2.Interfaces = []string{"eth*"} }, []string{"192.0.2.240 eth0 " + winner}},
		{"nobody does when the pool is not announced on layer 2",
			func(s *snapshot.Snapshot) { s.Config.Pools[0].Layer2.Enabled = false }, nil},
		{"nobody does without an endpoint",
			func(s *snapshot.Snapshot) { s.Services[0].Endpoints = nil }, nil},
		{"nobody does while no endpoint is ready",
			func(s *snapshot.Snapshot) {
				for i := range s.Services[0].Endpoints {
					s.Services[0].Endpoints[i].Ready = false
				}
			}, nil},
		{"with externalTrafficPolicy Local a node with a ready endpoint does",
			func(s *snapshot.Snapshot) {
				s.Services[0].Local = true
				s.Services[0].Endpoints = s.Services[0].Endpoints[2:]
			}, []string{"192.0.2.240 eth0 n3"}},
		{"with policy Cluster any node does, wherever the endpoint is",
			func(s *snapshot.Snapshot) { s.Services[0].Endpoints = s.Services[0].Endpoints[2:] }, []string{"192.0.2.240 eth0 " + winner}},
		{"all Services on one address have one owner",
			func(s *snapshot.Snapshot) {
				other := s.Services[0]
				other.Key = "ns/b"
				s.Services = append(s.Services, other)
			}, []string{"192.0.2.240 eth0 " + winner}},
		{"a node that can serve all Services on the address does",
			func(s *snapshot.Snapshot) {
				other := s.Services[0]
				other.Key, other.Local, other.Endpoints = "ns/b", true, other.Endpoints[1:2]
				s.Services = append(s.Services, other)
			}, []string{"192.0.2.240 eth0 n2"}},
		{"an address that is not Herald's is left alone",
			func(s *snapshot.Snapshot) { s.Services[0].Ours = false }, nil},
		{"a Service with a restriction that cannot be kept is open to nobody",
			func(s *snapshot.Snapshot) { s.Services[0].Closed = true }, nil},
		{"a Service that is not served is withdrawn",
			func(s *snapshot.Snapshot) { s.Services[0].Served = false }, nil},
		{"an assigned address whose pool is gone is announced still",
			func(s *snapshot.Snapshot) { s.Config.Pools = nil }, []string{"192.0.2.240 eth0 " + winner}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := lan()
			tt.edit(&s)
			if diff := cmp.Diff(tt.want, announcers(s)); diff != "" {
				t.Errorf("claims (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnAddressIsNotAnnouncedBeforeItsRowsStand(t *testing.T) {
	if got := announcers(lan(), ip("192.0.2.240")); got != nil {
		t.Errorf("announced: %v", got)
	}
}

// Whatever the state of the cluster, no address is ever claimed by two nodes,
// and who is no candidate claims nothing.
func TestNoAddressHasTwoOwners(t *testing.T) {
	for mask := range 1 << 6 {
		s := lan()
		for i, vip := range vips(40) {
			svc := s.Services[0]
			svc.Key = fmt.Sprintf("ns/s%02d", i)
			svc.Ingress = []snapshot.Ingress{{Addr: vip}}
			svc.Local = i%2 == 0
			s.Services = append(s.Services, svc)
		}
		for i := range 3 {
			s.Speakers[i].Leaving = mask>>i&1 == 1
			if mask>>(3+i)&1 == 1 {
				s.Speakers[i].Links = nil
			}
		}
		owner := map[netip.Addr]string{}
		for i, n := range s.Nodes {
			for _, c := range Plan(s, n.Name, allReady(s)).Claims {
				if first, taken := owner[c.Addr]; taken {
					t.Fatalf("mask %b: %s is claimed by %s and %s", mask, c.Addr, first, n.Name)
				}
				if s.Speakers[i].Links == nil {
					t.Fatalf("mask %b: %s claims %s without a link", mask, n.Name, c.Addr)
				}
				owner[c.Addr] = n.Name
			}
		}
		if mask>>3 != 7 && len(owner) != 41 {
			t.Fatalf("mask %b: %d of 41 addresses have an owner", mask, len(owner))
		}
	}
}

// What holds for one address of a pool holds for all that lie in the same smallest
// subnet: they come to each node by the same link.
func TestAddressesOfOneSubnetComeByTheSameLinks(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(rnd.IntN(2)), byte(rnd.IntN(256))}) }
	pool, same := config.Default(), 0
	for range 200 {
		var speakers []snapshot.Speaker
		for range 3 {
			sp := snapshot.Speaker{DataPath: "ipvs"}
			for i := range 2 {
				l := snapshot.Link{Name: fmt.Sprintf("eth%d", i)}
				for range 1 + rnd.IntN(3) {
					l.Prefixes = append(l.Prefixes, netip.PrefixFrom(addr(), 16+rnd.IntN(17)), netip.PrefixFrom(ip("2001:db8::1"), 64))
				}
				sp.Links = append(sp.Links, l)
			}
			speakers = append(speakers, sp)
		}
		nets := newSubnets(speakers)
		for range 50 {
			a, b := addr(), addr()
			if nets.of(a) != nets.of(b) {
				continue
			}
			same++
			for _, sp := range speakers {
				la, oka := comesBy(&sp, &pool, a)
				lb, okb := comesBy(&sp, &pool, b)
				if la.Name != lb.Name || oka != okb {
					t.Fatalf("%s comes by %q, %s by %q, of %v", a, la.Name, b, lb.Name, sp.Links)
				}
			}
		}
	}
	if same < 1000 {
		t.Errorf("%d pairs were compared: this proves little", same)
	}
}

// allReady says of every address that its rows stand.
func allReady(s snapshot.Snapshot) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, svc := range s.Services {
		for _, a := range svc.Addrs() {
			out[a] = true
		}
	}
	return out
}

func speakersWithout(s *snapshot.Snapshot, node string) []snapshot.Speaker {
	return slices.DeleteFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == node })
}

func speakerOf(s *snapshot.Snapshot, node string) *snapshot.Speaker {
	i := slices.IndexFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == node })
	return &s.Speakers[i]
}

func nodeOf(s *snapshot.Snapshot, node string) *snapshot.Node {
	i := slices.IndexFunc(s.Nodes, func(n snapshot.Node) bool { return n.Name == node })
	return &s.Nodes[i]
}

func BenchmarkPlan(b *testing.B) {
	s := lan()
	for i, vip := range vips(10000) {
		svc := s.Services[0]
		svc.Key = fmt.Sprintf("ns/s%05d", i)
		svc.Ingress = []snapshot.Ingress{{Addr: vip}}
		s.Services = append(s.Services, svc)
	}
	ready := allReady(s)
	b.ReportAllocs()
	for b.Loop() {
		Plan(s, "n1", ready)
	}
}
