package openstack

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/herald-lb/herald/cloud"
)

// balancers lists load balancers without what is in them.
func (c *clients) balancers(ctx context.Context, filter loadbalancers.ListOpts) ([]*balancer, error) {
	page, err := loadbalancers.List(c.lb, filter).AllPages(ctx)
	if err != nil {
		return nil, explain(err, "listing load balancers")
	}
	all, err := loadbalancers.ExtractLoadBalancers(page)
	if err != nil {
		return nil, explain(err, "reading the list of load balancers")
	}
	res := make([]*balancer, 0, len(all))
	for _, lb := range all {
		res = append(res, readBalancer(lb))
	}
	return res, nil
}

func readBalancer(lb loadbalancers.LoadBalancer) *balancer {
	vip, _ := netip.ParseAddr(lb.VipAddress)
	return &balancer{
		ID: lb.ID, Name: lb.Name, Description: lb.Description,
		Provisioning: lb.ProvisioningStatus, Served: lb.OperatingStatus != "OFFLINE",
		Created: lb.CreatedAt, Tags: slices.Sorted(slices.Values(lb.Tags)),
		VIP: vip, VIPPort: lb.VipPortID,
		Subnet: place{ID: lb.VipSubnetID}, Network: place{ID: lb.VipNetworkID},
		Flavor: place{ID: lb.FlavorID}, Zone: lb.AvailabilityZone, Provider: lb.Provider,
	}
}

