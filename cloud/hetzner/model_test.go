package hetzner

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// shop is what there is to choose from in tests of planning.
var shop = &catalogue{
	currency: "EUR",
	types: []lbType{
		{id: 1, name: "lb11", services: 5, targets: 25, prices: map[string]int64{"fsn1": 5390, "nbg1": 5390}},
		{id: 2, name: "lb21", services: 15, targets: 75, prices: map[string]int64{"fsn1": 16400, "nbg1": 16400}},
		{id: 3, name: "lb31", services: 30, targets: 150, prices: map[string]int64{"fsn1": 32900, "nbg1": 32900}},
	},
	networks: []network{{10, "inside"}, {11, "other"}},
}

var defaults = cloud.Defaults{Location: "fsn1"}

var owner = cloud.Owner{Cluster: "c1", UID: "11111111-2222-3333-4444-555555555555", Namespace: "shop", Name: "web"}

// spec is what most tests ask for: ports and servers by their numbers.
func spec(ports []int32, servers ...int) cloud.LBSpec {
	s := cloud.LBSpec{Owner: owner}
	for _, p := range ports {
		s.Listeners = append(s.Listeners, cloud.Listener{Protocol: corev1.ProtocolTCP, Port: p, NodePort: 30000 + p%1000})
	}
	for _, id := range servers {
		s.Targets = append(s.Targets, node(id))
	}
	return s
}

func node(id int) cloud.Target {
	return cloud.Target{Node: fmt.Sprint("n", id), Instance: cloud.Instance{ID: strconv.Itoa(id)}, Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(id)})}
}

// with returns a copy of s that was edited.
func with(s cloud.LBSpec, edit func(*cloud.LBSpec)) cloud.LBSpec {
	s.Listeners, s.Targets = slices.Clone(s.Listeners), slices.Clone(s.Targets)
	edit(&s)
	return s
}

// A model is a load balancer, or none, that does as the API would what steps ask of
// it, and refuses what it would refuse.
type model struct{ lb *hcloud.LoadBalancer }

func (m *model) found() *cloud.Found {
	if m.lb == nil {
		return nil
	}
	f := foundOf(m.lb, shop)
	return &f
}

// foreign makes a load balancer by hand: with a service, and a target.
func foreign() *model {
	m := &model{}
	if err := m.apply(createLB{wanted{name: "hand-made", typ: "lb11", location: "fsn1", targets: []target{{server: 900}},
		services: []service{{protocol: "tcp", port: 22, nodePort: 22, check: check{protocol: "tcp", port: 22, retries: 3, interval: 15 * time.Second, timeout: 10 * time.Second}}}}}); err != nil {
		panic(err)
	}
	m.lb.Labels["team"] = "web"
	return m
}

func (m *model) apply(payload any) error {
	if c, ok := payload.(createLB); ok {
		if m.lb != nil {
			return errors.New("its name is taken")
		}
		m.create(c.wanted)
		return m.check()
	}
	if m.lb == nil {
		return errors.New("there is none")
	}
	switch c := payload.(type) {
	case deleteLB:
		m.lb = nil
		return nil
	case mark:
		labels, err := c.over(m.lb)
		if labels == nil && err == nil {
			return errors.New("a mark that changes nothing")
		}
		m.lb.Labels = labels
		return err
	case call:
		if c.done(m.lb) {
			return errors.New("it is so already")
		}
		if err := m.call(c); err != nil {
			return err
		}
		if !c.done(m.lb) {
			return errors.New("it is not done")
		}
	}
	return m.check()
}

func (m *model) create(w wanted) {
	t, _ := shop.byName(w.typ)
	m.lb = &hcloud.LoadBalancer{ID: 4711, Name: w.name, Labels: w.marks.labels(), Location: &hcloud.Location{Name: w.location},
		LoadBalancerType: &hcloud.LoadBalancerType{Name: t.name}, Algorithm: hcloud.LoadBalancerAlgorithm{Type: "round_robin"}}
	m.lb.PublicNet = hcloud.LoadBalancerPublicNet{Enabled: !w.internal,
		IPv4: hcloud.LoadBalancerPublicNetIPv4{ID: 77, IP: net.ParseIP("198.51.100.1")}, IPv6: hcloud.LoadBalancerPublicNetIPv6{ID: 78, IP: net.ParseIP("2001:db8::1")}}
	if p, ok := parseAddress(w.address); ok && p.Addr().Is6() {
		m.lb.PublicNet.IPv6.IP = p.Addr().Next().AsSlice()
	}
	if w.algorithm != "" {
		m.lb.Algorithm.Type = w.algorithm
	}
	if w.network.id != 0 {
		m.attach(attach{network: w.network.id})
	}
	for _, s := range w.services {
		m.lb.Services = append(m.lb.Services, s.shown())
	}
	for _, t := range w.targets {
		m.lb.Targets = append(m.lb.Targets, t.shown())
	}
}

