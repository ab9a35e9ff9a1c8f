package hetzner

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

func made(t testing.TB, s cloud.LBSpec) *model {
	t.Helper()
	m := &model{}
	if _, err := m.settle(s, func(cloud.Step) {}); err != nil {
		t.Fatal(err)
	}
	return m
}

func kinds(p cloud.Plan) (all []string) {
	for _, s := range p {
		k := s.Kind
		if s.Detail != "" && s.Order != cloud.Mark && s.Kind != "mark" {
			k += " " + s.Detail
		}
		if s.Destructive {
			k += " !"
		}
		all = append(all, k)
	}
	return all
}

func TestPlanMakesTheLeastChange(t *testing.T) {
	base := spec([]int32{80, 443}, 1, 2, 3)
	tests := []struct {
		name     string
		from, to cloud.LBSpec
		want     []string
	}{
		{"nothing", base, base, nil},
		{"a listener joins", base, spec([]int32{80, 443, 8080}, 1, 2, 3), []string{"mark", "add listener tcp/8080 → 30080"}},
		{"a listener leaves", base, spec([]int32{80}, 1, 2, 3), []string{"remove listener tcp/443", "mark"}},
		{"a port is another", base, spec([]int32{80, 444}, 1, 2, 3),
			[]string{"mark", "add listener tcp/444 → 30444", "remove listener tcp/443", "mark"}},
		{"a node port is another, and its health check with it", base, with(base, func(s *cloud.LBSpec) { s.Listeners[0].NodePort = 31000 }),
			[]string{"update listener tcp/80 → 31000"}},
		{"health is asked of kube-proxy", base, with(base, func(s *cloud.LBSpec) {
			s.Listeners[1].Health = cloud.HealthCheck{HTTP: true, Port: 10256, Path: "/healthz", Interval: 5 * time.Second}
		}), []string{"update listener tcp/443 → 30443"}},
		{"PROXY protocol", base, with(base, func(s *cloud.LBSpec) { s.Listeners[1].Proxy = cloud.ProxyV2 }), []string{"update listener tcp/443 → 30443"}},
		{"a node joins", base, spec([]int32{80, 443}, 1, 2, 3, 4), []string{"add target server 4"}},
		{"a node leaves", base, spec([]int32{80, 443}, 1, 3), []string{"remove target server 2"}},
		{"all nodes are others", base, spec([]int32{80, 443}, 7, 8),
			[]string{"add target server 7", "add target server 8", "remove target server 1", "remove target server 2", "remove target server 3"}},
		{"no node is left, and nobody is cut off", base, spec([]int32{80, 443}), nil},
		{"no node is left, and what the old are reached by stays", with(base, func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP = "inside", true }),
			spec([]int32{80, 443}), nil},
		{"a node that is no server", base, with(base, func(s *cloud.LBSpec) {
			s.Targets = append(s.Targets, cloud.Target{Node: "r", Instance: cloud.Instance{ID: "hrobot://5"}, Addr: netip.MustParseAddr("203.0.113.5")})
		}), []string{"add target address 203.0.113.5"}},
		{"the algorithm", base, with(base, func(s *cloud.LBSpec) { s.Algorithm = "LeastConnections" }), []string{"change algorithm least_connections"}},
		{"the algorithm, as the annotation has it", base, with(base, func(s *cloud.LBSpec) { s.Algorithm = cloud.LeastConnections }), []string{"change algorithm least_connections"}},
		{"the title", base, with(base, func(s *cloud.LBSpec) { s.Title = "front door" }), []string{"mark"}},
		{"a larger type, before what needs it", base, with(spec([]int32{80, 443, 1, 2, 3, 4}, 1, 2, 3), func(s *cloud.LBSpec) { s.Type = "lb21" }),
			[]string{"mark", "change type lb11 → lb21", "add listener tcp/1 → 30001", "add listener tcp/2 → 30002", "add listener tcp/3 → 30003", "add listener tcp/4 → 30004"}},
		{"a smaller type, after what needs the larger",
			with(spec([]int32{80, 443, 1, 2, 3, 4}, 1, 2, 3), func(s *cloud.LBSpec) { s.Type = "lb21" }), with(base, func(s *cloud.LBSpec) { s.Type = "lb11" }),
			[]string{"remove listener tcp/1", "remove listener tcp/2", "remove listener tcp/3", "remove listener tcp/4", "mark", "change type lb21 → lb11"}},
		{"no type keeps the type", with(base, func(s *cloud.LBSpec) { s.Type = "lb31" }), base, nil},
		{"no room for new listeners beside the old", spec([]int32{1, 2, 3, 4, 5}, 1), spec([]int32{1, 2, 3, 6, 7}, 1),
			[]string{"mark", "remove listener tcp/4", "add listener tcp/6 → 30006", "remove listener tcp/5", "add listener tcp/7 → 30007", "mark"}},
		{"over the network", base, with(base, func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP = "inside", true }), []string{"attach to network inside",
			"remove target server 1", "add target server 1 over the network", "remove target server 2", "add target server 2 over the network",
			"remove target server 3", "add target server 3 over the network"}},
		{"from the network", with(base, func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP = "inside", true }), spec([]int32{80, 443}, 1, 2),
			[]string{"remove target server 1 over the network", "add target server 1", "remove target server 2 over the network", "add target server 2",
				"remove target server 3 over the network", "detach from network 10"}},
		{"internal", with(base, func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP = "10", true }), with(base, func(s *cloud.LBSpec) { s.Network, s.Internal = "10", true }),
			[]string{"disable public interface"}},
		{"internal no longer", with(base, func(s *cloud.LBSpec) { s.Network, s.Internal = "10", true }), with(base, func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP = "10", true }),
			[]string{"enable public interface"}},
		{"the only target another way", spec([]int32{80}, 1), with(spec([]int32{80}, 1), func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP = "inside", true }),
			[]string{"attach to network inside", "remove target server 1 !", "add target server 1 over the network !"}},
		{"another location, beside what can be had", base, with(spec([]int32{80, 443}, 1, 2), func(s *cloud.LBSpec) { s.Location = "nbg1" }),
			[]string{"delete load balancer to make it anew: it is in fsn1, not in nbg1 !",
				"create load balancer k8s-c1-11111111-2222-3333-4444-555555555555 lb11 in nbg1, listeners: 2, targets: 2 !", "remove target server 3"}},
		{"another location, if allowed", base, with(spec([]int32{80}, 1), func(s *cloud.LBSpec) { s.Location, s.AllowRecreate = "nbg1", true }),
			[]string{"delete load balancer to make it anew: it is in fsn1, not in nbg1 !",
				"create load balancer k8s-c1-11111111-2222-3333-4444-555555555555 lb11 in nbg1, listeners: 1, targets: 1 !"}},
		{"the address it has", base, with(base, func(s *cloud.LBSpec) { s.Address = "198.51.100.1" }), nil},
		{"the address it has, by its ID", base, with(base, func(s *cloud.LBSpec) { s.Address = "78" }), nil},
		{"another address", base, with(base, func(s *cloud.LBSpec) { s.Address, s.AllowRecreate = "2001:db8:1::/64", true }),
			[]string{"delete load balancer to make it anew: its address is not 2001:db8:1::/64 !",
				"create load balancer k8s-c1-11111111-2222-3333-4444-555555555555 lb11 in fsn1, listeners: 2, targets: 3 !"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := made(t, tt.from)
			p, err := plan(tt.to, m.found(), defaults, shop)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, kinds(p)); diff != "" {
				t.Errorf("plan, - want + got:\n%s", diff)
			}
			if !slices.IsSortedFunc(p, func(a, b cloud.Step) int { return int(a.Order - b.Order) }) {
				t.Errorf("not in order: %v", p)
			}
			if _, err := m.settle(tt.to, func(cloud.Step) {}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPlanMakesAllInOneCall(t *testing.T) {
	s := with(spec([]int32{443, 80}, 3, 1), func(s *cloud.LBSpec) { s.Network, s.Internal = "inside", true })
	p, err := plan(s, nil, defaults, shop)
	if err != nil || len(p) != 1 {
		t.Fatalf("plan is %v (%v), want one step", p, err)
	}
	if want := (cloud.Money{Milli: 5390, Currency: "EUR"}); p[0].Cost != want {
		t.Errorf("costs %v, want %v", p[0].Cost, want)
	}
	o := p[0].Payload.(createLB).opts()
	if len(o.Services) != 2 || len(o.Targets) != 2 || o.Network.ID != 10 || *o.PublicInterface || !*o.Targets[0].UsePrivateIP {
		t.Errorf("call is %+v", o)
	}
	want := map[string]string{"herald-lb.io/cluster": "c1", "herald-lb.io/uid": string(owner.UID), "herald-lb.io/service-namespace": "shop",
		"herald-lb.io/service-name": "web", "herald-lb.io/ports": "80.443"}
	if diff := cmp.Diff(want, o.Labels); diff != "" {
		t.Errorf("labels, - want + got:\n%s", diff)
	}
}

func TestPlanTakesASubnetLater(t *testing.T) {
	s := with(spec([]int32{80}, 1, 2), func(s *cloud.LBSpec) { s.Network, s.Subnet, s.Internal = "inside", "10.0.3.0/24", true })
	m := &model{}
	did, err := m.settle(s, func(cloud.Step) {})
	if err != nil || len(did) != 5 {
		t.Fatalf("did %q: %v", did, err)
	}
	if ip := m.lb.PrivateNet[0].IP.String(); ip != "10.0.3.1" || m.lb.PublicNet.Enabled {
		t.Errorf("it has %s, public %v", ip, m.lb.PublicNet.Enabled)
	}
}

func TestPlanRefuses(t *testing.T) {
	base := spec([]int32{80}, 1)
	many := make([]int, 26)
	for i := range many {
		many[i] = i + 1
	}
	tests := []struct {
		name         string
		spec         cloud.LBSpec
		reason, want string
	}{
		{"UDP", with(base, func(s *cloud.LBSpec) { s.Listeners[0].Protocol = corev1.ProtocolUDP }), cloud.ReasonProtocol, "udp/80: Hetzner's load balancers serve TCP only"},
		{"PROXY v1", with(base, func(s *cloud.LBSpec) { s.Listeners[0].Proxy = cloud.ProxyV1 }), "", "version 2 of the PROXY protocol only"},
		{"too many listeners", spec([]int32{1, 2, 3, 4, 5, 6}, 1), "", "6 listeners, and lb11 has at most 5: the smallest type with room for them is lb21"},
		{"too many targets", spec([]int32{80}, many...), cloud.ReasonTargetLimit, "26 targets, and lb11 has at most 25: the smallest type with room for them is lb21"},
		{"no type has room", with(spec(slices.Repeat([]int32{0}, 31), 1), func(s *cloud.LBSpec) {
			for i := range s.Listeners {
				s.Listeners[i].Port, s.Listeners[i].NodePort = int32(i+1), 30000
			}
		}), "", "no type has room"},
		{"an unknown type", with(base, func(s *cloud.LBSpec) { s.Type = "lb99" }), "", `load balancer type "lb99"`},
		{"an unknown location", with(base, func(s *cloud.LBSpec) { s.Location = "moon" }), "", `location "moon", use one of [fsn1 nbg1]`},
		{"an unknown network", with(base, func(s *cloud.LBSpec) { s.Network = "lan" }), "", `network "lan"`},
		{"no network", with(base, func(s *cloud.LBSpec) { s.UsePrivateIP = true }), "", "none is named"},
		{"a subnet by name", with(base, func(s *cloud.LBSpec) { s.Network, s.Subnet = "inside", "a" }), "", `subnet "a"`},
		{"an idle timeout", with(base, func(s *cloud.LBSpec) { s.IdleTimeout = time.Minute }), "", "no idle timeout"},
		{"an unknown algorithm", with(base, func(s *cloud.LBSpec) { s.Algorithm = "Random" }), "", "use round-robin or least-connections"},
		{"no node port", with(base, func(s *cloud.LBSpec) { s.Listeners[0].NodePort = 0 }), "", "no node port"},
		{"one port twice", spec([]int32{80, 80}, 1), "", "port 80 is asked for twice"},
		{"a node that is nowhere", with(base, func(s *cloud.LBSpec) { s.Targets[0] = cloud.Target{Node: "x"} }), cloud.ReasonNoInstance, "node x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := plan(tt.spec, nil, defaults, shop)
			var e *cloud.Error
			if !cloud.Is(err, cloud.Terminal) || !asError(err, &e) || e.Reason != tt.reason || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("plan says %v, want terminal, %q and %q", err, tt.reason, tt.want)
			}
		})
	}
	if _, err := plan(base, nil, cloud.Defaults{}, shop); !cloud.Is(err, cloud.Terminal) || !strings.Contains(err.Error(), "no location") {
		t.Errorf("without a location plan says %v", err)
	}
}

