package openstack

import (
	"context"
	"net/url"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/herald-lb/herald/cloud"
)

// statuses asks for as much of load balancers as says how far they are.
type statuses struct{ id string }

// ToLoadBalancerListQuery implements the SDK's ListOptsBuilder.
func (s statuses) ToLoadBalancerListQuery() (string, error) {
	q := url.Values{"fields": {"id", "provisioning_status"}}
	if s.id != "" {
		q.Set("id", s.id)
	}
	return "?" + q.Encode(), nil
}

// Poll implements [cloud.Driver], in one call. What is not listed any more is gone,
// and whoever looks next will see that.
func (d *driver) Poll(ctx context.Context, pending []cloud.Pending) ([]cloud.Pending, error) {
	if len(pending) == 0 {
		return nil, nil
	}
	c, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	var which statuses
	if ids := distinct(pending); len(ids) == 1 {
		which.id = pending[0].ID
	}
	page, err := loadbalancers.List(c.lb, which).AllPages(ctx)
	if err != nil {
		return nil, explain(err, "asking how far load balancers are")
	}
	all, err := loadbalancers.ExtractLoadBalancers(page)
	if err != nil {
		return nil, explain(err, "reading how far load balancers are")
	}
	state := map[string]cloud.State{}
	for _, lb := range all {
		state[lb.ID] = readBalancer(lb).state()
	}
	var left []cloud.Pending
	for _, p := range pending {
		switch state[p.ID] {
		case cloud.Busy, cloud.Deleting:
			left = append(left, p)
		case cloud.Failed:
			return nil, &cloud.Error{Class: cloud.Retryable, Text: p.Resource + " has gone into state ERROR"}
		}
	}
	return left, nil
}

func distinct(pending []cloud.Pending) map[string]bool {
	ids := map[string]bool{}
	for _, p := range pending {
		ids[p.ID] = true
	}
	return ids
}
