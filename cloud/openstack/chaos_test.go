package openstack

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
)

// Each call of a Service's life goes wrong once, in each way that calls do: there are
// never two load balancers or addresses, nothing is removed that is wanted, and in
// the end it is as it should be, and then gone.
func TestEachCallGoesWrongOnce(t *testing.T) {
	for _, way := range []struct {
		name string
		do   chaos.Effect
	}{
		{"slow", chaos.Delay(20 * time.Millisecond)},
		{"lost on its way there, or an error", inTurn(chaos.Drop, chaos.Answer(500, "chaos"), chaos.GatewayError(502), chaos.GatewayError(503), chaos.GatewayError(504))},
		{"lost on its way back, or an error though it was done", inTurn(chaos.DropAnswer, done(chaos.Answer(500, "chaos")), done(chaos.GatewayError(504)))},
		{"too many requests", chaos.TooManyRequests(30 * time.Second)},
		{"in conflict", inTurn(chaos.Answer(409, "chaos"), immutable)},
		{"half of the answer", chaos.Truncate},
	} {
		t.Run(way.name, func(t *testing.T) {
			w := newWorld(t)
			w.bubble(t, func(t *testing.T, host *cloudtest.World) { w.live(t, host, way.do) })
		})
	}
}

// inTurn has calls go wrong in one way after the other.
func inTurn(ways ...chaos.Effect) chaos.Effect {
	var calls atomic.Int32
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		ways[int(calls.Add(1))%len(ways)](w, r, next)
	}
}

// done has a call do its work, and answers with what has gone wrong all the same.
func done(do chaos.Effect) chaos.Effect {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		do(w, r, nil)
	}
}

// immutable is what Octavia says while it works on something else.
func immutable(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusConflict)
	fmt.Fprint(w, `{"faultcode": "Client", "faultstring": "Load Balancer 1 is immutable and cannot be updated.", "debuginfo": null}`)
}

// once has each call go wrong the first time that it is made.
func once(do chaos.Effect) chaos.Effect {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		call := r.Method + " " + r.URL.RequestURI()
		mu.Lock()
		again := seen[call]
		seen[call] = true
		mu.Unlock()
		if again {
			next.ServeHTTP(w, r)
			return
		}
		do(w, r, next)
	}
}

// live has a Service come, change and go.
func (w *world) live(t *testing.T, host *cloudtest.World, do chaos.Effect) {
	w.http.Transport = cloud.NewBudget(cloudtest.Config().Budget, w.line, nil)
	svc := cloudtest.Service("web", "uid-web-1", 80, 443)
	host.Put(svc)
	l := &life{world: w, host: host, makes: 1}
	nodes := 2
	ensure := func() error {
		_, err := host.Ensure(t.Context(), svc, host.Nodes(nodes))
		return err
	}
	l.phase(t, "create", chaos.Rule{Do: once(do)}, ensure)
	l.looks(t, ensure,
		"TCP/443 → 10.0.0.101:30443 10.0.0.102:30443, asked by TCP",
		"TCP/80 → 10.0.0.101:30080 10.0.0.102:30080, asked by TCP")
	svc.Spec.Ports[0].NodePort, svc.Spec.Ports[1].Port, svc.Spec.Ports[1].NodePort = 31000, 8080, 31001
	svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
	svc.Spec.LoadBalancerSourceRanges = []string{"198.51.100.0/24"}
	nodes = 3
	l.makes = 0
	l.phase(t, "update", chaos.Rule{Do: once(do)}, ensure)
	l.looks(t, ensure,
		"TCP/80 from 198.51.100.0/24 → 10.0.0.101:31000 10.0.0.102:31000 10.0.0.103:31000, asked by HTTP",
		"TCP/8080 from 198.51.100.0/24 → 10.0.0.101:31001 10.0.0.102:31001 10.0.0.103:31001, asked by HTTP")
	l.ends = true
	l.phase(t, "delete", chaos.Rule{Do: once(do)}, func() error { return host.Delete(t.Context(), svc) })
	if all := host.All(); len(all) != 0 {
		t.Errorf("left behind: %v", all)
	}
}

// A life is what a Service goes through.
type life struct {
	*world
	host  *cloudtest.World
	makes int  // load balancers, and as many addresses
	ends  bool // and they may go
}

