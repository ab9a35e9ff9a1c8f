package openstack

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// The life of a Service, as the real servers see it: C5 of the acceptance checks.
func TestLifeOfALoadBalancer(t *testing.T) {
	w := newWorld(t)
	spec := want("web", 3, 80, 443)
	var f *cloud.Found
	did := func(name string, most int, do func()) {
		t.Helper()
		reads, changes := w.counted(t, do)
		t.Logf("%s: %d reads, %d changes", name, reads, len(changes))
		if len(changes) > most {
			t.Errorf("%s: %d calls that change something, want %d: %v", name, len(changes), most, changes)
		}
	}
	did("create", 3, func() { f, _ = w.settle(t, spec) })
	if f.State != cloud.Ready || len(f.Addrs) != 1 || !netip.MustParsePrefix("203.0.113.0/24").Contains(f.Addrs[0]) || f.Owner != spec.Owner {
		t.Errorf("made %+v", f)
	}
	did("three nodes go, three come", 2, func() { spec.Targets = targets(4, 6); f, _ = w.settle(t, spec) })
	did("a nodePort", 1, func() {
		spec.Listeners[0].NodePort, spec.Listeners[0].Health.Port = 31000, 31000
		f, _ = w.settle(t, spec)
	})
	did("a port more", 4, func() { spec.Listeners = append(spec.Listeners, tcp(8080)); f, _ = w.settle(t, spec) })
	did("a port less", 2, func() { spec.Listeners = spec.Listeners[1:]; f, _ = w.settle(t, spec) })
	did("externalTrafficPolicy Local", 6, func() {
		for i := range spec.Listeners {
			spec.Listeners[i].Health.HTTP, spec.Listeners[i].Health.Port, spec.Listeners[i].Health.Path = true, 32000, "/healthz"
		}
		f, _ = w.settle(t, spec)
	})
	did("the PROXY protocol", 10, func() {
		for i := range spec.Listeners {
			spec.Listeners[i].Proxy = cloud.ProxyV2
		}
		f, _ = w.settle(t, spec)
	})
	did("everything else", 6, func() {
		spec.SourceRanges = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32")}
		spec.IdleTimeout, spec.Algorithm, spec.Title = 5*time.Minute, "LeastConnections", "my web"
		f, _ = w.settle(t, spec)
	})
	did("everything else as it was", 6, func() {
		spec.SourceRanges, spec.IdleTimeout, spec.Algorithm, spec.Title = nil, 0, "", ""
		f, _ = w.settle(t, spec)
	})
	if reads, again := w.counted(t, func() { w.settle(t, spec) }); len(again) != 0 || reads > 8 {
		t.Errorf("when it is as it should be: %d reads, and %v", reads, again)
	}
	listed, err := w.List(t.Context(), "c1")
	if plan, err2 := w.Plan(spec, &listed[0]); err != nil || err2 != nil || len(plan) != 0 {
		t.Errorf("as listed: %v %v, plan %v", err, err2, plan)
	}
	reads, _ := w.counted(t, func() { _, _ = w.List(t.Context(), "c1") })
	t.Logf("list again: %d reads", reads)
	if reads > 5 {
		t.Errorf("a list of what has not changed takes %d reads", reads)
	}
	reads, changes := w.counted(t, func() { w.end(t, spec.Owner) })
	t.Logf("delete: %d reads, %d changes", reads, len(changes))
	if len(changes) != 2 || !strings.Contains(changes[0], "floatingips") || !strings.Contains(changes[1], "cascade=true") {
		t.Errorf("deleted by %v", changes)
	}
	if left := w.balancers(t); len(left) != 0 || len(w.floatingIPs(t)) != 0 {
		t.Errorf("left behind: %v %v", left, w.floatingIPs(t))
	}
	w.end(t, spec.Owner)
}

