package cloud

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// PortProblem is why a port of a Service is not served.
type PortProblem struct {
	Protocol corev1.Protocol
	Port     int32
	Error    string // of status.loadBalancer.ingress[].ports[].error
	Text     string
}

// Wanted is what BuildSpec makes of a Service.
type Wanted struct {
	Spec     LBSpec // without Targets, which the cloud has to be asked for
	Asked    Asked
	Problems []PortProblem
	// Floating is whether it is to be served with addresses that are routed to a node, and
	// no load balancer.
	Floating bool
	// Open is whether traffic that loadBalancerSourceRanges forbids would get through.
	// Then nothing may be exposed that is not already.
	Open error
}

// BuildSpec returns the load balancer that a Service should have. An error is of
// class Terminal: nothing is to be asked of the cloud.
func BuildSpec(svc *corev1.Service, owner Owner, c Config, can Capabilities) (Wanted, error) {
	a, err := asked(svc.Annotations, c.Compat)
	if err != nil {
		return Wanted{}, err
	}
	w := Wanted{Asked: a, Spec: LBSpec{
		Owner: owner, Title: a.Name,
		Type:     cmp.Or(a.Type, c.Defaults.Type),
		Location: cmp.Or(a.Location, c.Defaults.Location),
		Network:  cmp.Or(a.Network, c.Defaults.Network),
		Subnet:   cmp.Or(a.Subnet, c.Defaults.Subnet),

		UsePrivateIP: says(a.UsePrivateIP, c.Defaults.UsePrivateIP), Internal: says(a.Internal, false),
		Algorithm:   cmp.Or(a.Algorithm, c.Defaults.Algorithm),
		IdleTimeout: a.IdleTimeout, Address: a.Address, AllowRecreate: a.AllowRecreate,
		NodeFamilies: svc.Spec.IPFamilies,
	}}
	if w.Floating = floating(a, c); w.Floating {
		if can, err = steered(a, can); err != nil {
			return Wanted{}, err
		}
	}
	if w.Spec.Families, err = families(svc, a, can); err != nil {
		return Wanted{}, err
	}
	if w.Spec.Listeners, w.Problems, err = listeners(svc, a, w.Spec.UsePrivateIP, c, can); err != nil {
		return Wanted{}, err
	}
	if err := clash(a, can); err != nil {
		return Wanted{}, err
	}
	w.Spec.SourceRanges, w.Open, err = sourceRanges(svc, w.Spec.Families, a, can)
	return w, err
}

func floating(a Asked, c Config) bool {
	return cmp.Or(a.ServeWith, c.Defaults.ServeWith) == WithFloatingIP
}

// steered is what can be had of a cloud's address: all that a node can do which steers.
func steered(a Asked, can Capabilities) (Capabilities, error) {
	switch {
	case !can.Addresses:
		return can, Refuse(ReasonInvalidAnnotation, "annotation %sserve-with: this cloud routes no addresses to nodes: use load-balancer", Prefix)
	case a.Proxy != ProxyNone:
		return can, Refuse(ReasonInvalidAnnotation, "annotation %sproxy-protocol: with a floating IP backends see the client itself: remove it", Prefix)
	case a.IPMode == corev1.LoadBalancerIPModeVIP:
		return can, Refuse(ReasonInvalidAnnotation, "annotation %sip-mode: VIP: what is sent to a floating IP Herald's speakers steer, and kube-proxy is to leave it alone: remove it", Prefix)
	case says(a.Internal, false):
		return can, Refuse(ReasonInvalidAnnotation, "annotation %sinternal: a floating IP is public: remove it, or serve with a load balancer", Prefix)
	case a.Hostname != "":
		return can, Refuse(ReasonInvalidAnnotation, "annotation %shostname: nodes steer by the address in the status: remove it", Prefix)
	case len(a.NodeSelector) > 0:
		return can, Refuse(ReasonInvalidAnnotation, "annotation %snode-selector: a floating IP goes to any node that can serve it: keep nodes out by label node.kubernetes.io/exclude-from-external-load-balancers", Prefix)
	case a.FrontFamilies != nil:
		return can, Refuse(ReasonInvalidAnnotation, "annotation %sfront-families: nodes steer to endpoints of the same family: set spec.ipFamilies", Prefix)
	case a.Adopt != "" || a.AdoptFrom != "":
		return can, Refuse(ReasonInvalidAnnotation, "annotations %sadopt and %sadopt-from are for load balancers: name a floating IP in %saddress", Prefix, Prefix, Prefix)
	}
	return Capabilities{
		Protocols: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}, Families: can.Families,
		SourceRanges: true, HTTPHealthCheck: true, Addresses: true, Delivery: ToVIP,
	}, nil
}

