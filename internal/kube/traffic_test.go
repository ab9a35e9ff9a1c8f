package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/internal/snapshot"
)

func TestTrafficCarriesWhatSteeringNeeds(t *testing.T) {
	var got snapshot.Service
	traffic(&got, &corev1.Service{Spec: corev1.ServiceSpec{
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
		InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyLocal),
		HealthCheckNodePort:   32000,
		ClusterIPs:            []string{"2001:db8::a", "10.96.0.10"},
		ExternalIPs:           []string{"198.51.100.9", "2001:db8::9", "198.51.100.1", "198.51.100.9"},
		Ports: []corev1.ServicePort{
			{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, NodePort: 30053},
			{Name: "assoc", Protocol: corev1.ProtocolSCTP, Port: 9},
			{Name: "web", Protocol: corev1.ProtocolTCP, Port: 80, NodePort: 30080},
		},
	}})
	want := snapshot.Service{
		Local: true, InternalLocal: true, HealthCheckPort: 32000,
		ClusterIPs:  []netip.Addr{mustAddr("2001:db8::a"), mustAddr("10.96.0.10")},
		ExternalIPs: []netip.Addr{mustAddr("198.51.100.1"), mustAddr("198.51.100.9"), mustAddr("2001:db8::9")},
		Ports: []snapshot.Port{
			{Name: "web", Proto: snapshot.TCP, Number: 80, Node: 30080},
			{Name: "dns", Proto: snapshot.UDP, Number: 53, Node: 30053},
			{Name: "assoc", Proto: snapshot.SCTP, Number: 9},
		},
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var headless snapshot.Service
	traffic(&headless, &corev1.Service{Spec: corev1.ServiceSpec{
		ClusterIP: "None", ClusterIPs: []string{"None"}, InternalTrafficPolicy: ptr.To(corev1.ServiceInternalTrafficPolicyCluster)}})
	if headless.ClusterIPs != nil || headless.InternalLocal {
		t.Errorf("a headless Service: %+v", headless)
	}
}

func TestAffinityLastsAsLongAsTheServiceSays(t *testing.T) {
	timeout := func(seconds *int32) *corev1.SessionAffinityConfig {
		return &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: seconds}}
	}
	tests := []struct {
		name string
		spec corev1.ServiceSpec
		want time.Duration
	}{
		{"there is none unless it is asked for", corev1.ServiceSpec{}, 0},
		{"nor if it is declined, whatever its time", corev1.ServiceSpec{SessionAffinity: corev1.ServiceAffinityNone, SessionAffinityConfig: timeout(ptr.To(int32(60)))}, 0},
		{"it lasts three hours", corev1.ServiceSpec{SessionAffinity: corev1.ServiceAffinityClientIP}, 3 * time.Hour},
		{"also with a time that is not said", corev1.ServiceSpec{SessionAffinity: corev1.ServiceAffinityClientIP, SessionAffinityConfig: timeout(nil)}, 3 * time.Hour},
		{"or for the time that is said", corev1.ServiceSpec{SessionAffinity: corev1.ServiceAffinityClientIP, SessionAffinityConfig: timeout(ptr.To(int32(60)))}, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := affinity(&tt.spec); got != tt.want {
				t.Errorf("affinity %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSourcesAreThoseOfTheFieldOrElseOfTheAnnotation(t *testing.T) {
	const field = "spec.loadBalancerSourceRanges"
	tests := []struct {
		name       string
		ranges     []string
		annotation string
		want       string
		invalid    string // what closes the Service
	}{
		{"without any all may come", nil, "", "", ""},
		{"they are masked, sorted, and each is there once", []string{"2001:db8::1/32", "192.0.2.7/24", "10.0.0.0/8", "192.0.2.0/24"}, "", "10.0.0.0/8 192.0.2.0/24 2001:db8::/32", ""},
		{"spaces do no harm", []string{" 192.0.2.0/24 "}, "", "192.0.2.0/24", ""},
		{"the annotation counts", nil, " 192.0.2.0/24, 198.51.100.0/24 ", "192.0.2.0/24 198.51.100.0/24", ""},
		{"but not beside the field", []string{"192.0.2.0/24"}, "198.51.100.0/24", "192.0.2.0/24", ""},
		{"nor if it is empty", nil, " ", "", ""},
		{"everybody is everybody of a family", []string{"0.0.0.0/0"}, "", "0.0.0.0/0", ""},
		{"IPv4 inside IPv6 is IPv4", []string{"::ffff:192.0.2.0/120"}, "", "192.0.2.0/24", ""},
		{"but not if it spans more", []string{"::ffff:192.0.2.0/64"}, "", "", field + `: "::ffff:192.0.2.0/64" is no prefix`},
		{"an address is no prefix", []string{"192.0.2.0/24", "198.51.100.1"}, "", "", field + `: "198.51.100.1" is no prefix`},
		{"nor are numbers that could be octal", []string{"010.0.0.0/8"}, "", "", field + `: "010.0.0.0/8" is no prefix`},
		{"nor is nothing", []string{""}, "", "", field + `: "" is no prefix`},
		{"nor is what stands in the annotation", nil, "192.0.2.0/24,lan", "", "annotation " + annotationSources + `: "lan" is no prefix`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := &corev1.Service{Spec: corev1.ServiceSpec{LoadBalancerSourceRanges: tt.ranges}}
			if tt.annotation != "" {
				svc.Annotations = map[string]string{annotationSources: tt.annotation}
			}
			got := service(svc, Classes{})
			if text := strings.Trim(fmt.Sprint(got.Sources), "[]"); text != tt.want {
				t.Errorf("sources %s, want %s", text, tt.want)
			}
			if got.Closed != (tt.invalid != "") || !strings.HasPrefix(got.Invalid, tt.invalid) || tt.invalid == "" && got.Invalid != "" {
				t.Errorf("closed: %t, for %q; want %q", got.Closed, got.Invalid, tt.invalid)
			}
		})
	}
}

func FuzzSources(f *testing.F) {
	f.Add("192.0.2.0/24,2001:db8::1/32")
	f.Add("::ffff:192.0.2.0/97, 0.0.0.0/0")
	f.Fuzz(func(t *testing.T, text string) {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationSources: text}}}
		got, invalid := sources(svc)
		if strings.TrimSpace(text) != "" && (len(got) == 0) == (invalid == "") {
			t.Fatalf("%q: %v and %q", text, got, invalid)
		}
		if !slices.IsSortedFunc(got, netip.Prefix.Compare) {
			t.Fatalf("%q gives %v", text, got)
		}
		for _, p := range got {
			if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
				t.Fatalf("%q gives %v", text, p)
			}
		}
	})
}

