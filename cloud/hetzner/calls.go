package hetzner

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"

	"github.com/herald-lb/herald/cloud"
)

type (
	addService      struct{ service }
	updateService   struct{ service }
	deleteService   struct{ port int }
	addTarget       struct{ target }
	removeTarget    struct{ target }
	changeType      struct{ name string }
	changeAlgorithm struct {
		to hcloud.LoadBalancerAlgorithmType
	}
	attach struct {
		network int64
		subnet  netip.Prefix
	}
	detach          struct{ network int64 }
	publicInterface struct{ enabled bool }
)

func (c addService) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	o := c.createOpts()
	h := o.HealthCheck
	add := hcloud.LoadBalancerAddServiceOpts{Protocol: o.Protocol, ListenPort: o.ListenPort, DestinationPort: o.DestinationPort, Proxyprotocol: o.Proxyprotocol,
		HealthCheck: &hcloud.LoadBalancerAddServiceOptsHealthCheck{Protocol: h.Protocol, Port: h.Port, Interval: h.Interval, Timeout: h.Timeout, Retries: h.Retries}}
	if h.HTTP != nil {
		http := hcloud.LoadBalancerAddServiceOptsHealthCheckHTTP(*h.HTTP)
		add.HealthCheck.HTTP = &http
	}
	return api.LoadBalancer.AddService(ctx, lb, add)
}

func (c addService) done(lb *hcloud.LoadBalancer) bool { return servicesNow(lb)[c.port] == c.service }

func (c updateService) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	o := c.createOpts()
	h := o.HealthCheck
	update := hcloud.LoadBalancerUpdateServiceOpts{Protocol: o.Protocol, DestinationPort: o.DestinationPort, Proxyprotocol: o.Proxyprotocol,
		HealthCheck: &hcloud.LoadBalancerUpdateServiceOptsHealthCheck{Protocol: h.Protocol, Port: h.Port, Interval: h.Interval, Timeout: h.Timeout, Retries: h.Retries}}
	if h.HTTP != nil {
		http := hcloud.LoadBalancerUpdateServiceOptsHealthCheckHTTP(*h.HTTP)
		http.Response = hcloud.Ptr("") // people may have asked for one
		update.HealthCheck.HTTP = &http
	}
	return api.LoadBalancer.UpdateService(ctx, lb, c.port, update)
}

func (c updateService) done(lb *hcloud.LoadBalancer) bool {
	return servicesNow(lb)[c.port] == c.service
}

func (c deleteService) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	return api.LoadBalancer.DeleteService(ctx, lb, c.port)
}

func (c deleteService) done(lb *hcloud.LoadBalancer) bool {
	_, stands := servicesNow(lb)[c.port]
	return !stands
}

func (c addTarget) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	if c.server == 0 {
		return api.LoadBalancer.AddIPTarget(ctx, lb, hcloud.LoadBalancerAddIPTargetOpts{IP: c.ip.AsSlice()})
	}
	return api.LoadBalancer.AddServerTarget(ctx, lb, hcloud.LoadBalancerAddServerTargetOpts{Server: &hcloud.Server{ID: c.server}, UsePrivateIP: &c.private})
}

func (c addTarget) done(lb *hcloud.LoadBalancer) bool {
	is, stands := targetsNow(lb)[c.key()]
	return stands && is == c.target
}

func (c removeTarget) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	if c.server == 0 {
		return api.LoadBalancer.RemoveIPTarget(ctx, lb, c.ip.AsSlice())
	}
	return api.LoadBalancer.RemoveServerTarget(ctx, lb, &hcloud.Server{ID: c.server})
}

func (c removeTarget) done(lb *hcloud.LoadBalancer) bool {
	is, stands := targetsNow(lb)[c.key()]
	return !stands || is != c.target
}

func (c changeType) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	return api.LoadBalancer.ChangeType(ctx, lb, hcloud.LoadBalancerChangeTypeOpts{LoadBalancerType: &hcloud.LoadBalancerType{Name: c.name}})
}

func (c changeType) done(lb *hcloud.LoadBalancer) bool { return lb.LoadBalancerType.Name == c.name }

func (c changeAlgorithm) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	return api.LoadBalancer.ChangeAlgorithm(ctx, lb, hcloud.LoadBalancerChangeAlgorithmOpts{Type: c.to})
}

func (c changeAlgorithm) done(lb *hcloud.LoadBalancer) bool { return lb.Algorithm.Type == c.to }

func (c attach) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	opts := hcloud.LoadBalancerAttachToNetworkOpts{Network: &hcloud.Network{ID: c.network}}
	if c.subnet.IsValid() {
		_, opts.IPRange, _ = net.ParseCIDR(c.subnet.String())
	}
	return api.LoadBalancer.AttachToNetwork(ctx, lb, opts)
}

func (c attach) done(lb *hcloud.LoadBalancer) bool {
	return lb.PrivateNetFor(&hcloud.Network{ID: c.network}) != nil
}

func (c detach) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	return api.LoadBalancer.DetachFromNetwork(ctx, lb, hcloud.LoadBalancerDetachFromNetworkOpts{Network: &hcloud.Network{ID: c.network}})
}

func (c detach) done(lb *hcloud.LoadBalancer) bool {
	return lb.PrivateNetFor(&hcloud.Network{ID: c.network}) == nil
}

func (c publicInterface) do(ctx context.Context, api *hcloud.Client, lb *hcloud.LoadBalancer) (*hcloud.Action, *hcloud.Response, error) {
	if c.enabled {
		return api.LoadBalancer.EnablePublicInterface(ctx, lb)
	}
	return api.LoadBalancer.DisablePublicInterface(ctx, lb)
}

func (c publicInterface) done(lb *hcloud.LoadBalancer) bool {
	return lb.PublicNet.Enabled == c.enabled
}

// over returns the labels that a load balancer should have; nil if it has them.
func (m mark) over(lb *hcloud.LoadBalancer) (map[string]string, error) {
	if !m.mayMark(lb.Labels) {
		return nil, &cloud.Error{Class: cloud.Conflict, Reason: cloud.ReasonConflict,
			Text: "load balancer " + lb.Name + " has come to belong to " + ownerOf(lb.Labels).Key(), Err: errors.New("nothing was changed")}
	}
	to := m.to
	if to.owner != (cloud.Owner{}) && owned(lb.Labels, to.owner) {
		to.keep(lb)
	}
	labels := relabel(lb.Labels, to)
	if maps.Equal(labels, lb.Labels) {
		return nil, nil
	}
	return labels, nil
}

// mayMark is whether labels name nobody, or who was expected, or who it shall be.
func (m mark) mayMark(labels map[string]string) bool {
	switch {
	case ownerOf(labels) == (cloud.Owner{}):
		return true
	case m.from != (cloud.Owner{}) && owned(labels, m.from):
		return true
	}
	return m.to.owner != (cloud.Owner{}) && owned(labels, m.to.owner)
}

// keep adds the marks of what stands.
func (m *marks) keep(lb *hcloud.LoadBalancer) {
	now := marksOf(lb.Labels)
	services, targets := servicesNow(lb), targetsNow(lb)
	for _, p := range now.ports {
		if _, stands := services[p]; stands && !slices.Contains(m.ports, p) {
			m.ports = append(slices.Clone(m.ports), p)
		}
	}
	slices.Sort(m.ports)
	for _, key := range now.targets {
		if _, stands := targets[key]; stands && !slices.Contains(m.targets, key) {
			m.targets = append(slices.Clone(m.targets), key)
		}
	}
}
