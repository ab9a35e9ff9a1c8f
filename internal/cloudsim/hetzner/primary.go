package hetzner

import (
	"fmt"
	"net/http"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// unassigned is the type of nothing that a Primary IP belongs to (2026-08-01).
const unassigned = "unassigned"

type primaryIP struct{ schema.PrimaryIP }

// publicAddress gives out an address, or a /64.
func (c *Cloud) publicAddress(family string) string {
	c.hosts++
	if family == "ipv6" {
		return fmt.Sprintf("2001:db8:%x:%x::/64", c.hosts>>16, c.hosts&0xffff)
	}
	return fmt.Sprintf("198.18.%d.%d", c.hosts>>8, c.hosts&0xff)
}

// newPrimary makes a Primary IP that nobody has named yet.
func (c *Cloud) newPrimary(family string, at schema.Location) *primaryIP {
	p := &primaryIP{schema.PrimaryIP{
		ID: c.nextID(), IP: c.publicAddress(family), Type: family, Location: at, Created: c.now(),
		AssigneeType: unassigned, Labels: map[string]string{}, DNSPtr: []schema.PrimaryIPDNSPTR{},
	}}
	c.primary[p.ID] = p
	return p
}

func listPrimary(c *Cloud, r *call) (reply, error) {
	var items []item
	for _, p := range c.primary {
		items = append(items, item{id: p.ID, name: p.Name, created: p.Created, labels: p.Labels, ip: p.IP, show: p.PrimaryIP})
	}
	return list(r, "primary_ips", items)
}

func getPrimary(c *Cloud, r *call) (reply, error) {
	p, ok := c.primary[r.ids[0]]
	if !ok {
		return reply{}, notFound(PrimaryIP, r.ids[0])
	}
	return reply{http.StatusOK, schema.PrimaryIPGetResponse{PrimaryIP: p.PrimaryIP}}, nil
}

func createPrimary(c *Cloud, r *call) (reply, error) {
	var req schema.PrimaryIPCreateRequest
	if err := r.decode(&req); err != nil {
		return reply{}, err
	}
	if err := c.name(PrimaryIP, 0, req.Name); err != nil {
		return reply{}, err
	}
	if err := c.room(PrimaryIP); err != nil {
		return reply{}, err
	}
	if _, ok := primaryPrice[req.Type]; !ok {
		return reply{}, invalid("type", "%q is neither ipv4 nor ipv6", req.Type)
	}
	if req.AssigneeID != nil {
		return reply{}, errorf(string(hcloud.ErrorCodeServerNotStopped), "the server is running")
	}
	at, err := location(req.Location)
	if err != nil {
		return reply{}, err
	}
	labels, err := newLabels(req.Labels)
	if err != nil {
		return reply{}, err
	}
	p := c.newPrimary(req.Type, at)
	p.Name, p.Labels = req.Name, labels
	assign(&p.AutoDelete, req.AutoDelete)
	c.charge(PrimaryIP, p.ID, p.Name, primaryPrice[p.Type])
	return reply{http.StatusCreated, schema.PrimaryIPGetResponse{PrimaryIP: p.PrimaryIP}}, nil
}

func updatePrimary(c *Cloud, r *call) (reply, error) {
	p, ok := c.primary[r.ids[0]]
	if !ok {
		return reply{}, notFound(PrimaryIP, r.ids[0])
	}
	var req struct {
		Name       *string            `json:"name"`
		Labels     *map[string]string `json:"labels"`
		AutoDelete *bool              `json:"auto_delete"`
	}
	if err := r.decode(&req); err != nil {
		return reply{}, err
	}
	if err := c.rename(PrimaryIP, p.ID, req.Name, req.Labels); err != nil {
		return reply{}, err
	}
	assign(&p.Name, req.Name)
	assign(&p.Labels, req.Labels)
	assign(&p.AutoDelete, req.AutoDelete)
	return reply{http.StatusOK, schema.PrimaryIPUpdateResponse{PrimaryIP: p.PrimaryIP}}, nil
}

func deletePrimary(c *Cloud, r *call) (reply, error) {
	p, ok := c.primary[r.ids[0]]
	switch {
	case !ok:
		return reply{}, notFound(PrimaryIP, r.ids[0])
	case p.Protection.Delete:
		return reply{}, errorf(codeProtected, "primary_ip deletion is protected")
	case p.AssigneeID != nil:
		return reply{}, errorf(codeMustBeUnassigned, "the Primary IP must be unassigned first")
	}
	c.dropPrimary(p.ID)
	return reply{status: http.StatusNoContent}, nil
}

func (c *Cloud) dropPrimary(id int64) {
	delete(c.primary, id)
	c.discharge(PrimaryIP, id)
}

type primaryPlan func(*Cloud, *primaryIP, *call) (func(), error)

// primaryActions cannot assign: servers here never stop, and a load balancer
// gets its addresses when it is made.
var primaryActions = map[string]primaryPlan{
	"assign":            refuseAssignment,
	"unassign":          refuseAssignment,
	"change_dns_ptr":    changePrimaryPtr,
	"change_protection": protectPrimary,
}

func onPrimary(command string, plan primaryPlan) handler {
	return func(c *Cloud, r *call) (reply, error) {
		p, ok := c.primary[r.ids[0]]
		if !ok {
			return reply{}, notFound(PrimaryIP, r.ids[0])
		}
		effect, err := plan(c, p, r)
		if err != nil {
			return reply{}, err
		}
		return actionReply(c.start(command, effect, ref(PrimaryIP, p.ID))), nil
	}
}

func refuseAssignment(_ *Cloud, p *primaryIP, _ *call) (func(), error) {
	if p.AssigneeType == string(LoadBalancer) {
		return nil, errorf(string(hcloud.ErrorUnsupportedError), "a load balancer's Primary IP cannot be changed")
	}
	return nil, errorf(string(hcloud.ErrorCodeServerNotStopped), "the server is running")
}

func changePrimaryPtr(_ *Cloud, p *primaryIP, r *call) (func(), error) {
	var req schema.PrimaryIPActionChangeDNSPtrRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	if !contains(p.IP, req.IP) {
		return nil, invalid("ip", "%q is not in %s", req.IP, p.IP)
	}
	return func() {
		p.DNSPtr = []schema.PrimaryIPDNSPTR{}
		if req.DNSPtr != nil {
			p.DNSPtr = append(p.DNSPtr, schema.PrimaryIPDNSPTR{IP: req.IP, DNSPtr: *req.DNSPtr})
		}
	}, nil
}

func protectPrimary(_ *Cloud, p *primaryIP, r *call) (func(), error) {
	var req schema.PrimaryIPActionChangeProtectionRequest
	if err := r.decode(&req); err != nil {
		return nil, err
	}
	if req.Delete && p.AutoDelete {
		return nil, invalid("delete", "an IP that is deleted with its resource cannot be protected")
	}
	return func() { p.Protection.Delete = req.Delete }, nil
}