func TestPlanLeavesAloneWhatPeopleMade(t *testing.T) {
	m := foreign()
	m.lb.Targets = append(m.lb.Targets, hcloud.LoadBalancerTarget{Type: hcloud.LoadBalancerTargetTypeLabelSelector})
	s := with(spec([]int32{80, 443}, 1, 900), func(s *cloud.LBSpec) { s.Location = "nbg1" })
	p, err := plan(s, m.found(), defaults, shop)
	if err != nil {
		t.Fatal(err)
	}
	if p[0].Order != cloud.Mark {
		t.Errorf("the plan begins with %v", p[0])
	}
	if _, err := m.settle(s, func(cloud.Step) {}); err != nil {
		t.Fatal(err)
	}
	if f := m.found(); !f.Adopted || !f.Owner.Same(owner) || m.lb.Labels["team"] != "web" || m.lb.Name != "hand-made" {
		t.Errorf("found %+v, labels %v", f, m.lb.Labels)
	}
	// 900 was there, and is taken over: it is a node's.
	if _, err := m.settle(spec([]int32{8080}, 2), func(cloud.Step) {}); err != nil {
		t.Fatal(err)
	}
	ports, targets := servicesNow(m.lb), targetsNow(m.lb)
	if len(ports) != 2 || ports[22].port != 22 || ports[8080].port != 8080 || len(targets) != 1 || len(m.lb.Targets) != 2 {
		t.Errorf("there are ports %v and targets %v", ports, m.lb.Targets)
	}
	release(t, m)
	if len(m.lb.Labels) != 1 || m.lb.Labels["team"] != "web" || len(m.lb.Services) != 2 {
		t.Errorf("released, it has labels %v and %d services", m.lb.Labels, len(m.lb.Services))
	}
}

