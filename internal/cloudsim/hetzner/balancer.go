package hetzner

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// A balancer is a load balancer. Health, and the servers behind a label
// selector, are looked up when it is shown.
type balancer struct {
	schema.LoadBalancer
	size balancerType
}

// A balancerRequest is schema.LoadBalancerCreateRequest with services and
// targets of the types that their own actions have.
type balancerRequest struct {
	schema.LoadBalancerCreateRequest
	Services []schema.LoadBalancerActionAddServiceRequest `json:"services"`
	Targets  []schema.LoadBalancerActionAddTargetRequest  `json:"targets"`
}

func (c *Cloud) showBalancer(lb *balancer) schema.LoadBalancer {
	shown := clone(lb.LoadBalancer)
	shown.Services, shown.Targets, shown.PrivateNet = notNil(shown.Services), notNil(shown.Targets), notNil(shown.PrivateNet)
	for i := range shown.Targets {
		c.fillTarget(&shown, &shown.Targets[i])
	}
	return shown
}

// notNil makes an empty list of none: edits by hand leave either.
func notNil[T any](l []T) []T { return append([]T{}, l...) }

func listBalancers(c *Cloud, r *call) (reply, error) {
	var items []item
	for _, lb := range c.balancers {
		items = append(items, item{id: lb.ID, name: lb.Name, created: lb.Created, labels: lb.Labels, show: c.showBalancer(lb)})
	}
	return list(r, "load_balancers", items)
}

func getBalancer(c *Cloud, r *call) (reply, error) {
	lb, ok := c.balancers[r.ids[0]]
	if !ok {
		return reply{}, notFound(LoadBalancer, r.ids[0])
	}
	return reply{http.StatusOK, schema.LoadBalancerGetResponse{LoadBalancer: c.showBalancer(lb)}}, nil
}

func createBalancer(c *Cloud, r *call) (reply, error) {
	var req balancerRequest
	if err := r.decode(&req); err != nil {
		return reply{}, err
	}
	lb, err := c.newBalancer(req)
	if err != nil {
		return reply{}, err
	}
	ips, err := c.addressesFor(lb, req.PublicNet)
	if err != nil {
		return reply{}, err
	}
	lb.ID, lb.Created = c.nextID(), c.now()
	c.giveAddresses(lb, ips)
	c.balancers[lb.ID] = lb
	c.charge(LoadBalancer, lb.ID, lb.Name, lb.size.price)
	// It is there at once; only its first action keeps it locked.
	a := c.start("create_load_balancer", func() {}, ref(LoadBalancer, lb.ID))
	return reply{http.StatusCreated, schema.LoadBalancerCreateResponse{LoadBalancer: c.showBalancer(lb), Action: a}}, nil
}

