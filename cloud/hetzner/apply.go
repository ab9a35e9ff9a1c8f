package hetzner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/herald-lb/herald/cloud"
)

// A call is one change to a load balancer that exists.
type call interface {
	// do makes the call.
	do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error)
	// done is whether a load balancer is as the call makes it.
	done(lb *hcloud.LoadBalancer) bool
}

// Apply implements [cloud.Driver].
func (d *Driver) Apply(ctx context.Context, s cloud.Step) (cloud.Pending, error) {
	if c, ok := s.Payload.(createLB); ok {
		return d.create(ctx, c.wanted)
	}
	id, err := strconv.ParseInt(s.ID, 10, 64)
	if err != nil {
		return cloud.Pending{}, &cloud.Error{Class: cloud.Terminal, Text: s.String() + ": no ID of a resource"}
	}
	switch c := s.Payload.(type) {
	case mark:
		return cloud.Pending{}, d.mark(ctx, id, c)
	case deleteLB:
		return d.delete(ctx, id)
	case markAddress:
		return cloud.Pending{}, d.markAddress(ctx, id, c)
	case unassignAddress:
		return d.unassign(ctx, id)
	case deleteAddress:
		return cloud.Pending{}, d.deleteAddress(ctx, id)
	case call:
		return d.call(ctx, s, id, c)
	}
	return cloud.Pending{}, &cloud.Error{Class: cloud.Terminal, Text: s.String() + ": no step of this driver"}
}

// call makes a call. The API refuses what was done already in as many words as there
// are calls, so what it refuses is looked at: perhaps an answer was lost.
func (d *Driver) call(ctx context.Context, s cloud.Step, id int64, c call) (cloud.Pending, error) {
	action, resp, err := c.do(ctx, d.api, &hcloud.LoadBalancer{ID: id})
	if err == nil {
		return pending(action, id), nil
	}
	refused := wrap(resp, err, "%s", s)
	if !certain(refused) {
		return cloud.Pending{}, refused
	}
	lb, resp, err := d.api.LoadBalancer.GetByID(ctx, id)
	switch {
	case err != nil:
		return cloud.Pending{}, wrap(resp, err, "%s: looking at it after: %v", s, refused.Err)
	case lb == nil:
		return cloud.Pending{}, &cloud.Error{Class: cloud.NotFound, Text: fmt.Sprintf("%s: there is no such load balancer", s)}
	case c.done(lb):
		return cloud.Pending{}, nil
	case refused.Class == cloud.NotFound:
		refused.Class = cloud.Retryable // a server is gone, or a network: not the load balancer
	}
	return cloud.Pending{}, refused
}

// pending is what an action is to an engine; nothing if there is none, or it is
// finished.
func pending(a *hcloud.Action, resource int64) cloud.Pending {
	if a == nil || a.ID == 0 || a.Status == hcloud.ActionStatusSuccess {
		return cloud.Pending{}
	}
	return cloud.Pending{ID: strconv.FormatInt(a.ID, 10), Resource: strconv.FormatInt(resource, 10)}
}

// createLB is the payload of a step that makes a load balancer.
type createLB struct{ wanted }

// create makes a load balancer. If there is one of its name that bears exactly the
// marks it would have, then it was made by a call whose answer was lost.
func (d *Driver) create(ctx context.Context, w wanted) (cloud.Pending, error) {
	opts := w.opts()
	if w.address != "" {
		var err error
		if opts.PublicNet, err = d.reserved(ctx, w.address); err != nil {
			return cloud.Pending{}, err
		}
	}
	made, resp, err := d.api.LoadBalancer.Create(ctx, opts)
	if err == nil {
		return pending(made.Action, made.LoadBalancer.ID), nil
	}
	refused := wrap(resp, err, "creating load balancer %s", w.name)
	if !hcloud.IsError(err, hcloud.ErrorCodeUniquenessError) {
		return cloud.Pending{}, refused
	}
	lb, resp, err := d.api.LoadBalancer.GetByName(ctx, w.name)
	switch {
	case err != nil:
		return cloud.Pending{}, wrap(resp, err, "looking up load balancer %s", w.name)
	case lb == nil:
		refused.Class = cloud.Locked // it is being deleted, and its name not free yet
		return cloud.Pending{}, refused
	case !owned(lb.Labels, w.marks.owner):
		refused.Reason = cloud.ReasonConflict
		refused.Text += fmt.Sprintf(": one of that name is not this Service's; if it was released, the annotation %sadopt: %s takes it back, or rename it", cloud.Prefix, w.name)
		return cloud.Pending{}, refused
	}
	return d.running(ctx, lb)
}

