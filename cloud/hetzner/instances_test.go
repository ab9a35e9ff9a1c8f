package hetzner

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

// a node with a provider ID, an annotation and addresses: internal ones begin with 10.
func kubeNode(name, providerID, annotation string, addrs ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{ProviderID: providerID}}
	if annotation != "" {
		n.Annotations = map[string]string{instanceID: annotation}
	}
	for _, a := range addrs {
		kind := corev1.NodeExternalIP
		if strings.HasPrefix(a, "10.") {
			kind = corev1.NodeInternalIP
		}
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: kind, Address: a})
	}
	return n
}

func TestInstances(t *testing.T) {
	w := newWorld(t, sim.Options{})
	a := w.AddServer(sim.ServerSpec{Name: "a", IPv4: netip.MustParseAddr("203.0.113.1"), IPv6: netip.MustParsePrefix("2001:db8:a::/64"), Private: map[int64]netip.Addr{w.net: netip.MustParseAddr("10.0.0.50")}})
	b := w.AddServer(sim.ServerSpec{Name: "b", NoIPv4: true, Private: map[int64]netip.Addr{w.net: netip.MustParseAddr("10.0.0.51")}})
	c := w.AddServer(sim.ServerSpec{Name: "c", IPv4: netip.MustParseAddr("203.0.113.3")})
	tests := []struct {
		name    string
		node    *corev1.Node
		private bool
		want    string // the target's ID and address, or part of the reason why there is none
	}{
		{"by provider ID", kubeNode("x", fmt.Sprint("hcloud://", a), ""), false, fmt.Sprint(a, " 203.0.113.1")},
		{"by provider ID, over the network", kubeNode("x", fmt.Sprint("hcloud://", a), ""), true, fmt.Sprint(a, " 10.0.0.50")},
		{"by annotation", kubeNode("x", "", fmt.Sprint(a)), false, fmt.Sprint(a, " 203.0.113.1")},
		{"by public address", kubeNode("x", "", "", "203.0.113.3"), false, fmt.Sprint(c, " 203.0.113.3")},
		{"by internal address", kubeNode("x", "", "", "10.0.0.51"), true, fmt.Sprint(b, " 10.0.0.51")},
		{"by an address of its /64", kubeNode("x", "", "", "2001:db8:a::1234"), false, fmt.Sprint(a, " 203.0.113.1")},
		{"by name", kubeNode("c", "", ""), false, fmt.Sprint(c, " 203.0.113.3")},
		{"by part of a name", kubeNode("c.example.org", "", ""), false, "set its provider ID"},
		{"gone", kubeNode("a", "hcloud://4711", ""), false, "there is no server 4711"},
		{"of another cloud", kubeNode("x", "aws:///eu/i-1", ""), false, "set its provider ID"},
		{"of K3s", kubeNode("c", "k3s://c", ""), false, fmt.Sprint(c, " 203.0.113.3")},
		{"of no number", kubeNode("c", "hcloud://c", ""), false, `"c" is no ID`},
		{"without IPv4", kubeNode("b", "", ""), false, "server b has no public IPv4 address"},
		{"in no network", kubeNode("c", "", ""), true, "server c is in no network"},
		{"a robot", kubeNode("r", "hrobot://5", "", "198.51.100.9", "10.0.1.9"), false, "hrobot://5 198.51.100.9"},
		{"a robot in a vSwitch", kubeNode("r", "hrobot://5", "", "198.51.100.9", "10.0.1.9"), true, "hrobot://5 10.0.1.9"},
		{"a robot of nowhere", kubeNode("r", "", "hrobot://5"), false, "no ExternalIP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			known, unknown, err := w.driver.Instances(t.Context(), []*corev1.Node{tt.node}, cloud.LBSpec{UsePrivateIP: tt.private})
			if err != nil {
				t.Fatal(w.hear(err))
			}
			got := unknown[tt.node.Name]
			if len(known) > 0 {
				got = known[0].Instance.ID + " " + known[0].Addr.String()
			}
			if !strings.Contains(got, tt.want) || len(known)+len(unknown) != 1 {
				t.Errorf("it is %q, want %q", got, tt.want)
			}
		})
	}
	if n := count(w.Journal(), "GET", "/servers"); n != 1 {
		t.Errorf("servers were listed %d times", n)
	}
}

// Two servers with one address in different networks are not told apart by it.
func TestInstancesWithOneAddress(t *testing.T) {
	w := newWorld(t, sim.Options{})
	other := w.AddNetwork("other", netip.MustParsePrefix("10.0.0.0/24"))
	same := netip.MustParseAddr("10.0.0.77")
	w.AddServer(sim.ServerSpec{Name: "a", Private: map[int64]netip.Addr{w.net: same}})
	w.AddServer(sim.ServerSpec{Name: "b", Private: map[int64]netip.Addr{other: same}})
	known, unknown, err := w.driver.Instances(t.Context(), []*corev1.Node{kubeNode("x", "", "", "10.0.0.77"), kubeNode("b", "", "", "10.0.0.77")}, cloud.LBSpec{UsePrivateIP: true})
	if err != nil || len(known) != 1 || known[0].Node != "b" || unknown["x"] == "" {
		t.Errorf("known %+v, unknown %v (%v)", known, unknown, err)
	}
}

