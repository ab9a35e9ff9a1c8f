package kube

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

var (
	compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	// anyRevision passes over what is another one with each reading.
	anyRevision     = cmpopts.IgnoreFields(snapshot.Service{}, "Revision")
	comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
)

func TestClassesServe(t *testing.T) {
	ours := Classes{Names: []string{"herald-lb.io/herald"}, Default: true}
	tests := []struct {
		name    string
		classes Classes
		edit    func(*corev1.Service)
		want    bool
	}{
		{"a LoadBalancer without a class is served by default", ours, func(*corev1.Service) {}, true},
		{"and not where Herald is not the default", Classes{Names: ours.Names}, func(*corev1.Service) {}, false},
		{"a class of ours is served", ours, func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("herald-lb.io/herald") }, true},
		{"a class of somebody else is not", ours, func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("example.com/other") }, false},
		{"a NodePort is not", ours, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, false},
		{"a ClusterIP is not", ours, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }, false},
		{"an ExternalName is not", ours, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }, false},
		{"a Service that is being deleted is not", ours, func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
			tt.edit(svc)
			if got := service(svc, tt.classes).Served; got != tt.want {
				t.Errorf("Served = %t, want %t", got, tt.want)
			}
		})
	}
}

func TestServiceCarriesWhatPlansNeed(t *testing.T) {
	created := time.Unix(1700000000, 0)
	got := service(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "a", UID: "u", ResourceVersion: "7", CreationTimestamp: metav1.Time{Time: created},
			Annotations: map[string]string{annotationPool: "lan", annotationWanted: "192.0.2.9, 2001:db8::9"},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
			IPFamilies:     []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol},
			IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicyRequireDualStack),
			Ports:          []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}, {Name: "web", Protocol: corev1.ProtocolTCP, Port: 80}},
		},
		Status: corev1.ServiceStatus{
			LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
				{IP: "192.0.2.1", IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}, {Hostname: "a.example.com"}, {IP: "nonsense"}}},
			Conditions: []metav1.Condition{
				{Type: "example.com/Other", Status: "True"},
				{Type: markCondition, Status: "True", Reason: "Assigned", Message: "m", LastTransitionTime: metav1.Now()}},
		},
	}, Classes{Default: true})
	want := snapshot.Service{
		Key: "ns/a", Namespace: "ns", Name: "a", UID: "u", Version: "7", Created: created, Served: true, Ours: true, Named: true,
		Families: []ipam.Family{ipam.IPv6, ipam.IPv4}, Require: true, Pool: "lan", Local: true,
		Want:       []netip.Addr{netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")},
		Ingress:    []snapshot.Ingress{{Addr: netip.MustParseAddr("192.0.2.1"), Mode: "Proxy"}},
		Conditions: []snapshot.Condition{{Type: markCondition, Status: true, Reason: "Assigned", Message: "m"}},
		Ports:      []snapshot.Port{{Name: "web", Proto: snapshot.TCP, Number: 80}, {Name: "dns", Proto: snapshot.UDP, Number: 53}},
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The mark of a cloud's plugin is no business of the controller, which would clear it as
// its own; it counts while the Service may have addresses.
func TestTheMarkOfACloudsPlugin(t *testing.T) {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr.To("herald-lb.io/hetzner")},
		Status: corev1.ServiceStatus{Conditions: []metav1.Condition{{Type: ConditionRouted, Status: "False"}}}}
	if s := service(svc, Classes{Names: []string{"herald-lb.io/hetzner"}}); s.Routed || !s.Served {
		t.Errorf("of a class of Herald's own: %+v", s)
	}
	if s := service(svc, Classes{Default: true}); !s.Routed || !s.Steered() || s.Served || s.Ours || s.Conditions != nil {
		t.Errorf("service() = %+v", s)
	}
	svc.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	if s := service(svc, Classes{}); s.Routed || s.Steered() {
		t.Errorf("deleted: %+v", s)
	}
	svc.DeletionTimestamp, svc.Spec.Type = nil, corev1.ServiceTypeClusterIP
	if s := service(svc, Classes{}); s.Routed || s.Steered() {
		t.Errorf("of another type: %+v", s)
	}
}

func TestRequestsThatCannotBeReadNameTheFieldAndTheRemedy(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.300":             `"192.0.2.300" is no IP address; write one address of each family`,
		"192.0.2.1,192.0.2.2":     `has two addresses of one family`,
		"192.0.2.1,":              `"" is no IP address`,
		"fe80::1%eth0":            `is no IP address`,
		"2001:db8::1,2001:db8::2": `has two addresses of one family`,
	} {
		addrs, invalid := requested("annotation "+annotationWanted, text)
		if addrs != nil || !strings.Contains(invalid, want) || !strings.Contains(invalid, annotationWanted) {
			t.Errorf("%q: %v, %q; want %q", text, addrs, invalid, want)
		}
	}
	svc := &corev1.Service{Spec: corev1.ServiceSpec{LoadBalancerIP: "x"}}
	if got := service(svc, Classes{}); !strings.Contains(got.Invalid, "spec.loadBalancerIP") {
		t.Errorf("%q does not name the field", got.Invalid)
	}
}