// running returns what goes on with a load balancer that somebody else has begun.
func (d *Driver) running(ctx context.Context, lb *hcloud.LoadBalancer) (cloud.Pending, error) {
	actions, resp, err := d.api.LoadBalancer.Action.ListFor(ctx, lb, hcloud.ActionListOpts{Status: []hcloud.ActionStatus{hcloud.ActionStatusRunning}})
	if err != nil {
		return cloud.Pending{}, wrap(resp, err, "asking what goes on with load balancer %s", lb.Name)
	}
	for _, a := range actions {
		if a.Status == hcloud.ActionStatusRunning {
			return pending(a, lb.ID), nil
		}
	}
	return cloud.Pending{}, nil
}

// opts is the whole of a load balancer, in one call.
func (w wanted) opts() hcloud.LoadBalancerCreateOpts {
	o := hcloud.LoadBalancerCreateOpts{
		Name:             w.name,
		LoadBalancerType: &hcloud.LoadBalancerType{Name: w.typ},
		Location:         &hcloud.Location{Name: w.location},
		Labels:           w.marks.labels(),
		PublicInterface:  hcloud.Ptr(!w.internal),
	}
	if w.algorithm != "" {
		o.Algorithm = &hcloud.LoadBalancerAlgorithm{Type: w.algorithm}
	}
	if w.network.id != 0 {
		o.Network = &hcloud.Network{ID: w.network.id}
	}
	for _, s := range w.services {
		o.Services = append(o.Services, s.createOpts())
	}
	for _, t := range w.targets {
		o.Targets = append(o.Targets, t.createOpts())
	}
	return o
}

func (s service) createOpts() hcloud.LoadBalancerCreateOptsService {
	h := &hcloud.LoadBalancerCreateOptsServiceHealthCheck{
		Protocol: hcloud.LoadBalancerServiceProtocol(s.check.protocol),
		Port:     &s.check.port, Interval: &s.check.interval, Timeout: &s.check.timeout, Retries: &s.check.retries,
	}
	if s.check.protocol == "http" {
		// The API demands a domain, and takes none to mean no Host header.
		h.HTTP = &hcloud.LoadBalancerCreateOptsServiceHealthCheckHTTP{
			Domain: hcloud.Ptr(""), Path: &s.check.path, StatusCodes: []string{s.check.codes}, TLS: hcloud.Ptr(false),
		}
	}
	return hcloud.LoadBalancerCreateOptsService{Protocol: hcloud.LoadBalancerServiceProtocol(s.protocol),
		ListenPort: &s.port, DestinationPort: &s.nodePort, Proxyprotocol: &s.proxy, HealthCheck: h}
}

func (t target) createOpts() hcloud.LoadBalancerCreateOptsTarget {
	if t.server == 0 {
		return hcloud.LoadBalancerCreateOptsTarget{Type: hcloud.LoadBalancerTargetTypeIP, IP: hcloud.LoadBalancerCreateOptsTargetIP{IP: t.ip.String()}}
	}
	return hcloud.LoadBalancerCreateOptsTarget{
		Type:         hcloud.LoadBalancerTargetTypeServer,
		Server:       hcloud.LoadBalancerCreateOptsTargetServer{Server: &hcloud.Server{ID: t.server}},
		UsePrivateIP: &t.private,
	}
}

// reserved returns a Primary IP, by its ID or as text, for a new load balancer. One
// that the cloud would delete with the load balancer is refused: it is not ours.
func (d *Driver) reserved(ctx context.Context, ref string) (*hcloud.LoadBalancerCreateOptsPublicNet, error) {
	ip, resp, err := d.primaryIP(ctx, ref)
	switch {
	case err != nil:
		return nil, wrap(resp, err, "looking up address %s", ref)
	case ip == nil:
		return nil, cloud.Refuse("", "there is no Primary IP %s", ref)
	case ip.AutoDelete:
		return nil, cloud.Refuse("", "Primary IP %s would be deleted with the load balancer: disable its auto delete first", ref)
	case ip.AssigneeID != 0:
		return nil, &cloud.Error{Class: cloud.Conflict, Text: fmt.Sprintf("Primary IP %s is assigned to %s %d", ref, ip.AssigneeType, ip.AssigneeID)}
	case ip.Type == hcloud.PrimaryIPTypeIPv6:
		return &hcloud.LoadBalancerCreateOptsPublicNet{IPv6: ip}, nil
	}
	return &hcloud.LoadBalancerCreateOptsPublicNet{IPv4: ip}, nil
}

