package hetzner

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

func TestCreate(t *testing.T) {
	w := newWorld(t, sim.Options{Latency: 3 * time.Second})
	w.find() // reads the catalogue, once an hour
	w.ClearJournal()
	s := with(w.spec([]int32{80, 443}, 0, 1, 2), func(s *cloud.LBSpec) {
		s.Network, s.UsePrivateIP = "inside", true
		s.Listeners[0].Health = cloud.HealthCheck{HTTP: true, Port: 10256, Path: "/healthz"}
	})
	if err := w.pass(s); err != nil {
		t.Fatal(err)
	}
	w.find()
	j := w.Journal()
	lists, polls := count(j, "GET", "/load_balancers"), count(j, "GET", "/actions")
	if lists != 2 || polls > 4 || len(w.Writes()) != 1 || len(j) != lists+polls+1 {
		t.Errorf("it took %q", calls(j))
	}
	w.compare(s)
	f := w.find()[0]
	if len(f.Addrs) != 2 || !f.Addrs[0].Is4() || !f.Addrs[1].Is6() || f.Owner != owner || f.State != cloud.Ready || f.Adopted || f.Kind != cloud.LoadBalancer {
		t.Errorf("found %+v", f)
	}
	if want := (cloud.Money{Milli: 5390, Currency: "EUR"}); f.Cost != want {
		t.Errorf("costs %s, want %s", f.Cost, want)
	}
}

func TestConvergedWritesNothing(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := w.spec([]int32{80, 443}, 0, 1, 2)
	w.ensure(s)
	w.ClearJournal()
	for range 10 {
		if err := w.pass(s); err != nil {
			t.Fatal(err)
		}
	}
	if j := w.Journal(); len(j) != 10 || len(w.Writes()) != 0 {
		t.Errorf("10 passes took %q", calls(j))
	}
	w.clock.Advance(2 * time.Hour) // the catalogue is read anew: types, networks, prices
	w.ClearJournal()
	if err := w.pass(s); err != nil || len(w.Journal()) != 4 || len(w.Writes()) != 0 {
		t.Errorf("two hours later it took %q: %v", calls(w.Journal()), err)
	}
}

func TestEditsTakeTheFewestCalls(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := w.spec([]int32{80, 443}, 0, 1, 2)
	w.ensure(s)
	tests := []struct {
		name string
		edit func(*cloud.LBSpec)
		want string // writes, in order
	}{
		{"node port", func(s *cloud.LBSpec) { s.Listeners[0].NodePort = 31000 }, "update_service"},
		{"health check", func(s *cloud.LBSpec) {
			s.Listeners[0].Health = cloud.HealthCheck{HTTP: true, Port: 32000, Path: "/healthz"}
		}, "update_service"},
		{"health check of the node port again", func(s *cloud.LBSpec) { s.Listeners[0].Health = cloud.HealthCheck{} }, "update_service"},
		{"node", func(s *cloud.LBSpec) { s.Targets[0] = node(int(w.nodes[4])) }, "add_target remove_target"},
		{"listener", func(s *cloud.LBSpec) { s.Listeners[1].Port = 444 }, "PUT add_service delete_service PUT"},
		{"algorithm", func(s *cloud.LBSpec) { s.Algorithm = "LeastConnections" }, "change_algorithm"},
		{"type", func(s *cloud.LBSpec) { s.Type = "lb21" }, "change_type"},
		{"title", func(s *cloud.LBSpec) { s.Title = "the shop" }, "PUT"},
		{"network", func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP = "inside", true },
			"attach_to_network remove_target add_target remove_target add_target remove_target add_target"},
		{"internal", func(s *cloud.LBSpec) { s.Internal = true }, "disable_public_interface"},
		{"public", func(s *cloud.LBSpec) { s.Internal = false }, "enable_public_interface"},
		{"PROXY", func(s *cloud.LBSpec) { s.Listeners[0].Proxy = cloud.ProxyV2 }, "update_service"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s = with(s, tt.edit)
			w.ClearJournal()
			w.ensure(s)
			var writes []string
			for _, c := range calls(w.Writes()) {
				if method, _, _ := strings.Cut(c, " "); method != "POST" {
					writes = append(writes, method)
					continue
				}
				writes = append(writes, c[strings.LastIndex(c, "/")+1:])
			}
			if got := strings.Join(writes, " "); got != tt.want {
				t.Errorf("it took %q, want %q", got, tt.want)
			}
		})
	}
}