// asked reads annotations; those of other controllers as well if that is configured.
func asked(annotations map[string]string, compat bool) (Asked, error) {
	if compat {
		var err error
		if annotations, err = translate(annotations); err != nil {
			return Asked{}, err
		}
	}
	return ParseAnnotations(annotations)
}

func says(asked *bool, otherwise bool) bool {
	if asked != nil {
		return *asked
	}
	return otherwise
}

// families are those that clients use. What the front of a cloud speaks does not
// depend on what pods do, so annotations may ask for more than the Service has.
func families(svc *corev1.Service, a Asked, can Capabilities) ([]corev1.IPFamily, error) {
	all := a.FrontFamilies
	if all == nil {
		all = svc.Spec.IPFamilies
	}
	if len(all) == 0 {
		all = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	var out []corev1.IPFamily
	for _, f := range all {
		if slices.Contains(can.Families, f) {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return nil, Refuse(ReasonInvalidAnnotation, "this cloud has no %v addresses: say which to use by annotation %sfront-families", all, Prefix)
	}
	return out, nil
}

// listeners are the ports of a Service that the cloud can serve, by protocol and
// number, and what is wrong with the others.
func listeners(svc *corev1.Service, a Asked, private bool, c Config, can Capabilities) (all []Listener, bad []PortProblem, err error) {
	for _, p := range svc.Spec.Ports {
		protocol := cmp.Or(p.Protocol, corev1.ProtocolTCP)
		if !slices.Contains(can.Protocols, protocol) {
			bad = append(bad, PortProblem{protocol, p.Port, corev1.MixedProtocolNotSupported,
				fmt.Sprintf("port %d: this cloud's load balancers have no %s", p.Port, protocol)})
			continue
		}
		if can.Delivery == ToNodePort && p.NodePort == 0 {
			return nil, nil, Refuse(ReasonNodePort, "port %d has no nodePort, which this cloud's load balancers send to: set spec.allocateLoadBalancerNodePorts to true", p.Port)
		}
		l := Listener{Protocol: protocol, Port: p.Port, NodePort: p.NodePort, Proxy: a.Proxy}
		if can.Delivery == ToVIP {
			l.NodePort = p.Port
		}
		l.Health = health(svc, a, l, private, c, can)
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, nil, Refuse(ReasonProtocol, "no port can be served: this cloud's load balancers have %v only", can.Protocols)
	}
	slices.SortFunc(all, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
	})
	return all, bad, nil
}

// health is how targets are asked whether they serve a port. Nodes without
// endpoints of a Service with externalTrafficPolicy Local say so on its
// healthCheckNodePort (KEP-1669); the PROXY protocol is never used there. A cloud that
// cannot read what is said there asks the nodePort: those without endpoints drop it.
func health(svc *corev1.Service, a Asked, l Listener, private bool, c Config, can Capabilities) HealthCheck {
	h := HealthCheck{
		Port: l.NodePort, Interval: cmp.Or(a.Health.Interval, c.HealthCheck.Interval.Duration),
		Timeout: cmp.Or(a.Health.Timeout, c.HealthCheck.Timeout.Duration), Retries: cmp.Or(a.Health.Retries, c.HealthCheck.Retries),
	}
	h.Timeout = min(h.Timeout, h.Interval)
	mode := c.HealthCheck.Mode
	if mode == HealthAuto {
		mode = HealthNodePort
		if private {
			mode = HealthKubeProxy
		}
	}
	local := svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal && svc.Spec.HealthCheckNodePort != 0
	switch {
	case local && can.HTTPHealthCheck:
		h.HTTP, h.Port, h.Path = true, svc.Spec.HealthCheckNodePort, "/healthz"
		return h
	case local:
		return h
	case mode == HealthKubeProxy && can.HTTPHealthCheck:
		h.HTTP, h.Port, h.Path = true, c.HealthCheck.Port, c.HealthCheck.Path
	}
	if a.Health.Protocol != "" {
		h.HTTP, h.Port = a.Health.Protocol == "http", l.NodePort
	}
	h.Port = cmp.Or(a.Health.Port, h.Port)
	if h.Path = ""; h.HTTP {
		h.Path = cmp.Or(a.Health.Path, c.HealthCheck.Path)
	}
	return h
}

// clash is about annotations that cannot be had together, or not here.
func clash(a Asked, can Capabilities) error {
	switch {
	case a.Proxy != ProxyNone && !can.ProxyProtocol:
		return Refuse(ReasonInvalidAnnotation, "annotation %sproxy-protocol: this cloud's load balancers do not have it", Prefix)
	case a.Proxy != ProxyNone && a.IPMode == corev1.LoadBalancerIPModeVIP:
		return Refuse(ReasonInvalidAnnotation, "annotations %sip-mode: VIP and %sproxy-protocol: pods would be sent packets without the PROXY header; remove one of them", Prefix, Prefix)
	case a.Health.Protocol == "http" && !can.HTTPHealthCheck:
		return Refuse(ReasonInvalidAnnotation, "annotation %shealth-check-protocol: this cloud has no HTTP health checks", Prefix)
	case a.Adopt != "" && a.AdoptFrom != "":
		return Refuse(ReasonInvalidAnnotation, "annotations %sadopt and %sadopt-from: use one of them", Prefix, Prefix)
	}
	return nil
}

// sourceRanges are from where traffic may come. Where the cloud does not enforce
// them, open says so.
func sourceRanges(svc *corev1.Service, families []corev1.IPFamily, a Asked, can Capabilities) (ranges []netip.Prefix, open, err error) {
	all := svc.Spec.LoadBalancerSourceRanges
	if text := svc.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]; len(all) == 0 && strings.TrimSpace(text) != "" {
		all = strings.Split(text, ",")
	}
	for _, r := range all {
		p, err := netip.ParsePrefix(strings.TrimSpace(r))
		if err != nil {
			return nil, nil, Refuse(ReasonSourceRanges, "loadBalancerSourceRanges: %q is no range: use one as 192.0.2.0/24", r)
		}
		ranges = append(ranges, p.Masked())
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	ranges = slices.Compact(ranges)
	if len(ranges) == 0 || can.SourceRanges || everybody(ranges, families) || a.AllowUnenforced {
		return ranges, nil, nil
	}
	return ranges, Refuse(ReasonSourceRanges, "this cloud's load balancers cannot enforce loadBalancerSourceRanges: remove them, or set annotation %sallow-unenforced-source-ranges: \"true\" to be open to all", Prefix), nil
}

// everybody is whether traffic may come from anywhere: in each family that is published, and
// in each of which a part was named.
func everybody(ranges []netip.Prefix, families []corev1.IPFamily) bool {
	all, some := map[corev1.IPFamily]bool{}, slices.Clone(families)
	for _, p := range ranges {
		f := familyOf(p.Addr())
		some, all[f] = append(some, f), all[f] || p.Bits() == 0
	}
	return !slices.ContainsFunc(some, func(f corev1.IPFamily) bool { return !all[f] })
}

func isDNSName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }
