package openstack

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/cloud"
)

func TestMarksAreReadAsTheyWereWritten(t *testing.T) {
	long := cloud.Owner{Cluster: strings.Repeat("c:", 31), UID: "0fd75a6c-6ec7-4bb8-8d4b-2a9f0a0c7e11", Namespace: strings.Repeat("n", 63), Name: strings.Repeat("s", 63)}
	for _, m := range []marks{{Owner: owner("web")}, {Owner: owner("web"), Adopted: true}, {Owner: long, Adopted: true, Retained: true}} {
		have := []string{"team=web"}
		tags := m.tags(have)
		if got := readTags(tags); got != m || !slices.Equal(unmark(tags), have) {
			t.Errorf("tags %v are read as %+v", tags, got)
		}
		if got := readDescription(m.String()); got != m || len(m.String()) > 255 {
			t.Errorf("%q is read as %+v", m, got)
		}
		for _, tag := range m.shortTags(have) {
			if len(tag) > shortTag {
				t.Errorf("tag %s is too long", tag)
			}
		}
	}
}

func FuzzReadDescription(f *testing.F) {
	f.Add("herald:c:u:n/s")
	f.Add("herald:::/")
	f.Fuzz(func(t *testing.T, text string) {
		if m := readDescription(text); !m.none() && m.String() != text {
			t.Errorf("%q is read as %q", text, m)
		}
	})
}

func TestClassesOfErrors(t *testing.T) {
	for _, tt := range []struct {
		status int
		said   string
		want   cloud.Class
	}{
		{409, "Invalid state PENDING_UPDATE of loadbalancer resource 1", cloud.Locked},
		{409, "Pool 1 is immutable and cannot be updated.", cloud.Locked},
		{409, "Another Listener on this Load Balancer is already using protocol_port 80", cloud.Conflict},
		{409, "Quota exceeded for resources: ['floatingip'].", cloud.Quota},
		{409, "No more IP addresses available on network 1.", cloud.Quota},
		{403, "Quota has been met for resources: Load Balancer", cloud.Quota},
		{403, "Policy does not allow this request to be performed.", cloud.Auth},
		{401, "", cloud.Auth},
		{400, "Invalid input", cloud.Terminal},
		{502, "quota", cloud.Retryable},
	} {
		if got := class(tt.status, tt.said); got != tt.want {
			t.Errorf("%d %s is of class %s, not %s", tt.status, tt.said, got, tt.want)
		}
	}
}

func TestInstances(t *testing.T) {
	node := func(name, providerID, addr, annotation string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{ProviderID: providerID}}
		if addr != "" {
			n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeExternalIP, Address: "203.0.113.9"}, {Type: corev1.NodeInternalIP, Address: addr}}
		}
		if annotation != "" {
			n.Annotations = map[string]string{instanceID: annotation}
		}
		return n
	}
	known, unknown, err := (&driver{}).Instances(t.Context(), []*corev1.Node{
		node("b", "openstack://region/u2", "10.0.0.2", ""), node("a", "openstack:///u1", "10.0.0.1", ""),
		node("c", "k3s://c", "10.0.0.3", "u3"), node("d", "", "fd00::4", ""),
		node("e", "hcloud://5", "10.0.0.5", ""), node("f", "openstack:///u6", "", ""),
	}, cloud.LBSpec{UsePrivateIP: true})
	var got []string
	for _, k := range known {
		got = append(got, fmt.Sprintf("%s %s %s", k.Node, k.Instance.ID, k.Addr))
	}
	if want := []string{"a u1 10.0.0.1", "b u2 10.0.0.2", "c u3 10.0.0.3", "d  fd00::4"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("known %v, %v\nwant  %v", got, err, want)
	}
	dual := node("g", "", "10.0.0.7", "")
	dual.Status.Addresses = append(dual.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::7"})
	for _, tt := range []struct {
		families string
		want     string
	}{{"", "10.0.0.7"}, {"IPv4", "10.0.0.7"}, {"IPv6", "fd00::7"}, {"IPv6 IPv4", "10.0.0.7"}} {
		var want cloud.LBSpec
		for f := range strings.FieldsSeq(tt.families) {
			want.NodeFamilies = append(want.NodeFamilies, corev1.IPFamily(f))
		}
		known, not, err := (&driver{}).Instances(t.Context(), []*corev1.Node{dual, node("h", "", "10.0.0.8", "")}, want)
		if err != nil || known[0].Addr.String() != tt.want || len(known) == 1 && !strings.Contains(not["h"], "Service of [IPv6]") || (len(known) == 1) != (tt.families == "IPv6") {
			t.Errorf("a Service of %q is served at %v, not %v: %v", tt.families, known, not, err)
		}
	}
	if len(unknown) != 2 || !strings.Contains(unknown["e"], "hcloud://5") || !strings.Contains(unknown["f"], "InternalIP") {
		t.Errorf("unknown %v", unknown)
	}
}
