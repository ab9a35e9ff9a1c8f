package openstack

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// ovn is the provider of Octavia's that forwards packets and knows one algorithm.
const ovn = "ovn"

// A front is a listener as it should be, with the pool that it should send to.
type front struct {
	listener
	to pool
}

// fronts returns what a Service wants of a load balancer, by protocol and port.
func fronts(want cloud.LBSpec, s settings) ([]front, error) {
	algorithm, err := algorithmOf(want, s)
	if err != nil {
		return nil, err
	}
	cidrs := cidrsOf(want)
	res := make([]front, 0, len(want.Listeners))
	for _, l := range want.Listeners {
		protocol := string(l.Protocol)
		name := prefix + strings.ToLower(protocol) + "-" + fmt.Sprint(l.Port)
		f := front{
			listener: listener{Name: name, Protocol: protocol, Port: l.Port, CIDRs: cidrs},
			to:       pool{Name: name, Protocol: protocol, Algorithm: algorithm, Probe: probeOf(l), Members: membersOf(l, want.Targets)},
		}
		if l.Protocol == corev1.ProtocolTCP {
			f.Idle = int(want.IdleTimeout.Milliseconds())
			// A pool's protocol is for good: one that is to have another is another pool.
			switch l.Proxy {
			case cloud.ProxyV1:
				f.to.Protocol, f.to.Name = "PROXY", name+"-proxy"
			case cloud.ProxyV2:
				f.to.Protocol, f.to.Name = "PROXYV2", name+"-proxyv2"
			}
		}
		res = append(res, f)
	}
	slices.SortFunc(res, func(a, b front) int { return strings.Compare(a.Name, b.Name) })
	return res, nil
}

// algorithmOf is always one that is named: Octavia has no default for it.
func algorithmOf(want cloud.LBSpec, s settings) (string, error) {
	if s.Provider == ovn {
		return "SOURCE_IP_PORT", nil
	}
	switch strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(want.Algorithm)) {
	case "", "roundrobin":
		return "ROUND_ROBIN", nil
	case "leastconnections":
		return "LEAST_CONNECTIONS", nil
	}
	return "", cloud.Refuse("", "algorithm %q: use round-robin or least-connections", want.Algorithm)
}

// nobody4 and nobody6 let nobody in: of the addresses that were to be let in none is
// of the load balancer's family, and no list at all would let in everybody.
const (
	nobody4 = "0.0.0.0/32"
	nobody6 = "::/128"
)

// cidrsOf returns those that may connect, of the load balancer's family, for Octavia
// refuses others.
func cidrsOf(want cloud.LBSpec) string {
	if len(want.SourceRanges) == 0 {
		return ""
	}
	var res []string
	for _, p := range want.SourceRanges {
		if p.Addr().Is4() == (family(want) == corev1.IPv4Protocol) {
			res = append(res, p.Masked().String())
		}
	}
	slices.Sort(res)
	switch {
	case len(res) > 0:
		return strings.Join(slices.Compact(res), ",")
	case family(want) == corev1.IPv4Protocol:
		return nobody4
	}
	return nobody6
}

// family is the one that a load balancer has: it has one address, and a floating IP
// is IPv4. Of two families the first is served.
func family(want cloud.LBSpec) corev1.IPFamily {
	if len(want.Families) > 0 {
		return want.Families[0]
	}
	return corev1.IPv4Protocol
}

// membersOf returns a Service's port on each node. The port that is asked how a node
// is is always said: a member that is changed keeps what is not.
func membersOf(l cloud.Listener, targets []cloud.Target) []member {
	var res []member
	for _, t := range targets {
		m := member{Name: t.Node, Addr: t.Addr, Port: l.NodePort, MonitorPort: l.Health.Port}
		if m.MonitorPort == 0 {
			m.MonitorPort = l.NodePort
		}
		res = append(res, m)
	}
	sortMembers(res)
	return slices.CompactFunc(res, func(a, b member) bool { return a.at() == b.at() })
}

// probeOf returns how members are asked. That of a port that is no TCP port is one of
// its own protocol, unless another port is asked.
func probeOf(l cloud.Listener) probe {
	h := l.Health
	p := probe{Type: "TCP", Delay: seconds(h.Interval, 15), Timeout: seconds(h.Timeout, 10), Retries: min(max(h.Retries, 1), 10)}
	p.Timeout = min(p.Timeout, p.Delay)
	switch {
	case h.HTTP:
		p.Type, p.Path = "HTTP", h.Path
		if p.Path == "" {
			p.Path = "/"
		}
	case h.Port != 0 && h.Port != l.NodePort:
	case l.Protocol == corev1.ProtocolUDP:
		p.Type = "UDP-CONNECT"
	case l.Protocol == corev1.ProtocolSCTP:
		p.Type = "SCTP"
	}
	return p
}

// seconds rounds up, for Octavia counts in whole ones.
func seconds(d time.Duration, other int) int {
	if d <= 0 {
		return other
	}
	return int((d + time.Second - 1) / time.Second)
}

// withDefaults fills in what a Service does not say.
func withDefaults(want cloud.LBSpec, s settings) cloud.LBSpec {
	for _, f := range []struct {
		to   *string
		from string
	}{{&want.Type, s.Type}, {&want.Location, s.Location}, {&want.Network, s.Network}, {&want.Subnet, s.Subnet}, {&want.Algorithm, s.Algorithm}} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	return want
}

// public is whether there should be a floating IP before the load balancer.
func public(want cloud.LBSpec, s settings) bool {
	return !want.Internal && family(want) == corev1.IPv4Protocol && (s.FloatingNetwork != "" || want.Address != "")
}

// fixed is the address within its subnet that a load balancer is to have: that of a
// Service that has no floating IP.
func fixed(want cloud.LBSpec, s settings) string {
	if addr, err := netip.ParseAddr(want.Address); err == nil && !public(want, s) {
		return addr.String()
	}
	return ""
}