// phase tries until it succeeds, as a controller would, while calls go wrong, and
// returns how many were made that read.
func (l *life) phase(t *testing.T, name string, wrong chaos.Rule, try func() error) (reads int) {
	t.Helper()
	l.Chaos.Calm()
	l.Chaos.Add(wrong)
	defer l.Chaos.Calm()
	l.Reset()
	l.host.Restart()
	tries := 0
	for err := try(); err != nil; err = try() {
		l.safe(t)
		wait := 5 * time.Second
		var why *cloud.Error
		if errors.As(err, &why) && why.After > 0 {
			wait = min(why.After, time.Minute)
		}
		if tries++; tries > 100 || cloud.Is(err, cloud.Terminal) {
			t.Fatalf("%s: after %d tries: %v", name, tries, err)
		}
		time.Sleep(wait)
	}
	l.safe(t)
	t.Logf("%s: %d tries failed", name, tries)
	return l.Chaos.Reads()
}

// safe is what holds whatever goes wrong: what may be made is made once, and what may
// go is all that goes.
func (l *life) safe(t *testing.T) {
	t.Helper()
	made := map[string]int{}
	for _, c := range l.Calls() {
		for _, kind := range []string{"/lbaas/loadbalancers", "/floatingips"} {
			switch {
			case c.Method == http.MethodPost && strings.HasSuffix(c.Path, kind) && c.Status == http.StatusCreated:
				made[kind]++
			case c.Method == http.MethodDelete && strings.Contains(c.Path, kind+"/") && !l.ends:
				t.Fatalf("nobody wants that: %s", c)
			}
		}
	}
	for kind, n := range made {
		if n > l.makes {
			t.Fatalf("%d made of %s, not %d", n, kind, l.makes)
		}
	}
}

// looks says what a load balancer is in the end, and that nothing is left to do.
func (l *life) looks(t *testing.T, ensure func() error, want ...string) {
	t.Helper()
	if got := l.shape(t); !slices.Equal(got, want) {
		t.Errorf("it is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	l.host.Restart()
	l.Reset()
	if err := ensure(); err != nil {
		t.Error(err)
	}
	if _, writes := l.count(); writes != 0 {
		t.Errorf("%d writes when it should be settled: %v", writes, l.Calls())
	}
	if lbs, ips := l.balancers(t), l.floatingIPs(t); len(lbs) != 1 || len(ips) != 1 {
		t.Errorf("there are load balancers %v, addresses %v", lbs, ips)
	}
}

// shape is what the project's listeners do, as Octavia has them.
func (w *world) shape(t *testing.T) (all []string) {
	t.Helper()
	list := func(path, kind string) (all []map[string]any) {
		for _, v := range w.Octavia(t, "GET", path, nil)[kind].([]any) {
			all = append(all, v.(map[string]any))
		}
		return all
	}
	monitors := list("/healthmonitors", "healthmonitors")
	pools := list("/pools", "pools")
	listeners := list("/listeners", "listeners")
	for _, l := range listeners {
		text := fmt.Sprintf("%s/%v", l["protocol"], l["protocol_port"])
		if from, _ := l["allowed_cidrs"].([]any); len(from) > 0 {
			text += fmt.Sprint(" from ", strings.Join(texts(from), " "))
		}
		var to []string
		for _, m := range list(fmt.Sprint("/pools/", l["default_pool_id"], "/members"), "members") {
			to = append(to, fmt.Sprintf("%s:%v", m["address"], m["protocol_port"]))
		}
		slices.Sort(to)
		text += " → " + strings.Join(to, " ")
		for _, m := range monitors {
			if slices.ContainsFunc(m["pools"].([]any), func(p any) bool { return p.(map[string]any)["id"] == l["default_pool_id"] }) {
				text += fmt.Sprint(", asked by ", m["type"])
			}
		}
		all = append(all, text)
	}
	if len(pools) != len(listeners) || len(monitors) != len(pools) {
		all = append(all, fmt.Sprintf("%d listeners, %d pools, %d monitors", len(listeners), len(pools), len(monitors)))
	}
	slices.Sort(all)
	return all
}

// A list that is said to be empty, or lacks some, is not believed at once: nothing is
// made twice, and nothing is removed.
func TestListsThatAreNotWhole(t *testing.T) {
	w := newWorld(t)
	w.bubble(t, func(t *testing.T, host *cloudtest.World) {
		svc := cloudtest.Service("web", "uid-web-1", 80)
		host.Serve(t, svc, host.Nodes(2))
		ensure := func() error {
			_, err := host.Ensure(t.Context(), svc, host.Nodes(2))
			return err
		}
		l := &life{world: w, host: host}
		for n, reads := 0, 1; n < reads; n++ {
			reads = l.phase(t, fmt.Sprintf("read %d is of an empty list", n+1), chaos.Rule{Method: "GET", Skip: n, Times: 1, Do: chaos.EmptyList}, ensure)
		}
		l.phase(t, "half of the members", chaos.Rule{Path: regexp.MustCompile("/members$"), Times: 1, Do: chaos.HalfList}, ensure)
		l.looks(t, ensure, "TCP/80 → 10.0.0.101:30080 10.0.0.102:30080, asked by TCP")
	})
}