func TestPlanNeverMakesAnewWhatItAdopted(t *testing.T) {
	s := with(spec([]int32{80}, 1), func(s *cloud.LBSpec) { s.Address, s.AllowRecreate = "192.0.2.77", true })
	var e *cloud.Error
	if _, err := plan(s, foreign().found(), defaults, shop); !asError(err, &e) || e.Class != cloud.Terminal || e.Reason != cloud.ReasonRecreate {
		t.Errorf("plan says %v", err)
	}
}

func release(t *testing.T, m *model) {
	t.Helper()
	d := Driver{}
	p := d.PlanRemoval(*m.found(), cloud.PolicyRetain)
	if err := m.apply(p[0].Payload); err != nil || len(p) != 1 || !m.found().Retained || !m.found().Owner.Same(owner) {
		t.Errorf("to retain it takes %v: %v", p, err)
	}
	if p := d.PlanRemoval(*m.found(), cloud.PolicyRetain); len(p) != 0 {
		t.Errorf("to retain it again takes %v", p)
	}
	p = d.PlanRemoval(*m.found(), cloud.PolicyRelease)
	if len(p) != 1 || p[0].Order != cloud.Mark {
		t.Fatalf("to release it takes %v", p)
	}
	if err := m.apply(p[0].Payload); err != nil {
		t.Fatal(err)
	}
	if p := d.PlanRemoval(*m.found(), cloud.PolicyDelete); len(p) != 1 || p[0].Order != cloud.Remove || p[0].Cost.Milli != -5390 {
		t.Errorf("to delete it takes %v", p)
	}
}