// Load balancers send to nodes by IPv4 only: for a Service of IPv6 nothing is asked for.
func TestInstancesOfIPv6(t *testing.T) {
	t.Setenv("HCLOUD_TOKEN", sim.DefaultToken)
	synctest.Test(t, func(t *testing.T) {
		l, c, _ := simulated(t)
		w := cloudtest.NewWorld(l)
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
		_, err := w.Ensure(t.Context(), svc, w.Nodes(2))
		if reads, writes := w.Calls(); !cloud.Is(err, cloud.Terminal) || reads+writes > 0 || !strings.Contains(err.Error(), "PreferDualStack") {
			t.Errorf("%d calls: Ensure() = %v", reads+writes, err)
		}
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPv4Protocol)
		w.Serve(t, svc, w.Nodes(2))
		if lb := c.LoadBalancers()[0]; len(lb.Targets) != 2 {
			t.Errorf("there are targets %v", lb.Targets)
		}
	})
}

// A node that is in another network than the Service's is none of its targets, and holds
// up nothing.
func TestInstancesInAnotherNetwork(t *testing.T) {
	t.Setenv("HCLOUD_TOKEN", sim.DefaultToken)
	synctest.Test(t, func(t *testing.T) {
		l, c, _ := simulated(t)
		w := cloudtest.NewWorld(l)
		a, b := c.AddNetwork("a", netip.MustParsePrefix("10.1.0.0/24")), c.AddNetwork("b", netip.MustParsePrefix("10.2.0.0/24"))
		var nodes []*corev1.Node
		for i, in := range []map[int64]netip.Addr{{b: {}}, {a: {}, b: {}}, {a: {}}} {
			name := fmt.Sprint("m", i+1)
			nodes = append(nodes, kubeNode(name, fmt.Sprint(serverPrefix, c.AddServer(sim.ServerSpec{Name: name, Private: in})), ""))
		}
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Annotations[cloud.Prefix+"network"], svc.Annotations[cloud.Prefix+"use-private-ip"] = "b", "true"
		w.Serve(t, svc, nodes)
		if lb := c.LoadBalancers()[0]; len(lb.Targets) != 2 || w.Heard(cloud.ReasonNoInstance) != 1 || !strings.Contains(strings.Join(w.Events, " "), "m3 (server m3 is not in network b)") {
			t.Errorf("there are %d targets, Events %q", len(lb.Targets), w.Events)
		}
		w.Serve(t, svc, nodes[1:])
		if lb := c.LoadBalancers()[0]; len(lb.Targets) != 1 {
			t.Errorf("without m1 there are targets %v", lb.Targets)
		}
	})
}

func TestInstancesAreNeverGuessed(t *testing.T) {
	w := newWorld(t, sim.Options{})
	nodes := []*corev1.Node{kubeNode("n1", "", "")}
	w.Refuse(sim.Refusal{Path: regexp.MustCompile("/servers"), Code: "server_error", Times: 1})
	if known, unknown, err := w.driver.Instances(t.Context(), nodes, cloud.LBSpec{}); err == nil || known != nil || unknown != nil {
		t.Errorf("with an error: known %v, unknown %v", known, unknown)
	}
	if known, _, err := w.driver.Instances(t.Context(), nodes, cloud.LBSpec{}); err != nil || len(known) != 1 {
		t.Errorf("known %v (%v)", known, err)
	}
	for _, id := range w.nodes {
		w.Remove(sim.Server, id)
	}
	w.clock.Advance(time.Minute)
	if _, _, err := w.driver.Instances(t.Context(), nodes, cloud.LBSpec{}); !cloud.Is(w.hear(err), cloud.Unsafe) {
		t.Errorf("with no servers at all it says %v", err)
	}
}

func TestInstancesReadAllPages(t *testing.T) {
	w := newWorld(t, sim.Options{})
	for i := range 120 {
		w.AddServer(sim.ServerSpec{Name: fmt.Sprint("many-", i)})
	}
	var nodes []*corev1.Node
	for i := range 120 {
		nodes = append(nodes, kubeNode(fmt.Sprint("many-", i), "", ""))
	}
	known, unknown, err := w.driver.Instances(t.Context(), nodes, cloud.LBSpec{})
	if err != nil || len(known) != 120 || len(unknown) != 0 || len(w.Journal()) != 3 {
		t.Errorf("%d are known, %d unknown, by %q: %v", len(known), len(unknown), calls(w.Journal()), err)
	}
}

// A target that is no cloud server is reached by its address.
func TestRobotTarget(t *testing.T) {
	w := newWorld(t, sim.Options{})
	ip := netip.MustParseAddr("198.51.100.9")
	w.OwnIP(ip)
	known, _, err := w.driver.Instances(t.Context(), []*corev1.Node{kubeNode("r", "hrobot://5", "", ip.String()), kubeNode("n1", "", "")}, cloud.LBSpec{})
	if err != nil || len(known) != 2 {
		t.Fatal(known, err)
	}
	s := spec([]int32{80})
	s.Targets = known
	for _, targets := range [][]cloud.Target{known, known[:1], known} {
		s.Targets = targets
		if err := w.pass(s); err != nil {
			t.Fatal(err)
		}
		if n := w.planned(s); n != 0 || len(w.only().Targets) != len(targets) {
			t.Errorf("there are %d targets, and %d steps left", len(w.only().Targets), n)
		}
	}
}
