package hetzner_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"testing"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"

	"github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

// A town has one of each thing.
type town struct {
	*world
	lan, other    *hcloud.Network
	lb, plain     *hcloud.LoadBalancer // plain has nothing
	inside, apart *hcloud.Server       // on the network of lb, and not
	mute          *hcloud.Server       // without IPv4
	vip           *hcloud.FloatingIP   // at inside
	primary       *hcloud.PrimaryIP
}

func newTown(t *testing.T) *town {
	w := newWorld(t, hetzner.Options{ReadOnlyToken: "look"})
	lan := w.AddNetwork("lan", netip.MustParsePrefix("10.0.0.0/24"))
	other := w.AddNetwork("other", netip.MustParsePrefix("10.0.1.0/24"))
	c := &town{world: w, lan: &hcloud.Network{ID: lan}, other: &hcloud.Network{ID: other}}
	c.inside = &hcloud.Server{ID: w.AddServer(hetzner.ServerSpec{Name: "inside", Private: map[int64]netip.Addr{lan: {}}})}
	c.apart = &hcloud.Server{ID: w.AddServer(hetzner.ServerSpec{Name: "apart"})}
	c.mute = &hcloud.Server{ID: w.AddServer(hetzner.ServerSpec{Name: "mute", NoIPv4: true})}
	opts := small("lb")
	opts.Network = c.lan
	opts.Services = []hcloud.LoadBalancerCreateOptsService{tcp(80, 30080)}
	opts.Targets = []hcloud.LoadBalancerCreateOptsTarget{serverTarget(c.inside.ID, true)}
	c.lb, c.plain = w.create(opts), w.create(small("plain"))
	f, _, err := w.client.FloatingIP.Create(t.Context(), hcloud.FloatingIPCreateOpts{Type: hcloud.FloatingIPTypeIPv4, Server: c.inside, Name: new("vip")})
	w.done(f.Action, nil, err)
	c.vip = f.FloatingIP
	p, _, err := w.client.PrimaryIP.Create(t.Context(), hcloud.PrimaryIPCreateOpts{Type: hcloud.PrimaryIPTypeIPv4, Name: "p", Location: "fsn1", AssigneeType: "server"})
	if err != nil {
		t.Fatal(err)
	}
	c.primary = p.PrimaryIP
	return c
}

func public(s *hcloud.Server) hcloud.LoadBalancerAddServerTargetOpts {
	return hcloud.LoadBalancerAddServerTargetOpts{Server: s, UsePrivateIP: new(false)}
}

func private(s *hcloud.Server) hcloud.LoadBalancerAddServerTargetOpts {
	return hcloud.LoadBalancerAddServerTargetOpts{Server: s, UsePrivateIP: new(true)}
}

func refuse(code string) func(*town) error {
	return func(c *town) error {
		c.Refuse(hetzner.Refusal{Method: "GET", Path: regexp.MustCompile("^/servers$"), Code: code, Times: 1})
		_, err := c.client.Server.All(c.t.Context())
		return err
	}
}

