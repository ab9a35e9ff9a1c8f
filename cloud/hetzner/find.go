package hetzner

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/herald-lb/herald/cloud"
)

// Find implements [cloud.Driver]. It finds load balancers; addresses are found by
// FindAddresses, for a Service has either.
func (d *Driver) Find(ctx context.Context, o cloud.Owner) ([]cloud.Found, error) {
	if o.Cluster == "" || o.UID == "" {
		return nil, &cloud.Error{Class: cloud.Unsafe, Text: "finding load balancers: neither the cluster nor the UID may be empty"}
	}
	return d.bySelector(ctx, selector(o), o.Cluster)
}

// List implements [cloud.Driver].
func (d *Driver) List(ctx context.Context, cluster string) ([]cloud.Found, error) {
	if cluster == "" {
		return nil, &cloud.Error{Class: cloud.Unsafe, Text: "listing load balancers: the cluster may not be empty"}
	}
	return d.bySelector(ctx, selector(cloud.Owner{Cluster: cluster})+","+labelUID, cluster)
}

// Lookup implements [cloud.Driver]. The API does not ask for a load balancer by its
// address: of all, it is looked for.
func (d *Driver) Lookup(ctx context.Context, ref string) (cloud.Found, error) {
	none := &cloud.Error{Class: cloud.NotFound, Text: "there is no load balancer " + ref}
	if ref == "" {
		return cloud.Found{}, none
	}
	c, err := d.known(ctx)
	if err != nil {
		return cloud.Found{}, err
	}
	if addr, err := netip.ParseAddr(ref); err == nil {
		all, err := d.bySelector(ctx, "", "")
		i := slices.IndexFunc(all, func(f cloud.Found) bool { return slices.Contains(f.Addrs, addr) })
		switch {
		case err != nil:
			return cloud.Found{}, err
		case i < 0:
			return cloud.Found{}, none
		}
		return all[i], nil
	}
	lb, resp, err := d.api.LoadBalancer.Get(ctx, ref)
	switch {
	case err != nil:
		return cloud.Found{}, wrap(resp, err, "looking up load balancer %s", ref)
	case lb == nil:
		return cloud.Found{}, none
	}
	f := foundOf(lb, c)
	f.Owner = d.inFull(f.Owner)
	return f, nil
}

// inFull is an owner of this cluster's with the cluster's name, also where a label cannot
// say that in full.
func (d *Driver) inFull(o cloud.Owner) cloud.Owner {
	if d.cluster != "" && o.Cluster == labelValue(d.cluster) {
		o.Cluster = d.cluster
	}
	return o
}

// LookupFrom implements [cloud.Adopter], for hcloud-cloud-controller-manager.
func (d *Driver) LookupFrom(ctx context.Context, other string, o cloud.Owner) (*cloud.Found, error) {
	if other != "hcloud-ccm" {
		return nil, cloud.Refuse(cloud.ReasonInvalidAnnotation, "adopt-from %q: use hcloud-ccm", other)
	}
	found, err := d.bySelector(ctx, labelCCM+"="+labelValue(string(o.UID)), "")
	switch {
	case err != nil:
		return nil, err
	case len(found) == 0:
		return nil, nil
	case len(found) > 1:
		return nil, &cloud.Error{Class: cloud.Conflict, Reason: cloud.ReasonConflict, Text: "more than one load balancer has the marks of " + other + " for this Service"}
	}
	return &found[0], nil
}

// bySelector returns what has labels, or all. If it was found by its cluster, that is
// what its owner's is called, also where a label can not say it in full.
func (d *Driver) bySelector(ctx context.Context, labels, cluster string) ([]cloud.Found, error) {
	c, err := d.known(ctx)
	if err != nil {
		return nil, err
	}
	lbs, err := pages("load balancers", func(lb *hcloud.LoadBalancer) int64 { return lb.ID },
		func(o hcloud.ListOpts) ([]*hcloud.LoadBalancer, *hcloud.Response, error) {
			o.LabelSelector = labels
			return d.api.LoadBalancer.List(ctx, hcloud.LoadBalancerListOpts{ListOpts: o})
		})
	if err != nil {
		return nil, err
	}
	found := make([]cloud.Found, 0, len(lbs))
	for _, lb := range lbs {
		f := foundOf(lb, c)
		f.Owner = d.inFull(f.Owner)
		if cluster != "" {
			f.Owner.Cluster = cluster
		}
		found = append(found, f)
	}
	return found, nil
}

// foundOf is what a load balancer is for an engine. Raw is the load balancer.
func foundOf(lb *hcloud.LoadBalancer, c *catalogue) cloud.Found {
	m := marksOf(lb.Labels)
	f := cloud.Found{
		Kind:      cloud.LoadBalancer,
		ID:        strconv.FormatInt(lb.ID, 10),
		Name:      lb.Name,
		Owner:     m.owner,
		State:     cloud.Ready,
		Adopted:   m.adopted,
		Retained:  m.retained,
		Protected: lb.Protection.Delete,
		Created:   lb.Created,
		Addrs:     addrs(lb),
		Cost:      c.cost(lb.LoadBalancerType.Name, lb.Location.Name),
		Raw:       lb,
	}
	if len(f.Addrs) == 0 {
		f.State = cloud.Busy // a new one is given its addresses by and by
	}
	return f
}

// addrs are the addresses that clients use: the public ones, or those in networks
// where there are no public ones.
func addrs(lb *hcloud.LoadBalancer) (all []netip.Addr) {
	if lb.PublicNet.Enabled {
		return appendAddr(appendAddr(nil, lb.PublicNet.IPv4.IP), lb.PublicNet.IPv6.IP)
	}
	for _, n := range lb.PrivateNet {
		all = appendAddr(all, n.IP)
	}
	return all
}

func appendAddr(all []netip.Addr, ip net.IP) []netip.Addr {
	if a, ok := netip.AddrFromSlice(ip); ok && !a.IsUnspecified() {
		return append(all, a.Unmap())
	}
	return all
}