func TestOtherProtocols(t *testing.T) {
	w := newWorld(t)
	spec := want("dns", 2, 53)
	udp, sctp := tcp(53), tcp(54)
	udp.Protocol, sctp.Protocol = corev1.ProtocolUDP, corev1.ProtocolSCTP
	spec.Listeners = append(spec.Listeners, udp, sctp)
	f, _ := w.settle(t, spec)
	var types []string
	for _, p := range f.Raw.(*balancer).Pools {
		types = append(types, p.Probe.Type)
	}
	if !slices.Equal(types, []string{"SCTP", "TCP", "UDP-CONNECT"}) {
		t.Errorf("asked by %v", types)
	}
	can, err := w.Capabilities(t.Context())
	if err != nil || len(can.Protocols) != 3 || !can.SourceRanges || !can.ProxyProtocol {
		t.Errorf("Capabilities() = %+v, %v", can, err)
	}
}

// A floating IP belongs to its Service, whatever becomes of the load balancer.
func TestFloatingIP(t *testing.T) {
	w := newWorld(t)
	spec := want("web", 1, 80)
	f, _ := w.settle(t, spec)
	addr := f.Addrs[0]
	fip := f.Raw.(*balancer).Addresses[0]
	if !slices.Contains(fip.Tags, "herald-uid=uid-web") || !strings.HasPrefix(fip.Description, "herald:c1:uid-web:shop/web") {
		t.Errorf("its marks are %v, %q", fip.Tags, fip.Description)
	}

	// Moved by hand, it is moved back.
	w.Neutron(t, "PUT", "/floatingips/"+fip.ID, map[string]any{"floatingip": map[string]any{"port_id": w.Port(t)}})
	if f, _ = w.settle(t, spec); f.Addrs[0] != addr {
		t.Errorf("moved by hand: %v, not %s", f.Addrs, addr)
	}

	// The load balancer is deleted by hand, and its port: the address is what is left.
	w.Octavia(t, "DELETE", "/loadbalancers/"+f.ID+"?cascade=true", nil)
	if err := w.wait(t, cloud.Pending{ID: f.ID}); err != nil {
		t.Fatal(err)
	}
	all, err := w.Find(t.Context(), spec.Owner)
	if err != nil || len(all) != 1 || all[0].Kind != cloud.Address || all[0].Addrs[0] != addr {
		t.Fatalf("found %+v, %v", all, err)
	}
	if f, _ = w.settle(t, spec); f.Addrs[0] != addr {
		t.Errorf("made anew: %v, not %s", f.Addrs, addr)
	}

	// Without its description it is found by its tags.
	w.Neutron(t, "PUT", "/floatingips/"+fip.ID, map[string]any{"floatingip": map[string]any{"description": "mine"}})
	w.Octavia(t, "DELETE", "/loadbalancers/"+f.ID+"?cascade=true", nil)
	w.end(t, spec.Owner)
	if left := w.floatingIPs(t); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestInternal(t *testing.T) {
	w := newWorld(t)
	spec := want("web", 1, 80)
	f, _ := w.settle(t, spec)
	public := f.Addrs[0]
	spec.Internal = true
	f, refused := w.settle(t, spec)
	if !netip.MustParsePrefix("10.0.0.0/24").Contains(f.Addrs[0]) || len(refused) != 1 || refused[0].Kind != "remove address" {
		t.Errorf("internal: %v, refused %v", f.Addrs, refused)
	}
	spec.Internal = false
	if f, _ = w.settle(t, spec); f.Addrs[0] != public {
		t.Errorf("and back: %v, not %s", f.Addrs, public)
	}
	if by, err := w.Lookup(t.Context(), public.String()); err != nil || by.ID != f.ID {
		t.Errorf("Lookup() by a floating IP = %v, %v", by, err)
	}
	spec.Internal, spec.AllowRecreate, spec.Title = true, true, "shop"
	if f, refused = w.settle(t, spec); len(refused) != 0 || len(w.floatingIPs(t)) != 0 {
		t.Errorf("refused %v, left %v", refused, w.floatingIPs(t))
	}
	if by, err := w.Lookup(t.Context(), f.Addrs[0].String()); err != nil || by.ID != f.ID || by.Name != "shop" {
		t.Errorf("Lookup() by its own address = %v, %v", by, err)
	}
	w.end(t, spec.Owner)
}

// An address that was reserved before is used, and stays.
func TestReservedAddress(t *testing.T) {
	w := newWorld(t)
	made := w.Neutron(t, "POST", "/floatingips", map[string]any{"floatingip": map[string]any{"floating_network_id": w.Public, "description": "of the web team"}})["floatingip"].(map[string]any)
	spec := want("web", 1, 80)
	spec.Address = made["floating_ip_address"].(string)
	if f, _ := w.settle(t, spec); f.Addrs[0].String() != spec.Address {
		t.Errorf("has %v, not %s", f.Addrs, spec.Address)
	}
	other := want("other", 1, 80)
	other.Address = spec.Address
	if _, _, err := w.pass(t, other); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("what is in use: %v", err)
	}
	w.end(t, other.Owner)
	w.end(t, spec.Owner)
	left := w.floatingIPs(t)
	if len(left) != 1 || left[0]["description"] != "of the web team" || left[0]["port_id"] != nil {
		t.Errorf("left: %v", left)
	}
}

