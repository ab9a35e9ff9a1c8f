package hetzner_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"

	"github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

func TestPages(t *testing.T) {
	w := newWorld(t, hetzner.Options{})
	for i := range 120 {
		opts := small(fmt.Sprintf("lb-%d", i))
		opts.Labels = map[string]string{"parity": []string{"even", "odd"}[i%2]}
		w.create(opts)
	}
	w.ClearJournal()
	all, err := w.client.LoadBalancer.All(t.Context())
	if err != nil || len(all) != 120 {
		t.Errorf("%d load balancers, %v", len(all), err)
	}
	if reads := len(w.Journal()); reads != 3 {
		t.Errorf("listing took %d requests: %v", reads, w.Journal())
	}
	odd, err := w.client.LoadBalancer.AllWithOpts(t.Context(), hcloud.LoadBalancerListOpts{ListOpts: hcloud.ListOpts{LabelSelector: "parity=odd"}})
	if err != nil || len(odd) != 60 {
		t.Errorf("%d odd ones, %v", len(odd), err)
	}
	page, resp, err := w.client.LoadBalancer.List(t.Context(), hcloud.LoadBalancerListOpts{ListOpts: hcloud.ListOpts{Page: 2}, Sort: []string{"id:desc"}})
	if err != nil || len(page) != 25 || page[0].Name != "lb-94" {
		t.Errorf("second page of %d begins with %v, %v", len(page), page[0].Name, err)
	}
	want := hcloud.Pagination{Page: 2, PerPage: 25, PreviousPage: 1, NextPage: 3, LastPage: 5, TotalEntries: 120}
	if *resp.Meta.Pagination != want || !strings.Contains(resp.Header.Get("Link"), `page=3`) {
		t.Errorf("pagination %+v, link %q", resp.Meta.Pagination, resp.Header.Get("Link"))
	}
	if page, _, err = w.client.LoadBalancer.List(t.Context(), hcloud.LoadBalancerListOpts{ListOpts: hcloud.ListOpts{PerPage: 200}}); len(page) != 50 {
		t.Errorf("a page of 200 has %d, %v", len(page), err)
	}
}

func TestSelectors(t *testing.T) {
	w := newWorld(t, hetzner.Options{})
	w.AddServer(hetzner.ServerSpec{Name: "a", Labels: map[string]string{"env": "prod", "x.io/zone": "1"}})
	w.AddServer(hetzner.ServerSpec{Name: "b", Labels: map[string]string{"env": "test"}})
	w.AddServer(hetzner.ServerSpec{Name: "c"})
	for selector, want := range map[string]string{
		"env":                           "a b",
		"!env":                          "c",
		"env=prod":                      "a",
		"env==prod":                     "a",
		"env!=prod":                     "b c",
		"env in (prod, test)":           "a b",
		"env notin (prod)":              "b c",
		"env,x.io/zone=1":               "a",
		"env in (prod,test),!x.io/zone": "b",
	} {
		servers, err := w.client.Server.AllWithOpts(t.Context(), hcloud.ServerListOpts{ListOpts: hcloud.ListOpts{LabelSelector: selector}})
		var names []string
		for _, s := range servers {
			names = append(names, s.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s selects %q, want %q; %v", selector, got, want, err)
		}
	}
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t, hetzner.Options{})
	get := func() (*hcloud.Response, error) {
		_, resp, err := w.client.Location.List(t.Context(), hcloud.LocationListOpts{})
		return resp, err
	}
	w.SetRateLimit(3600, 2)
	for want := 1; want >= 0; want-- {
		if resp, err := get(); err != nil || resp.Meta.Ratelimit.Remaining != want {
			t.Errorf("remaining %d, want %d; %v", resp.Meta.Ratelimit.Remaining, want, err)
		}
	}
	resp, err := get()
	if !hcloud.IsError(err, hcloud.ErrorCodeRateLimitExceeded) || !resp.Meta.Ratelimit.Reset.Equal(noon.Add(time.Hour)) {
		t.Errorf("third request: %v, reset at %v", err, resp.Meta.Ratelimit.Reset)
	}
	w.clock.Advance(time.Second)
	if _, err := get(); err != nil {
		t.Errorf("a second later: %v", err)
	}
	if _, err := get(); err == nil {
		t.Error("one second gave two tokens")
	}
	w.clock.Advance(2 * time.Hour)
	if resp, _ := get(); resp.Meta.Ratelimit.Remaining != 3599 {
		t.Errorf("full bucket has %d left", resp.Meta.Ratelimit.Remaining)
	}
}