// story is what happens to a load balancer in its life; each is wanted in turn.
func (w *world) story() []cloud.LBSpec {
	return []cloud.LBSpec{
		w.spec([]int32{80, 443}, 0, 1),
		with(w.spec([]int32{80, 444}, 1, 2), func(s *cloud.LBSpec) { s.Network, s.UsePrivateIP, s.Type = "inside", true, "lb21" }),
		with(w.spec([]int32{80}, 1, 2), func(s *cloud.LBSpec) {
			s.Network, s.Internal, s.Algorithm = "inside", true, "LeastConnections"
			s.Listeners[0].Health = cloud.HealthCheck{HTTP: true, Port: 10256, Path: "/healthz"}
		}),
		with(w.spec([]int32{80}, 1, 2), func(s *cloud.LBSpec) { s.Location, s.AllowRecreate = "nbg1", true }),
	}
}

// Whichever write is lost, or its answer, the next pass heals it, with one load
// balancer at any time and none at the end.
func TestLinesBreakAtEachWrite(t *testing.T) {
	for _, when := range []chaos.When{chaos.Before, chaos.After} {
		for at, broken := 1, true; broken; at++ {
			t.Run(fmt.Sprintf("%d/%d", when, at), func(t *testing.T) {
				w := newWorld(t, sim.Options{Latency: 500 * time.Millisecond})
				w.breakAt(at, when)
				for _, s := range w.story() {
					if err := w.pass(s); err != nil {
						w.repeat(func() error { return w.pass(s) })
					}
					w.ensure(s)
				}
				if err := w.remove(); err != nil {
					w.repeat(w.remove)
				}
				if all := w.LoadBalancers(); len(all) != 0 {
					t.Errorf("%d load balancers are left", len(all))
				}
				if n := w.MonthlyRate(sim.LoadBalancer); n != 0 {
					t.Errorf("%s are paid for what is not wanted", n)
				}
				broken = w.chaos.Writes() >= at
			})
		}
	}
}

// repeat tries again as an engine would: at once, and while something goes on.
func (w *world) repeat(try func() error) {
	w.t.Helper()
	var err error
	for range 5 {
		if err = try(); err == nil {
			return
		}
		if !cloud.Is(err, cloud.Locked) && !cloud.Is(err, cloud.Retryable) {
			break
		}
		w.clock.Advance(time.Second)
	}
	w.t.Fatal(err)
}

// The step itself may be repeated, too, with the same outcome.
func TestStepsMayBeRepeated(t *testing.T) {
	w := newWorld(t, sim.Options{})
	for _, s := range w.story() {
		for range 20 {
			var f *cloud.Found
			if found := w.find(); len(found) == 1 {
				f = &found[0]
			}
			plan, err := w.driver.Plan(s, f)
			if err != nil {
				t.Fatal(err)
			}
			if len(plan) == 0 {
				break
			}
			if err := w.do(plan[:1]); err != nil {
				t.Fatal(err)
			}
			if err := w.do(plan[:1]); err != nil {
				t.Fatalf("again: %s: %v", plan[0], err)
			}
		}
		w.ensure(s)
	}
	plan := w.driver.PlanRemoval(w.find()[0], cloud.PolicyDelete)
	if err := w.do(append(plan, plan...)); err != nil || len(w.LoadBalancers()) != 0 {
		t.Errorf("deleting twice: %v, %d are left", err, len(w.LoadBalancers()))
	}
}