func TestPlanKeepsForeignTargetsOfAnAdoptedOne(t *testing.T) {
	m := foreign()
	for _, nodes := range [][]int{{1, 2}, {2, 3}, {4}} {
		if _, err := m.settle(spec([]int32{80}, nodes...), func(cloud.Step) {}); err != nil {
			t.Fatal(err)
		}
		if now := targetsNow(m.lb); len(now) != len(nodes)+1 || now["900"].server != 900 {
			t.Errorf("with nodes %v it has targets %v", nodes, now)
		}
	}
	if d := driver(); d.MaxTargets(spec([]int32{80}), m.found()) != 24 {
		t.Errorf("%d more targets may be had", d.MaxTargets(spec([]int32{80}), m.found()))
	}
}

func driver() *Driver {
	d := &Driver{defaults: defaults, now: time.Now}
	d.catalogue.Store(shop)
	return d
}

// What another controller has made is marked, and made anew in nothing (O4).
func TestPlanTakesOverFromTheOtherController(t *testing.T) {
	m := foreign()
	m.lb.Labels[labelCCM] = string(owner.UID)
	did, err := m.settle(spec([]int32{22}, 900), func(cloud.Step) {})
	if err != nil {
		t.Fatal(err)
	}
	if len(did) != 2 || m.found().Adopted || m.lb.Labels[labelCCM] != "" {
		t.Errorf("did %q, labels %v", did, m.lb.Labels)
	}
}

