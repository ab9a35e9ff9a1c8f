package hetzner

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
	"github.com/herald-lb/herald/internal/cloudsim/referee"
)

var noon = time.Date(2026, 10, 6, 12, 0, 0, 0, time.UTC)

// A world is a simulated cloud, a referee who judges all that is said to it, lines
// that break when asked to, and the driver.
type world struct {
	*sim.Cloud
	t      *testing.T
	clock  *sim.VirtualClock
	chaos  *chaos.Proxy
	driver *Driver
	net    int64   // of the network "inside"
	nodes  []int64 // servers, all in the network
	said   []string
}

func newWorld(t *testing.T, o sim.Options) *world {
	t.Helper()
	clock := sim.NewVirtualClock(noon)
	o.Clock = clock
	w := &world{Cloud: sim.New(o), t: t, clock: clock}
	judge := referee.Watch(t, w.Cloud) // each exchange, by the API's own document (C13)
	w.chaos = chaos.New(judge)
	srv := httptest.NewServer(w.chaos)
	t.Cleanup(srv.Close)
	t.Setenv("HCLOUD_TOKEN", sim.DefaultToken)
	w.driver = w.open(srv.URL)
	t.Cleanup(func() {
		if judge.Seen() == 0 {
			t.Error("nobody has asked the cloud anything")
		}
		for _, s := range w.said {
			if strings.Contains(s, sim.DefaultToken) {
				t.Errorf("an error tells the token: %q", s)
			}
		}
	})
	w.net = w.AddNetwork("inside", netip.MustParsePrefix("10.0.0.0/24"))
	for _, name := range []string{"n1", "n2", "n3", "n4", "n5"} {
		w.nodes = append(w.nodes, w.AddServer(sim.ServerSpec{Name: name, Private: map[int64]netip.Addr{w.net: {}}}))
	}
	return w
}

func (w *world) open(url string) *Driver {
	w.t.Helper()
	opened, err := cloud.OpenDriver(cloud.Config{Provider: "hetzner", Endpoint: url, Defaults: defaults},
		cloud.Env{HTTP: &http.Client{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.t.Fatal(err)
	}
	d := opened.(*Driver)
	d.now, d.pause = w.clock.Now, time.Millisecond
	return d
}

// hear keeps what an error says, to look for the token in it.
func (w *world) hear(err error) error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		w.said = append(w.said, e.Error())
	}
	return err
}

// spec asks for ports, and nodes by their places.
func (w *world) spec(ports []int32, nodes ...int) cloud.LBSpec {
	var ids []int
	for _, n := range nodes {
		ids = append(ids, int(w.nodes[n]))
	}
	return spec(ports, ids...)
}

// breakAt has the lines break at the n-th write from now.
func (w *world) breakAt(n int, when chaos.When) {
	w.chaos.Calm()
	w.chaos.CrashAt(n, when, func() {})
}

// pass plays the engine: it finds, plans, and does each step until it is finished. A
// step that fails ends it.
func (w *world) pass(s cloud.LBSpec) error {
	w.t.Helper()
	found, err := w.driver.Find(w.t.Context(), s.Owner)
	if err != nil {
		return w.hear(err)
	}
	if len(found) > 1 {
		w.t.Fatalf("there are %d load balancers of one Service", len(found))
	}
	return w.change(s, found)
}

func (w *world) change(s cloud.LBSpec, found []cloud.Found) error {
	w.t.Helper()
	var f *cloud.Found
	if len(found) > 0 {
		f = &found[0]
	}
	plan, err := w.driver.Plan(s, f)
	if err != nil {
		return w.hear(err)
	}
	return w.do(slices.DeleteFunc(plan, func(step cloud.Step) bool { return step.Destructive && !s.AllowRecreate }))
}

func (w *world) do(plan cloud.Plan) error {
	for _, step := range plan {
		p, err := w.driver.Apply(w.t.Context(), step)
		if err != nil {
			return w.hear(err)
		}
		if err := w.wait(p); err != nil {
			return w.hear(err)
		}
	}
	return nil
}

func (w *world) wait(p cloud.Pending) error {
	unfinished, err := []cloud.Pending{p}, error(nil)
	if p.ID == "" {
		return nil
	}
	for range 100 {
		w.clock.Advance(time.Second)
		if unfinished, err = w.driver.Poll(w.t.Context(), unfinished); err != nil || len(unfinished) == 0 {
			return err
		}
	}
	return errors.New("it never ends")
}

// ensure passes until nothing is left to do, and looks whether the cloud has what
// was asked for.
func (w *world) ensure(s cloud.LBSpec) {
	w.t.Helper()
	for range 3 {
		if err := w.pass(s); err != nil {
			w.t.Fatalf("%+v: %v", s, err)
		}
		if w.planned(s) == 0 {
			w.compare(s)
			return
		}
	}
	w.t.Fatalf("it never ends for %+v", s)
}

func (w *world) planned(s cloud.LBSpec) int {
	w.t.Helper()
	found := w.find()
	if len(found) != 1 {
		w.t.Fatalf("there are %d load balancers", len(found))
	}
	plan, err := w.driver.Plan(s, &found[0])
	if err != nil {
		w.t.Fatal(w.hear(err))
	}
	return len(plan)
}

func (w *world) find() []cloud.Found {
	w.t.Helper()
	found, err := w.driver.Find(w.t.Context(), owner)
	if err != nil {
		w.t.Fatal(w.hear(err))
	}
	return found
}

// compare looks at the cloud past the driver.
func (w *world) compare(s cloud.LBSpec) {
	w.t.Helper()
	lb := w.only()
	var ports, nodePorts []int
	var targets []string
	for _, of := range lb.Services {
		ports = append(ports, of.ListenPort)
		nodePorts = append(nodePorts, of.DestinationPort)
	}
	for _, of := range lb.Targets {
		targets = append(targets, target{server: of.Server.ID}.key())
	}
	for _, l := range s.Listeners {
		if i := slices.Index(ports, int(l.Port)); i < 0 || nodePorts[i] != int(l.NodePort) {
			w.t.Errorf("there is no listener %s to %d among %v to %v", l.ID(), l.NodePort, ports, nodePorts)
		}
	}
	for _, of := range s.Targets {
		if !slices.Contains(targets, of.Instance.ID) {
			w.t.Errorf("node %s is no target: they are %v", of.Node, targets)
		}
	}
	if len(ports) != len(s.Listeners) || len(targets) != len(s.Targets) {
		w.t.Errorf("there are ports %v and targets %v, want %d and %d", ports, targets, len(s.Listeners), len(s.Targets))
	}
}

func (w *world) only() schema.LoadBalancer {
	w.t.Helper()
	all := w.LoadBalancers()
	if len(all) != 1 {
		w.t.Fatalf("there are %d load balancers", len(all))
	}
	return all[0]
}

// remove deletes what there is.
func (w *world) remove() error {
	w.t.Helper()
	found, err := w.driver.Find(w.t.Context(), owner)
	if err != nil {
		return w.hear(err)
	}
	for _, f := range found {
		if err := w.do(w.driver.PlanRemoval(f, cloud.PolicyDelete)); err != nil {
			return err
		}
	}
	return nil
}

// count says how often a journal has what: GET or POST and the beginning of a path.
func count(journal []sim.Entry, method, path string) (n int) {
	for _, e := range journal {
		if e.Method == method && strings.HasPrefix(e.Path, path) {
			n++
		}
	}
	return n
}

func calls(journal []sim.Entry) (all []string) {
	for _, e := range journal {
		path, _, _ := strings.Cut(e.Path, "?")
		all = append(all, e.Method+" "+path)
	}
	return all
}
