package kube

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// labelExclude keeps a node out of every load balancer; see
// https://kubernetes.io/docs/reference/labels-annotations-taints/#node-kubernetes-io-exclude-from-external-load-balancers
const labelExclude = corev1.LabelNodeExcludeBalancers

// ConditionRouted, on a Service, says to which node the cloud routes its addresses. It is
// the cloud plugin's, and speakers know by it that the addresses are for them to steer.
const ConditionRouted = prefix + "Routed"

// Classes says which Services Herald serves.
type Classes struct {
	Names   []string // of spec.loadBalancerClass
	Default bool     // Services without a class, too
	MetalLB bool     // read MetalLB's annotations as well as Herald's
}

// serves reports whether svc asks for an address, and asks Herald.
func (c Classes) serves(svc *corev1.Service) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.DeletionTimestamp != nil {
		return false
	}
	if svc.Spec.LoadBalancerClass == nil {
		return c.Default
	}
	return slices.Contains(c.Names, *svc.Spec.LoadBalancerClass)
}

// service converts svc; Pools, Endpoints and Proxied are added by others.
func service(svc *corev1.Service, c Classes) snapshot.Service {
	s := snapshot.Service{
		Key: svc.Namespace + "/" + svc.Name, Namespace: svc.Namespace, Name: svc.Name,
		UID: string(svc.UID), Version: svc.ResourceVersion, Created: svc.CreationTimestamp.Time,
		Served: c.serves(svc),
	}
	for _, f := range svc.Spec.IPFamilies {
		s.Families = append(s.Families, family(f))
	}
	s.Require = svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == corev1.IPFamilyPolicyRequireDualStack
	annotate(&s, svc, c.MetalLB)
	traffic(&s, svc)
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(in.IP); err == nil {
			s.Ingress = append(s.Ingress, snapshot.Ingress{Addr: a.Unmap(), Mode: ipMode(in)})
		}
		s.Named = s.Named || in.Hostname != ""
	}
	for _, c := range svc.Status.Conditions {
		switch {
		case c.Type == ConditionRouted:
			s.Routed = svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil && !s.Served
		case strings.HasPrefix(c.Type, prefix):
			s.Conditions = append(s.Conditions, condition(c))
			s.Ours = s.Ours || c.Type == markCondition && c.Status == "True"
		}
	}
	slices.SortFunc(s.Conditions, func(a, b snapshot.Condition) int { return cmp.Compare(a.Type, b.Type) })
	return s
}

func family(f corev1.IPFamily) ipam.Family {
	if f == corev1.IPv6Protocol {
		return ipam.IPv6
	}
	return ipam.IPv4
}

func ipMode(in corev1.LoadBalancerIngress) string {
	if in.IPMode == nil {
		return ""
	}
	return string(*in.IPMode)
}

func proto(p corev1.Protocol) snapshot.Proto {
	switch p {
	case corev1.ProtocolUDP:
		return snapshot.UDP
	case corev1.ProtocolSCTP:
		return snapshot.SCTP
	}
	return snapshot.TCP
}

// endpoint converts the conditions of e: unknown (nil) readiness counts as
// ready, as discovery/v1 says.
func endpoint(e discoveryv1.Endpoint) snapshot.Endpoint {
	is := func(b *bool, unknown bool) bool {
		if b == nil {
			return unknown
		}
		return *b
	}
	ep := snapshot.Endpoint{Ready: is(e.Conditions.Ready, true)}
	ep.Draining = !ep.Ready && is(e.Conditions.Serving, false) && is(e.Conditions.Terminating, false)
	if e.NodeName != nil {
		ep.Node = interned(*e.NodeName)
	}
	return ep
}

func targets(ports []discoveryv1.EndpointPort) []snapshot.Target {
	var out []snapshot.Target
	for _, p := range ports {
		if p.Port == nil {
			continue // "all ports": of no use to a Service
		}
		t := snapshot.Target{Proto: snapshot.TCP, Number: uint16(*p.Port)}
		if p.Name != nil {
			t.Name = interned(*p.Name)
		}
		if p.Protocol != nil {
			t.Proto = proto(*p.Protocol)
		}
		out = append(out, t)
	}
	return merge(nil, out)
}

// merge returns the union of two lists of targets, by Proto and Name.
func merge(a, b []snapshot.Target) []snapshot.Target {
	out := append(slices.Clone(a), b...)
	slices.SortFunc(out, func(x, y snapshot.Target) int {
		return cmp.Or(cmp.Compare(x.Proto, y.Proto), cmp.Compare(x.Name, y.Name), cmp.Compare(x.Number, y.Number))
	})
	return slices.Compact(out)
}

// node converts n; the pools it announces are added by others.
func node(n *corev1.Node) snapshot.Node {
	out := snapshot.Node{Name: n.Name, Excluded: excluded(n)}
	_, out.Draining = n.Annotations[annotationDrain]
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil {
			out.Addrs = append(out.Addrs, ip.Unmap())
			if a.Type == corev1.NodeInternalIP {
				out.Internal = append(out.Internal, ip.Unmap())
			}
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	slices.SortFunc(out.Addrs, netip.Addr.Compare)
	out.Addrs = slices.Compact(out.Addrs)
	for _, c := range n.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(c); err == nil {
			out.PodCIDRs = append(out.PodCIDRs, p.Masked())
		}
	}
	slices.SortFunc(out.PodCIDRs, netip.Prefix.Compare)
	return out
}

// excluded returns why n may not announce. A cordon, or a node that is not
// ready, is no reason: the speaker there knows better whether it can serve.
func excluded(n *corev1.Node) string {
	if n.DeletionTimestamp != nil {
		return "the Node is being deleted"
	}
	if _, ok := n.Labels[labelExclude]; ok {
		return "label " + labelExclude
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue {
			return "condition NetworkUnavailable: " + c.Message
		}
	}
	return ""
}