func TestAnnotationsAreReadOrSaidToBeWrong(t *testing.T) {
	read := func(metalLB bool, annotations map[string]string) snapshot.Service {
		return service(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: annotations}}, Classes{MetalLB: metalLB})
	}
	got := read(false, map[string]string{
		annotationClaim: "web", annotationShare: "k", annotationWith: "a, b,", annotationReassign: "now",
		"example.com/else": "x", "metallb.io/address-pool": "theirs", annotationScheduler: "sh, sh-port",
	})
	if got.Invalid != "" || got.Scheduler != "sh" || got.SchedulerFlags != config.SchedulerPort || got.Claim != "web" || got.Share != "k" || got.Reassign != "now" || got.Pool != "" ||
		!slices.Equal(got.ShareWith, []string{"a", "b"}) {
		t.Errorf("read %+v", got)
	}
	if got := read(false, map[string]string{"herald-lb.io/pol": "lan"}); !strings.Contains(got.Invalid, "herald-lb.io/pol is not known") {
		t.Errorf("an unknown annotation: %q", got.Invalid)
	}
	if got := read(false, map[string]string{annotationWith: "a"}); !strings.Contains(got.Invalid, annotationShare) {
		t.Errorf("share-with without a key: %q", got.Invalid)
	}
	for text, want := range map[string]string{
		"": `"" is not known: write one of rr,`, "maglev": `"maglev" is not known: write one of rr,`, "mh,sh-port": `"sh-port" is no flag of scheduler mh: write`,
	} {
		got := read(false, map[string]string{annotationScheduler: text})
		if !strings.HasPrefix(got.Invalid, "annotation "+annotationScheduler+": "+want) || got.Scheduler != "" || got.SchedulerFlags != 0 {
			t.Errorf("scheduler %q: %q, %q", text, got.Scheduler, got.Invalid)
		}
	}
	theirs := map[string]string{"metallb.io/address-pool": "theirs", "metallb.io/allow-shared-ip": "k", "metallb.io/loadBalancerIPs": "192.0.2.9"}
	if got := read(true, theirs); got.Pool != "theirs" || got.Share != "k" || len(got.Want) != 1 || got.Invalid != "" {
		t.Errorf("MetalLB's annotations: %+v", got)
	}
	theirs[annotationPool] = "ours"
	if got := read(true, theirs); got.Pool != "ours" {
		t.Errorf("Herald's annotation does not win: %q", got.Pool)
	}
	kept := trimAnnotations(map[string]string{annotationPool: "", "metallb.io/address-pool": "", annotationSources: "", "kubectl.kubernetes.io/last-applied-configuration": ""})
	if len(kept) != 3 {
		t.Errorf("kept %v", kept)
	}
}

// What asks something of pools or speakers may stay on a Service that moves to a cloud.
func TestCloudsPassOverAnnotations(t *testing.T) {
	for _, name := range known {
		if _, err := cloud.ParseAnnotations(map[string]string{name: "x"}); err != nil {
			t.Errorf("ParseAnnotations() = %v", err)
		}
	}
}

func FuzzRequested(f *testing.F) {
	f.Add("192.0.2.1,2001:db8::1")
	f.Add("::ffff:192.0.2.1")
	f.Fuzz(func(t *testing.T, text string) {
		addrs, invalid := requested("annotation "+annotationWanted, text)
		if text != "" && (len(addrs) == 0) == (invalid == "") {
			t.Fatalf("%q: %v and %q", text, addrs, invalid)
		}
		for _, a := range addrs {
			if !a.IsValid() || a.Is4In6() || a.Zone() != "" {
				t.Fatalf("%q gives %v", text, a)
			}
		}
	})
}

