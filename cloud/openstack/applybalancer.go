package openstack

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/herald-lb/herald/cloud"
)

// pendingOn is what has to be waited for: a load balancer as a whole.
func pendingOn(lb string) cloud.Pending {
	return cloud.Pending{ID: lb, Resource: "load balancer " + lb}
}

// makeBalancer makes a load balancer with all that is in it.
type makeBalancer struct {
	Owner                         cloud.Owner
	Name                          string
	Subnet, Network, Flavor, Zone string // by name or ID
	Provider                      string
	Address                       string // in the subnet; empty for any
	Fronts                        []front
}

func (m makeBalancer) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	// Names are not unique: who was cut off after the call has to find what it made.
	if have, err := c.balancerOf(ctx, m.Owner); !cloud.Is(err, cloud.NotFound) {
		return pendingOn(have.ID), err
	}
	opts := loadbalancers.CreateOpts{
		Name: m.Name, Description: marks{Owner: m.Owner}.String(), Tags: marks{Owner: m.Owner}.tags(nil),
		AvailabilityZone: m.Zone, Provider: m.Provider, VipAddress: m.Address,
	}
	if err := m.resolve(ctx, c, &opts); err != nil {
		return cloud.Pending{}, err
	}
	for _, f := range m.Fronts {
		l := createListener(f.listener)
		l.DefaultPool = createPool(f.to, m.Owner.ResourceName())
		opts.Listeners = append(opts.Listeners, l)
	}
	lb, err := loadbalancers.Create(ctx, c.lb, opts).Extract()
	if err != nil {
		return cloud.Pending{}, explain(err, "creating load balancer %s for %s", m.Name, m.Owner.Key())
	}
	return pendingOn(lb.ID), nil
}

// resolve finds what is named. Without a subnet or network it is the one subnet that
// the nodes are in.
func (m makeBalancer) resolve(ctx context.Context, c *clients, opts *loadbalancers.CreateOpts) (err error) {
	if m.Flavor != "" {
		if opts.FlavorID, err = c.flavorID(ctx, m.Flavor); err != nil {
			return err
		}
	}
	if m.Network != "" {
		if opts.VipNetworkID, err = c.networkID(ctx, m.Network); err != nil {
			return err
		}
	}
	if m.Subnet != "" {
		opts.VipSubnetID, err = c.subnetID(ctx, m.Subnet)
	} else if m.Network == "" {
		opts.VipSubnetID, err = c.subnetOf(ctx, m.Fronts)
	}
	return err
}

// balancerOf returns the oldest load balancer of an owner that is not being deleted.
func (c *clients) balancerOf(ctx context.Context, o cloud.Owner) (*balancer, error) {
	none := &balancer{}
	all, err := c.balancers(ctx, loadbalancers.ListOpts{Tags: []string{tagUID + string(o.UID)}})
	if err != nil {
		return none, err
	}
	all = slices.DeleteFunc(all, func(b *balancer) bool { return !b.owner().Same(o) || b.state() == cloud.Deleting })
	if len(all) == 0 {
		return none, &cloud.Error{Class: cloud.NotFound, Text: "there is no load balancer of " + o.Key()}
	}
	return slices.MinFunc(all, func(a, b *balancer) int { return a.Created.Compare(b.Created) }), nil
}

func createListener(l listener) listeners.CreateOpts {
	opts := listeners.CreateOpts{Name: l.Name, Protocol: listeners.Protocol(l.Protocol), ProtocolPort: int(l.Port)}
	if l.CIDRs != "" {
		opts.AllowedCIDRs = strings.Split(l.CIDRs, ",")
	}
	if l.Idle != 0 {
		opts.Description, opts.TimeoutClientData, opts.TimeoutMemberData = idleSet, &l.Idle, &l.Idle
	}
	return opts
}

func createPool(p pool, monitor string) *pools.CreateOpts {
	opts := &pools.CreateOpts{Name: p.Name, Protocol: pools.Protocol(p.Protocol), LBMethod: pools.LBMethod(p.Algorithm)}
	for _, m := range p.Members {
		port := int(m.MonitorPort)
		opts.Members = append(opts.Members, pools.CreateMemberOpts{Name: m.Name, Address: m.Addr.String(), ProtocolPort: int(m.Port), MonitorPort: &port})
	}
	opts.Monitor = createMonitor(p.Probe, monitor)
	return opts
}

