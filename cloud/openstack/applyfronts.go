package openstack

import (
	"context"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/herald-lb/herald/cloud"
)

// addPool adds an empty pool, unless there is one of that name.
type addPool struct{ LB, Name, Protocol, Algorithm string }

func (m addPool) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	if _, err := c.poolCalled(ctx, m.LB, m.Name); !cloud.Is(err, cloud.NotFound) {
		return cloud.Pending{}, err
	}
	_, err := pools.Create(ctx, c.lb, pools.CreateOpts{LoadbalancerID: m.LB, Name: m.Name, Protocol: pools.Protocol(m.Protocol), LBMethod: pools.LBMethod(m.Algorithm)}).Extract()
	if err != nil {
		return cloud.Pending{}, explain(err, "adding pool %s to load balancer %s", m.Name, m.LB)
	}
	return pendingOn(m.LB), nil
}

// poolCalled returns the ID of a pool by its name.
func (c *clients) poolCalled(ctx context.Context, lb, name string) (string, error) {
	page, err := pools.List(c.lb, pools.ListOpts{LoadbalancerID: lb, Name: name}).AllPages(ctx)
	if err != nil {
		return "", explain(err, "looking for pool %s of load balancer %s", name, lb)
	}
	all, err := pools.ExtractPools(page)
	if err != nil {
		return "", explain(err, "reading the pools of load balancer %s", lb)
	}
	if len(all) == 0 {
		return "", &cloud.Error{Class: cloud.NotFound, Text: "load balancer " + lb + " has no pool " + name}
	}
	return slices.MinFunc(all, func(a, b pools.Pool) int { return strings.Compare(a.ID, b.ID) }).ID, nil
}

// setMembers says which members a pool has, in one call. One that was made by the
// same plan is found by its name.
type setMembers struct {
	LB, Pool, PoolName string
	Members            []member
}

func (m setMembers) apply(ctx context.Context, c *clients) (_ cloud.Pending, err error) {
	id := m.Pool
	if id == "" {
		if id, err = c.poolCalled(ctx, m.LB, m.PoolName); err != nil {
			return cloud.Pending{}, err
		}
	}
	opts := []pools.BatchUpdateMemberOpts{}
	for _, o := range m.Members {
		port := int(o.MonitorPort)
		opts = append(opts, pools.BatchUpdateMemberOpts{Name: &o.Name, Address: o.Addr.String(), ProtocolPort: int(o.Port), MonitorPort: &port})
	}
	if err := pools.BatchUpdateMembers(ctx, c.lb, id, opts).ExtractErr(); err != nil {
		return cloud.Pending{}, explain(err, "setting the members of pool %s", m.PoolName)
	}
	return pendingOn(m.LB), nil
}

// setAlgorithm changes how a pool chooses.
type setAlgorithm struct{ LB, Pool, Algorithm string }

func (m setAlgorithm) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	if _, err := pools.Update(ctx, c.lb, m.Pool, pools.UpdateOpts{LBMethod: pools.LBMethod(m.Algorithm)}).Extract(); err != nil {
		return cloud.Pending{}, explain(err, "setting the algorithm of pool %s", m.Pool)
	}
	return pendingOn(m.LB), nil
}

// renamePool makes a pool of another controller's one of ours.
type renamePool struct{ LB, Pool, Name string }

func (m renamePool) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	if _, err := pools.Update(ctx, c.lb, m.Pool, pools.UpdateOpts{Name: &m.Name}).Extract(); err != nil {
		return cloud.Pending{}, explain(err, "renaming pool %s", m.Pool)
	}
	return pendingOn(m.LB), nil
}

func createMonitor(p probe, name string) monitors.CreateOpts {
	opts := monitors.CreateOpts{Name: name, Type: p.Type, Delay: p.Delay, Timeout: p.Timeout, MaxRetries: p.Retries, MaxRetriesDown: p.Retries}
	if p.Type == monitors.TypeHTTP {
		opts.URLPath, opts.HTTPMethod, opts.ExpectedCodes = p.Path, "GET", "200"
	}
	return opts
}

// addMonitor adds what asks how members are, unless there is one.
type addMonitor struct {
	LB, Pool, PoolName string
	Probe              probe
}

func (m addMonitor) apply(ctx context.Context, c *clients) (_ cloud.Pending, err error) {
	id := m.Pool
	if id == "" {
		if id, err = c.poolCalled(ctx, m.LB, m.PoolName); err != nil {
			return cloud.Pending{}, err
		}
	}
	lb, err := loadbalancers.Get(ctx, c.lb, m.LB).Extract()
	if err != nil {
		return cloud.Pending{}, explain(err, "reading load balancer %s", m.LB)
	}
	opts := createMonitor(m.Probe, readBalancer(*lb).owner().ResourceName())
	opts.PoolID = id
	if _, err := monitors.Create(ctx, c.lb, opts).Extract(); err != nil {
		// In conflict it is with one that is there: the next plan looks at what it does.
		return cloud.Pending{}, unless(explain(err, "adding a monitor to pool %s", m.PoolName), cloud.Conflict)
	}
	return pendingOn(m.LB), nil
}

