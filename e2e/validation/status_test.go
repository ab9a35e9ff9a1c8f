package validation

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/apis/core"
	corefuncs "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/validation"

	"github.com/herald-lb/herald/cloud"
)

// refused is what the API server has to say against a status of a Service, as it comes
// by the API: with defaults, and in its own types.
func refused(t *testing.T, svc *corev1.Service, st *corev1.LoadBalancerStatus) field.ErrorList {
	t.Helper()
	svc = svc.DeepCopy()
	svc.Status.LoadBalancer = *st.DeepCopy()
	corefuncs.SetObjectDefaults_Service(svc)
	var internal core.Service
	if err := corefuncs.Convert_v1_Service_To_core_Service(svc, &internal, nil); err != nil {
		t.Fatal(err)
	}
	return validation.ValidateLoadBalancerStatus(&internal.Status.LoadBalancer, &core.LoadBalancerStatus{}, field.NewPath("status", "loadBalancer"), &internal.Spec)
}

func service(annotations ...string) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "uid-web", Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
			Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080}}},
	}
	for i := 0; i < len(annotations); i += 2 {
		svc.Annotations[cloud.Prefix+annotations[i]] = annotations[i+1]
	}
	return svc
}

// build makes the status that a plugin writes for a load balancer with addresses; nil
// for none.
func build(t *testing.T, svc *corev1.Service, d cloud.Delivery, addrs ...netip.Addr) *corev1.LoadBalancerStatus {
	t.Helper()
	c, err := cloud.ParseConfig(strings.NewReader("provider: test"), "")
	if err != nil {
		t.Fatal(err)
	}
	can := cloud.Capabilities{Protocols: []corev1.Protocol{corev1.ProtocolTCP}, Families: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		ProxyProtocol: true, HTTPHealthCheck: true, Delivery: d}
	w, err := cloud.BuildSpec(svc, cloud.Owner{Cluster: "c", UID: svc.UID}, c, can)
	if err != nil {
		return nil // nothing is made, and no status written
	}
	return cloud.BuildStatus(svc, w, cloud.Found{Addrs: addrs}, d)
}

var (
	v4     = netip.MustParseAddr("192.0.2.1")
	v6     = netip.MustParseAddr("2001:DB8:0:0::1")
	mapped = netip.MustParseAddr("::ffff:192.0.2.1")
)

// The API server takes each status that a plugin for clouds writes (C11).
func TestStatusesOfClouds(t *testing.T) {
	udp := service()
	udp.Spec.Ports = append(udp.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolUDP, Port: 53, NodePort: 30053})
	for _, tt := range []struct {
		name  string
		svc   *corev1.Service
		d     cloud.Delivery
		addrs []netip.Addr
		want  string // addresses, modes and ports
	}{
		{"an address", service(), cloud.ToNodePort, []netip.Addr{v4}, "192.0.2.1 Proxy []"},
		{"both families", service(), cloud.ToNodePort, []netip.Addr{v6, v4}, "192.0.2.1 Proxy [], 2001:db8::1 Proxy []"},
		{"IPv4 in IPv6", service(), cloud.ToNodePort, []netip.Addr{mapped}, "192.0.2.1 Proxy []"},
		{"delivered as it is", service(), cloud.ToVIP, []netip.Addr{v6}, "2001:db8::1 VIP []"},
		{"the mode of an annotation", service("ip-mode", "VIP"), cloud.ToNodePort, []netip.Addr{v4}, "192.0.2.1 VIP []"},
		{"a host name", service("hostname", "web.example.com"), cloud.ToNodePort, []netip.Addr{v4, v6}, "web.example.com - []"},
		{"a port that cannot be served", udp, cloud.ToNodePort, []netip.Addr{v4}, "192.0.2.1 Proxy [80 53:MixedProtocolNotSupported]"},
		{"front families", service("front-families", "IPv6"), cloud.ToNodePort, []netip.Addr{v4, v6}, "2001:db8::1 Proxy []"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := build(t, tt.svc, tt.d, tt.addrs...)
			if st == nil {
				t.Fatal("there is no status")
			}
			if got := text(st); got != tt.want {
				t.Errorf("status %s, want %s", got, tt.want)
			}
			if errs := refused(t, tt.svc, st); len(errs) > 0 {
				t.Errorf("%s: %v", text(st), errs.ToAggregate())
			}
		})
	}
}