func (m *model) attach(c attach) {
	ip := net.IPv4(10, 0, byte(c.network), 7)
	if c.subnet.IsValid() {
		ip = c.subnet.Addr().Next().AsSlice()
	}
	m.lb.PrivateNet = append(m.lb.PrivateNet, hcloud.LoadBalancerPrivateNet{Network: &hcloud.Network{ID: c.network}, IP: ip})
}

func (m *model) call(c call) error {
	lb := m.lb
	port := func(p int) int {
		return slices.IndexFunc(lb.Services, func(s hcloud.LoadBalancerService) bool { return s.ListenPort == p })
	}
	to := func(t target) int {
		return slices.IndexFunc(lb.Targets, func(of hcloud.LoadBalancerTarget) bool {
			now := targetsNow(&hcloud.LoadBalancer{Targets: []hcloud.LoadBalancerTarget{of}})
			_, is := now[t.key()]
			return is
		})
	}
	switch c := c.(type) {
	case addService:
		if port(c.port) >= 0 {
			return errors.New("source_port_already_used")
		}
		lb.Services = append(lb.Services, c.shown())
	case updateService:
		lb.Services[port(c.port)] = c.shown()
	case deleteService:
		lb.Services = slices.Delete(lb.Services, port(c.port), port(c.port)+1)
	case addTarget:
		if to(c.target) >= 0 {
			return errors.New("target_already_defined")
		}
		lb.Targets = append(lb.Targets, c.shown())
	case removeTarget:
		lb.Targets = slices.Delete(lb.Targets, to(c.target), to(c.target)+1)
	case changeType:
		lb.LoadBalancerType = &hcloud.LoadBalancerType{Name: c.name}
	case changeAlgorithm:
		lb.Algorithm.Type = c.to
	case attach:
		if len(lb.PrivateNet) > 0 {
			return errors.New("load_balancer_already_attached")
		}
		m.attach(c)
	case detach:
		lb.PrivateNet = nil
	case publicInterface:
		lb.PublicNet.Enabled = c.enabled
	}
	return nil
}

// check is what holds of every load balancer at any time.
func (m *model) check() error {
	t, _ := shop.byName(m.lb.LoadBalancerType.Name)
	if len(m.lb.Services) > t.services || len(m.lb.Targets) > t.targets {
		return fmt.Errorf("%d services and %d targets on %s", len(m.lb.Services), len(m.lb.Targets), t.name)
	}
	for _, of := range m.lb.Targets {
		switch {
		case of.UsePrivateIP && len(m.lb.PrivateNet) == 0:
			return errors.New("load_balancer_not_attached_to_network")
		case !of.UsePrivateIP && of.Type == hcloud.LoadBalancerTargetTypeServer && !m.lb.PublicNet.Enabled:
			return errors.New("targets_without_use_private_ip")
		}
	}
	return nil
}

// shown is a service as the API shows it.
func (s service) shown() hcloud.LoadBalancerService {
	of := hcloud.LoadBalancerService{Protocol: hcloud.LoadBalancerServiceProtocol(s.protocol), ListenPort: s.port, DestinationPort: s.nodePort, Proxyprotocol: s.proxy,
		HealthCheck: hcloud.LoadBalancerServiceHealthCheck{Protocol: hcloud.LoadBalancerServiceProtocol(s.check.protocol), Port: s.check.port,
			Interval: s.check.interval, Timeout: s.check.timeout, Retries: s.check.retries}}
	if s.check.protocol == "http" {
		of.HealthCheck.HTTP = &hcloud.LoadBalancerServiceHealthCheckHTTP{Path: s.check.path, StatusCodes: []string{s.check.codes}}
	}
	return of
}

func (t target) shown() hcloud.LoadBalancerTarget {
	if t.server == 0 {
		return hcloud.LoadBalancerTarget{Type: hcloud.LoadBalancerTargetTypeIP, IP: &hcloud.LoadBalancerTargetIP{IP: t.ip.String()}}
	}
	return hcloud.LoadBalancerTarget{Type: hcloud.LoadBalancerTargetTypeServer, UsePrivateIP: t.private,
		Server: &hcloud.LoadBalancerTargetServer{Server: &hcloud.Server{ID: t.server}}}
}

// settle plans and applies until there is nothing left, and says what was done. As
// an engine does it leaves out what loses something and is not allowed.
func (m *model) settle(s cloud.LBSpec, each func(cloud.Step)) (did []string, err error) {
	for range 3 {
		steps, err := plan(s, m.found(), defaults, shop)
		if err != nil {
			return did, err
		}
		if !s.AllowRecreate {
			steps = slices.DeleteFunc(steps, func(s cloud.Step) bool { return s.Destructive })
		}
		if len(steps) == 0 {
			return did, nil
		}
		for _, step := range steps {
			if err := m.apply(step.Payload); err != nil {
				return did, fmt.Errorf("%s after %q: %w", step, did, err)
			}
			did = append(did, step.Kind+" "+step.Detail)
			each(step)
		}
	}
	return did, fmt.Errorf("it never ends: %q", did)
}
