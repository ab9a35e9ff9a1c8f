package openstack

import (
	"context"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"

	"github.com/herald-lb/herald/cloud"
)

// makeAddress makes a floating IP before a Service's load balancer, unless the
// Service has one: that is used then.
type makeAddress struct {
	Owner   cloud.Owner
	Network string // by name or ID
}

func (m makeAddress) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	lb, err := c.balancerOf(ctx, m.Owner)
	if err != nil {
		return cloud.Pending{}, err
	}
	have, err := c.addressOf(ctx, m.Owner)
	if err == nil {
		return assignAddress{Ref: have.ID, LB: lb.ID, Port: lb.VIPPort, Owner: m.Owner}.move(ctx, c, have, lb.VIPPort)
	}
	if !cloud.Is(err, cloud.NotFound) {
		return cloud.Pending{}, err
	}
	network, err := c.networkID(ctx, m.Network)
	if err != nil {
		return cloud.Pending{}, err
	}
	_, err = floatingips.Create(ctx, c.net, floatingips.CreateOpts{FloatingNetworkID: network, PortID: lb.VIPPort, Description: marks{Owner: m.Owner}.String()}).Extract()
	return cloud.Pending{}, explain(err, "creating a floating IP for %s", m.Owner.Key())
}

// addressOf returns the oldest floating IP of an owner.
func (c *clients) addressOf(ctx context.Context, o cloud.Owner) (floating, error) {
	all, err := c.addresses(ctx)
	if err != nil {
		return floating{}, err
	}
	i := slices.IndexFunc(all, func(f floating) bool { return f.Mark.Owner.Same(o) })
	if i < 0 {
		return floating{}, &cloud.Error{Class: cloud.NotFound, Text: "there is no floating IP of " + o.Key()}
	}
	return all[i], nil
}

// assignAddress puts a floating IP before a load balancer: the one with an ID, or
// the owner's, which the same plan may have made.
type assignAddress struct {
	Ref      string // ID or address
	LB, Port string
	Owner    cloud.Owner
}

func (m assignAddress) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	port := m.Port
	if port == "" {
		lb, err := c.balancerOf(ctx, m.Owner)
		if err != nil {
			return cloud.Pending{}, err
		}
		port = lb.VIPPort
	}
	all, err := c.addresses(ctx)
	if err != nil {
		return cloud.Pending{}, err
	}
	i := slices.IndexFunc(all, func(f floating) bool { return f.is(m.Ref) })
	if i < 0 {
		return cloud.Pending{}, cloud.Refuse("", "there is no floating IP %s", m.Ref)
	}
	return m.move(ctx, c, all[i], port)
}

// move makes an address lead to a port. One that leads elsewhere, and is not the
// owner's, serves somebody.
func (m assignAddress) move(ctx context.Context, c *clients, f floating, port string) (cloud.Pending, error) {
	switch {
	case f.Port == port:
		return cloud.Pending{}, nil
	case f.Port != "" && !f.Mark.Owner.Same(m.Owner):
		return cloud.Pending{}, cloud.Refuse("OwnershipConflict", "floating IP %s leads to port %s: it is in use", f.Addr, f.Port)
	}
	_, err := floatingips.Update(ctx, c.net, f.ID, floatingips.UpdateOpts{PortID: &port}).Extract()
	return cloud.Pending{}, explain(err, "assigning floating IP %s", f.Addr)
}

// unassignAddress makes a floating IP lead nowhere.
type unassignAddress struct{ ID string }

func (m unassignAddress) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	none := ""
	_, err := floatingips.Update(ctx, c.net, m.ID, floatingips.UpdateOpts{PortID: &none}).Extract()
	return cloud.Pending{}, unless(explain(err, "unassigning floating IP %s", m.ID), cloud.NotFound)
}

// tagAddress says which tags a floating IP has; without an ID it is the owner's.
type tagAddress struct {
	ID    string
	Owner cloud.Owner
	Tags  []string
}

func (m tagAddress) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	if m.ID == "" {
		f, err := c.addressOf(ctx, m.Owner)
		if err != nil {
			return cloud.Pending{}, err
		}
		m.ID, m.Tags = f.ID, f.Mark.shortTags(f.Tags)
	}
	err := attributestags.ReplaceAll(ctx, c.net, "floatingips", m.ID, tagBody(m.Tags)).Err
	return cloud.Pending{}, explain(err, "tagging floating IP %s", m.ID)
}

// tagBody is a list of tags that may be empty, which the SDK's cannot.
type tagBody []string

// ToAttributeTagsReplaceAllMap implements the SDK's ReplaceAllOptsBuilder.
func (b tagBody) ToAttributeTagsReplaceAllMap() (map[string]any, error) {
	return map[string]any{"tags": append([]string{}, b...)}, nil
}

// describeAddress says whose a floating IP is; nothing for nobody's.
type describeAddress struct{ ID, Description string }

func (m describeAddress) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	_, err := floatingips.Update(ctx, c.net, m.ID, floatingips.UpdateOpts{Description: &m.Description}).Extract()
	return cloud.Pending{}, explain(err, "marking floating IP %s", m.ID)
}

// dropAddress gives a floating IP back.
type dropAddress struct{ ID string }

func (m dropAddress) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	err := floatingips.Delete(ctx, c.net, m.ID).ExtractErr()
	return cloud.Pending{}, unless(explain(err, "deleting floating IP %s", m.ID), cloud.NotFound)
}
