package cloud_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

var (
	tcpOnly = cloud.Capabilities{Protocols: []corev1.Protocol{corev1.ProtocolTCP}, Families: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		ProxyProtocol: true, HTTPHealthCheck: true, Delivery: cloud.ToNodePort}
	everything = cloud.Capabilities{Protocols: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}, Families: tcpOnly.Families,
		ProxyProtocol: true, HTTPHealthCheck: true, SourceRanges: true, Delivery: cloud.ToNodePort}
	tcpChecks = cloud.Capabilities{Protocols: tcpOnly.Protocols, Families: tcpOnly.Families, Delivery: cloud.ToNodePort}

	owner = cloud.Owner{Cluster: "c1", UID: "u1", Namespace: "shop", Name: "web"}
)

// check is the default one of a port.
func check(port int32) cloud.HealthCheck {
	return cloud.HealthCheck{Port: port, Interval: 15 * time.Second, Timeout: 10 * time.Second, Retries: 3}
}

func httpCheck(port int32, path string) cloud.HealthCheck {
	h := check(port)
	h.HTTP, h.Path = true, path
	return h
}

func TestBuildSpec(t *testing.T) {
	both := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	tests := []struct {
		name string
		edit func(*corev1.Service, *cloud.Config)
		can  cloud.Capabilities
		want func(*cloud.LBSpec)
	}{
		{"a port", nil, tcpOnly, func(*cloud.LBSpec) {}},
		{"families are the Service's (S1)", func(s *corev1.Service, _ *cloud.Config) { s.Spec.IPFamilies = both }, tcpOnly,
			func(s *cloud.LBSpec) { s.Families, s.NodeFamilies = both, both }},
		{"or those that it asks for (S1)", func(s *corev1.Service, _ *cloud.Config) {
			s.Annotations[cloud.Prefix+"front-families"] = "IPv6, IPv4"
		}, tcpOnly, func(s *cloud.LBSpec) { s.Families = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol} }},
		{"UDP and TCP of one number do not collide (P3)", func(s *corev1.Service, _ *cloud.Config) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 30081})
		}, everything, func(s *cloud.LBSpec) {
			s.Listeners = append(s.Listeners, cloud.Listener{Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 30081, Health: check(30081)})
		}},
		{"what cannot be served is left out, and the rest served (P3, C6)", func(s *corev1.Service, _ *cloud.Config) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 30081})
		}, tcpOnly, func(*cloud.LBSpec) {}},
		{"ETP Local is asked on its own port (T2)", func(s *corev1.Service, c *cloud.Config) {
			s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
			s.Annotations[cloud.Prefix+"proxy-protocol"] = "v2"
		}, tcpOnly, func(s *cloud.LBSpec) {
			s.Listeners[0].Health, s.Listeners[0].Proxy = httpCheck(32000, "/healthz"), cloud.ProxyV2
		}},
		{"where the cloud asks by TCP only, ETP Local and kube-proxy are not asked (T2)", func(s *corev1.Service, c *cloud.Config) {
			s.Spec.ExternalTrafficPolicy, s.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
			c.HealthCheck.Mode = cloud.HealthKubeProxy
		}, tcpChecks, func(*cloud.LBSpec) {}},
		{"where the cloud asks by TCP only, ETP Cluster is asked at its nodePort (T2)", func(s *corev1.Service, c *cloud.Config) {
			c.HealthCheck.Mode = cloud.HealthKubeProxy
		}, tcpChecks, func(*cloud.LBSpec) {}},
		{"over a private network, kube-proxy is asked (T2)", func(s *corev1.Service, c *cloud.Config) { c.Defaults.UsePrivateIP = true },
			tcpOnly, func(s *cloud.LBSpec) { s.UsePrivateIP, s.Listeners[0].Health = true, httpCheck(10256, "/healthz") }},
		{"but not if the configuration says so (T2)", func(s *corev1.Service, c *cloud.Config) {
			c.Defaults.UsePrivateIP, c.HealthCheck.Mode = true, cloud.HealthNodePort
		}, tcpOnly, func(s *cloud.LBSpec) { s.UsePrivateIP = true }},
		{"annotations are more than defaults", func(s *corev1.Service, c *cloud.Config) {
			c.Defaults = cloud.Defaults{Type: "lb11", Location: "fsn1", Network: "n1", Algorithm: cloud.RoundRobin}
			for key, value := range map[string]string{"type": "lb21", "location": "nbg1", "algorithm": "least-connections", "name": "shop",
				"health-check-protocol": "http", "health-check-path": "/ok", "health-check-interval": "20s", "health-check-timeout": "5s",
				"health-check-retries": "2", "idle-timeout": "90s", "address": "203.0.113.7", "allow-recreate": "true", "internal": "true"} {
				s.Annotations[cloud.Prefix+key] = value
			}
		}, tcpOnly, func(s *cloud.LBSpec) {
			s.Type, s.Location, s.Network, s.Algorithm, s.Title = "lb21", "nbg1", "n1", cloud.LeastConnections, "shop"
			s.Listeners[0].Health = cloud.HealthCheck{HTTP: true, Port: 30080, Path: "/ok", Interval: 20 * time.Second, Timeout: 5 * time.Second, Retries: 2}
			s.IdleTimeout, s.Address, s.AllowRecreate, s.Internal = 90*time.Second, "203.0.113.7", true, true
		}},
		{"source ranges, in order and once", func(s *corev1.Service, _ *cloud.Config) {
			s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.7/24", "192.0.2.0/24 ", "198.51.100.0/24"}
		}, everything, func(s *cloud.LBSpec) {
			s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")}
		}},
		{"and by the old annotation", func(s *corev1.Service, _ *cloud.Config) {
			s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey] = "192.0.2.0/24"
		}, everything, func(s *cloud.LBSpec) { s.SourceRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }},
		{"annotations of others, and of pools, mean nothing", func(s *corev1.Service, _ *cloud.Config) {
			s.Annotations["example.com/type"], s.Annotations[cloud.Prefix+"pool"] = "x", "lan"
		}, tcpOnly, func(*cloud.LBSpec) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc, c := cloudtest.Service("web", "u1", 80), cloudtest.Config()
			if tt.edit != nil {
				tt.edit(svc, &c)
			}
			v4 := []corev1.IPFamily{corev1.IPv4Protocol}
			want := cloud.LBSpec{Owner: owner, Families: v4, NodeFamilies: v4,
				Listeners: []cloud.Listener{{Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080, Health: check(30080)}}}
			tt.want(&want)
			got, err := cloud.BuildSpec(svc, owner, c, tt.can)
			if diff := cmp.Diff(want, got.Spec, cmpopts.EquateComparable(netip.Prefix{})); err != nil || diff != "" {
				t.Errorf("BuildSpec() = %v\n%s", err, diff)
			}
		})
	}
}

