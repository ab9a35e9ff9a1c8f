package openstack

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	"github.com/herald-lb/herald/cloud"
)

// Find implements [cloud.Driver].
func (d *driver) Find(ctx context.Context, o cloud.Owner) ([]cloud.Found, error) {
	c, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.balancers(ctx, loadbalancers.ListOpts{Tags: []string{tagUID + string(o.UID)}})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(b *balancer) bool { return !b.owner().Same(o) })
	if err := c.details(ctx, all, true); err != nil {
		return nil, err
	}
	addresses, err := c.addresses(ctx)
	if err != nil {
		return nil, err
	}
	return found(all, addresses, func(owner cloud.Owner) bool { return owner.Same(o) }), nil
}

// List implements [cloud.Driver], in as many calls as there are kinds of resources,
// and one more for each pool that has changed since the last time.
func (d *driver) List(ctx context.Context, cluster string) ([]cloud.Found, error) {
	c, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	var filter loadbalancers.ListOpts
	if !strings.Contains(cluster, ",") { // which parts tags in a query
		filter.Tags = []string{tagCluster + cluster}
	}
	all, err := c.balancers(ctx, filter)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(b *balancer) bool { return b.owner().Cluster != cluster })
	if err := c.details(ctx, all, false); err != nil {
		return nil, err
	}
	addresses, err := c.addresses(ctx)
	if err != nil {
		return nil, err
	}
	return found(all, addresses, func(owner cloud.Owner) bool { return owner.Cluster == cluster }), nil
}

// Lookup implements [cloud.Driver], for load balancers and floating IPs. By its address
// a load balancer is found, and a floating IP that leads to none.
func (d *driver) Lookup(ctx context.Context, ref string) (cloud.Found, error) {
	c, err := d.connect(ctx)
	if err != nil {
		return cloud.Found{}, err
	}
	addresses, err := c.addresses(ctx)
	if err != nil {
		return cloud.Found{}, err
	}
	all, err := c.called(ctx, ref, addresses)
	if err != nil {
		return cloud.Found{}, err
	}
	i := slices.IndexFunc(addresses, func(f floating) bool { return f.is(ref) })
	switch len(all) {
	case 0:
		if i >= 0 {
			return addresses[i].found(), nil
		}
		return cloud.Found{}, &cloud.Error{Class: cloud.NotFound, Text: "there is no load balancer and no floating IP " + ref}
	case 1:
		if i >= 0 && !addresses[i].Mark.none() && !addresses[i].Mark.Owner.Same(all[0].owner()) {
			return addresses[i].found(), nil // people have it lead to another's
		}
	default:
		return cloud.Found{}, &cloud.Error{Class: cloud.Conflict, Reason: "OwnershipConflict", Text: "there are several load balancers called " + ref + ": use the ID"}
	}
	if err := c.details(ctx, all, true); err != nil {
		return cloud.Found{}, err
	}
	own := all[0].owner()
	return found(all, addresses, func(o cloud.Owner) bool { return own.UID != "" && o.Same(own) })[0], nil
}

// called returns the load balancers of an ID, a name or an address: a floating IP at its
// port, or its own.
func (c *clients) called(ctx context.Context, ref string, addresses []floating) ([]*balancer, error) {
	if addr, err := netip.ParseAddr(ref); err == nil {
		all, err := c.balancers(ctx, loadbalancers.ListOpts{})
		return slices.DeleteFunc(all, func(b *balancer) bool {
			leads := func(f floating) bool { return f.Addr == addr && f.Port == b.VIPPort && f.Port != "" }
			return b.VIP != addr && !slices.ContainsFunc(addresses, leads)
		}), err
	}
	for _, filter := range []loadbalancers.ListOpts{{ID: ref}, {Name: ref}} {
		if all, err := c.balancers(ctx, filter); err != nil || len(all) > 0 {
			return all, err
		}
	}
	return nil, nil
}

