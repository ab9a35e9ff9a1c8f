package hetzner

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
	"github.com/herald-lb/herald/internal/cloudsim/referee"
)

var (
	_ cloud.Adopter       = &Driver{}
	_ cloud.TargetLimiter = &Driver{}
)

// What the engine promises it keeps with this driver.
func TestEngine(t *testing.T) {
	t.Setenv("HCLOUD_TOKEN", sim.DefaultToken)
	run := func(t *testing.T, promise func(*testing.T, *cloudtest.World)) {
		synctest.Test(t, func(t *testing.T) { promise(t, cloudtest.NewWorld(lab(t))) })
	}
	cloudtest.Promises(t, run)
	cloudtest.AddressPromises(t, run)
}

// A wire leads to the cloud without a network, of which synctest knows nothing.
type wire struct {
	to            http.Handler
	fault         func(call string, after bool) error
	reads, writes atomic.Int32
	echo          atomic.Bool // a proxy says no to all, with what it was sent
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	n := &w.writes
	if r.Method == http.MethodGet {
		n = &w.reads
	}
	n.Add(1)
	fault := w.fault
	if fault == nil {
		fault = func(string, bool) error { return nil }
	}
	if err := fault(r.URL.Path, false); err != nil {
		return nil, err
	}
	if w.echo.Load() {
		return echoed(r), nil
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	answer := httptest.NewRecorder()
	w.to.ServeHTTP(answer, r)
	if answer.Code < 400 {
		if err := fault(r.URL.Path, true); err != nil {
			return nil, err
		}
	}
	return answer.Result(), nil
}

func lab(t *testing.T) *cloudtest.Lab {
	l, _, _ := simulated(t)
	return l
}

// simulated is a lab, with its cloud and the wire that leads there.
func simulated(t *testing.T) (*cloudtest.Lab, *sim.Cloud, *wire) {
	c := sim.New(sim.Options{Latency: usual, RateLimit: 1 << 20})
	spoiled := chaos.New(c)
	line := &wire{to: referee.Watch(t, spoiled)} // C13
	budget := cloud.NewBudget(cloud.BudgetConfig{RequestsPerHour: 1 << 20}, line, nil)
	d, err := Open(cloud.Config{Endpoint: "http://cloud", Defaults: defaults}, cloud.Env{HTTP: &http.Client{Transport: budget}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	driver := d.(*Driver)
	var servers []int64
	for i := range 6 {
		servers = append(servers, c.AddServer(sim.ServerSpec{Name: fmt.Sprint("n", i+1)}))
	}
	return &cloudtest.Lab{
		Driver: driver,
		Calls:  func() (int, int) { return int(line.reads.Load()), int(line.writes.Load()) },
		Fault:  func(f func(string, bool) error) { line.fault = f },
		Hide: func(after int) {
			if spoiled.Calm(); after >= 0 {
				spoiled.Add(chaos.Rule{Method: http.MethodGet, Skip: after, Times: 1, Do: chaos.EmptyList})
			}
		},
		All: func() (all []cloud.Found) {
			for _, lb := range c.LoadBalancers() {
				f := foundOf(hcloud.LoadBalancerFromSchema(lb), shop)
				f.Raw = nil // a pointer, which is another one each time
				all = append(all, f)
			}
			return all
		},
		Add:  func(name string) string { return addByHand(t, c, driver, name) },
		Drop: func(id string) { c.Remove(sim.LoadBalancer, number(id)) },
		Poke: func(id string) {
			c.EditLoadBalancer(number(id), func(lb *schema.LoadBalancer) { lb.Targets = lb.Targets[1:] })
		},
		Addresses: func() (all []cloud.FoundAddress) {
			for _, ip := range c.FloatingIPs() {
				a := foundAddress(hcloud.FloatingIPFromSchema(ip), shop)
				if a.Owner.UID != "" {
					a.Owner.Cluster = cloudtest.Cluster
				}
				all = append(all, a)
			}
			return all
		},
		AddAddress: func(name string) cloud.FoundAddress { return addressByHand(t, c, driver, name) },
		Reroute: func(id string, to cloud.Instance) {
			c.MoveFloatingIP(number(id), number(to.ID))
		},
		Node: func(i int) *corev1.Node {
			return kubeNode(fmt.Sprint("n", i), fmt.Sprint(serverPrefix, servers[i-1]), "")
		},
	}, c, line
}

func number(id string) int64 {
	n, _ := strconv.ParseInt(id, 10, 64) // of a load balancer that there is
	return n
}

// addByHand makes a load balancer as people do: nothing waits for it.
func addByHand(t *testing.T, c *sim.Cloud, d *Driver, name string) string {
	t.Helper()
	made, _, err := d.api.LoadBalancer.Create(context.Background(), hcloud.LoadBalancerCreateOpts{Name: name,
		LoadBalancerType: &hcloud.LoadBalancerType{Name: "lb11"}, Location: &hcloud.Location{Name: "fsn1"}})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
	c.LoadBalancers() // its action ends
	return strconv.FormatInt(made.LoadBalancer.ID, 10)
}

func addressByHand(t *testing.T, c *sim.Cloud, d *Driver, name string) cloud.FoundAddress {
	t.Helper()
	made, _, err := d.api.FloatingIP.Create(context.Background(), hcloud.FloatingIPCreateOpts{Name: &name,
		Type: hcloud.FloatingIPTypeIPv4, HomeLocation: &hcloud.Location{Name: "fsn1"}})
	if err != nil {
		t.Fatal(err)
	}
	return foundAddress(made.FloatingIP, shop)
}