func TestBuildSpecRefuses(t *testing.T) {
	annotate := func(key, value string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Annotations[cloud.Prefix+key] = value }
	}
	tests := []struct {
		name, reason, says string
		edit               func(*corev1.Service)
	}{
		{"no nodePort (P1)", cloud.ReasonNodePort, "allocateLoadBalancerNodePorts", func(s *corev1.Service) { s.Spec.Ports[0].NodePort = 0 }},
		{"no protocol that there is (P3, C6)", cloud.ReasonProtocol, "TCP", func(s *corev1.Service) { s.Spec.Ports[0].Protocol = corev1.ProtocolUDP }},
		{"a range that is none", cloud.ReasonSourceRanges, `"10.0.0.0/33"`, func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{"10.0.0.0/33"} }},
		{"VIP and PROXY (S2)", cloud.ReasonInvalidAnnotation, "ip-mode", func(s *corev1.Service) {
			s.Annotations[cloud.Prefix+"ip-mode"], s.Annotations[cloud.Prefix+"proxy-protocol"] = "VIP", "v1"
		}},
		{"two adoptions", cloud.ReasonInvalidAnnotation, "adopt-from", func(s *corev1.Service) {
			s.Annotations[cloud.Prefix+"adopt"], s.Annotations[cloud.Prefix+"adopt-from"] = "x", "hcloud-ccm"
		}},
		{"a key that is none", cloud.ReasonInvalidAnnotation, "herald-lb.io/typo is not known", annotate("typo", "x")},
		{"a truth that is none", cloud.ReasonInvalidAnnotation, `"yes"`, annotate("internal", "yes")},
		{"a time that is none", cloud.ReasonInvalidAnnotation, "1s to 24h", annotate("health-check-interval", "15")},
		{"a number too large", cloud.ReasonInvalidAnnotation, "1 to 65535", annotate("health-check-port", "70000")},
		{"a choice that is none", cloud.ReasonInvalidAnnotation, "round-robin", annotate("algorithm", "random")},
		{"a family twice", cloud.ReasonInvalidAnnotation, "IPv4, IPv6", annotate("front-families", "IPv4,IPv4")},
		{"an address as host name (S3)", cloud.ReasonInvalidAnnotation, "host name", annotate("hostname", "192.0.2.1")},
		{"a host name that is none (S3)", cloud.ReasonInvalidAnnotation, "RFC 1123", annotate("hostname", "Not_A_Name")},
		{"nothing", cloud.ReasonInvalidAnnotation, "is empty", annotate("type", " ")},
		{"a path that is none", cloud.ReasonInvalidAnnotation, "begins with /", annotate("health-check-path", "ok")},
		{"a selector that is none", cloud.ReasonInvalidAnnotation, "label=value", annotate("node-selector", "a!=b")},
		{"a version that is none", cloud.ReasonInvalidAnnotation, "v1 and v2", annotate("proxy-protocol", "v3")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := cloudtest.Service("web", "u1", 80)
			tt.edit(svc)
			_, err := cloud.BuildSpec(svc, owner, cloudtest.Config(), tcpOnly)
			var why *cloud.Error
			if !asError(err, &why) || why.Class != cloud.Terminal || why.Reason != tt.reason || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("BuildSpec() = %v (%+v), not %s with %q", err, why, tt.reason, tt.says)
			}
		})
	}
}