func TestCreateWhereTheNameIsSomebodyElses(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := w.spec([]int32{80}, 0)
	w.ensure(s)
	w.EditLoadBalancer(w.only().ID, func(lb *schema.LoadBalancer) { lb.Labels = map[string]string{"mine": "yes"} })
	var e *cloud.Error
	if err := w.pass(s); !asError(err, &e) || e.Class != cloud.Conflict || e.Reason != cloud.ReasonConflict {
		t.Errorf("it says %v", err)
	}
	if len(w.LoadBalancers()) != 1 || w.only().Labels["mine"] != "yes" {
		t.Error("it was touched")
	}
}

func TestAdoption(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := w.spec([]int32{80, 443}, 0, 1)
	w.ensure(s)
	id := w.only().ID
	w.EditLoadBalancer(id, func(lb *schema.LoadBalancer) {
		lb.Name, lb.Labels = "by-hand", map[string]string{"team": "web"}
		lb.Services[1].ListenPort = 22
		lb.Targets[1].Server.ID = w.nodes[4]
	})
	for _, ref := range []string{"by-hand", fmt.Sprint(id)} {
		f, err := w.driver.Lookup(t.Context(), ref)
		if err != nil || f.Owner != (cloud.Owner{}) || f.ID != fmt.Sprint(id) {
			t.Fatalf("%s is %+v (%v)", ref, f, err)
		}
	}
	f, _ := w.driver.Lookup(t.Context(), "by-hand")
	if err := w.change(s, []cloud.Found{f}); err != nil {
		t.Fatal(err)
	}
	if n := w.planned(s); n != 0 {
		t.Errorf("%d steps are left", n)
	}
	if err := w.pass(w.spec([]int32{8080}, 2)); err != nil {
		t.Fatal(err)
	}
	lb := w.only()
	var ports []int
	for _, of := range lb.Services {
		ports = append(ports, of.ListenPort)
	}
	if !slices.Equal(ports, []int{22, 8080}) || len(lb.Targets) != 2 || lb.Targets[0].Server.ID != w.nodes[4] || lb.Targets[1].Server.ID != w.nodes[2] {
		t.Errorf("there are ports %v and targets %v", ports, lb.Targets)
	}
	found := w.find()
	if len(found) != 1 || !found[0].Adopted {
		t.Fatalf("found %+v", found)
	}
	if err := w.do(w.driver.PlanRemoval(found[0], cloud.PolicyRelease)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"team": "web"}, w.only().Labels); diff != "" || len(w.find()) != 0 {
		t.Errorf("released it has labels, - want + got:\n%s", diff)
	}
	for _, ref := range []string{"nobody", "4711", ""} {
		if _, err := w.driver.Lookup(t.Context(), ref); !cloud.Is(err, cloud.NotFound) {
			t.Errorf("looking up %q: %v", ref, err)
		}
	}
}

// Whose a load balancer is is the same however it was found, also of a cluster whose name
// is none for a label.
func TestLookup(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := w.spec([]int32{80}, 0)
	s.Owner.Cluster = "prod/eu"
	w.driver.cluster = s.Owner.Cluster
	if err := w.pass(s); err != nil {
		t.Fatal(err)
	}
	ip, err := w.driver.Reserve(t.Context(), cloud.AddressSpec{Owner: s.Owner, Family: corev1.IPv4Protocol})
	if err != nil {
		t.Fatal(w.hear(err))
	}
	found, err := w.driver.Find(t.Context(), s.Owner)
	if err != nil || len(found) != 1 {
		t.Fatalf("Find() = %v, %v", found, w.hear(err))
	}
	for _, ref := range []string{found[0].ID, s.Owner.ResourceName(), found[0].Addrs[0].String(), found[0].Addrs[1].String()} {
		if f, err := w.driver.Lookup(t.Context(), ref); err != nil || f.ID != found[0].ID || f.Owner != s.Owner {
			t.Errorf("Lookup(%s) = %+v, %v", ref, f, w.hear(err))
		}
	}
	for _, ref := range []string{ip.ID, ip.Name, ip.Addrs[0].String()} {
		if a, err := w.driver.LookupAddress(t.Context(), ref); err != nil || a.ID != ip.ID || a.Owner != s.Owner {
			t.Errorf("LookupAddress(%s) = %+v, %v", ref, a, w.hear(err))
		}
	}
	if _, err := w.driver.Lookup(t.Context(), ip.Addrs[0].String()); !cloud.Is(err, cloud.NotFound) {
		t.Errorf("a load balancer at a floating IP: %v", w.hear(err))
	}
}