func TestASpeakerStandsInForKubeProxyWhereThatWouldSteer(t *testing.T) {
	tests := []struct {
		name string
		edit func(*corev1.Service)
		want bool
	}{
		{"a Service with a cluster IP", func(*corev1.Service) {}, true},
		{"a NodePort", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, true},
		{"a LoadBalancer of somebody else's class", func(s *corev1.Service) {
			s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To("example.com/other")
		}, true},
		{"one that is being deleted, until it is gone", func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, true},
		{"a headless one not", func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }, false},
		{"one that has no cluster IP yet not", func(s *corev1.Service) { s.Spec.ClusterIP = "" }, false},
		{"an ExternalName not", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }, false},
		{"another proxy's not", func(s *corev1.Service) { s.Labels = map[string]string{labelProxy: "cilium"} }, false},
		{"nor one whose proxy has no name", func(s *corev1.Service) { s.Labels = map[string]string{labelProxy: ""} }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, serviceProxy := range []bool{true, false} {
				st := newStage("n1")
				st.o.ServiceProxy = serviceProxy
				svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "a"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"}}
				tt.edit(svc)
				if _, err := trimSteered(svc); err != nil {
					t.Fatal(err)
				}
				st.service(svc)
				st.slice(sliceFor("a", "a-1", "10.0.0.1"))
				st.hear()
				got, want := only(t, st.take()), tt.want && serviceProxy
				if got.Proxied != want || got.Served || (len(got.Endpoints) > 0) != want {
					t.Errorf("instead of kube-proxy: %t; proxied: %t, served: %t, endpoints %v", serviceProxy, got.Proxied, got.Served, got.Endpoints)
				}
			}
		})
	}
}

func TestASpeakerWatchesNoMoreThanItSteers(t *testing.T) {
	for serviceProxy, want := range map[bool]string{
		false: "spec.type=LoadBalancer",
		true:  "spec.type!=ExternalName,spec.clusterIP!=None",
	} {
		if got := steered(Options{ServiceProxy: serviceProxy}).String(); got != want {
			t.Errorf("instead of kube-proxy: %t: %s, want %s", serviceProxy, got, want)
		}
	}
}