// found gives load balancers, oldest first, the addresses at their ports and those
// of their owners that are nowhere. Addresses left, of owners that are asked for,
// stand for themselves: their load balancer is gone.
func found(all []*balancer, addresses []floating, asked func(cloud.Owner) bool) []cloud.Found {
	slices.SortFunc(all, func(a, b *balancer) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	var left []cloud.Found
	for _, f := range addresses {
		i := slices.IndexFunc(all, func(b *balancer) bool { return f.Port != "" && f.Port == b.VIPPort })
		if i < 0 {
			i = slices.IndexFunc(all, func(b *balancer) bool { return !f.Mark.none() && b.owner().Same(f.Mark.Owner) })
		}
		switch {
		case i >= 0:
			all[i].Addresses = append(all[i].Addresses, f)
		case asked(f.Mark.Owner):
			left = append(left, f.found())
		}
	}
	var res []cloud.Found
	for i, b := range all {
		b.Twin = slices.ContainsFunc(all, func(o *balancer) bool { return o != all[i] && !readTags(b.Tags).none() && o.owner().Same(b.owner()) })
		res = append(res, b.found())
	}
	return append(res, left...)
}

func (b *balancer) owner() cloud.Owner { return readTags(b.Tags).Owner }

// found is what the engine sees of a load balancer.
func (b *balancer) found() cloud.Found {
	m := readTags(b.Tags)
	f := cloud.Found{Kind: cloud.LoadBalancer, ID: b.ID, Name: b.Name, State: b.state(), Created: b.Created, Raw: b,
		Owner: m.Owner, Adopted: m.Adopted, Retained: m.Retained}
	for _, a := range b.Addresses {
		if a.Port == b.VIPPort {
			f.Addrs = append(f.Addrs, a.Addr)
		}
	}
	if len(f.Addrs) == 0 && b.VIP.IsValid() {
		f.Addrs = []netip.Addr{b.VIP}
	}
	return f
}

// state reads Octavia's provisioning_status: ACTIVE, ERROR, or PENDING_ and what is
// being done.
func (b *balancer) state() cloud.State {
	switch b.Provisioning {
	case "ACTIVE":
		return cloud.Ready
	case "ERROR":
		return cloud.Failed
	case "PENDING_DELETE", "DELETED":
		return cloud.Deleting
	}
	return cloud.Busy
}

// found is what the engine sees of a floating IP without a load balancer.
func (f floating) found() cloud.Found {
	return cloud.Found{Kind: cloud.Address, ID: f.ID, Name: f.Addr.String(), Owner: f.Mark.Owner, State: cloud.Ready,
		Adopted: f.Mark.Adopted, Retained: f.Mark.Retained, Created: f.Created, Addrs: []netip.Addr{f.Addr}, Raw: f}
}

// is whether a floating IP is what people named: by its ID, or as text.
func (f floating) is(ref string) bool {
	if f.ID == ref {
		return true
	}
	addr, err := netip.ParseAddr(ref)
	return err == nil && addr == f.Addr
}

// addresses lists the floating IPs of the project: one call, where marks in two
// fields, either of which people may edit, would take two.
func (c *clients) addresses(ctx context.Context) ([]floating, error) {
	page, err := floatingips.List(c.net, floatingips.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, explain(err, "listing floating IPs")
	}
	all, err := floatingips.ExtractFloatingIPs(page)
	if err != nil {
		return nil, explain(err, "reading the list of floating IPs")
	}
	res := make([]floating, 0, len(all))
	for _, f := range all {
		res = append(res, readFloating(f))
	}
	slices.SortFunc(res, func(a, b floating) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return res, nil
}

func readFloating(f floatingips.FloatingIP) floating {
	addr, _ := netip.ParseAddr(f.FloatingIP)
	res := floating{ID: f.ID, Addr: addr, Port: f.PortID, Description: f.Description, Tags: slices.Sorted(slices.Values(f.Tags)), Created: f.CreatedAt}
	if res.Mark = readDescription(f.Description); res.Mark.none() {
		res.Mark = readTags(f.Tags)
	}
	return res
}