// setMonitor changes how members are asked, all but the type.
type setMonitor struct {
	LB, ID string
	Probe  probe
}

func (m setMonitor) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	opts := monitors.UpdateOpts{Delay: m.Probe.Delay, Timeout: m.Probe.Timeout, MaxRetries: m.Probe.Retries, MaxRetriesDown: m.Probe.Retries, URLPath: m.Probe.Path}
	if _, err := monitors.Update(ctx, c.lb, m.ID, opts).Extract(); err != nil {
		return cloud.Pending{}, explain(err, "changing monitor %s", m.ID)
	}
	return pendingOn(m.LB), nil
}

// dropMonitor removes what asks how members are.
type dropMonitor struct{ LB, ID string }

func (m dropMonitor) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	return dropped(m.LB, monitors.Delete(ctx, c.lb, m.ID).ExtractErr(), "removing monitor", m.ID)
}

// addListener adds one that sends to a pool, which may have been made by the same
// plan and is found by its name then.
type addListener setListener

func (m addListener) apply(ctx context.Context, c *clients) (_ cloud.Pending, err error) {
	opts := createListener(m.Listener)
	opts.LoadbalancerID, opts.DefaultPoolID = m.LB, m.Listener.Pool
	if opts.DefaultPoolID == "" {
		if opts.DefaultPoolID, err = c.poolCalled(ctx, m.LB, m.PoolName); err != nil {
			return cloud.Pending{}, err
		}
	}
	_, err = listeners.Create(ctx, c.lb, opts).Extract()
	if err == nil {
		return pendingOn(m.LB), nil
	}
	err = explain(err, "adding listener %s to load balancer %s", m.Listener.Name, m.LB)
	if !cloud.Is(err, cloud.Conflict) {
		return cloud.Pending{}, err
	}
	// The port is taken: by ourselves, if this is a repetition.
	b := &balancer{ID: m.LB}
	if again := c.readListeners(ctx, map[string]*balancer{b.ID: b}, b.ID); again != nil {
		return cloud.Pending{}, again
	}
	if slices.ContainsFunc(b.Listeners, func(l listener) bool { return l.Name == m.Listener.Name }) {
		return cloud.Pending{}, nil
	}
	return cloud.Pending{}, err
}

// setListener changes to which pool a listener sends, for whom, and for how long.
type setListener struct {
	LB, ID   string
	Listener listener
	PoolName string
}

// listenerBody is an update with timeouts of null, which are Octavia's defaults: the
// SDK's options cannot say them.
type listenerBody map[string]any

// ToListenerUpdateMap implements the SDK's UpdateOptsBuilder.
func (b listenerBody) ToListenerUpdateMap() (map[string]any, error) {
	return map[string]any{"listener": map[string]any(b)}, nil
}

func (m setListener) apply(ctx context.Context, c *clients) (_ cloud.Pending, err error) {
	pool := m.Listener.Pool
	if pool == "" {
		if pool, err = c.poolCalled(ctx, m.LB, m.PoolName); err != nil {
			return cloud.Pending{}, err
		}
	}
	body := listenerBody{"name": m.Listener.Name, "default_pool_id": pool, "allowed_cidrs": []string{}, "description": "", "timeout_client_data": nil, "timeout_member_data": nil}
	if m.Listener.CIDRs != "" {
		body["allowed_cidrs"] = strings.Split(m.Listener.CIDRs, ",")
	}
	if m.Listener.Idle != 0 {
		body["description"], body["timeout_client_data"], body["timeout_member_data"] = idleSet, m.Listener.Idle, m.Listener.Idle
	}
	if _, err := listeners.Update(ctx, c.lb, m.ID, body).Extract(); err != nil {
		return cloud.Pending{}, explain(err, "changing listener %s", m.Listener.Name)
	}
	return pendingOn(m.LB), nil
}

// dropListener removes a listener, and leaves its pool.
type dropListener struct{ LB, ID string }

func (m dropListener) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	return dropped(m.LB, listeners.Delete(ctx, c.lb, m.ID).ExtractErr(), "removing listener", m.ID)
}

// dropPool removes a pool with its members and monitor.
type dropPool struct{ LB, ID string }

func (m dropPool) apply(ctx context.Context, c *clients) (cloud.Pending, error) {
	return dropped(m.LB, pools.Delete(ctx, c.lb, m.ID).ExtractErr(), "removing pool", m.ID)
}

func dropped(lb string, err error, doing, id string) (cloud.Pending, error) {
	if err != nil {
		return cloud.Pending{}, unless(explain(err, "%s %s", doing, id), cloud.NotFound)
	}
	return pendingOn(lb), nil
}