func TestPlanMarksForANewUID(t *testing.T) {
	m := made(t, spec([]int32{80}, 1))
	s := spec([]int32{80}, 1)
	s.Owner.UID = "99999999-0000-0000-0000-000000000000"
	p, err := plan(s, m.found(), defaults, shop)
	if err != nil || len(p) != 1 || p[0].Order != cloud.Mark {
		t.Fatalf("plan is %v (%v)", p, err)
	}
	// Somebody else was faster.
	m.lb.Labels[labelUID] = "someone"
	if err := m.apply(p[0].Payload); !cloud.Is(err, cloud.Conflict) {
		t.Errorf("marking says %v, want a conflict", err)
	}
}

func TestMaxTargets(t *testing.T) {
	d := driver()
	if n := d.MaxTargets(spec([]int32{80}), nil); n != 25 {
		t.Errorf("%d on a new one, want 25", n)
	}
	many := make([]int, 30)
	for i := range many {
		many[i] = i + 1
	}
	large := made(t, with(spec([]int32{80}, many...), func(s *cloud.LBSpec) { s.Type = "lb21" }))
	small := with(spec([]int32{80}, many...), func(s *cloud.LBSpec) { s.Type = "lb11" })
	if n := d.MaxTargets(small, large.found()); n != 75 {
		t.Errorf("%d where a smaller type would drop some, want 75", n)
	}
	p, err := plan(small, large.found(), defaults, shop)
	if err != nil || len(p) != 1 || !p[0].Destructive {
		t.Errorf("plan is %v (%v), want one destructive step", p, err)
	}
	small.AllowRecreate = true
	if n := d.MaxTargets(small, large.found()); n != 25 {
		t.Errorf("%d if allowed, want 25", n)
	}
	small.Targets = small.Targets[:25]
	if _, err := large.settle(small, func(cloud.Step) {}); err != nil {
		t.Error(err)
	}
	if m := made(t, spec([]int32{80}, 1, 2)).found(); !d.Standing(m)(node(2)) || d.Standing(m)(node(3)) || d.Standing(nil)(node(2)) {
		t.Error("servers 1 and 2 are targets, and others are not")
	}
}

// From any load balancer, through any cut, plans lead to any other; and while there
// are targets before and after, there are some in between. What people made stays.
func TestPlanConverges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		m, kept := &model{}, 0
		if rnd.IntN(3) == 0 {
			m, kept = foreign(), 1
		}
		var last cloud.LBSpec
		for range 4 {
			s := randomSpec(rnd, kept)
			before := 0
			if m.lb != nil {
				before = len(m.lb.Targets)
			}
			each := func(step cloud.Step) {
				if m.lb != nil && before > 0 && len(s.Targets) > 0 && len(m.lb.Targets) == 0 && !step.Destructive {
					t.Fatalf("round %d: no targets after %s", round, step)
				}
				if kept > 0 && (m.lb == nil || servicesNow(m.lb)[22].port != 22 || targetsNow(m.lb)["900"].server != 900) {
					t.Fatalf("round %d: %s took what people made", round, step)
				}
			}
			if m.lb != nil && rnd.IntN(2) == 0 {
				cut(t, rnd, m, s)
			}
			if _, err := m.settle(s, each); err != nil {
				t.Fatalf("round %d: from %+v to %+v: %v", round, last, s, err)
			}
			if got := marksOf(m.lb.Labels).ports; !slices.Equal(got, portsWanted(s)) {
				t.Fatalf("round %d: ports %v are marked, want %v", round, got, portsWanted(s))
			}
			last = s
		}
	}
}