func TestReservedAddress(t *testing.T) {
	w := newWorld(t, sim.Options{})
	made, _, err := w.driver.api.PrimaryIP.Create(t.Context(), primary("kept"))
	if err != nil {
		t.Fatal(err)
	}
	ip := made.PrimaryIP
	s := with(w.spec([]int32{80}, 0), func(s *cloud.LBSpec) { s.Address = ip.IP.String() })
	w.ensure(s)
	if f := w.find()[0]; f.Addrs[0].String() != ip.IP.String() {
		t.Errorf("it has %v, want %s", f.Addrs, ip.IP)
	}
	s.Address = fmt.Sprint(ip.ID)
	s.Location, s.AllowRecreate = "fsn1", true
	if n := w.planned(s); n != 0 {
		t.Errorf("by its ID there are %d steps", n)
	}
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	if ips := w.PrimaryIPs(); len(ips) != 1 || ips[0].Name != "kept" {
		t.Errorf("there are addresses %+v", ips)
	}
	for address, want := range map[string]string{"4711": "there is no Primary IP", "192.0.2.99": "there is no Primary IP", "x": "use the ID"} {
		s.Address = address
		if err := w.pass(s); !cloud.Is(err, cloud.Terminal) || !strings.Contains(err.Error(), want) {
			t.Errorf("with address %s it says %v", address, err)
		}
	}
}

func TestListReadsAllPages(t *testing.T) {
	w := newWorld(t, sim.Options{})
	const n = 101
	for i := range n {
		s := w.spec([]int32{80}, 0)
		s.Owner.UID, s.Owner.Name = uid(i), fmt.Sprint("web", i)
		if err := w.pass(s); err != nil {
			t.Fatal(err)
		}
	}
	other := w.spec([]int32{80}, 0)
	other.Owner.Cluster = "c2"
	if err := w.pass(other); err != nil {
		t.Fatal(err)
	}
	w.ClearJournal()
	found, err := w.driver.List(t.Context(), "c1")
	if err != nil || len(found) != n || len(w.Journal()) != 3 {
		t.Errorf("%d were found by %q: %v", len(found), calls(w.Journal()), err)
	}
	w.Refuse(sim.Refusal{Path: regexp.MustCompile("load_balancers"), Code: "server_error", Times: 1})
	if found, err := w.driver.List(t.Context(), "c1"); err == nil || len(found) != 0 {
		t.Errorf("with an error %d were found", len(found))
	}
	for _, o := range []cloud.Owner{{}, {Cluster: "c1"}, {UID: "u"}} {
		if _, err := w.driver.Find(t.Context(), o); !cloud.Is(err, cloud.Unsafe) {
			t.Errorf("finding what belongs to %v: %v", o, err)
		}
	}
}

