package hetzner_test

import (
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/herald-lb/herald/internal/cloudsim/hetzner"
	"github.com/herald-lb/herald/internal/cloudsim/referee"
)

var noon = time.Date(2026, 10, 6, 12, 0, 0, 0, time.UTC)

// A world is a cloud, a referee before it and a client before both.
type world struct {
	*hetzner.Cloud
	t      *testing.T
	clock  *hetzner.VirtualClock
	client *hcloud.Client
	url    string
	known  []string // what the referee objects to, and a test says why
}

func newWorld(t *testing.T, o hetzner.Options) *world {
	t.Helper()
	clock := hetzner.NewVirtualClock(noon)
	o.Clock = clock
	w := &world{Cloud: hetzner.New(o), t: t, clock: clock}
	judge := referee.New(w.Cloud)
	srv := httptest.NewServer(judge)
	t.Cleanup(func() {
		srv.Close()
		if got := judge.Verdicts(); !slices.Equal(got, w.known) {
			t.Errorf("the referee says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(w.known, "\n"))
		}
	})
	w.url = srv.URL
	w.client = w.newClient(hetzner.DefaultToken)
	return w
}

func (w *world) newClient(token string) *hcloud.Client {
	return hcloud.NewClient(hcloud.WithEndpoint(w.url), hcloud.WithToken(token),
		hcloud.WithRetryOpts(hcloud.RetryOpts{MaxRetries: 0}),
		hcloud.WithPollOpts(hcloud.PollOpts{BackoffFunc: hcloud.ConstantBackoff(time.Millisecond)}))
}

// done is what a call to the API gives with an action.
func (w *world) done(a *hcloud.Action, _ *hcloud.Response, err error) {
	w.t.Helper()
	if err == nil {
		err = w.client.Action.WaitFor(w.t.Context(), a)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// tcp is a service as the API's document wants it: with all there is.
func tcp(listen, to int) hcloud.LoadBalancerCreateOptsService {
	return hcloud.LoadBalancerCreateOptsService{
		Protocol: hcloud.LoadBalancerServiceProtocolTCP, ListenPort: &listen, DestinationPort: &to, Proxyprotocol: new(false),
		HealthCheck: &hcloud.LoadBalancerCreateOptsServiceHealthCheck{
			Protocol: hcloud.LoadBalancerServiceProtocolHTTP, Port: new(10256),
			Interval: new(5 * time.Second), Timeout: new(3 * time.Second), Retries: new(2),
			HTTP: &hcloud.LoadBalancerCreateOptsServiceHealthCheckHTTP{Domain: new(""), Path: new("/healthz"), StatusCodes: []string{"200"}},
		},
	}
}

func small(name string) hcloud.LoadBalancerCreateOpts {
	return hcloud.LoadBalancerCreateOpts{
		Name: name, LoadBalancerType: &hcloud.LoadBalancerType{Name: "lb11"}, Location: &hcloud.Location{Name: "fsn1"},
	}
}

func serverTarget(id int64, private bool) hcloud.LoadBalancerCreateOptsTarget {
	return hcloud.LoadBalancerCreateOptsTarget{
		Type: hcloud.LoadBalancerTargetTypeServer, UsePrivateIP: &private,
		Server: hcloud.LoadBalancerCreateOptsTargetServer{Server: &hcloud.Server{ID: id}},
	}
}

func (w *world) create(opts hcloud.LoadBalancerCreateOpts) *hcloud.LoadBalancer {
	w.t.Helper()
	res, _, err := w.client.LoadBalancer.Create(w.t.Context(), opts)
	if err != nil {
		w.t.Fatal(err)
	}
	w.done(res.Action, nil, nil)
	return res.LoadBalancer
}

func TestLoadBalancer(t *testing.T) {
	w := newWorld(t, hetzner.Options{})
	ctx := t.Context()
	private := w.AddNetwork("lan", netip.MustParsePrefix("10.0.0.0/24"))
	a := w.AddServer(hetzner.ServerSpec{Name: "a", Private: map[int64]netip.Addr{private: {}}})
	opts := small("web")
	opts.Labels = map[string]string{"owner": "me"}
	opts.Network = &hcloud.Network{ID: private}
	opts.Services = []hcloud.LoadBalancerCreateOptsService{tcp(80, 30080)}
	opts.Targets = []hcloud.LoadBalancerCreateOptsTarget{serverTarget(a, true)}
	w.create(opts)
	lb, _, err := w.client.LoadBalancer.GetByName(ctx, "web")
	if err != nil || lb == nil {
		t.Fatal(lb, err)
	}
	if lb.PublicNet.IPv4.IP == nil || lb.PublicNet.IPv6.IP == nil || len(lb.Services) != 1 || lb.Targets[0].HealthStatus[0].Status != "healthy" {
		t.Errorf("load balancer %+v", lb)
	}
	res, _, err := w.client.LoadBalancer.DeleteWithResult(ctx, lb)
	w.done(res.Action, nil, err)
	if lb, _, err = w.client.LoadBalancer.GetByID(ctx, lb.ID); lb != nil || err != nil {
		t.Errorf("after deletion: %v, %v", lb, err)
	}
	if ips, err := w.client.PrimaryIP.All(ctx); len(ips) != 0 || err != nil {
		t.Errorf("primary IPs left: %v, %v", ips, err)
	}
}
