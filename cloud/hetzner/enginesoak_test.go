package hetzner

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

// Whatever happens to Services, nodes, calls, the process and the cloud: see
// cloudtest.Soak.
func TestSoakOfTheEngine(t *testing.T) {
	t.Setenv("HCLOUD_TOKEN", sim.DefaultToken)
	for _, seed := range cloudtest.Seeds(1, 2, 3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, c, line := simulated(t)
				cloudtest.Soak(t, seed, cloudtest.NewWorld(l), console(c, line))
			})
		})
	}
}

// What was released has its name still: its Service is told how to have it back.
func TestWhatWasReleasedIsWantedAgain(t *testing.T) {
	t.Setenv("HCLOUD_TOKEN", sim.DefaultToken)
	synctest.Test(t, func(t *testing.T) {
		w := cloudtest.NewWorld(lab(t))
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Annotations[cloud.Prefix+"deletion-policy"] = string(cloud.PolicyRelease)
		w.Serve(t, svc, w.Nodes(2))
		w.End(t, svc)
		released := w.All()[0]
		w.Put(svc)
		if _, err := w.Ensure(t.Context(), svc, w.Nodes(2)); !cloud.Is(err, cloud.Conflict) || !strings.Contains(err.Error(), "adopt: "+released.Name) || w.Heard(cloud.ReasonConflict) != 1 {
			t.Errorf("Ensure() = %v; Events %v", err, w.Events)
		}
		svc.Annotations[cloud.Prefix+"adopt"] = released.Name
		w.Serve(t, svc, w.Nodes(2))
		if all := w.All(); len(all) != 1 || all[0].ID != released.ID || all[0].Owner.UID != svc.UID {
			t.Errorf("there are %v, not %s", all, released.ID)
		}
	})
}

// usual is for how long actions run.
const usual = 2 * time.Second

func console(c *sim.Cloud, line *wire) cloudtest.Console {
	shown := func(id string) (one schema.LoadBalancer) {
		for _, one = range c.LoadBalancers() {
			if one.ID == number(id) {
				break
			}
		}
		return one
	}
	return cloudtest.Console{
		Secret: sim.DefaultToken, Types: []string{"lb11", "lb21"}, Locations: []string{"fsn1", "nbg1"},
		Break: func(rnd *rand.Rand) string { return breakCloud(rnd, c, line) },
		Heal: func() {
			c.Calm()
			c.SetLatency(usual)
			line.echo.Store(false)
		},
		Meddle: func(rnd *rand.Rand, id string) (how string) {
			c.EditLoadBalancer(number(id), func(lb *schema.LoadBalancer) { how = meddle(rnd, lb) })
			return how
		},
		Listen: func(id string) {
			c.EditLoadBalancer(number(id), func(lb *schema.LoadBalancer) {
				if !slices.ContainsFunc(lb.Services, func(s schema.LoadBalancerService) bool { return s.ListenPort == cloudtest.Guest }) {
					lb.Services = append(lb.Services, theirs)
				}
			})
		},
		Has: func(id string) cloudtest.Has { return hasNow(c, hcloud.LoadBalancerFromSchema(shown(id))) },
		Show: func(id string) string {
			text, _ := json.Marshal(shown(id)) // what came from JSON
			return string(text)
		},
		Rate: func() int64 { return int64(c.MonthlyRate(sim.LoadBalancer) / 1000) },
	}
}

// theirs is a service that people add.
var theirs = schema.LoadBalancerService{Protocol: "tcp", ListenPort: cloudtest.Guest, DestinationPort: 22,
	HealthCheck: &schema.LoadBalancerServiceHealthCheck{Protocol: "tcp", Port: 22, Interval: 15, Timeout: 10, Retries: 3}}

