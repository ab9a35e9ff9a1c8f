package cloud

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// BuildStatus returns what a Service says of a load balancer: an entry for each
// address, in the order of its families; nil as long as there is none to use.
//
// A load balancer that sends to nodePorts is one that traffic from inside the
// cluster has to go through as well: mode Proxy. With VIP a node would take the
// address for its own, and the load balancer's health checks, which come from it,
// would never be answered.
func BuildStatus(svc *corev1.Service, w Wanted, f Found, d Delivery) *corev1.LoadBalancerStatus {
	ports := portStatus(svc, w.Problems)
	if w.Asked.Hostname != "" && len(f.Addrs) > 0 {
		return &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{Hostname: w.Asked.Hostname, Ports: ports}}}
	}
	mode := corev1.LoadBalancerIPModeProxy
	if d == ToVIP {
		mode = corev1.LoadBalancerIPModeVIP
	}
	mode = cmp.Or(w.Asked.IPMode, mode)
	status := &corev1.LoadBalancerStatus{}
	for _, family := range w.Spec.Families {
		for _, a := range f.Addrs {
			if familyOf(a) == family {
				status.Ingress = append(status.Ingress, corev1.LoadBalancerIngress{IP: a.Unmap().String(), IPMode: &mode, Ports: ports})
			}
		}
	}
	if len(status.Ingress) == 0 {
		return nil
	}
	return status
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Unmap().Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// portStatus lists all ports if there is anything to say of one.
func portStatus(svc *corev1.Service, problems []PortProblem) (all []corev1.PortStatus) {
	if len(problems) == 0 {
		return nil
	}
	for _, p := range svc.Spec.Ports {
		st := corev1.PortStatus{Port: p.Port, Protocol: cmp.Or(p.Protocol, corev1.ProtocolTCP)}
		i := slices.IndexFunc(problems, func(b PortProblem) bool { return b.Port == st.Port && b.Protocol == st.Protocol })
		if i >= 0 {
			st.Error = &problems[i].Error
		}
		all = append(all, st)
	}
	return all
}
