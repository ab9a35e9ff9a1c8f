package cloudtest

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// ports are those that Services of a soak may have.
var ports = []corev1.ServicePort{
	{Protocol: corev1.ProtocolTCP, Port: 80}, {Protocol: corev1.ProtocolTCP, Port: 443}, {Protocol: corev1.ProtocolTCP, Port: 8080},
	{Protocol: corev1.ProtocolTCP, Port: 8443}, {Protocol: corev1.ProtocolUDP, Port: 443},
}

// randomSpec edits a Service in a few ways, of which some ask for what cannot be had.
func (s *soak) randomSpec(name string) {
	svc := s.edit(name, func(svc *corev1.Service) {
		for range 1 + s.rnd.IntN(3) {
			s.editSpec(svc)
		}
	})
	s.tell("%s (%s) has %v, %v, ranges %v, families %v, %v", name, svc.UID, portsOf(svc), svc.Spec.ExternalTrafficPolicy, svc.Spec.LoadBalancerSourceRanges, svc.Spec.IPFamilies, svc.Annotations)
}

func portsOf(svc *corev1.Service) (all []string) {
	for _, p := range svc.Spec.Ports {
		all = append(all, fmt.Sprintf("%s/%d:%d", p.Protocol, p.Port, p.NodePort))
	}
	return all
}

func (s *soak) editSpec(svc *corev1.Service) {
	spec := &svc.Spec
	switch s.rnd.IntN(6) {
	case 0, 1:
		spec.Ports = nil
		for _, i := range s.rnd.Perm(len(ports))[:1+s.rnd.IntN(4)] {
			p := ports[i]
			p.Name, p.NodePort = fmt.Sprint("p", i), int32(30000+10*i+s.rnd.IntN(3))
			if s.rnd.IntN(30) == 0 {
				p.NodePort = 0
			}
			spec.Ports = append(spec.Ports, p)
		}
	case 2:
		spec.ExternalTrafficPolicy, spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyCluster, 0
		if s.rnd.IntN(2) == 0 {
			spec.ExternalTrafficPolicy, spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, int32(32000+s.rnd.IntN(2))
		}
	case 3:
		both := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		first := s.rnd.IntN(2)
		spec.IPFamilies = both[first : first+1+s.rnd.IntN(2-first)]
	case 4:
		spec.LoadBalancerSourceRanges = nil
		if s.rnd.IntN(4) == 0 {
			spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24"}
		}
	case 5:
		s.annotate(svc)
	}
}

// annotate sets an annotation, or takes one away.
func (s *soak) annotate(svc *corev1.Service) {
	menu := []struct {
		key    string
		values []string
	}{
		{"type", s.Types}, {"location", s.Locations}, {"allow-recreate", []string{"true"}},
		{"algorithm", []string{cloud.RoundRobin, cloud.LeastConnections}}, {"proxy-protocol", []string{"v2"}}, {"ip-mode", []string{"VIP"}},
		{"health-check-interval", []string{"20s", "30s"}}, {"health-check-protocol", []string{"tcp", "http"}},
		{"node-selector", []string{"pool=front", "pool=back", "pool=none"}}, {"front-families", []string{"IPv6", "IPv4,IPv6"}},
		{"hostname", []string{"web.example.com"}}, {"name", []string{"shop front"}},
		{"deletion-policy", []string{"Release", "Retain", "Delete", "Keep"}}, {"adopt", s.hand}, {"dry-run", []string{"true"}}, {"nonsense", []string{"1"}},
	}
	m := menu[s.rnd.IntN(len(menu))]
	delete(svc.Annotations, cloud.Prefix+m.key)
	if len(m.values) == 0 || s.rnd.IntN(3) == 0 {
		return
	}
	value := m.values[s.rnd.IntN(len(m.values))]
	svc.Annotations[cloud.Prefix+m.key] = value
	if m.key == "adopt" { // it may be touched from now on
		for _, f := range s.All() {
			if f.Name == value {
				delete(s.theirs, f.ID)
			}
		}
	}
}