// errorCases provoke each code once.
var errorCases = []struct {
	name   string
	code   string
	status int
	do     func(*town) error
}{
	{"a token that nobody knows", "unauthorized", 401, func(c *town) error {
		_, err := c.newClient("guessed").Server.All(c.t.Context())
		return err
	}},
	{"a write with a token for reading", "forbidden", 403, func(c *town) error {
		_, _, err := c.newClient("look").LoadBalancer.DeleteWithResult(c.t.Context(), c.lb)
		return err
	}},
	{"more than the project may have", "resource_limit_exceeded", 403, func(c *town) error {
		c.SetLimit(hetzner.LoadBalancer, 2)
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), small("third"))
		return err
	}},
	{"more targets than the type takes", "resource_limit_exceeded", 403, func(c *town) error {
		c.SetTypeLimits("lb11", 5, 0)
		opts := small("third")
		opts.Targets = []hcloud.LoadBalancerCreateOptsTarget{serverTarget(c.apart.ID, false)}
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), opts)
		return err
	}},
	{"more services than the type takes", "resource_limit_exceeded", 403, func(c *town) error {
		c.SetTypeLimits("lb11", 1, 25)
		opts := small("third")
		opts.Services = []hcloud.LoadBalancerCreateOptsService{tcp(80, 1), tcp(81, 1)}
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), opts)
		return err
	}},
	{"what is not there", "not_found", 404, func(c *town) error {
		_, _, err := c.client.FloatingIP.Assign(c.t.Context(), &hcloud.FloatingIP{ID: 1}, c.inside)
		return err
	}},
	{"a name that is taken", "uniqueness_error", 409, func(c *town) error {
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), small("lb"))
		return err
	}},
	{"an update while an action runs", "conflict", 409, func(c *town) error {
		c.busy()
		_, _, err := c.client.LoadBalancer.Update(c.t.Context(), c.lb, hcloud.LoadBalancerUpdateOpts{Name: "new"})
		return err
	}},
	{"an action while an action runs", "locked", 423, func(c *town) error {
		c.busy()
		_, _, err := c.client.LoadBalancer.DeleteService(c.t.Context(), c.lb, 80)
		return err
	}},
	{"deletion of what is protected", "protected", 423, func(c *town) error {
		a, r, err := c.client.LoadBalancer.ChangeProtection(c.t.Context(), c.lb, hcloud.LoadBalancerChangeProtectionOpts{Delete: new(true)})
		c.done(a, r, err)
		_, _, err = c.client.LoadBalancer.DeleteWithResult(c.t.Context(), c.lb)
		return err
	}},
	{"a label of their own", "invalid_input", 422, func(c *town) error {
		opts := small("third")
		opts.Labels = map[string]string{"hetzner.cloud/x": "y"}
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), opts)
		return err
	}},
	{"a location that is not", "invalid_input", 422, func(c *town) error {
		opts := small("third")
		opts.Location = &hcloud.Location{Name: "moon1"}
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), opts)
		return err
	}},
	{"a target twice", "target_already_defined", 422, func(c *town) error {
		_, _, err := c.client.LoadBalancer.AddServerTarget(c.t.Context(), c.lb, private(c.inside))
		return err
	}},
	{"a port twice", "source_port_already_used", 422, func(c *town) error {
		opts := small("third")
		opts.Services = []hcloud.LoadBalancerCreateOptsService{tcp(80, 1), tcp(80, 2)}
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), opts)
		return err
	}},
	{"a private target that is elsewhere", "server_not_attached_to_network", 422, func(c *town) error {
		_, _, err := c.client.LoadBalancer.AddServerTarget(c.t.Context(), c.lb, private(c.apart))
		return err
	}},
	{"a private target of one without a network", "load_balancer_not_attached_to_network", 422, func(c *town) error {
		_, _, err := c.client.LoadBalancer.AddServerTarget(c.t.Context(), c.plain, private(c.inside))
		return err
	}},
	{"a public target without IPv4", "missing_ipv4", 422, func(c *town) error {
		_, _, err := c.client.LoadBalancer.AddServerTarget(c.t.Context(), c.lb, public(c.mute))
		return err
	}},
	{"a public target of one without a public interface", "load_balancer_public_interface_disabled", 422, func(c *town) error {
		a, r, err := c.client.LoadBalancer.DisablePublicInterface(c.t.Context(), c.lb)
		c.done(a, r, err)
		_, _, err = c.client.LoadBalancer.AddServerTarget(c.t.Context(), c.lb, public(c.apart))
		return err
	}},
	{"an IP of somebody else", "ip_not_owned", 422, func(c *town) error {
		_, _, err := c.client.LoadBalancer.AddIPTarget(c.t.Context(), c.lb, hcloud.LoadBalancerAddIPTargetOpts{IP: []byte{192, 0, 2, 1}})
		return err
	}},
	{"an IP of a floating IP", "cloud_resource_ip_not_allowed", 422, func(c *town) error {
		_, _, err := c.client.LoadBalancer.AddIPTarget(c.t.Context(), c.lb, hcloud.LoadBalancerAddIPTargetOpts{IP: c.vip.IP})
		return err
	}},
	{"hiding one that has public targets", "targets_without_use_private_ip", 422, func(c *town) error {
		a, r, err := c.client.LoadBalancer.AddServerTarget(c.t.Context(), c.lb, public(c.apart))
		c.done(a, r, err)
		_, _, err = c.client.LoadBalancer.DisablePublicInterface(c.t.Context(), c.lb)
		return err
	}},
	{"a second network", "load_balancer_already_attached", 422, func(c *town) error {
		_, _, err := c.client.LoadBalancer.AttachToNetwork(c.t.Context(), c.lb, hcloud.LoadBalancerAttachToNetworkOpts{Network: c.other})
		return err
	}},
	{"an IP of the network that is in use", "ip_not_available", 422, func(c *town) error {
		_, _, err := c.client.LoadBalancer.AttachToNetwork(c.t.Context(), c.plain, hcloud.LoadBalancerAttachToNetworkOpts{Network: c.lan, IP: []byte{10, 0, 0, 2}})
		return err
	}},
	{"a network without a subnet in the zone", "no_subnet_available", 422, func(c *town) error {
		opts := small("third")
		opts.Location, opts.Network = &hcloud.Location{Name: "ash"}, c.lan
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), opts)
		return err
	}},
	{"a type that is too small", "invalid_load_balancer_type", 422, func(c *town) error {
		c.SetTypeLimits("lb21", 0, 0)
		_, _, err := c.client.LoadBalancer.ChangeType(c.t.Context(), c.lb, hcloud.LoadBalancerChangeTypeOpts{LoadBalancerType: &hcloud.LoadBalancerType{Name: "lb21"}})
		return err
	}},
	{"a primary IP twice", "primary_ip_assigned", 422, func(c *town) error {
		opts := small("third")
		opts.PublicNet = &hcloud.LoadBalancerCreateOptsPublicNet{IPv4: c.primary}
		c.create(opts)
		opts.Name = "fourth"
		_, _, err := c.client.LoadBalancer.Create(c.t.Context(), opts)
		return err
	}},
	{"release of what is assigned", "must_be_unassigned", 422, func(c *town) error {
		_, err := c.client.FloatingIP.Delete(c.t.Context(), c.vip)
		return err
	}},
	{"a move, where it takes an unassign", "floating_ip_assigned", 422, func(c *town) error {
		c.SetUnassignFirst(true)
		_, _, err := c.client.FloatingIP.Assign(c.t.Context(), c.vip, c.apart)
		return err
	}},
	{"the budget is spent", "rate_limit_exceeded", 429, func(c *town) error {
		c.SetRateLimit(3600, 0)
		_, err := c.client.Server.All(c.t.Context())
		return err
	}},
	{"refused: maintenance", "maintenance", 403, refuse("maintenance")},
	{"refused: no capacity", "resource_unavailable", 412, refuse("resource_unavailable")},
	{"refused: service error", "service_error", 422, refuse("service_error")},
	{"refused: unsupported", "unsupported_error", 422, refuse("unsupported_error")},
	{"refused: Robot", "robot_unavailable", 422, refuse("robot_unavailable")},
	{"refused: server error", "server_error", 500, refuse("server_error")},
	{"refused: bad gateway", "bad_gateway", 502, refuse("bad_gateway")},
	{"refused: unavailable", "unavailable", 503, refuse("unavailable")},
	{"refused: timeout", "timeout", 504, refuse("timeout")},
}