func TestEndpoints(t *testing.T) {
	conds := func(ready, serving, terminating *bool) discoveryv1.EndpointConditions {
		return discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating}
	}
	yes, no := ptr.To(true), ptr.To(false)
	ports := func(name string, n int32) []discoveryv1.EndpointPort {
		return []discoveryv1.EndpointPort{{Name: ptr.To(name), Port: ptr.To(n), Protocol: ptr.To(corev1.ProtocolTCP)}}
	}
	web := []snapshot.Target{{Name: "web", Proto: snapshot.TCP, Number: 8080}}
	tests := []struct {
		name   string
		slices []*discoveryv1.EndpointSlice
		want   []snapshot.Endpoint
	}{
		{"unknown readiness counts as ready", []*discoveryv1.EndpointSlice{{Ports: ports("web", 8080),
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: ptr.To("n1")}}}},
			[]snapshot.Endpoint{{Addr: netip.MustParseAddr("10.0.0.1"), Node: "n1", Ready: true, Ports: web}}},
		{"serving and terminating drains", []*discoveryv1.EndpointSlice{{Ports: ports("web", 8080),
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: conds(no, yes, yes)}}}},
			[]snapshot.Endpoint{{Addr: netip.MustParseAddr("10.0.0.1"), Draining: true, Ports: web}}},
		{"serving but not terminating, and not ready, does neither", []*discoveryv1.EndpointSlice{{Ports: ports("web", 8080),
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: conds(no, yes, no)}}}},
			[]snapshot.Endpoint{{Addr: netip.MustParseAddr("10.0.0.1"), Ports: web}}},
		{"what is published although it is not ready counts as ready: the EndpointSlice controller says so", []*discoveryv1.EndpointSlice{{Ports: ports("web", 8080),
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: conds(yes, no, no)}, {Addresses: []string{"10.0.0.2"}, Conditions: conds(yes, no, yes)}}}},
			[]snapshot.Endpoint{{Addr: netip.MustParseAddr("10.0.0.1"), Ready: true, Ports: web}, {Addr: netip.MustParseAddr("10.0.0.2"), Ready: true, Ports: web}}},
		{"an endpoint in two slices is one, with the ports of both", []*discoveryv1.EndpointSlice{
			{Ports: ports("web", 8080), Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: conds(yes, nil, nil)}}},
			{Ports: ports("adm", 9090), Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Conditions: conds(yes, nil, nil)}}}},
			[]snapshot.Endpoint{{Addr: netip.MustParseAddr("10.0.0.1"), Ready: true,
				Ports: []snapshot.Target{{Name: "adm", Proto: snapshot.TCP, Number: 9090}, web[0]}}}},
		{"names are not addresses", []*discoveryv1.EndpointSlice{{AddressType: discoveryv1.AddressTypeFQDN, Ports: ports("web", 8080),
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"a.example.com"}}}}}, []snapshot.Endpoint{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, endpoints(slicedOf(t, tt.slices...)), compareAddrs, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// slicedOf returns slices as an informer keeps them.
func slicedOf(t testing.TB, all ...*discoveryv1.EndpointSlice) (out []*sliced) {
	t.Helper()
	for _, es := range all {
		one, err := sliceOf(es)
		if err != nil {
			t.Fatal(err)
		}
		again, err := sliceOf(one)
		if err != nil || again != one {
			t.Fatalf("what is converted is converted once more to %v, %v", again, err)
		}
		out = append(out, one.(*sliced))
	}
	return out
}

func TestNodeIsExcludedForAReason(t *testing.T) {
	tests := []struct {
		name string
		edit func(*corev1.Node)
		want string
	}{
		{"a node announces", func(*corev1.Node) {}, ""},
		{"a cordon is no reason", func(n *corev1.Node) { n.Spec.Unschedulable = true }, ""},
		{"not being ready is no reason", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse}}
		}, ""},
		{"the label is", func(n *corev1.Node) { n.Labels = map[string]string{labelExclude: ""} }, "label " + labelExclude},
		{"a network that is unavailable is", func(n *corev1.Node) {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue, Message: "no route"}}
		}, "condition NetworkUnavailable: no route"},
		{"deletion is", func(n *corev1.Node) { n.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, "the Node is being deleted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &corev1.Node{}
			tt.edit(n)
			if got := node(n).Excluded; got != tt.want {
				t.Errorf("Excluded = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNodeCarriesWhatPlansNeed(t *testing.T) {
	got := node(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1"},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24"}},
		Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "2001:db8::1"},
				{Type: corev1.NodeExternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeInternalIP, Address: "10.0.0.1"},
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}, {Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	})
	want := snapshot.Node{
		Name: "n1", Ready: true, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")},
		Addrs:    []netip.Addr{mustAddr("10.0.0.1"), mustAddr("192.0.2.1"), mustAddr("2001:db8::1")},
		Internal: []netip.Addr{mustAddr("2001:db8::1"), mustAddr("10.0.0.1")},
	}
	if diff := cmp.Diff(want, got, compareAddrs, comparePrefixes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOverlayShowsAWriteUntilTheWatchDoes(t *testing.T) {
	at := func(version string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{UID: "u", ResourceVersion: version}}
	}
	var o overlay
	read := func(cached metav1.Object) string {
		if got := o.pick("ns/a", cached); got != nil {
			return got.GetResourceVersion()
		}
		return "none"
	}
	o.put("ns/a", at("9"))
	for _, step := range []struct {
		cached metav1.Object
		want   string
	}{{at("8"), "9"}, {at("8"), "9"}, {at("10"), "10"}, {at("8"), "8"}} { // once seen it is forgotten
		if got := read(step.cached); got != step.want {
			t.Errorf("cached %s: read %s, want %s", step.cached.GetResourceVersion(), got, step.want)
		}
	}
	o.put("ns/a", at("20"))
	if got := read(nil); got != "none" {
		t.Errorf("a deleted object is read as %s", got)
	}
	o.put("ns/a", at("30"))
	reborn := at("25")
	reborn.UID = "other"
	if got := read(reborn); got != "25" {
		t.Errorf("an object made anew is read as %s", got)
	}
	o.put("ns/a", at("40"))
	o.put("ns/a", at("35"))
	if got := read(at("8")); got != "40" {
		t.Errorf("an older write wins: %s", got)
	}
}

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }
