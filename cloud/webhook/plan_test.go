package webhook

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/cloud"
)

// served is the load balancer that a server shows once it has done as it was told.
func served(t *testing.T, s cloud.Step) *cloud.Found {
	t.Helper()
	c, ok := s.Payload.(call)
	if !ok {
		t.Fatalf("%s has no call", s)
	}
	text, err := json.Marshal(c.Body)
	if err != nil {
		t.Fatal(err)
	}
	var ask lbRequest
	if err := decode(text, &ask); err != nil {
		t.Fatal(err)
	}
	lb := loadBalancer{resource: resource{ID: "lb-1", Owner: &ask.Owner, State: "ready"}, Addresses: []string{"192.0.2.1"}, Spec: &ask.Spec}
	f := lb.found()
	f.Raw = seen{lb: lb}
	return &f
}

// Whatever is there and whatever is wanted: once the plan is carried out, nothing
// is left of it.
func TestPlanConverges(t *testing.T) {
	d := driver(t, "http://localhost", nil)
	rnd := rand.New(rand.NewPCG(3, 4))
	var found *cloud.Found
	for range 2000 {
		want := randomSpec(rnd, "u1")
		p := plan(t, d, want, found)
		if len(p) > 2 || !slices.IsSortedFunc(p, func(a, b cloud.Step) int { return int(a.Order - b.Order) }) {
			t.Fatalf("planned %v", p)
		}
		for _, s := range p {
			found = served(t, s)
		}
		if rest := plan(t, d, want, found); len(rest) != 0 {
			t.Fatalf("of %+v is left %v", want, rest)
		}
	}
}

func TestPlan(t *testing.T) {
	d := driver(t, "http://localhost", nil)
	made := func(change func(*loadBalancer)) *cloud.Found {
		s := served(t, plan(t, d, webSpec(), nil)[0]).Raw.(seen)
		change(&s.lb)
		f := s.lb.found()
		f.Raw = s
		return &f
	}
	moved := webSpec()
	moved.Location, moved.Algorithm = "hel1", "RoundRobin"
	none := webSpec()
	none.Targets = nil
	only := webSpec()
	only.Location = "hel1"
	allowed := moved
	allowed.AllowRecreate = true
	for _, tt := range []struct {
		name  string
		want  cloud.LBSpec
		found *cloud.Found
		steps []string
	}{
		{"nothing is there", webSpec(), nil, []string{"create load balancer: shop/web, 1 listeners, 1 targets"}},
		{"all is well", webSpec(), made(func(*loadBalancer) {}), nil},
		{"the server has given up", webSpec(), made(func(lb *loadBalancer) { lb.State = "failed" }), []string{"change load balancer of lb-1: shop/web, 1 listeners, 1 targets"}},
		{"somebody has edited it", webSpec(), made(func(lb *loadBalancer) { lb.Spec.Targets = nil }), []string{"change load balancer of lb-1: shop/web, 1 listeners, 1 targets"}},
		{"no node is left, and nobody is cut off", none, made(func(*loadBalancer) {}), nil},
		{"the server writes none", webSpec(), made(func(lb *loadBalancer) { lb.Spec.Listeners[0].ProxyProtocol = "none" }), nil},
		{"it was never told anything", webSpec(), made(func(lb *loadBalancer) { lb.Spec = nil }), []string{"set load balancer of lb-1: shop/web, 1 listeners, 1 targets"}},
		{"a move alone is one step", only, made(func(*loadBalancer) {}),
			[]string{"move load balancer of lb-1: {Location: Network: Subnet: Internal:false Address:} → {Location:hel1 Network: Subnet: Internal:false Address:} !"}},
		{"what may lose the address comes after the rest", moved, made(func(*loadBalancer) {}),
			[]string{"change load balancer of lb-1: shop/web, 1 listeners, 1 targets",
				"move load balancer of lb-1: {Location: Network: Subnet: Internal:false Address:} → {Location:hel1 Network: Subnet: Internal:false Address:} !"}},
		{"where that is allowed it is one step", allowed, made(func(*loadBalancer) {}),
			[]string{"move load balancer of lb-1: {Location: Network: Subnet: Internal:false Address:} → {Location:hel1 Network: Subnet: Internal:false Address:} !"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, s := range plan(t, d, tt.want, tt.found) {
				text := s.String()
				if s.Destructive {
					text += " !"
				}
				got = append(got, text)
			}
			if !slices.Equal(got, tt.steps) {
				t.Errorf("Plan() = %q\nwant     %q", got, tt.steps)
			}
		})
	}
	if _, err := d.Plan(webSpec(), made(func(lb *loadBalancer) { lb.State = "deleting" })); !cloud.Is(err, cloud.Locked) {
		t.Errorf("of what is being deleted: %v", err)
	}
	if _, err := d.Plan(webSpec(), made(func(lb *loadBalancer) { lb.Owner = nil })); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("of nobody's, without adoption: %v", err)
	}
	if _, err := d.Plan(webSpec(), &cloud.Found{Kind: cloud.Address, Raw: address{}}); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("of an address: %v", err)
	}
}