// Where a cloud cannot keep others out, what is not open yet stays closed (T4, C7).
func TestSourceRangesFailClosed(t *testing.T) {
	v4, v6 := corev1.IPv4Protocol, corev1.IPv6Protocol
	for _, c := range []struct {
		ranges   string
		families []corev1.IPFamily
		open     bool // and so refused
	}{
		{"192.0.2.0/24", []corev1.IPFamily{v4}, true},
		{"0.0.0.0/0", []corev1.IPFamily{v4}, false},
		{"", []corev1.IPFamily{v4}, false},
		{"203.0.113.0/24,::/0", []corev1.IPFamily{v4}, true},
		{"203.0.113.0/24,::/0", []corev1.IPFamily{v4, v6}, true},
		{"203.0.113.0/24,::/0", []corev1.IPFamily{v6}, true}, // the address of the other family may be there all the same
		{"0.0.0.0/0,::/0", []corev1.IPFamily{v4}, false},
		{"0.0.0.0/0,::/0", []corev1.IPFamily{v4, v6}, false},
		{"0.0.0.0/0,2001:db8::/32", []corev1.IPFamily{v4}, true},
		{"0.0.0.0/0,192.0.2.0/24", []corev1.IPFamily{v4}, false},
		{"0.0.0.0/0", []corev1.IPFamily{v4, v6}, true},
		{"::/0", []corev1.IPFamily{v4}, true},
		{"::/0", []corev1.IPFamily{v6}, false},
	} {
		svc := cloudtest.Service("web", "u1", 80)
		svc.Spec.IPFamilies = c.families
		if c.ranges != "" {
			svc.Spec.LoadBalancerSourceRanges = strings.Split(c.ranges, ",")
		}
		w, err := cloud.BuildSpec(svc, owner, cloudtest.Config(), tcpOnly)
		if err != nil || (w.Open != nil) != c.open {
			t.Errorf("%q, %v: open = %v, %v", c.ranges, c.families, w.Open, err)
		}
		svc.Annotations[cloud.Prefix+"allow-unenforced-source-ranges"] = "true"
		if w, err = cloud.BuildSpec(svc, owner, cloudtest.Config(), tcpOnly); err != nil || w.Open != nil {
			t.Errorf("%q, which is allowed: open = %v, %v", c.ranges, w.Open, err)
		}
	}
}

