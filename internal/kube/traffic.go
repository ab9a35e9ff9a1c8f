package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/internal/snapshot"
)

const (
	// annotationSources is what spec.loadBalancerSourceRanges was before it was
	// a field: the API server still checks it.
	annotationSources = corev1.AnnotationLoadBalancerSourceRangesKey
	// labelProxy names another proxy that is to stand in for kube-proxy.
	labelProxy = "service.kubernetes.io/service-proxy-name"
)

// traffic reads into s what of svc is about packets.
func traffic(s *snapshot.Service, svc *corev1.Service) {
	spec := &svc.Spec
	s.Local = spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	s.InternalLocal = spec.InternalTrafficPolicy != nil && *spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
	s.Affinity = affinity(spec)
	s.HealthCheckPort = uint16(spec.HealthCheckNodePort)
	s.ClusterIPs = addrsOf(spec.ClusterIPs)
	s.ExternalIPs = addrsOf(spec.ExternalIPs)
	slices.SortFunc(s.ExternalIPs, netip.Addr.Compare)
	s.ExternalIPs = slices.Compact(s.ExternalIPs)
	for _, p := range spec.Ports {
		s.Ports = append(s.Ports, snapshot.Port{Name: p.Name, Proto: proto(p.Protocol), Number: uint16(p.Port), Node: uint16(p.NodePort)})
	}
	slices.SortFunc(s.Ports, func(a, b snapshot.Port) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Number, b.Number))
	})
	var invalid string
	if s.Sources, invalid = sources(svc); invalid != "" {
		s.Closed, s.Invalid = true, invalid // of all that is wrong the worst
	}
}

// affinity returns how long a client that pauses keeps its endpoint.
func affinity(spec *corev1.ServiceSpec) time.Duration {
	if spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

// addrsOf returns the addresses among texts; of a headless Service, whose
// cluster IP is "None", there are none.
func addrsOf(texts []string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
}

// sources returns the prefixes that clients of svc may come from, sorted, and
// what is wrong with them. The annotation counts where the field is empty.
func sources(svc *corev1.Service) (prefixes []netip.Prefix, invalid string) {
	field, texts := "spec.loadBalancerSourceRanges", svc.Spec.LoadBalancerSourceRanges
	if text := strings.TrimSpace(svc.Annotations[annotationSources]); len(texts) == 0 && text != "" {
		field, texts = "annotation "+annotationSources, strings.Split(text, ",")
	}
	for _, text := range texts {
		p, ok := parseSource(strings.TrimSpace(text))
		if !ok {
			return nil, fmt.Sprintf("%s: %q is no prefix, and Herald lets nobody in rather than everybody; "+
				"write prefixes like 192.0.2.0/24 or 2001:db8::/32", field, text)
		}
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes), ""
}

// parseSource reads a prefix. Numbers with leading zeros, which API servers once
// let pass, are not read: programs do not agree on what they mean.
func parseSource(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if a := p.Addr(); a.Is4In6() {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96) // invalid if it spans more than IPv4
	}
	return p.Masked(), p.IsValid()
}

// proxied reports whether kube-proxy would steer svc to its endpoints.
func proxied(svc *corev1.Service) bool {
	_, others := svc.Labels[labelProxy]
	headless := svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == corev1.ClusterIPNone
	return !others && !headless && svc.Spec.Type != corev1.ServiceTypeExternalName
}