// Names are not unique: of two load balancers of one name each Service has its own,
// and of two with the same marks both are found.
func TestTwoOfOneName(t *testing.T) {
	w := newWorld(t)
	a, b := want("a", 1, 80), want("b", 1, 80)
	a.Title, b.Title = "web", "web"
	fa, _ := w.settle(t, a)
	fb, _ := w.settle(t, b)
	if fa.ID == fb.ID || fa.Name != "web" || fb.Name != "web" {
		t.Errorf("a is %s %q, b is %s %q", fa.ID, fa.Name, fb.ID, fb.Name)
	}
	if _, err := w.Lookup(t.Context(), "web"); !cloud.Is(err, cloud.Conflict) {
		t.Errorf("Lookup of a name of two: %v", err)
	}
	w.Octavia(t, "POST", "/loadbalancers", map[string]any{"loadbalancer": map[string]any{"name": "twin", "vip_subnet_id": w.Subnet, "tags": marks{Owner: a.Owner}.tags(nil)}})
	all, err := w.Find(t.Context(), a.Owner)
	if err != nil || len(all) != 2 || all[0].ID != fa.ID {
		t.Fatalf("found %v, %v", all, err)
	}
	// Its twin goes, and the address stays.
	if err := w.wait(t, cloud.Pending{ID: all[1].ID}); err != nil {
		t.Fatal(err)
	}
	if err := w.apply(t, w.PlanRemoval(all[1], cloud.PolicyDelete)); err != nil {
		t.Error(err)
	}
	if f, _ := w.settle(t, a); f.ID != fa.ID || f.Addrs[0] != fa.Addrs[0] {
		t.Errorf("a is %v", f)
	}
	w.end(t, a.Owner)
	if f, _ := w.settle(t, b); f.ID != fb.ID {
		t.Errorf("b is %v", f)
	}
	w.end(t, b.Owner)
}

// What is not ours is not touched, in a load balancer of ours, either.
func TestNotOurs(t *testing.T) {
	w := newWorld(t)
	id := w.Octavia(t, "POST", "/loadbalancers", map[string]any{"loadbalancer": map[string]any{
		"name": "by-hand", "description": "of the web team", "vip_subnet_id": w.Subnet, "tags": []string{"team=web"},
		"listeners": []any{map[string]any{"name": "theirs", "protocol": "HTTP", "protocol_port": 8080}}}})["loadbalancer"].(map[string]any)["id"].(string)
	if err := w.wait(t, cloud.Pending{ID: id}); err != nil {
		t.Fatal(err)
	}
	if all, err := w.List(t.Context(), "c1"); err != nil || len(all) != 0 {
		t.Errorf("List() = %v, %v", all, err)
	}
	f, err := w.Lookup(t.Context(), "by-hand")
	if err != nil || f.Owner != (cloud.Owner{}) {
		t.Fatalf("Lookup() = %v, %v", f, err)
	}
	spec := want("web", 1, 80)
	plan, err := w.Plan(spec, &f)
	if err != nil || plan[0].Order != cloud.Mark {
		t.Fatalf("Plan() = %v, %v", plan, err)
	}
	if err := w.apply(t, plan); err != nil {
		t.Fatal(err)
	}
	adopted, _ := w.settle(t, spec)
	if adopted.ID != id || !adopted.Adopted || adopted.Name != "by-hand" {
		t.Errorf("adopted %+v", adopted)
	}
	taken := want("web", 1, 8080)
	if _, err := w.Plan(taken, adopted); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := w.remove(t, spec.Owner, cloud.PolicyRelease); err != nil {
		t.Fatal(err)
	}
	after, err := w.Lookup(t.Context(), "by-hand")
	b := after.Raw.(*balancer)
	if err != nil || after.Owner != (cloud.Owner{}) || b.Description != "of the web team" || !slices.Equal(b.Tags, []string{"team=web"}) ||
		len(b.Listeners) != 1 || b.Listeners[0].Name != "theirs" || len(b.Pools) != 0 {
		t.Errorf("released: %+v, %v", b, err)
	}
}