func TestActionsTakeTime(t *testing.T) {
	c := newTown(t)
	c.SetLatency(10 * time.Second)
	ctx := t.Context()
	a, _, err := c.client.FloatingIP.Assign(ctx, c.vip, c.apart)
	if err != nil || a.Status != hcloud.ActionStatusRunning {
		t.Fatal(a, err)
	}
	c.clock.Advance(9 * time.Second)
	if f := c.FloatingIPs()[0]; *f.Server != c.inside.ID {
		t.Error("it moved before its time")
	}
	c.FreezeActions(true)
	c.clock.Advance(time.Hour)
	if a, _, _ = c.client.Action.GetByID(ctx, a.ID); a.Status != hcloud.ActionStatusRunning {
		t.Errorf("a frozen action is %s", a.Status)
	}
	c.FreezeActions(false)
	c.done(a, nil, nil)
	if f := c.FloatingIPs()[0]; *f.Server != c.apart.ID {
		t.Error("it did not move")
	}

	c.FailActions("unassign_floating_ip", "action_failed", 1)
	a, _, err = c.client.FloatingIP.Unassign(ctx, c.vip)
	if err != nil {
		t.Fatal(err)
	}
	c.clock.Advance(time.Minute)
	if err := c.client.Action.WaitFor(ctx, a); err == nil || c.FloatingIPs()[0].Server == nil {
		t.Errorf("a failed action: %v, server %v", err, c.FloatingIPs()[0].Server)
	}
}

