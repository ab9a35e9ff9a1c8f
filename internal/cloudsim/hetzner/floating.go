package hetzner

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

type floatingIP struct{ schema.FloatingIP }

// A Delivery says which server got what was sent to a floating IP.
type Delivery struct {
	FloatingIP   int64
	IP           string
	Server       string
	Since, Until time.Time // Until is zero while it does
}

func (f *floatingIP) item() item {
	return item{id: f.ID, name: f.Name, created: f.Created, labels: f.Labels, ip: f.IP, show: f.FloatingIP}
}

func listFloating(c *Cloud, r *call) (reply, error) {
	var items []item
	for _, f := range c.floating {
		items = append(items, f.item())
	}
	return list(r, "floating_ips", items)
}

func getFloating(c *Cloud, r *call) (reply, error) {
	f, ok := c.floating[r.ids[0]]
	if !ok {
		return reply{}, notFound(FloatingIP, r.ids[0])
	}
	return reply{http.StatusOK, schema.FloatingIPGetResponse{FloatingIP: f.FloatingIP}}, nil
}

// A floatingReply leaves out the action that there is not.
type floatingReply struct {
	FloatingIP schema.FloatingIP `json:"floating_ip"`
	Action     *schema.Action    `json:"action,omitempty"`
}

func createFloating(c *Cloud, r *call) (reply, error) {
	var req schema.FloatingIPCreateRequest
	if err := r.decode(&req); err != nil {
		return reply{}, err
	}
	f, err := c.newFloating(req)
	if err != nil {
		return reply{}, err
	}
	f.ID, f.Created = c.nextID(), c.now()
	f.IP = c.publicAddress(f.Type)
	f.Name = "floating-ip-" + itoa(f.ID)
	assign(&f.Name, req.Name)
	c.floating[f.ID] = f
	c.charge(FloatingIP, f.ID, f.Name, floatingPrice[f.Type])
	answer := floatingReply{FloatingIP: f.FloatingIP}
	if req.Server != nil {
		answer.Action = new(c.deliverAction(f, *req.Server))
	}
	return reply{http.StatusCreated, answer}, nil
}

func (c *Cloud) newFloating(req schema.FloatingIPCreateRequest) (*floatingIP, error) {
	f := &floatingIP{schema.FloatingIP{Type: req.Type, Description: new(""), DNSPtr: []schema.FloatingIPDNSPtr{}}}
	assign(f.Description, req.Description)
	if _, ok := floatingPrice[req.Type]; !ok {
		return nil, invalid("type", "%q is neither ipv4 nor ipv6", req.Type)
	}
	if req.Name != nil {
		if err := c.name(FloatingIP, 0, *req.Name); err != nil {
			return nil, err
		}
	}
	if err := c.room(FloatingIP); err != nil {
		return nil, err
	}
	var err error
	if f.Labels, err = newLabels(req.Labels); err != nil {
		return nil, err
	}
	switch {
	case req.Server != nil && c.servers[*req.Server] == nil:
		return nil, notFound(Server, *req.Server)
	case req.HomeLocation != nil:
		f.HomeLocation, err = location(*req.HomeLocation)
	case req.Server != nil:
		f.HomeLocation = c.servers[*req.Server].Location
	default:
		return nil, invalid("home_location", "either home_location or server must be given")
	}
	return f, err
}

func updateFloating(c *Cloud, r *call) (reply, error) {
	f, ok := c.floating[r.ids[0]]
	if !ok {
		return reply{}, notFound(FloatingIP, r.ids[0])
	}
	var req struct {
		Name        *string            `json:"name"`
		Description *string            `json:"description"`
		Labels      *map[string]string `json:"labels"`
	}
	if err := r.decode(&req); err != nil {
		return reply{}, err
	}
	if err := c.rename(FloatingIP, f.ID, req.Name, req.Labels); err != nil {
		return reply{}, err
	}
	assign(&f.Name, req.Name)
	assign(&f.Labels, req.Labels)
	if req.Description != nil {
		f.Description = req.Description
	}
	return reply{http.StatusOK, schema.FloatingIPUpdateResponse{FloatingIP: f.FloatingIP}}, nil
}

// deleteFloating refuses one that is assigned (2026-05-01); before, it was
// unassigned in passing.
func deleteFloating(c *Cloud, r *call) (reply, error) {
	f, ok := c.floating[r.ids[0]]
	switch {
	case !ok:
		return reply{}, notFound(FloatingIP, r.ids[0])
	case f.Protection.Delete:
		return reply{}, errorf(codeProtected, "floating_ip deletion is protected")
	case f.Server != nil:
		return reply{}, errorf(codeMustBeUnassigned, "the Floating IP must be unassigned first")
	}
	if err := c.locked(FloatingIP, f.ID); err != nil {
		return reply{}, err
	}
	c.dropFloating(f.ID)
	return reply{status: http.StatusNoContent}, nil
}