func TestPlanRemoval(t *testing.T) {
	d := driver(t, "http://localhost", nil)
	lb := cloud.Found{Kind: cloud.LoadBalancer, ID: "lb-1", Owner: web, State: cloud.Ready, Raw: seen{}}
	addr := cloud.Found{Kind: cloud.Address, ID: "ad-1", Owner: web, State: cloud.Ready, Raw: address{Family: "IPv4"}}
	with := func(f cloud.Found, change func(*cloud.Found)) cloud.Found { change(&f); return f }
	for _, tt := range []struct {
		name   string
		found  cloud.Found
		policy cloud.Policy
		want   string
	}{
		{"delete", lb, cloud.PolicyDelete, "DELETE /v1/loadbalancers/c1.6f3c2f6e-0001"},
		{"delete an address", addr, cloud.PolicyDelete, "DELETE /v1/addresses/c1.6f3c2f6e-0001.IPv4"},
		{"release", lb, cloud.PolicyRelease, "DELETE /v1/loadbalancers/c1.6f3c2f6e-0001?keep=true"},
		{"retain", lb, cloud.PolicyRetain, ""},
		{"an unknown policy", lb, "Burn", ""},
		{"protected", with(lb, func(f *cloud.Found) { f.Protected = true }), cloud.PolicyDelete, "DELETE /v1/loadbalancers/c1.6f3c2f6e-0001?keep=true"},
		{"nobody's", with(lb, func(f *cloud.Found) { f.Owner = cloud.Owner{} }), cloud.PolicyDelete, ""},
		{"being deleted", with(lb, func(f *cloud.Found) { f.State = cloud.Deleting }), cloud.PolicyDelete, ""},
		{"of another driver", with(lb, func(f *cloud.Found) { f.Raw = 7 }), cloud.PolicyDelete, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			for _, s := range d.PlanRemoval(tt.found, tt.policy) {
				got += s.Payload.(call).String()
			}
			if got != tt.want {
				t.Errorf("PlanRemoval() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestInstances(t *testing.T) {
	node := func(name, provider, annotation string, addrs ...corev1.NodeAddress) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{ProviderID: provider}, Status: corev1.NodeStatus{Addresses: addrs}}
		if annotation != "" {
			n.Annotations = map[string]string{instanceAnnotation: annotation}
		}
		return n
	}
	in := corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}
	out := corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "192.0.2.1"}
	host := corev1.NodeAddress{Type: corev1.NodeHostName, Address: "n"}
	nodes := []*corev1.Node{node("a", "k3s://a", "vm-1", in, out), node("b", "", "vm-2", host, in), node("c", "", "", out), node("d", "", "", host)}
	nodes = append(nodes, node("e", "", "", out, in, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "fd00::5"}))
	for _, tt := range []struct {
		private bool
		family  corev1.IPFamily
		want    []string
		unknown []string
	}{
		{false, corev1.IPv4Protocol, []string{"a k3s://a 192.0.2.1", "b vm-2 10.0.0.1", "c c 192.0.2.1", "e e 192.0.2.1"}, []string{"d"}},
		{true, corev1.IPv4Protocol, []string{"a k3s://a 10.0.0.1", "b vm-2 10.0.0.1", "e e 10.0.0.1"}, []string{"c", "d"}},
		{false, corev1.IPv6Protocol, []string{"e e fd00::5"}, []string{"a", "b", "c", "d"}},
	} {
		known, unknown, err := driver(t, "http://localhost", nil).Instances(t.Context(), nodes, cloud.LBSpec{UsePrivateIP: tt.private, NodeFamilies: []corev1.IPFamily{tt.family}})
		got := each(known, func(k cloud.Target) string { return k.Node + " " + k.Instance.ID + " " + k.Addr.String() })
		if err != nil || !slices.Equal(got, tt.want) || len(unknown) != len(tt.unknown) {
			t.Errorf("private %t: %q, %v, %v", tt.private, got, unknown, err)
		}
		for _, n := range tt.unknown {
			if unknown[n] == "" {
				t.Errorf("private %t: no reason for %s", tt.private, n)
			}
		}
	}
}

// Where nothing more may be opened, the engine leaves out what lets traffic in that did not
// get in before: it has to be told which change does.
func TestWhatExposes(t *testing.T) {
	d := driver(t, "http://localhost", nil)
	edit := func(edit func(*cloud.LBSpec)) cloud.LBSpec {
		s := webSpec()
		s.Listeners, s.AllowRecreate = slices.Clone(s.Listeners), true
		edit(&s)
		return s
	}
	found := served(t, plan(t, d, webSpec(), nil)[0])
	inside := served(t, plan(t, d, edit(func(s *cloud.LBSpec) { s.Internal = true }), nil)[0])
	unknown, lb := *found, found.Raw.(seen).lb
	lb.Spec = nil
	unknown.Raw = seen{lb: lb}
	for _, tt := range []struct {
		name    string
		want    cloud.LBSpec
		found   *cloud.Found
		exposes bool
	}{
		{"a new one", webSpec(), nil, true},
		{"a port more", edit(func(s *cloud.LBSpec) {
			s.Listeners = append(s.Listeners, cloud.Listener{Protocol: corev1.ProtocolTCP, Port: 9999, NodePort: 39999})
		}), found, true},
		{"a family more", edit(func(s *cloud.LBSpec) { s.Families = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} }), found, true},
		{"another nodePort", edit(func(s *cloud.LBSpec) { s.Listeners[0].NodePort++ }), found, false},
		{"one of which nothing is known", webSpec(), &unknown, true},
		{"public from now on", edit(func(*cloud.LBSpec) {}), inside, true},
		{"internal from now on", edit(func(s *cloud.LBSpec) { s.Internal = true }), found, false},
		{"moved, with a port more", edit(func(s *cloud.LBSpec) { s.Location, s.Listeners[0].Port = "hel1", 9999 }), found, true},
		{"moved", edit(func(s *cloud.LBSpec) { s.Location = "hel1" }), found, false},
	} {
		if p := plan(t, d, tt.want, tt.found); len(p) != 1 || p[0].Exposes != tt.exposes {
			t.Errorf("%s: %v, exposes: %t", tt.name, p, p[0].Exposes)
		}
	}
}
