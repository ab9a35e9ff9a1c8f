package cloud_test

import (
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

func TestAnnotationsOfOthers(t *testing.T) {
	const hetzner, openstack = "load-balancer.hetzner.cloud/", "loadbalancer.openstack.org/"
	tests := []struct {
		name        string
		annotations map[string]string
		want        func(cloud.LBSpec) bool
		says        string // of an error
	}{
		{"Hetzner's", map[string]string{hetzner + "name": "shop", hetzner + "type": "lb21", hetzner + "location": "nbg1", hetzner + "uses-proxyprotocol": "true",
			hetzner + "algorithm-type": "least_connections", hetzner + "health-check-http-path": "/ok", hetzner + "health-check-protocol": "http",
			hetzner + "disable-public-network": "true", hetzner + "id": "42", hetzner + "protocol": "tcp"},
			func(s cloud.LBSpec) bool {
				l := s.Listeners[0]
				return s.Title == "shop" && s.Type == "lb21" && s.Location == "nbg1" && l.Proxy == cloud.ProxyV2 &&
					s.Algorithm == cloud.LeastConnections && l.Health.HTTP && l.Health.Path == "/ok" && s.Internal
			}, ""},
		{"OpenStack's", map[string]string{openstack + "flavor-id": "f", openstack + "network-id": "n", openstack + "subnet-id": "s", openstack + "proxy-protocol": "true",
			openstack + "health-monitor-delay": "20", openstack + "lb-method": "ROUND_ROBIN", "service.beta.kubernetes.io/openstack-internal-load-balancer": "true"},
			func(s cloud.LBSpec) bool {
				l := s.Listeners[0]
				return s.Type == "f" && s.Network == "n" && s.Subnet == "s" && l.Proxy == cloud.ProxyV1 &&
					l.Health.Interval == 20*time.Second && s.Algorithm == cloud.RoundRobin && s.Internal
			}, ""},
		{"Herald's win", map[string]string{hetzner + "type": "lb21", cloud.Prefix + "type": "lb31"},
			func(s cloud.LBSpec) bool { return s.Type == "lb31" }, ""},
		{"what has no equivalent", map[string]string{hetzner + "http-redirect-http": "true"}, nil, "http-redirect-http has no equivalent"},
		{"a protocol that is not served", map[string]string{hetzner + "protocol": "https"}, nil, `"https" is none of [tcp]`},
		{"a value that is none", map[string]string{openstack + "health-monitor-delay": "soon"}, nil, "health-check-interval"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc, c := cloudtest.Service("web", "u1", 80), cloudtest.Config()
			svc.Annotations = tt.annotations
			if _, own := tt.annotations[cloud.Prefix+"type"]; !own { // unless asked to, nobody reads them
				if w, err := cloud.BuildSpec(svc, owner, c, tcpOnly); err != nil || w.Spec.Type != "" {
					t.Errorf("not asked to: %+v, %v", w.Spec, err)
				}
			}
			c.Compat = true
			w, err := cloud.BuildSpec(svc, owner, c, tcpOnly)
			if tt.says != "" {
				if !cloud.Is(err, cloud.Terminal) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("BuildSpec() = %v, not %q", err, tt.says)
				}
				return
			}
			if err != nil || !tt.want(w.Spec) {
				t.Errorf("BuildSpec() = %+v, %v", w.Spec, err)
			}
		})
	}
}