// details reads what is in load balancers; fresh is whether nothing may be taken from
// what was read before. What goes away meanwhile has nothing.
func (c *clients) details(ctx context.Context, all []*balancer, fresh bool) error {
	in := map[string]*balancer{}
	for _, b := range all {
		if b.state() != cloud.Deleting {
			in[b.ID] = b
		}
	}
	if len(in) == 0 {
		return nil
	}
	// Of one, what is in it is asked for; of several, what there is.
	only := ""
	for id := range in {
		if len(in) == 1 {
			only = id
		}
	}
	if err := c.readListeners(ctx, in, only); err != nil {
		return err
	}
	if err := c.readPools(ctx, in, only, fresh); err != nil {
		return err
	}
	if err := c.readMonitors(ctx, in, only); err != nil {
		return err
	}
	for _, b := range all {
		if err := c.readPlaces(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (c *clients) readListeners(ctx context.Context, in map[string]*balancer, only string) error {
	page, err := listeners.List(c.lb, listeners.ListOpts{LoadbalancerID: only}).AllPages(ctx)
	if err != nil {
		return explain(err, "listing listeners")
	}
	all, err := listeners.ExtractListeners(page)
	if err != nil {
		return explain(err, "reading the list of listeners")
	}
	for _, l := range all {
		for _, lb := range l.Loadbalancers {
			if b := in[lb.ID]; b != nil {
				b.Listeners = append(b.Listeners, readListener(l))
			}
		}
	}
	for _, b := range in {
		slices.SortFunc(b.Listeners, func(a, b listener) int {
			return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
		})
	}
	return nil
}

func readListener(l listeners.Listener) listener {
	res := listener{ID: l.ID, Name: l.Name, Protocol: l.Protocol, Port: int32(l.ProtocolPort), Pool: l.DefaultPoolID, CIDRs: joined(l.AllowedCIDRs)}
	if l.Description == idleSet {
		res.Idle = l.TimeoutClientData
		if l.TimeoutMemberData != l.TimeoutClientData {
			res.Idle = -1 // somebody has set one of the two
		}
	}
	return res
}

// joined sorts networks, of which the order does not matter.
func joined(cidrs []string) string { return strings.Join(slices.Sorted(slices.Values(cidrs)), ",") }

// A poolSeen is a pool with what the SDK does not read of it.
type poolSeen struct {
	pools.Pool
	UpdatedAt string `json:"updated_at"`
}

func (c *clients) readPools(ctx context.Context, in map[string]*balancer, only string, fresh bool) error {
	page, err := pools.List(c.lb, pools.ListOpts{LoadbalancerID: only}).AllPages(ctx)
	if err != nil {
		return explain(err, "listing pools")
	}
	var all struct {
		Pools []poolSeen `json:"pools"`
	}
	if err := page.(pools.PoolPage).ExtractInto(&all); err != nil {
		return explain(err, "reading the list of pools")
	}
	for _, p := range all.Pools {
		for _, lb := range p.Loadbalancers {
			b := in[lb.ID]
			if b == nil || !made(p.Name) && !strings.HasPrefix(p.Name, "pool_") { // which may be adopted
				continue
			}
			members, err := c.members(ctx, p, fresh)
			if err != nil {
				return err
			}
			b.Pools = append(b.Pools, pool{ID: p.ID, Name: p.Name, Protocol: p.Protocol, Algorithm: p.LBMethod, Monitor: p.MonitorID, Members: members})
		}
	}
	for _, b := range in {
		slices.SortFunc(b.Pools, func(a, b pool) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	}
	return nil
}

// A memory is what was read of the members of a pool, and the state of the pool then.
type memory struct {
	state   string
	members []member
}

// members returns those of a pool. There is no list for several pools; but Octavia
// says when a pool was last changed, and each change of a member is one.
func (c *clients) members(ctx context.Context, p poolSeen, fresh bool) ([]member, error) {
	state := p.UpdatedAt
	for _, m := range p.Members {
		state += " " + m.ID
	}
	if known, ok := c.seen.Load(p.ID); ok && !fresh && known.(memory).state == state {
		return known.(memory).members, nil
	}
	page, err := pools.ListMembers(c.lb, p.ID, pools.ListMembersOpts{}).AllPages(ctx)
	if err != nil {
		return nil, unless(explain(err, "listing the members of pool %s", p.ID), cloud.NotFound)
	}
	all, err := pools.ExtractMembers(page)
	if err != nil {
		return nil, explain(err, "reading the members of pool %s", p.ID)
	}
	var res []member
	for _, m := range all {
		addr, _ := netip.ParseAddr(m.Address)
		res = append(res, member{Name: m.Name, Addr: addr, Port: int32(m.ProtocolPort), MonitorPort: int32(m.MonitorPort)})
	}
	sortMembers(res)
	if c.seen.Delete(p.ID); p.ProvisioningStatus == "ACTIVE" {
		c.seen.Store(p.ID, memory{state, res})
	}
	return res, nil
}

// readMonitors lists them: those of one load balancer by the name that they have,
// and what has another, as after a Service was made anew, one by one.
func (c *clients) readMonitors(ctx context.Context, in map[string]*balancer, only string) error {
	var filter monitors.ListOpts
	if only != "" {
		filter.Name = in[only].owner().ResourceName()
	}
	probes := map[string]probe{}
	page, err := monitors.List(c.lb, filter).AllPages(ctx)
	if err != nil {
		return explain(err, "listing monitors")
	}
	all, err := monitors.ExtractMonitors(page)
	if err != nil {
		return explain(err, "reading the list of monitors")
	}
	for _, m := range all {
		probes[m.ID] = readProbe(m)
	}
	for _, b := range in {
		for i, p := range b.Pools {
			if got, ok := probes[p.Monitor]; ok || p.Monitor == "" {
				b.Pools[i].Probe = got
				continue
			}
			m, err := monitors.Get(ctx, c.lb, p.Monitor).Extract()
			if cloud.Is(explain(err, ""), cloud.NotFound) {
				b.Pools[i].Monitor = ""
				continue
			}
			if err != nil {
				return explain(err, "reading monitor %s", p.Monitor)
			}
			b.Pools[i].Probe = readProbe(*m)
		}
	}
	return nil
}

func readProbe(m monitors.Monitor) probe {
	return probe{Type: m.Type, Path: m.URLPath, Delay: m.Delay, Timeout: m.Timeout, Retries: m.MaxRetries}
}

func sortMembers(all []member) {
	slices.SortFunc(all, func(a, b member) int { return a.at().Compare(b.at()) })
}

// readPlaces finds out how people may have named where a load balancer is. Names
// hardly ever change, and are asked for once.
func (c *clients) readPlaces(ctx context.Context, b *balancer) error {
	for _, p := range []struct {
		place *place
		name  func(context.Context, string) (string, error)
	}{{&b.Subnet, c.subnetName}, {&b.Network, c.networkName}, {&b.Flavor, c.flavorName}} {
		if p.place.ID == "" {
			continue
		}
		name, known := c.places.Load(p.place.ID)
		if !known {
			asked, err := p.name(ctx, p.place.ID)
			if err = unless(err, cloud.NotFound); err != nil {
				return err
			}
			name = asked
			c.places.Store(p.place.ID, name)
		}
		p.place.Name = name.(string)
	}
	return nil
}

func (c *clients) subnetName(ctx context.Context, id string) (string, error) {
	s, err := subnets.Get(ctx, c.net, id).Extract()
	if err != nil {
		return "", explain(err, "reading subnet %s", id)
	}
	return s.Name, nil
}

func (c *clients) networkName(ctx context.Context, id string) (string, error) {
	n, err := networks.Get(ctx, c.net, id).Extract()
	if err != nil {
		return "", explain(err, "reading network %s", id)
	}
	return n.Name, nil
}

func (c *clients) flavorName(ctx context.Context, id string) (string, error) {
	f, err := flavors.Get(ctx, c.lb, id).Extract()
	if err != nil {
		return "", explain(err, "reading flavor %s", id)
	}
	return f.Name, nil
}