func TestErrors(t *testing.T) {
	for _, tt := range errorCases {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do(newTown(t))
			var e hcloud.Error
			if !errors.As(err, &e) || string(e.Code) != tt.code || e.Response().StatusCode != tt.status {
				t.Errorf("got %v, want %s with status %d", err, tt.code, tt.status)
			}
		})
	}
}

// busy has an action run on lb.
func (c *town) busy() {
	c.SetLatency(time.Minute)
	if _, _, err := c.client.LoadBalancer.ChangeAlgorithm(c.t.Context(), c.lb, hcloud.LoadBalancerChangeAlgorithmOpts{Type: hcloud.LoadBalancerAlgorithmTypeLeastConnections}); err != nil {
		c.t.Fatal(err)
	}
}

// What no client of the document would ask.
func TestMalformedRequests(t *testing.T) {
	tests := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"no JSON", "POST", "/load_balancers", "{", 400, "json_error"},
		{"a string where a number is due", "POST", "/load_balancers", `{"network": "x"}`, 400, "json_error"},
		{"no such path", "GET", "/load_balancer", "", 404, "not_found"},
		{"all actions", "GET", "/actions", "", 410, "deprecated_api_endpoint"},
		{"a page that is no number", "GET", "/servers?page=x", "", 422, "invalid_input"},
		{"an order that is none", "GET", "/servers?sort=color", "", 422, "invalid_input"},
		{"a selector that is none", "GET", "/servers?label_selector=a%3D%3D%3Db", "", 422, "invalid_input"},
	}
	cloud := hetzner.New(hetzner.Options{})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := httptest.NewRequest(tt.method, tt.path, bytes.NewBufferString(tt.body))
			req.Header.Set("Authorization", "Bearer "+hetzner.DefaultToken)
			answer := httptest.NewRecorder()
			cloud.ServeHTTP(answer, req)
			var e schema.ErrorResponse
			if err := json.Unmarshal(answer.Body.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if answer.Code != tt.status || e.Error.Code != tt.code {
				t.Errorf("got %d %s, want %d %s", answer.Code, e.Error.Code, tt.status, tt.code)
			}
		})
	}
	if _, ok := any(cloud).(http.Handler); !ok {
		t.Error("a Cloud is no handler")
	}
}
