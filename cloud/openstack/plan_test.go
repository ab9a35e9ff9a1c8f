package openstack

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

var defaults = settings{FloatingNetwork: "public"}

// steps is a plan as people read it, without IDs.
func steps(p cloud.Plan) string {
	var all []string
	for _, s := range p {
		text := s.Kind
		if s.Destructive {
			text += "!"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func TestPlan(t *testing.T) {
	spec := want("web", 2, 80)
	tests := []struct {
		name string
		edit func(*cloud.LBSpec)
		hand func(*model) // what people did
		want string
	}{
		{"what is as it should be needs nothing", func(*cloud.LBSpec) {}, nil, ""},
		{"nodes come and go in one call", func(s *cloud.LBSpec) { s.Targets = targets(2, 3) }, nil, "set members"},
		{"without any node those that were there stay", func(s *cloud.LBSpec) { s.Targets = nil }, nil, ""},
		{"and get a new nodePort, too", func(s *cloud.LBSpec) {
			s.Targets, s.Listeners[0].NodePort, s.Listeners[0].Health.Port = nil, 31000, 31000
		}, nil, "set members"},
		{"a nodePort takes its probe with it", func(s *cloud.LBSpec) { s.Listeners[0].NodePort, s.Listeners[0].Health.Port = 31000, 31000 }, nil, "set members"},
		{"a new port's pool is ready before it is open", func(s *cloud.LBSpec) { s.Listeners = append(s.Listeners, tcp(443)) }, nil, "add pool, set members, add monitor, add listener"},
		{"another port is added before the old one goes", func(s *cloud.LBSpec) { s.Listeners = []cloud.Listener{tcp(443)} }, nil,
			"add pool, set members, add monitor, add listener, remove listener, remove pool"},
		{"TCP and UDP of one number are two", func(s *cloud.LBSpec) {
			udp := tcp(80)
			udp.Protocol = corev1.ProtocolUDP
			s.Listeners = append(s.Listeners, udp)
		}, nil, "add pool, set members, add monitor, add listener"},
		{"the PROXY protocol is another pool", func(s *cloud.LBSpec) { s.Listeners[0].Proxy = cloud.ProxyV1 }, nil, "add pool, set members, add monitor, set listener, remove pool"},
		{"a probe of another type is another one", func(s *cloud.LBSpec) { s.Listeners[0].Health.HTTP = true }, nil, "remove monitor, add monitor"},
		{"who may connect is one call", func(s *cloud.LBSpec) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }, nil, "set listener"},
		{"internal takes the address away, and gives it back if told to", func(s *cloud.LBSpec) { s.Internal = true }, nil, "unassign address, remove address!"},
		{"another subnet is another load balancer", func(s *cloud.LBSpec) { s.Subnet = "other" }, nil, "remove load balancer!"},
		{"another Service marks it first", func(s *cloud.LBSpec) { s.Owner.UID = "new" }, nil, "mark load balancer, mark address, tag address"},
		{"an address that was taken away comes back", func(*cloud.LBSpec) {}, func(m *model) { m.lb.Addresses[0].Port = "" }, "assign address"},
		{"an address that is gone is made anew", func(*cloud.LBSpec) {}, func(m *model) { m.lb.Addresses = nil }, "create address, tag address"},
		{"people's address is as good as ours", func(*cloud.LBSpec) {}, func(m *model) { m.lb.Addresses[0].Mark, m.lb.Addresses[0].Description = marks{}, "mine" }, ""},
		{"people's listener is left alone", func(*cloud.LBSpec) {}, func(m *model) {
			m.lb.Listeners = append(m.lb.Listeners, listener{ID: "theirs", Name: "theirs", Protocol: "HTTP", Port: 8080})
		}, ""},
		{"tags of people's are left alone", func(*cloud.LBSpec) {}, func(m *model) { m.lb.Tags = append(m.lb.Tags, "team=web") }, ""},
		{"what another controller has made is used under a new name", func(*cloud.LBSpec) {}, func(m *model) {
			from := makerOf(defaults, owner("web"))
			m.lb.Pools[0].Name, m.lb.Listeners[0].Name = "pool_0_"+from.balancer(), "listener_0_"+from.balancer()
		}, "rename pool, set listener"},
		{"but for what it has made for another Service", func(*cloud.LBSpec) {}, func(m *model) {
			m.lb.Pools = append(m.lb.Pools, pool{ID: "theirs", Name: "pool_0_kube_service_kubernetes_shop_other", Protocol: "TCP"})
			m.lb.Listeners = append(m.lb.Listeners, listener{ID: "theirs", Name: "listener_0_kube_service_kubernetes_shop_other", Protocol: "TCP", Port: 8080, Pool: "theirs"})
		}, ""},
		{"one that never came up is made anew", func(*cloud.LBSpec) {}, func(m *model) { m.lb.Provisioning, m.lb.Served = "ERROR", false }, "remove load balancer"},
		{"one that did is made anew if told to", func(*cloud.LBSpec) {}, func(m *model) { m.lb.Provisioning = "ERROR" }, "remove load balancer!"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newModel(spec)
			if tt.hand != nil {
				tt.hand(m)
			}
			edited := spec
			edited.Listeners = slices.Clone(spec.Listeners)
			tt.edit(&edited)
			p, err := plan(edited, m.found(), defaults)
			if err != nil || steps(p) != tt.want {
				t.Errorf("plan() = %s, %v\nwant     %s", steps(p), err, tt.want)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	spec := want("web", 1, 80)
	m := newModel(spec)
	m.lb.Listeners[0].Name = "theirs"
	if _, err := plan(spec, m.found(), defaults); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("a port that is taken: %v", err)
	}
	m = newModel(spec)
	m.lb.Provisioning = "PENDING_DELETE"
	if _, err := plan(spec, m.found(), defaults); !cloud.Is(err, cloud.Locked) {
		t.Errorf("what is being deleted: %v", err)
	}
	spec.Algorithm = "Random"
	if _, err := plan(spec, nil, defaults); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("an algorithm that there is not: %v", err)
	}
}

// From any load balancer a plan leads to any other, in order, and then there is
// nothing more to do.
func TestPlanConverges(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	m := newModel(random(rnd))
	for round := range 2000 {
		spec := random(rnd)
		p, err := plan(spec, m.found(), defaults)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(p, func(a, b cloud.Step) int { return cmp.Compare(a.Order, b.Order) }) {
			t.Fatalf("round %d: not in order: %v", round, p)
		}
		for _, s := range p {
			m.apply(s)
			m.check(t, spec)
		}
		if again, err := plan(spec, m.found(), defaults); err != nil || len(again) != 0 {
			t.Fatalf("round %d: after\n%v\nthere is\n%v %v", round, p, again, err)
		}
	}
}

func random(rnd *rand.Rand) cloud.LBSpec {
	spec := want("web", 1+rnd.IntN(4), 80)
	for _, p := range []int32{81, 82, 83} {
		l := tcp(p)
		l.NodePort += int32(rnd.IntN(2))
		l.Health.HTTP, l.Health.Port = rnd.IntN(2) == 0, 10256
		l.Protocol = []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}[rnd.IntN(3)]
		if l.Protocol == corev1.ProtocolTCP {
			l.Proxy = []cloud.ProxyProtocol{cloud.ProxyNone, cloud.ProxyV1, cloud.ProxyV2}[rnd.IntN(3)]
		}
		if rnd.IntN(2) == 0 {
			spec.Listeners = append(spec.Listeners, l)
		}
	}
	spec.Algorithm = []string{"", "LeastConnections", cloud.RoundRobin}[rnd.IntN(3)]
	spec.IdleTimeout = []time.Duration{0, time.Minute}[rnd.IntN(2)]
	spec.Internal, spec.Title = rnd.IntN(3) == 0, []string{"", "my web"}[rnd.IntN(2)]
	if rnd.IntN(3) == 0 {
		spec.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	}
	return spec
}

// A model is what a load balancer would be after steps.
type model struct {
	lb   balancer
	next int
}

func newModel(spec cloud.LBSpec) *model {
	m := &model{}
	p, err := plan(spec, nil, defaults)
	if err != nil {
		panic(err)
	}
	for _, s := range p {
		m.apply(s)
	}
	return m
}

func (m *model) found() *cloud.Found {
	b := m.lb
	f := b.found()
	return &f
}

func (m *model) id() string {
	m.next++
	return fmt.Sprint("id", m.next)
}

// check is what holds between any two steps: no listener of ours is without targets.
func (m *model) check(t *testing.T, spec cloud.LBSpec) {
	t.Helper()
	for _, l := range m.lb.Listeners {
		p := m.pool(l.Pool, "")
		if p == nil || len(p.Members) == 0 && len(spec.Targets) > 0 {
			t.Fatalf("listener %s has no targets", l.Name)
		}
	}
}

func (m *model) pool(id, name string) *pool {
	i := slices.IndexFunc(m.lb.Pools, func(p pool) bool { return p.ID == id || id == "" && p.Name == name })
	if i < 0 {
		return nil
	}
	return &m.lb.Pools[i]
}

func (m *model) apply(s cloud.Step) {
	switch do := s.Payload.(type) {
	case makeBalancer:
		m.lb = balancer{ID: "lb", Name: do.Name, Provisioning: "ACTIVE", Served: true, VIPPort: "port", Description: marks{Owner: do.Owner}.String(), Tags: marks{Owner: do.Owner}.tags(nil)}
		for _, f := range do.Fronts {
			p := f.to
			p.ID, p.Monitor, f.listener.ID = m.id(), m.id(), m.id()
			f.listener.Pool = p.ID
			m.lb.Pools, m.lb.Listeners = append(m.lb.Pools, p), append(m.lb.Listeners, f.listener)
		}
	case markBalancer:
		m.lb.Name, m.lb.Description, m.lb.Tags = do.Name, do.Description, do.Tags
	case makeAddress:
		m.lb.Addresses = append(m.lb.Addresses, floating{ID: m.id(), Port: "port", Mark: marks{Owner: do.Owner}})
	case tagAddress:
		m.lb.Addresses[0].Tags = do.Tags
	case assignAddress:
		m.lb.Addresses[0].Port = "port"
	case unassignAddress:
		m.lb.Addresses[0].Port = ""
	case dropAddress:
		m.lb.Addresses = nil
	default:
		m.applyInside(s.Payload)
	}
}

func (m *model) applyInside(payload any) {
	switch do := payload.(type) {
	case addPool:
		m.lb.Pools = append(m.lb.Pools, pool{ID: m.id(), Name: do.Name, Protocol: do.Protocol, Algorithm: do.Algorithm})
	case setMembers:
		m.pool(do.Pool, do.PoolName).Members = do.Members
	case renamePool:
		m.pool(do.Pool, "").Name = do.Name
	case setAlgorithm:
		m.pool(do.Pool, "").Algorithm = do.Algorithm
	case addMonitor:
		p := m.pool(do.Pool, do.PoolName)
		p.Monitor, p.Probe = m.id(), do.Probe
	case setMonitor:
		for i, p := range m.lb.Pools {
			if p.Monitor == do.ID {
				m.lb.Pools[i].Probe = do.Probe
			}
		}
	case dropMonitor:
		for i, p := range m.lb.Pools {
			if p.Monitor == do.ID {
				m.lb.Pools[i].Monitor, m.lb.Pools[i].Probe = "", probe{}
			}
		}
	case addListener:
		l := do.Listener
		l.ID, l.Pool = m.id(), m.pool(do.Listener.Pool, do.PoolName).ID
		m.lb.Listeners = append(m.lb.Listeners, l)
	case setListener:
		i := slices.IndexFunc(m.lb.Listeners, func(l listener) bool { return l.ID == do.ID })
		m.lb.Listeners[i] = do.Listener
		m.lb.Listeners[i].ID, m.lb.Listeners[i].Pool = do.ID, m.pool(do.Listener.Pool, do.PoolName).ID
	case dropListener:
		m.lb.Listeners = slices.DeleteFunc(m.lb.Listeners, func(l listener) bool { return l.ID == do.ID })
	case dropPool:
		m.lb.Pools = slices.DeleteFunc(m.lb.Pools, func(p pool) bool { return p.ID == do.ID })
	default:
		panic(fmt.Sprintf("%T", payload))
	}
}

// What lets traffic in that did not get in before is marked, whatever it is called.
func TestWhatExposes(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*cloud.LBSpec)
		hand func(*model)
		want string
	}{
		{"internal from now on", func(s *cloud.LBSpec) { s.Internal = true }, nil, ""},
		{"public again, with a new address", nil, func(m *model) { m.lb.Addresses = nil }, "create address, tag address"},
		{"public again, with its own", nil, func(m *model) { m.lb.Addresses[0].Port = "" }, "assign address"},
		{"public, with one that is named", func(s *cloud.LBSpec) { s.Address = "203.0.113.9" }, func(m *model) { m.lb.Addresses = nil }, "assign address"},
		{"another address", func(s *cloud.LBSpec) { s.Address = "203.0.113.9" }, nil, ""},
		{"a port more", func(s *cloud.LBSpec) { s.Listeners = append(s.Listeners, tcp(443)) }, nil, "add listener"},
		{"a node more", func(s *cloud.LBSpec) { s.Targets = targets(1, 3) }, nil, ""},
		{"another nodePort", func(s *cloud.LBSpec) { s.Listeners[0].NodePort = 31000 }, nil, ""},
		{"made anew", nil, func(m *model) { m.lb.Provisioning = "ERROR" }, "remove load balancer!"},
	} {
		m, spec := newModel(want("web", 2, 80)), want("web", 2, 80)
		if tt.hand != nil {
			tt.hand(m)
		}
		if tt.edit != nil {
			tt.edit(&spec)
		}
		p, err := plan(spec, m.found(), defaults)
		if got := steps(slices.DeleteFunc(slices.Clone(p), func(s cloud.Step) bool { return !s.Exposes })); err != nil || got != tt.want {
			t.Errorf("%s: %s of %s, %v; want %s", tt.name, got, steps(p), err, tt.want)
		}
	}
	left := newModel(want("web", 1, 80)).lb.Addresses[0]
	for name, found := range map[string]*cloud.Found{"nothing": nil, "an address": {Kind: cloud.Address, Raw: left}} {
		p, err := plan(want("web", 1, 80), found, defaults)
		if err != nil || slices.ContainsFunc(p, func(s cloud.Step) bool { return !s.Exposes && s.Order != cloud.Mark }) {
			t.Errorf("with %s: %v, %v", name, p, err)
		}
	}
}