func (c *Cloud) dropFloating(id int64) {
	c.deliver(c.floating[id], nil)
	delete(c.floating, id)
	c.discharge(FloatingIP, id)
}

type floatingPlan func(*Cloud, *floatingIP, *call) (schema.Action, error)

var floatingActions = map[string]floatingPlan{
	"assign":            assignFloating,
	"unassign":          unassignFloating,
	"change_dns_ptr":    changeFloatingPtr,
	"change_protection": protectFloating,
}

func onFloating(_ string, plan floatingPlan) handler {
	return func(c *Cloud, r *call) (reply, error) {
		f, ok := c.floating[r.ids[0]]
		if !ok {
			return reply{}, notFound(FloatingIP, r.ids[0])
		}
		if err := c.locked(FloatingIP, f.ID); err != nil {
			return reply{}, err
		}
		a, err := plan(c, f, r)
		return actionReply(a), err
	}
}

func assignFloating(c *Cloud, f *floatingIP, r *call) (schema.Action, error) {
	var req schema.FloatingIPActionAssignRequest
	if err := r.decode(&req); err != nil {
		return schema.Action{}, err
	}
	switch {
	case c.servers[req.Server] == nil:
		return schema.Action{}, notFound(Server, req.Server)
	case c.opts.UnassignFirst && f.Server != nil:
		return schema.Action{}, errorf(codeFloatingAssigned, "the Floating IP is already assigned")
	}
	return c.deliverAction(f, req.Server), nil
}

func (c *Cloud) deliverAction(f *floatingIP, to int64) schema.Action {
	return c.start("assign_floating_ip", func() {
		if c.servers[to] != nil { // it may have been deleted meanwhile
			c.deliver(f, &to)
		}
	}, ref(FloatingIP, f.ID), ref(Server, to))
}

func unassignFloating(c *Cloud, f *floatingIP, _ *call) (schema.Action, error) {
	on := []schema.ActionResourceReference{ref(FloatingIP, f.ID)}
	if f.Server != nil {
		on = append(on, ref(Server, *f.Server))
	}
	return c.start("unassign_floating_ip", func() { c.deliver(f, nil) }, on...), nil
}

// deliver changes which server gets what is sent to f, and keeps a record.
func (c *Cloud) deliver(f *floatingIP, to *int64) {
	now := c.now()
	for i := range c.deliveries {
		if d := &c.deliveries[i]; d.FloatingIP == f.ID && d.Until.IsZero() {
			if to != nil && d.Server == c.servers[*to].Name {
				return
			}
			d.Until = now
		}
	}
	f.Server = to
	if to != nil {
		c.deliveries = append(c.deliveries, Delivery{FloatingIP: f.ID, IP: f.IP, Server: c.servers[*to].Name, Since: now})
	}
}

func changeFloatingPtr(c *Cloud, f *floatingIP, r *call) (schema.Action, error) {
	var req schema.FloatingIPActionChangeDNSPtrRequest
	if err := r.decode(&req); err != nil {
		return schema.Action{}, err
	}
	if !contains(f.IP, req.IP) {
		return schema.Action{}, invalid("ip", "%q is not in %s", req.IP, f.IP)
	}
	return c.start("change_dns_ptr", func() {
		f.DNSPtr = []schema.FloatingIPDNSPtr{}
		if req.DNSPtr != nil {
			f.DNSPtr = append(f.DNSPtr, schema.FloatingIPDNSPtr{IP: req.IP, DNSPtr: *req.DNSPtr})
		}
	}, ref(FloatingIP, f.ID)), nil
}

// contains reports whether ip is the address, or lies in the prefix, of of.
func contains(of, ip string) bool {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return false
	}
	p, err := netip.ParsePrefix(of)
	return of == ip || (err == nil && p.Contains(a))
}

func protectFloating(c *Cloud, f *floatingIP, r *call) (schema.Action, error) {
	var req schema.FloatingIPActionChangeProtectionRequest
	if err := r.decode(&req); err != nil {
		return schema.Action{}, err
	}
	return c.start("change_protection", func() { assign(&f.Protection.Delete, req.Delete) }, ref(FloatingIP, f.ID)), nil
}