func TestBuildStatus(t *testing.T) {
	addrs := []netip.Addr{netip.MustParseAddr("::ffff:198.51.100.1"), netip.MustParseAddr("2001:db8::1:0:0:1")}
	v4 := func(mode corev1.LoadBalancerIPMode) corev1.LoadBalancerIngress {
		return corev1.LoadBalancerIngress{IP: "198.51.100.1", IPMode: &mode}
	}
	proxy, vip := corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP
	v6 := corev1.LoadBalancerIngress{IP: "2001:db8::1:0:0:1", IPMode: &proxy}
	tests := []struct {
		name     string
		delivery cloud.Delivery
		edit     func(*corev1.Service, *cloud.Found)
		want     []corev1.LoadBalancerIngress
	}{
		{"to nodePorts: Proxy (S2)", cloud.ToNodePort, nil, []corev1.LoadBalancerIngress{v4(proxy)}},
		{"to the address: VIP (S2)", cloud.ToVIP, nil, []corev1.LoadBalancerIngress{v4(vip)}},
		{"as it was asked for (S2)", cloud.ToNodePort, func(s *corev1.Service, _ *cloud.Found) { s.Annotations[cloud.Prefix+"ip-mode"] = "VIP" },
			[]corev1.LoadBalancerIngress{v4(vip)}},
		{"both families, in the Service's order (S1)", cloud.ToNodePort, func(s *corev1.Service, _ *cloud.Found) {
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		}, []corev1.LoadBalancerIngress{v6, v4(proxy)}},
		{"a host name, without mode (S3, F14)", cloud.ToNodePort, func(s *corev1.Service, _ *cloud.Found) { s.Annotations[cloud.Prefix+"hostname"] = "lb.example.com" },
			[]corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}}},
		{"no address yet (S5)", cloud.ToNodePort, func(_ *corev1.Service, f *cloud.Found) { f.Addrs = nil }, nil},
		{"a host name, and no address yet (S5)", cloud.ToNodePort, func(s *corev1.Service, f *cloud.Found) {
			f.Addrs, s.Annotations[cloud.Prefix+"hostname"] = nil, "lb.example.com"
		}, nil},
		{"a port that is not served: all are listed (S4)", cloud.ToNodePort, func(s *corev1.Service, _ *cloud.Found) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolUDP, Port: 80, NodePort: 1})
		}, []corev1.LoadBalancerIngress{{IP: "198.51.100.1", IPMode: &proxy, Ports: []corev1.PortStatus{
			{Port: 80, Protocol: corev1.ProtocolTCP}, {Port: 80, Protocol: corev1.ProtocolUDP, Error: ptr.To("MixedProtocolNotSupported")}}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc, f := cloudtest.Service("web", "u1", 80), cloud.Found{Addrs: addrs}
			if tt.edit != nil {
				tt.edit(svc, &f)
			}
			can := tcpOnly
			can.Delivery = tt.delivery
			w, err := cloud.BuildSpec(svc, owner, cloudtest.Config(), can)
			if err != nil {
				t.Fatal(err)
			}
			var got []corev1.LoadBalancerIngress
			if st := cloud.BuildStatus(svc, w, f, tt.delivery); st != nil {
				got = st.Ingress
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever people write, there is an answer: a load balancer, or why not.
func FuzzBuildSpec(f *testing.F) {
	f.Add("type", "lb11", "10.0.0.0/8", int32(80), int32(30080), "TCP")
	f.Add("front-families", "IPv4,IPv6", "", int32(-1), int32(0), "SCTP")
	f.Add("node-selector", "a=b,=,c", "::/0", int32(443), int32(1), "")
	f.Fuzz(func(t *testing.T, key, value, ranges string, port, nodePort int32, protocol string) {
		svc := cloudtest.Service("web", "u1", port)
		svc.Annotations[cloud.Prefix+key] = value
		svc.Spec.LoadBalancerSourceRanges = strings.Fields(ranges)
		svc.Spec.Ports[0].NodePort, svc.Spec.Ports[0].Protocol = nodePort, corev1.Protocol(protocol)
		w, err := cloud.BuildSpec(svc, owner, cloudtest.Config(), everything)
		if err == nil && (len(w.Spec.Listeners) == 0 || len(w.Spec.Families) == 0) {
			t.Errorf("a load balancer without ports or families: %+v", w.Spec)
		}
		if err != nil && !cloud.Is(err, cloud.Terminal) {
			t.Errorf("%v is not for people to mend", err)
		}
	})
}