func (d *Driver) primaryIP(ctx context.Context, ref string) (*hcloud.PrimaryIP, *hcloud.Response, error) {
	if id, err := strconv.ParseInt(ref, 10, 64); err == nil {
		return d.api.PrimaryIP.GetByID(ctx, id)
	}
	p, ok := parseAddress(ref)
	if !ok {
		return nil, nil, cloud.Refuse("", "address %q: use the ID of a Primary IP, or its address", ref)
	}
	return d.api.PrimaryIP.GetByIP(ctx, p.Addr().String())
}

// deleteLB is the payload of a step that deletes a load balancer.
type deleteLB struct{}

func (d *Driver) delete(ctx context.Context, id int64) (cloud.Pending, error) {
	result, resp, err := d.api.LoadBalancer.DeleteWithResult(ctx, &hcloud.LoadBalancer{ID: id})
	switch {
	case err == nil:
		return pending(result.Action, id), nil
	case hcloud.IsError(err, hcloud.ErrorCodeNotFound):
		return cloud.Pending{}, nil
	// Until October 2026 the API answered with nothing at all, which the SDK can not read.
	case resp != nil && resp.Response != nil && resp.StatusCode == http.StatusNoContent:
		return cloud.Pending{}, nil
	}
	return cloud.Pending{}, wrap(resp, err, "deleting load balancer %d", id)
}

// mark is the payload of a step that sets labels: from whose, to what. The zero to
// takes them away.
type mark struct {
	from cloud.Owner
	to   marks
}

// mark reads the labels before it writes them, for they are replaced as a whole: what
// others have written since must stay, and what somebody else has taken is theirs.
// What stands of ours keeps its mark, whatever was planned.
func (d *Driver) mark(ctx context.Context, id int64, m mark) error {
	lb, resp, err := d.api.LoadBalancer.GetByID(ctx, id)
	switch {
	case err != nil:
		return wrap(resp, err, "reading the labels of load balancer %d", id)
	case lb == nil:
		return &cloud.Error{Class: cloud.NotFound, Text: fmt.Sprintf("there is no load balancer %d", id)}
	}
	to, err := m.over(lb)
	if err != nil || to == nil {
		return err
	}
	if _, resp, err = d.api.LoadBalancer.Update(ctx, lb, hcloud.LoadBalancerUpdateOpts{Labels: to}); err != nil {
		return wrap(resp, err, "labelling load balancer %d", id)
	}
	return nil
}

// Poll implements [cloud.Driver]. An action that the API knows no longer is finished;
// what came of it shows when the resource is read.
func (d *Driver) Poll(ctx context.Context, all []cloud.Pending) (unfinished []cloud.Pending, err error) {
	const atOnce = 25 // the API gives no more of them
	of := map[int64]cloud.Pending{}
	var ids []int64
	for _, p := range all {
		id, err := strconv.ParseInt(p.ID, 10, 64)
		if _, twice := of[id]; err == nil && !twice {
			of[id] = p
			ids = append(ids, id)
		}
	}
	var errs []error
	for len(ids) > 0 {
		some := ids[:min(atOnce, len(ids))]
		ids = ids[len(some):]
		actions, resp, err := d.api.Action.List(ctx, hcloud.ActionListOpts{ID: some})
		if err != nil {
			return all, wrap(resp, err, "asking for actions")
		}
		for _, a := range actions {
			switch a.Status {
			case hcloud.ActionStatusRunning:
				unfinished = append(unfinished, of[a.ID])
			case hcloud.ActionStatusError:
				errs = append(errs, failed(a, of[a.ID]))
			}
		}
	}
	return unfinished, errors.Join(errs...)
}

// failed says what became of an action. It can be tried again: the API had accepted
// it.
func failed(a *hcloud.Action, p cloud.Pending) error {
	return &cloud.Error{Class: cloud.Retryable, Text: fmt.Sprintf("%s of %s", a.Command, p.Resource), Err: a.Error()}
}