// cut applies only the first part of a plan.
func cut(t *testing.T, rnd *rand.Rand, m *model, s cloud.LBSpec) {
	t.Helper()
	p, err := plan(s, m.found(), defaults, shop)
	if err != nil {
		t.Fatal(err)
	}
	p = slices.DeleteFunc(p, func(step cloud.Step) bool { return step.Destructive && !s.AllowRecreate })
	for _, step := range p[:rnd.IntN(len(p)+1)] {
		if err := m.apply(step.Payload); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if m.lb == nil {
			return
		}
	}
}

func portsWanted(s cloud.LBSpec) (ports []int) {
	for _, l := range s.Listeners {
		ports = append(ports, int(l.Port))
	}
	slices.Sort(ports)
	return ports
}

func randomSpec(rnd *rand.Rand, kept int) cloud.LBSpec {
	types := []string{"", "lb11", "lb21"}
	s := spec(nil)
	s.Type = types[rnd.IntN(len(types))]
	for _, p := range rnd.Perm(8)[:rnd.IntN(5-kept)] {
		l := cloud.Listener{Protocol: corev1.ProtocolTCP, Port: int32(100 + p), NodePort: int32(30000 + rnd.IntN(3))}
		l.Health.HTTP = rnd.IntN(2) == 0
		s.Listeners = append(s.Listeners, l)
	}
	for _, n := range rnd.Perm(30)[:rnd.IntN(25-kept)] {
		s.Targets = append(s.Targets, node(n+1))
	}
	if rnd.IntN(4) == 0 {
		s.Targets = s.Targets[:min(1, len(s.Targets))]
	}
	if kept == 0 { // a foreign target is reached without a network
		s.Network = []string{"", "inside"}[rnd.IntN(2)]
		s.UsePrivateIP = s.Network != "" && rnd.IntN(2) == 0
		s.Internal = s.UsePrivateIP && rnd.IntN(2) == 0
		s.Location = []string{"", "fsn1", "nbg1"}[rnd.IntN(3)]
	}
	s.Algorithm = []string{"", "RoundRobin", "LeastConnections"}[rnd.IntN(3)]
	s.AllowRecreate = kept == 0 && rnd.IntN(2) == 0
	return s
}

func BenchmarkPlan(b *testing.B) {
	nodes := make([]int, 100)
	for i := range nodes {
		nodes[i] = i + 1
	}
	ports := []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	s := with(spec(ports, nodes...), func(s *cloud.LBSpec) { s.Type = "lb31" })
	f := made(b, s).found()
	churn := with(s, func(s *cloud.LBSpec) {
		for i := range 10 {
			s.Targets[i] = node(101 + i)
		}
	})
	for _, bm := range []struct {
		name string
		spec cloud.LBSpec
		want int
	}{{"converged", s, 0}, {"10 of 100 nodes are others", churn, 20}} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p, err := plan(bm.spec, f, defaults, shop)
				if err != nil || len(p) != bm.want {
					b.Fatal(len(p), err)
				}
			}
		})
	}
}

// What lets traffic in that did not get in before is marked, whatever it is called.
func TestWhatExposes(t *testing.T) {
	base := with(spec([]int32{80}, 1, 2), func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP = "10", true })
	inside := with(base, func(s *cloud.LBSpec) { s.Internal = true })
	for name, c := range map[string]struct {
		from *cloud.LBSpec
		to   cloud.LBSpec
		want []string
	}{
		"a new one":            {nil, base, []string{"create load balancer"}},
		"public from now on":   {&inside, base, []string{"enable public interface"}},
		"internal from now on": {&base, inside, nil},
		"a port more":          {&base, with(base, func(s *cloud.LBSpec) { s.Listeners = spec([]int32{80, 443}, 1).Listeners }), []string{"add listener"}},
		"another nodePort":     {&base, with(base, func(s *cloud.LBSpec) { s.Listeners[0].NodePort = 31000 }), nil},
		"a node more":          {&base, with(base, func(s *cloud.LBSpec) { s.Targets = spec(nil, 1, 2, 3).Targets }), nil},
		"elsewhere, made anew": {&base, with(base, func(s *cloud.LBSpec) { s.Location, s.AllowRecreate = "nbg1", true }), []string{"delete load balancer", "create load balancer"}},
	} {
		var found *cloud.Found
		if c.from != nil {
			found = made(t, *c.from).found()
		}
		p, err := plan(c.to, found, defaults, shop)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, s := range p {
			if s.Exposes {
				got = append(got, s.Kind)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v of %v", name, got, kinds(p))
		}
	}
}