// mend has people take back what cannot be had.
func (s *soak) mend(name string) {
	can, err := s.Engine.Driver.Capabilities(s.t.Context())
	if err != nil {
		s.t.Fatalf("Capabilities() = %v", err)
	}
	s.edit(name, func(svc *corev1.Service) {
		a := func(key string) string { return svc.Annotations[cloud.Prefix+key] }
		drop := func(is bool, keys ...string) {
			for _, key := range keys {
				if is {
					delete(svc.Annotations, cloud.Prefix+key)
				}
			}
		}
		drop(true, "dry-run", "nonsense")
		drop(a("deletion-policy") == "Keep" || a("deletion-policy") == "Retain" && !can.Retains, "deletion-policy")
		drop(a("proxy-protocol") != "" && (a("ip-mode") != "" || !can.ProxyProtocol), "ip-mode", "proxy-protocol")
		drop(!can.HTTPHealthCheck, "health-check-protocol")
		drop(s.chosen(svc) == nil, "node-selector")
		drop(!s.mayAdopt(svc), "adopt")
		if name := ownerOf(svc).ResourceName(); len(s.mine(svc)) == 0 && s.free(name) { // it was released, and has its name still
			svc.Annotations[cloud.Prefix+"adopt"] = name
		}
		drop(s.fixed(svc), "location")
		if a("location") != "" || a("type") != "" {
			svc.Annotations[cloud.Prefix+"allow-recreate"] = "true"
		}
		svc.Spec.LoadBalancerSourceRanges = nil
		if slices.Equal(svc.Spec.IPFamilies, []corev1.IPFamily{corev1.IPv6Protocol}) { // nodes of some clouds are reached by IPv4 only
			svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPv4Protocol)
		}
		for i := range svc.Spec.Ports {
			if svc.Spec.Ports[i].NodePort == 0 {
				svc.Spec.Ports[i].NodePort = int32(31000 + i)
			}
		}
		if !slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return p.Protocol == corev1.ProtocolTCP }) {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "more", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 31080})
		}
	})
}

// mayAdopt is whether a Service has a load balancer already, or the one that it is to
// adopt is nobody's, and no other Service's that comes first.
func (s *soak) mayAdopt(svc *corev1.Service) bool {
	if len(s.mine(svc)) > 0 {
		return true
	}
	ref := svc.Annotations[cloud.Prefix+"adopt"]
	for _, other := range s.services {
		if other.Name != svc.Name && other.Annotations[cloud.Prefix+"adopt"] == ref {
			return false
		}
	}
	return s.free(ref)
}

// free is whether a load balancer of a name is nobody's.
func (s *soak) free(name string) bool {
	return slices.ContainsFunc(s.All(), func(f cloud.Found) bool { return f.Name == name && f.Owner == (cloud.Owner{}) })
}

func ownerOf(svc *corev1.Service) cloud.Owner {
	return cloud.Owner{Cluster: Cluster, UID: svc.UID, Namespace: svc.Namespace, Name: svc.Name}
}

// fixed is whether a Service's load balancer, or the one that it takes over, is not to
// be replaced.
func (s *soak) fixed(svc *corev1.Service) bool {
	return svc.Annotations[cloud.Prefix+"adopt"] != "" || slices.ContainsFunc(s.All(), func(f cloud.Found) bool {
		return f.Owner.Cluster == Cluster && f.Owner.Name == svc.Name && (f.Adopted || f.Protected)
	})
}

// chosen are the nodes that a Service wants for targets.
func (s *soak) chosen(svc *corev1.Service) (names []string) {
	for _, n := range s.list() {
		if sel := svc.Annotations[cloud.Prefix+"node-selector"]; sel == "" || sel == "pool="+n.Labels["pool"] {
			names = append(names, n.Name)
		}
	}
	return names
}

// wanted is what a Service's load balancer is to have.
func (s *soak) wanted(svc *corev1.Service) Has {
	can, err := s.Engine.Driver.Capabilities(s.t.Context())
	if err != nil {
		s.t.Fatalf("Capabilities() = %v", err)
	}
	w, err := cloud.BuildSpec(svc, ownerOf(svc), s.Engine.Config, can)
	if err != nil {
		s.t.Fatalf("BuildSpec(%s) = %v", svc.Name, err)
	}
	h := Has{Type: w.Spec.Type, Location: w.Spec.Location, Targets: s.chosen(svc)}
	for _, l := range w.Spec.Listeners {
		h.Listeners = append(h.Listeners, Line(l))
	}
	slices.Sort(h.Listeners)
	slices.Sort(h.Targets)
	return h
}