func text(st *corev1.LoadBalancerStatus) string {
	var all []string
	for _, in := range st.Ingress {
		mode, ports := "-", []string{}
		if in.IPMode != nil {
			mode = string(*in.IPMode)
		}
		for _, p := range in.Ports {
			port := fmt.Sprint(p.Port)
			if p.Error != nil {
				port += ":" + *p.Error
			}
			ports = append(ports, port)
		}
		all = append(all, fmt.Sprintf("%s%s %s %v", in.IP, in.Hostname, mode, ports))
	}
	return strings.Join(all, ", ")
}

// That all are taken says something only if others are not.
func TestWhatIsRefused(t *testing.T) {
	proxy := corev1.LoadBalancerIPModeProxy
	for name, in := range map[string]corev1.LoadBalancerIngress{
		"no address":                   {IP: "web", IPMode: &proxy},
		"a mode of no address":         {Hostname: "web.example.com", IPMode: &proxy},
		"a host name that is one":      {Hostname: "192.0.2.1"},
		"a host name in capitals":      {Hostname: "Web.example.com"},
		"an address with leading zero": {IP: "192.0.02.1", IPMode: &proxy},
	} {
		if errs := refused(t, service(), &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{in}}); len(errs) == 0 {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// Whatever a Service asks for and a cloud has: what is written is taken, and written
// as the API server would write it.
func TestAnyStatus(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 9))
	built := 0
	for range 20000 {
		svc, d, addrs := random(rnd)
		st := build(t, svc, d, addrs...)
		if st == nil {
			continue
		}
		built++
		if errs := refused(t, svc, st); len(errs) > 0 {
			t.Fatalf("%s for %v, %v: %v", text(st), svc.Annotations, addrs, errs.ToAggregate())
		}
		for _, in := range st.Ingress {
			if a, err := netip.ParseAddr(in.IP); in.IP != "" && (err != nil || a.String() != in.IP || a.Is4In6()) {
				t.Fatalf("%q is not canonical", in.IP)
			}
		}
		defaulted := svc.DeepCopy()
		defaulted.Status.LoadBalancer = *st.DeepCopy()
		corefuncs.SetObjectDefaults_Service(defaulted)
		if got := text(&defaulted.Status.LoadBalancer); got != text(st) { // or it would be written again and again (F14)
			t.Fatalf("%s is kept as %s", text(st), got)
		}
	}
	if built < 1000 {
		t.Errorf("only %d had a status", built)
	}
}

func random(rnd *rand.Rand) (*corev1.Service, cloud.Delivery, []netip.Addr) {
	svc := service()
	for key, values := range map[string][]string{
		"hostname": {"web.example.com", "a.b", "192.0.2.1", "Web", "x..y", "1.2.3", "0x7f.1"}, "ip-mode": {"VIP", "Proxy"},
		"front-families": {"IPv4", "IPv6", "IPv6,IPv4"}, "proxy-protocol": {"v1", "v2"},
	} {
		if rnd.IntN(4) == 0 {
			svc.Annotations[cloud.Prefix+key] = values[rnd.IntN(len(values))]
		}
	}
	families := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	svc.Spec.IPFamilies = families[rnd.IntN(2):][:1]
	if rnd.IntN(2) == 0 {
		svc.Spec.IPFamilies = slices.Clone(families)
	}
	for i := range rnd.IntN(3) {
		p := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP, ""}[rnd.IntN(4)]
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", i), Protocol: p, Port: int32(1000 + i), NodePort: int32(31000 + i)})
	}
	var addrs []netip.Addr
	for range rnd.IntN(4) {
		b := [16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(1 + rnd.IntN(200))}
		b[2*rnd.IntN(5)+5] = byte(rnd.IntN(256))
		a := netip.AddrFrom16(b)
		switch v4 := netip.AddrFrom4([4]byte{192, 0, 2, b[15]}); rnd.IntN(3) {
		case 0:
			a = v4
		case 1:
			a = netip.AddrFrom16(v4.As16())
		}
		addrs = append(addrs, a)
	}
	return svc, []cloud.Delivery{cloud.ToNodePort, cloud.ToVIP}[rnd.IntN(2)], addrs
}