func TestFloatingIP(t *testing.T) {
	w := newWorld(t, hetzner.Options{})
	ctx := t.Context()
	a, b := &hcloud.Server{ID: w.AddServer(hetzner.ServerSpec{Name: "a"})}, &hcloud.Server{ID: w.AddServer(hetzner.ServerSpec{Name: "b"})}
	res, _, err := w.client.FloatingIP.Create(ctx, hcloud.FloatingIPCreateOpts{
		Type: hcloud.FloatingIPTypeIPv6, HomeLocation: &hcloud.Location{Name: "fsn1"}, Name: new("v6"), Labels: map[string]string{"k": "v"}})
	if err != nil || res.Action != nil {
		t.Fatal(err, res.Action)
	}
	f := res.FloatingIP
	if bits, _ := f.Network.Mask.Size(); bits != 64 {
		t.Errorf("an IPv6 floating IP is %v", f.Network)
	}
	for _, server := range []*hcloud.Server{a, b} {
		act, r, err := w.client.FloatingIP.Assign(ctx, f, server)
		w.done(act, r, err)
		w.clock.Advance(time.Minute)
	}
	got := w.Deliveries()
	want := []hetzner.Delivery{
		{FloatingIP: f.ID, IP: f.Network.String(), Server: "a", Since: noon, Until: noon.Add(time.Minute)},
		{FloatingIP: f.ID, IP: f.Network.String(), Server: "b", Since: noon.Add(time.Minute)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("deliveries (-want +got):\n%s", diff)
	}
	if _, _, err := w.client.FloatingIP.Update(ctx, f, hcloud.FloatingIPUpdateOpts{Name: "new", Labels: map[string]string{}}); err != nil {
		t.Error(err)
	}
	act, r, err := w.client.FloatingIP.ChangeDNSPtr(ctx, f, f.IP.String(), new("x.example"))
	w.done(act, r, err)
	act, r, err = w.client.FloatingIP.ChangeProtection(ctx, f, hcloud.FloatingIPChangeProtectionOpts{Delete: new(false)})
	w.done(act, r, err)
	act, r, err = w.client.FloatingIP.Unassign(ctx, f)
	w.done(act, r, err)
	if _, err := w.client.FloatingIP.Delete(ctx, f); err != nil {
		t.Error(err)
	}
	if all, err := w.client.FloatingIP.All(ctx); len(all) != 0 || err != nil {
		t.Errorf("left %v, %v", all, err)
	}
}

// A load balancer that is made again with the same Primary IP has the same
// address.
func TestPrimaryIPOutlivesLoadBalancer(t *testing.T) {
	c := newTown(t)
	ctx := t.Context()
	opts := small("keep")
	opts.PublicNet = &hcloud.LoadBalancerCreateOptsPublicNet{IPv4: c.primary}
	for range 2 {
		lb := c.create(opts)
		if !lb.PublicNet.IPv4.IP.Equal(c.primary.IP) {
			t.Errorf("address %s, want %s", lb.PublicNet.IPv4.IP, c.primary.IP)
		}
		res, r, err := c.client.LoadBalancer.DeleteWithResult(ctx, lb)
		c.done(res.Action, r, err)
		if r.StatusCode != http.StatusCreated {
			t.Errorf("deleted with %d", r.StatusCode)
		}
	}
	p, _, err := c.client.PrimaryIP.GetByName(ctx, "p")
	if err != nil || p.AssigneeType != "unassigned" {
		t.Fatal(p, err)
	}
	if _, err := c.client.PrimaryIP.Delete(ctx, p); err != nil {
		t.Error(err)
	}
}

// Every change there is, once, and what is there after it.
func TestChanges(t *testing.T) {
	c := newTown(t)
	ctx, lb, api := t.Context(), c.lb, &c.client.LoadBalancer
	c.OwnIP(netip.MustParseAddr("192.0.2.9"))
	svc := tcp(443, 30443)
	for _, do := range []func() (*hcloud.Action, *hcloud.Response, error){
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.AddService(ctx, lb, hcloud.LoadBalancerAddServiceOpts{Protocol: svc.Protocol, ListenPort: svc.ListenPort, DestinationPort: svc.DestinationPort, Proxyprotocol: new(true),
				HealthCheck: &hcloud.LoadBalancerAddServiceOptsHealthCheck{Protocol: "tcp", Port: new(30443), Interval: new(5 * time.Second), Timeout: new(3 * time.Second), Retries: new(1)}})
		},
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.UpdateService(ctx, lb, 80, hcloud.LoadBalancerUpdateServiceOpts{DestinationPort: new(31080)})
		},
		func() (*hcloud.Action, *hcloud.Response, error) { return api.DeleteService(ctx, lb, 443) },
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.AddLabelSelectorTarget(ctx, lb, hcloud.LoadBalancerAddLabelSelectorTargetOpts{Selector: "env=prod", UsePrivateIP: new(false)})
		},
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.AddIPTarget(ctx, lb, hcloud.LoadBalancerAddIPTargetOpts{IP: []byte{192, 0, 2, 9}})
		},
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.RemoveLabelSelectorTarget(ctx, lb, "env=prod")
		},
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.RemoveIPTarget(ctx, lb, []byte{192, 0, 2, 9})
		},
		func() (*hcloud.Action, *hcloud.Response, error) { return api.RemoveServerTarget(ctx, lb, c.inside) },
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.DetachFromNetwork(ctx, lb, hcloud.LoadBalancerDetachFromNetworkOpts{Network: c.lan})
		},
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.AttachToNetwork(ctx, lb, hcloud.LoadBalancerAttachToNetworkOpts{Network: c.other})
		},
		func() (*hcloud.Action, *hcloud.Response, error) { return api.DisablePublicInterface(ctx, lb) },
		func() (*hcloud.Action, *hcloud.Response, error) { return api.EnablePublicInterface(ctx, lb) },
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.ChangeDNSPtr(ctx, lb, lb.PublicNet.IPv4.IP.String(), new("web.example"))
		},
		func() (*hcloud.Action, *hcloud.Response, error) {
			return api.ChangeType(ctx, lb, hcloud.LoadBalancerChangeTypeOpts{LoadBalancerType: &hcloud.LoadBalancerType{Name: "lb31"}})
		},
	} {
		c.done(do())
	}
	got, _, err := api.GetByID(ctx, lb.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Services) != 1 || got.Services[0].DestinationPort != 31080 || got.Services[0].HealthCheck.HTTP.Path != "/healthz" || len(got.Targets) != 0 ||
		got.PrivateNet[0].Network.ID != c.other.ID || got.PublicNet.IPv4.DNSPtr != "web.example" || got.LoadBalancerType.Name != "lb31" {
		t.Errorf("after all: %+v", got)
	}
}

func TestBill(t *testing.T) {
	w := newWorld(t, hetzner.Options{})
	lb := w.create(small("web"))
	if got := w.MonthlyRate(hetzner.LoadBalancer); got != 5_390_000 {
		t.Errorf("an lb11 costs %s", got)
	}
	w.clock.Advance(90 * time.Minute)
	a, r, err := w.client.LoadBalancer.ChangeType(t.Context(), lb, hcloud.LoadBalancerChangeTypeOpts{LoadBalancerType: &hcloud.LoadBalancerType{Name: "lb21"}})
	w.done(a, r, err)
	if got := w.MonthlyRate(); got != 16_400_000 {
		t.Errorf("an lb21 costs %s", got)
	}
	w.clock.Advance(time.Hour)
	res, r, err := w.client.LoadBalancer.DeleteWithResult(t.Context(), lb)
	w.done(res.Action, r, err)
	w.clock.Advance(time.Hour)
	hours, total := w.Bill()
	if got := w.MonthlyRate(); got != 0 || hours[hetzner.LoadBalancer] != 3 || total != 2*8_600+26_300 {
		t.Errorf("rate %s, hours %v, total %s", got, hours, total)
	}
}