func TestPollAsksForManyAtOnce(t *testing.T) {
	w := newWorld(t, sim.Options{Latency: time.Minute})
	w.find()
	var all []cloud.Pending
	for i := range 60 {
		s := w.spec([]int32{80}, 0)
		s.Owner.UID = uid(i)
		plan, err := w.driver.Plan(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := w.driver.Apply(t.Context(), plan[0])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	w.ClearJournal()
	unfinished, err := w.driver.Poll(t.Context(), all)
	if err != nil || len(unfinished) != 60 || len(w.Journal()) != 3 {
		t.Errorf("%d of 60 are unfinished, by %q: %v", len(unfinished), calls(w.Journal()), err)
	}
	w.clock.Advance(2 * time.Minute)
	if unfinished, err = w.driver.Poll(t.Context(), append(all, cloud.Pending{})); err != nil || len(unfinished) != 0 {
		t.Errorf("%d are unfinished: %v", len(unfinished), err)
	}
}

func TestProtectedIsNotDeleted(t *testing.T) {
	w := newWorld(t, sim.Options{})
	w.ensure(w.spec([]int32{80}, 0))
	w.EditLoadBalancer(w.only().ID, func(lb *schema.LoadBalancer) { lb.Protection.Delete = true })
	if !w.find()[0].Protected {
		t.Error("nobody sees that it is protected")
	}
	var e *cloud.Error
	if err := w.remove(); !asError(err, &e) || e.Class != cloud.Unsafe || e.Reason != cloud.ReasonProtected {
		t.Errorf("it says %v", err)
	}
	w.Remove(sim.LoadBalancer, w.only().ID)
	if err := w.remove(); err != nil {
		t.Errorf("what is gone: %v", err)
	}
}

func TestOpenAsksNobody(t *testing.T) {
	d, err := Open(cloud.Config{Provider: "hetzner", Endpoint: "http://192.0.2.1:1"}, cloud.Env{})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := d.Capabilities(t.Context()); err != nil || c.Delivery != cloud.ToNodePort || len(c.Protocols) != 1 || c.SourceRanges {
		t.Errorf("capabilities are %+v (%v)", c, err)
	}
	if _, err := d.Plan(spec([]int32{80}), nil); !cloud.Is(err, cloud.Retryable) {
		t.Errorf("planning before anything is known: %v", err)
	}
}

func TestCatalogueIsReadAnewForWhatItLacks(t *testing.T) {
	w := newWorld(t, sim.Options{})
	s := with(w.spec([]int32{80}, 0), func(s *cloud.LBSpec) { s.Network = "new" })
	if err := w.pass(s); !cloud.Is(err, cloud.Terminal) {
		t.Fatalf("it says %v", err)
	}
	w.AddNetwork("new", netip.MustParsePrefix("10.1.0.0/24"))
	w.clock.Advance(minAge)
	w.ensure(s)
}

// What changes cost, in calls.
func TestCallFigures(t *testing.T) {
	w := newWorld(t, sim.Options{})
	for i := range 15 {
		w.nodes = append(w.nodes, w.AddServer(sim.ServerSpec{Name: fmt.Sprint("more-", i)}))
	}
	figure := func(what string, want int, do func()) {
		t.Helper()
		w.ClearJournal()
		do()
		if j := w.Journal(); len(j) != want {
			t.Errorf("%s took %d calls, want %d: %q", what, len(j), want, calls(j))
		}
	}
	w.find()
	ten := w.spec([]int32{80, 443}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	others := w.spec([]int32{80, 443}, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
	passed := func(s cloud.LBSpec) func() {
		return func() {
			if err := w.pass(s); err != nil {
				t.Error(err)
			}
		}
	}
	figure("creating", 3, passed(ten))                // a list, the call, a poll
	figure("nothing", 1, passed(ten))                 // a list
	figure("ten other nodes", 1+2*20, passed(others)) // a list; a call and a poll for each that comes or goes
	figure("a node less", 3, passed(with(others, func(s *cloud.LBSpec) { s.Targets = s.Targets[1:] })))
	figure("deleting", 3, func() {
		if err := w.remove(); err != nil {
			t.Error(err)
		}
	})
}