// meddle does what people do in the console.
func meddle(rnd *rand.Rand, lb *schema.LoadBalancer) string {
	switch n := rnd.IntN(7); {
	case n == 0 && len(lb.Services) > 0:
		lb.Services = lb.Services[1:]
		return "a service less"
	case n == 1:
		lb.Targets = lb.Targets[:0]
		return "no targets"
	case n == 2 && len(lb.Services) > 0 && lb.Services[0].ListenPort != cloudtest.Guest:
		lb.Services[0].Proxyprotocol, lb.Services[0].DestinationPort = !lb.Services[0].Proxyprotocol, 31999
		return "a service changed"
	case n == 3:
		delete(lb.Labels, labelPorts)
		lb.Services = lb.Services[:0]
		return "neither services nor their marks"
	case n == 4:
		lb.Protection.Delete = !lb.Protection.Delete
		return fmt.Sprint("protected: ", lb.Protection.Delete)
	case n == 5:
		lb.Algorithm.Type = "least_connections"
		return "another algorithm"
	}
	lb.Labels["team"] = "web"
	return "a label more"
}

// hasNow is what there is of a load balancer, in words of the engine.
func hasNow(c *sim.Cloud, lb *hcloud.LoadBalancer) cloudtest.Has {
	h := cloudtest.Has{Type: lb.LoadBalancerType.Name, Location: lb.Location.Name}
	for _, s := range lb.Services {
		l := cloud.Listener{Protocol: "TCP", Port: int32(s.ListenPort), NodePort: int32(s.DestinationPort)}
		if s.Proxyprotocol {
			l.Proxy = cloud.ProxyV2
		}
		k := s.HealthCheck
		l.Health = cloud.HealthCheck{Port: int32(k.Port), Interval: k.Interval, Timeout: k.Timeout, Retries: k.Retries}
		if k.HTTP != nil && k.Protocol == "http" {
			l.Health.HTTP, l.Health.Path = true, k.HTTP.Path
		}
		h.Listeners = append(h.Listeners, cloudtest.Line(l))
	}
	names := map[int64]string{}
	for _, s := range c.Servers() {
		names[s.ID] = s.Name
	}
	for _, t := range lb.Targets {
		h.Targets = append(h.Targets, names[t.Server.Server.ID])
	}
	return h
}

// breakCloud has the API, or what it has begun, go wrong.
func breakCloud(rnd *rand.Rand, c *sim.Cloud, line *wire) string {
	codes := []string{"conflict", "locked", "rate_limit_exceeded", "resource_limit_exceeded", "resource_unavailable", "unauthorized", "forbidden",
		"maintenance", "server_error", "bad_gateway", "unavailable", "timeout", "service_error", "invalid_input", "not_found", "uniqueness_error"}
	commands := []string{"create_load_balancer", "delete_load_balancer", "add_service", "update_service", "delete_service", "add_target", "remove_target", "change_load_balancer_type"}
	switch times := 1 + rnd.IntN(6); rnd.IntN(7) {
	case 0:
		command := commands[rnd.IntN(len(commands))]
		c.FailActions(command, "action_failed", times)
		return fmt.Sprintf("%d times %s fails", times, command)
	case 1:
		c.FreezeActions(true)
		return "no action ends"
	case 2:
		c.SetLatency(time.Duration(rnd.IntN(60)) * time.Second)
		return "actions take another time"
	case 3:
		c.SetLimit(sim.LoadBalancer, 3+rnd.IntN(5))
		return "the project is small"
	case 4:
		c.SetRateLimit(3600, times)
		return fmt.Sprintf("%d calls are left", times)
	case 5:
		line.echo.Store(true)
		return "a proxy says no with what it was sent"
	default:
		code := codes[rnd.IntN(len(codes))]
		method := []string{"", http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut}[rnd.IntN(5)]
		c.Refuse(sim.Refusal{Method: method, Code: code, Times: times})
		return fmt.Sprintf("%d times %s to %s", times, code, method)
	}
}

// echoed is the answer of a proxy that tells what it was sent.
func echoed(r *http.Request) *http.Response {
	body := strings.NewReader(fmt.Sprintf(`{"error":{"code":"service_error","message":"cannot pass on a request with %q"}}`, r.Header.Get("Authorization")))
	return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(body), Request: r}
}