func (c *clients) flavorID(ctx context.Context, ref string) (string, error) {
	page, err := flavors.List(c.lb, flavors.ListOpts{}).AllPages(ctx)
	if err != nil {
		return "", explain(err, "listing flavors")
	}
	all, err := flavors.ExtractFlavors(page)
	if err != nil {
		return "", explain(err, "reading the list of flavors")
	}
	var places []place
	for _, f := range all {
		places = append(places, place{f.ID, f.Name})
	}
	return only(places, "flavor", ref)
}

func (c *clients) networkID(ctx context.Context, ref string) (string, error) {
	page, err := networks.List(c.net, networks.ListOpts{}).AllPages(ctx)
	if err != nil {
		return "", explain(err, "listing networks")
	}
	all, err := networks.ExtractNetworks(page)
	if err != nil {
		return "", explain(err, "reading the list of networks")
	}
	var places []place
	for _, n := range all {
		places = append(places, place{n.ID, n.Name})
	}
	return only(places, "network", ref)
}

func (c *clients) subnetID(ctx context.Context, ref string) (string, error) {
	all, err := c.subnets(ctx)
	if err != nil {
		return "", err
	}
	var places []place
	for _, s := range all {
		places = append(places, place{s.ID, s.Name})
	}
	return only(places, "subnet", ref)
}

func (c *clients) subnets(ctx context.Context) ([]subnets.Subnet, error) {
	page, err := subnets.List(c.net, subnets.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, explain(err, "listing subnets")
	}
	all, err := subnets.ExtractSubnets(page)
	if err != nil {
		return nil, explain(err, "reading the list of subnets")
	}
	return all, nil
}

// subnetOf returns the one subnet that all members are in.
func (c *clients) subnetOf(ctx context.Context, fs []front) (string, error) {
	all, err := c.subnets(ctx)
	if err != nil {
		return "", err
	}
	var fit []place
	for _, s := range all {
		cidr, err := netip.ParsePrefix(s.CIDR)
		holds := err == nil && len(fs) > 0 && len(fs[0].to.Members) > 0 &&
			!slices.ContainsFunc(fs[0].to.Members, func(m member) bool { return !cidr.Contains(m.Addr) })
		if holds {
			fit = append(fit, place{s.ID, s.Name})
		}
	}
	if len(fit) != 1 {
		return "", cloud.Refuse("", "%d subnets hold all nodes: say in which the load balancer is to be, by defaults.subnet of the configuration or the annotation herald-lb.io/network", len(fit))
	}
	return fit[0].ID, nil
}

// only returns the ID of what is named.
func only(all []place, kind, ref string) (string, error) {
	if slices.ContainsFunc(all, func(p place) bool { return p.ID == ref }) {
		return ref, nil
	}
	all = slices.DeleteFunc(all, func(p place) bool { return p.Name != ref })
	switch len(all) {
	case 0:
		return "", cloud.Refuse("", "there is no %s %q", kind, ref)
	case 1:
		return all[0].ID, nil
	}
	return "", cloud.Refuse("", "there are %d %ss called %q: use the ID", len(all), kind, ref)
}

// markBalancer says whose a load balancer is, and what it is called.
type markBalancer struct {
	ID, Name, Description string
	Tags                  []string
}

func (m markBalancer) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	tags := append([]string{}, m.Tags...) // for none is said by an empty list
	_, err := loadbalancers.Update(ctx, c.lb, m.ID, loadbalancers.UpdateOpts{Name: &m.Name, Description: &m.Description, Tags: &tags}).Extract()
	if err != nil {
		return cloud.Pending{}, explain(err, "marking load balancer %s", m.ID)
	}
	return pendingOn(m.ID), nil
}

// dropBalancer removes a load balancer and all that is in it.
type dropBalancer struct{ ID string }

func (m dropBalancer) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	err := loadbalancers.Delete(ctx, c.lb, m.ID, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr()
	if err == nil {
		return pendingOn(m.ID), nil
	}
	err = explain(err, "deleting load balancer %s", m.ID)
	if cloud.Is(err, cloud.Locked) {
		// It may be that it is being deleted already.
		lb, again := loadbalancers.Get(ctx, c.lb, m.ID).Extract()
		if again == nil && readBalancer(*lb).state() == cloud.Deleting {
			return pendingOn(m.ID), nil
		}
	}
	return cloud.Pending{}, unless(err, cloud.NotFound)
}