// newBalancer makes one of a request, of which nothing is in the cloud yet.
func (c *Cloud) newBalancer(req balancerRequest) (*balancer, error) {
	lb := &balancer{}
	for _, step := range []func() error{
		func() error { return c.name(LoadBalancer, 0, req.Name) },
		func() error { return c.room(LoadBalancer) },
		func() (err error) { lb.size, err = c.balancerType(req.LoadBalancerType); return err },
		func() (err error) { lb.Location, err = place(req.Location, req.NetworkZone); return err },
		func() (err error) { lb.Labels, err = newLabels(req.Labels); return err },
		func() (err error) { lb.Algorithm.Type, err = algorithm(req.Algorithm); return err },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	lb.Name, lb.LoadBalancerType = req.Name, lb.size.LoadBalancerType
	lb.IncludedTraffic = lb.size.Prices[0].IncludedTraffic
	lb.PublicNet.Enabled = req.PublicInterface == nil || *req.PublicInterface
	lb.PrivateNet, lb.Services, lb.Targets = []schema.LoadBalancerPrivateNet{}, []schema.LoadBalancerService{}, []schema.LoadBalancerTarget{}
	return lb, c.furnish(lb, req)
}

// furnish adds network, services and targets, as their actions would.
func (c *Cloud) furnish(lb *balancer, req balancerRequest) error {
	if req.Network != nil {
		ip, err := c.freePrivate(*req.Network, lb.Location.NetworkZone, nil)
		if err != nil {
			return err
		}
		lb.PrivateNet = append(lb.PrivateNet, schema.LoadBalancerPrivateNet{Network: *req.Network, IP: ip.String()})
	}
	for _, s := range req.Services {
		service, err := c.newService(lb, s)
		if err != nil {
			return err
		}
		lb.Services = append(lb.Services, service)
	}
	for _, t := range req.Targets {
		target, err := c.newTarget(lb, t)
		if err != nil {
			return err
		}
		lb.Targets = append(lb.Targets, target)
	}
	return nil
}

// name refuses one that is empty, or that another of the kind has.
func (c *Cloud) name(kind Kind, id int64, name string) error {
	if name == "" {
		return invalid("name", "Missing data for required field.")
	}
	for _, it := range c.named(kind) {
		if it.name == name && it.id != id {
			return errorf(codeUnique, "%s name is already used", kind)
		}
	}
	return nil
}

// named returns all of a kind, of which names must differ.
func (c *Cloud) named(kind Kind) []item {
	var items []item
	switch kind {
	case LoadBalancer:
		for _, lb := range c.balancers {
			items = append(items, item{id: lb.ID, name: lb.Name})
		}
	case FloatingIP:
		for _, f := range c.floating {
			items = append(items, item{id: f.ID, name: f.Name})
		}
	case PrimaryIP:
		for _, p := range c.primary {
			items = append(items, item{id: p.ID, name: p.Name})
		}
	case Server:
		for _, s := range c.servers {
			items = append(items, item{id: s.ID, name: s.Name})
		}
	case Network:
		for _, n := range c.networks {
			items = append(items, item{id: n.ID, name: n.Name})
		}
	}
	return items
}

// room refuses what would be more than the project may have.
func (c *Cloud) room(kind Kind) error {
	if limit, ok := c.limits[kind]; ok && len(c.named(kind)) >= limit {
		return errorf(codeLimit, "%s limit exceeded", kind)
	}
	return nil
}

func place(of, zone *string) (schema.Location, error) {
	if of != nil {
		return location(*of)
	}
	if zone == nil {
		return schema.Location{}, invalid("location", "either location or network_zone must be given")
	}
	i := slices.IndexFunc(locations, func(l schema.Location) bool { return l.NetworkZone == *zone })
	if i < 0 {
		return schema.Location{}, invalid("network_zone", "there is no zone %q", *zone)
	}
	return locations[i], nil
}

func newLabels(labels *map[string]string) (map[string]string, error) {
	if labels == nil {
		return map[string]string{}, nil
	}
	return maps.Clone(*labels), checkLabels(*labels)
}

func algorithm(of *schema.LoadBalancerCreateRequestAlgorithm) (string, error) {
	if of == nil {
		return string(hcloud.LoadBalancerAlgorithmTypeRoundRobin), nil
	}
	return of.Type, checkAlgorithm(of.Type)
}

func checkAlgorithm(name string) error {
	switch hcloud.LoadBalancerAlgorithmType(name) {
	case hcloud.LoadBalancerAlgorithmTypeRoundRobin, hcloud.LoadBalancerAlgorithmTypeLeastConnections:
		return nil
	}
	return invalid("type", "there is no algorithm %q", name)
}

// updateBalancer is optimistic: it does not wait for a lock, but fails if
// something is about to change what it would.
func updateBalancer(c *Cloud, r *call) (reply, error) {
	lb, ok := c.balancers[r.ids[0]]
	if !ok {
		return reply{}, notFound(LoadBalancer, r.ids[0])
	}
	var req schema.LoadBalancerUpdateRequest
	if err := r.decode(&req); err != nil {
		return reply{}, err
	}
	if c.locked(LoadBalancer, lb.ID) != nil {
		return reply{}, errorf(codeConflict, "the load balancer has changed during the request, please retry")
	}
	if err := c.rename(LoadBalancer, lb.ID, req.Name, req.Labels); err != nil {
		return reply{}, err
	}
	assign(&lb.Name, req.Name)
	assign(&lb.Labels, req.Labels)
	return reply{http.StatusOK, schema.LoadBalancerUpdateResponse{LoadBalancer: c.showBalancer(lb)}}, nil
}

// rename checks a new name and new labels, of which either may be absent.
func (c *Cloud) rename(kind Kind, id int64, name *string, labels *map[string]string) error {
	if name != nil {
		if err := c.name(kind, id, *name); err != nil {
			return err
		}
	}
	if labels != nil {
		return checkLabels(*labels)
	}
	return nil
}

// assign sets what a request sets.
func assign[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// deleteBalancer answers with an action (2026-10-05); before, it was gone at
// once.
func deleteBalancer(c *Cloud, r *call) (reply, error) {
	lb, ok := c.balancers[r.ids[0]]
	switch {
	case !ok:
		return reply{}, notFound(LoadBalancer, r.ids[0])
	case lb.Protection.Delete:
		return reply{}, errorf(codeProtected, "load_balancer deletion is protected")
	}
	if err := c.locked(LoadBalancer, lb.ID); err != nil {
		return reply{}, err
	}
	a := c.start("delete_load_balancer", func() { c.dropBalancer(lb.ID) }, ref(LoadBalancer, lb.ID))
	return actionReply(a), nil
}

func (c *Cloud) dropBalancer(id int64) {
	delete(c.balancers, id)
	c.discharge(LoadBalancer, id)
	for _, p := range byID(c.primary) {
		if p.AssigneeID == nil || *p.AssigneeID != id {
			continue
		}
		p.AssigneeID, p.AssigneeType = nil, unassigned
		if p.AutoDelete {
			c.dropPrimary(p.ID)
		}
	}
}

// addressesFor finds the Primary IPs that the request names, by family.
func (c *Cloud) addressesFor(lb *balancer, net *schema.LoadBalancerCreateRequestPublicNet) (map[string]*primaryIP, error) {
	ips := map[string]*primaryIP{}
	if net == nil {
		return ips, nil
	}
	for family, id := range map[string]int64{"ipv4": net.IPv4, "ipv6": net.IPv6} {
		if id == 0 {
			continue
		}
		p, ok := c.primary[id]
		switch {
		case !ok:
			return nil, notFound(PrimaryIP, id)
		case p.Type != family:
			return nil, errorf(string(hcloud.ErrorCodePrimaryIPVersionMismatch), "the Primary IP is no %s", family)
		case p.AssigneeID != nil:
			return nil, errorf(string(hcloud.ErrorCodePrimaryIPAssigned), "the Primary IP is already assigned")
		case p.Location.Name != lb.Location.Name:
			return nil, invalid("public_net."+family, "the Primary IP is in another location")
		}
		ips[family] = p
	}
	return ips, nil
}

// giveAddresses assigns the Primary IPs, and new ones where there are none:
// these are part of the load balancer's price, and go with it.
func (c *Cloud) giveAddresses(lb *balancer, ips map[string]*primaryIP) {
	for _, family := range []string{"ipv4", "ipv6"} {
		p, ok := ips[family]
		if !ok {
			p = c.newPrimary(family, lb.Location)
			p.Name, p.AutoDelete = "primary_ip-"+itoa(p.ID), true
		}
		p.AssigneeID, p.AssigneeType = new(lb.ID), string(LoadBalancer)
	}
	lb.PublicNet.IPv4, lb.PublicNet.IPv6 = schema.LoadBalancerPublicNetIPv4{}, schema.LoadBalancerPublicNetIPv6{}
	for _, p := range c.primary {
		switch {
		case p.AssigneeID == nil || *p.AssigneeID != lb.ID:
		case p.Type == "ipv4":
			lb.PublicNet.IPv4 = schema.LoadBalancerPublicNetIPv4{ID: p.ID, IP: p.IP, DNSPtr: "static." + p.IP}
		default:
			first := netip.MustParsePrefix(p.IP).Addr().Next()
			lb.PublicNet.IPv6 = schema.LoadBalancerPublicNetIPv6{ID: p.ID, IP: first.String(), DNSPtr: "static." + first.String()}
		}
	}
}