// What was kept is there for the Service of that name that comes next.
func TestRetainedAndAdopted(t *testing.T) {
	w := newWorld(t)
	spec := want("web", 1, 80)
	f, _ := w.settle(t, spec)
	if err := w.remove(t, spec.Owner, cloud.PolicyRetain); err != nil {
		t.Fatal(err)
	}
	all, err := w.List(t.Context(), "c1")
	if err != nil || len(all) != 1 || !all[0].Retained || all[0].Owner != spec.Owner {
		t.Fatalf("List() = %+v, %v", all, err)
	}
	spec.Owner.UID = "uid-new"
	plan, err := w.Plan(spec, &all[0])
	if err != nil || plan[0].Order != cloud.Mark {
		t.Fatalf("Plan() = %v, %v", plan, err)
	}
	if err := w.apply(t, plan); err != nil {
		t.Fatal(err)
	}
	again, _ := w.settle(t, spec)
	if again.ID != f.ID || again.Addrs[0] != f.Addrs[0] || again.Retained || again.Adopted {
		t.Errorf("is %+v, was %+v", again, f)
	}
	if old, err := w.Find(t.Context(), owner("web")); err != nil || len(old) != 0 {
		t.Errorf("the old one still has %v, %v", old, err)
	}
	w.end(t, spec.Owner)
}

// A load balancer that Octavia has given up is made anew where that is allowed, and
// keeps its address.
func TestStateError(t *testing.T) {
	w := newWorld(t)
	spec := want("web", 1, 80)
	f, _ := w.settle(t, spec)
	w.SetStatus(t, f.ID, "ERROR")
	failed, refused := w.settle(t, spec)
	if failed.State != cloud.Failed || len(refused) != 1 {
		t.Errorf("in error: %v, refused %v", failed, refused)
	}
	if _, err := w.Poll(t.Context(), []cloud.Pending{{ID: f.ID}}); err == nil {
		t.Error("Poll says nothing of it")
	}
	spec.AllowRecreate = true
	if again, _ := w.settle(t, spec); again.ID == f.ID || again.Addrs[0] != f.Addrs[0] {
		t.Errorf("made anew: %v, was %v", again, f)
	}
	w.end(t, spec.Owner)
}

// Another subnet is another load balancer, behind the same address.
func TestAnotherSubnet(t *testing.T) {
	w := newWorld(t)
	w.Neutron(t, "POST", "/subnets", map[string]any{"subnet": map[string]any{"network_id": w.Nodes, "name": "other", "cidr": "10.1.0.0/24", "ip_version": 4}})
	spec := want("web", 1, 80)
	f, _ := w.settle(t, spec)
	spec.Subnet = "other"
	if _, refused := w.settle(t, spec); len(refused) != 1 || refused[0].Kind != "remove load balancer" {
		t.Errorf("refused %v", refused)
	}
	w.end(t, spec.Owner)
	spec.Subnet = ""
	w.config.Defaults.Subnet = ""
	w.restart(t)
	if g, _ := w.settle(t, spec); g.Raw.(*balancer).Subnet.ID != f.Raw.(*balancer).Subnet.ID {
		t.Errorf("without a subnet it is in %v", g.Raw.(*balancer).Subnet)
	}
}