func TestJournalKeepsNoSecret(t *testing.T) {
	w := newWorld(t, hetzner.Options{})
	opts := small("web")
	opts.Labels = map[string]string{"oops": hetzner.DefaultToken}
	w.create(opts)
	var text string
	for _, e := range w.Journal() {
		text += e.Path + e.Body
	}
	if strings.Contains(text, hetzner.DefaultToken) || !strings.Contains(text, "[redacted]") {
		t.Error("the token is in the journal:", text)
	}
	if writes := w.Writes(); len(writes) != 1 || writes[0].String() != "POST /load_balancers" || writes[0].Status != 201 || writes[0].Hash == "" {
		t.Errorf("writes %+v", writes)
	}
}

// What a person does by hand is seen by clients.
func TestConsole(t *testing.T) {
	c := newTown(t)
	ctx := t.Context()
	c.EditLoadBalancer(c.lb.ID, func(lb *schema.LoadBalancer) { lb.Services = nil })
	c.EditServer(c.inside.ID, func(s *schema.Server) { s.Status = "off" })
	c.MoveFloatingIP(c.vip.ID, c.apart.ID)
	c.SetHealth("inside", "unhealthy")
	f, _, err := c.client.FloatingIP.GetByName(ctx, "vip")
	if err != nil || f.Server.ID != c.apart.ID {
		t.Error(f, err)
	}
	for _, s := range c.Servers() {
		c.Remove(hetzner.Server, s.ID)
	}
	lb, _, err := c.client.LoadBalancer.GetByID(ctx, c.lb.ID)
	if err != nil || len(lb.Services)+len(lb.Targets) != 0 || c.FloatingIPs()[0].Server != nil {
		t.Errorf("%+v, %v", lb, err)
	}
	c.Remove(hetzner.LoadBalancer, c.lb.ID)
	if _, _, err := c.client.LoadBalancer.DeleteService(ctx, c.lb, 80); !hcloud.IsError(err, hcloud.ErrorCodeNotFound) {
		t.Error(errors.Unwrap(err))
	}
}

// What is here reads the same with hcloud-go's types, there and back.
func TestRoundTrip(t *testing.T) {
	c := newTown(t)
	for _, lb := range c.LoadBalancers() {
		// One way more, for hcloud-go writes HTTP options of TCP services, too.
		there := hcloud.LoadBalancerFromSchema(lb)
		if diff := cmp.Diff(there, hcloud.LoadBalancerFromSchema(hcloud.SchemaFromLoadBalancer(there))); diff != "" {
			t.Errorf("load balancer (-there +back):\n%s", diff)
		}
	}
	for _, f := range c.FloatingIPs() {
		if diff := cmp.Diff(f, hcloud.SchemaFromFloatingIP(hcloud.FloatingIPFromSchema(f))); diff != "" {
			t.Errorf("floating IP (-there +back):\n%s", diff)
		}
	}
	for _, p := range c.PrimaryIPs() {
		if diff := cmp.Diff(p, hcloud.SchemaFromPrimaryIP(hcloud.PrimaryIPFromSchema(p))); diff != "" {
			t.Errorf("primary IP (-there +back):\n%s", diff)
		}
	}
	prices, _, err := c.client.Pricing.Get(t.Context())
	if err != nil || len(prices.LoadBalancerTypes) != 3 || prices.LoadBalancerTypes[0].Pricings[0].Monthly.Net != "5.3900000000" {
		t.Errorf("prices %+v, %v", prices, err)
	}
	types, err := c.client.LoadBalancerType.All(t.Context())
	if err != nil || len(types) != 3 || types[0].MaxTargets != 25 {
		t.Error(types, err)
	}
	nets, err := c.client.Network.All(t.Context())
	if err != nil || len(nets) != 2 || len(nets[0].LoadBalancers) != 1 {
		t.Error(nets, err)
	}
	for _, id := range []int64{c.lb.ID, c.plain.ID} {
		if _, err := c.client.LoadBalancer.Action.AllFor(t.Context(), &hcloud.LoadBalancer{ID: id}, hcloud.ActionListOpts{}); err != nil {
			t.Error(err)
		}
	}
}
