package openstack

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/apiversions"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

func init() { cloud.Register("openstack", open) }

// A driver is a [cloud.Driver].
type driver struct {
	config   cloud.Config
	settings settings
	http     *http.Client
	log      *slog.Logger

	// connecting is held by whoever logs in: all others need what comes of it.
	connecting sync.Mutex
	connected  *clients
	versions   []string // of Octavia's API; nil before they were asked for
}

// settings is what of the configuration plans depend on.
type settings struct {
	cloud.Defaults
	Provider        string // Octavia's; empty for the cloud's default
	FloatingNetwork string
	OtherCluster    string // what OpenStack's own controller calls this cluster
}

func open(c cloud.Config, env cloud.Env) (cloud.Driver, error) {
	if env.HTTP == nil {
		env.HTTP = http.DefaultClient
	}
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	return &driver{
		config:   c,
		settings: settings{Defaults: c.Defaults, Provider: c.OpenStack.Provider, FloatingNetwork: c.OpenStack.FloatingNetwork, OtherCluster: c.OpenStack.ClusterName},
		http:     env.HTTP,
		log:      env.Log,
	}, nil
}

// Capabilities implements [cloud.Driver]. Versions of the API are those at which
// Octavia's release notes say that a feature came.
func (d *driver) Capabilities(ctx context.Context) (cloud.Capabilities, error) {
	versions, err := d.apiVersions(ctx)
	if err != nil {
		return cloud.Capabilities{}, err
	}
	if !atLeast(versions, 5) {
		return cloud.Capabilities{}, cloud.Refuse("", "Octavia's API is older than 2.5: it has no tags, without which nothing tells whose a load balancer is")
	}
	c := cloud.Capabilities{
		Protocols:       []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP},
		Families:        []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol},
		SourceRanges:    atLeast(versions, 12),
		ProxyProtocol:   atLeast(versions, 22), // PROXYV2; PROXY is older
		HTTPHealthCheck: true, Retains: true,
		Delivery: cloud.ToNodePort,
	}
	if atLeast(versions, 23) {
		c.Protocols = append(c.Protocols, corev1.ProtocolSCTP)
	}
	if d.settings.Provider == ovn {
		// It forwards packets, and ends no connection.
		c.SourceRanges, c.ProxyProtocol, c.HTTPHealthCheck = false, false, false
	}
	return c, nil
}

func (d *driver) apiVersions(ctx context.Context) ([]string, error) {
	c, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	d.connecting.Lock()
	defer d.connecting.Unlock()
	if d.versions != nil {
		return d.versions, nil
	}
	page, err := apiversions.List(c.lb).AllPages(ctx)
	if err != nil {
		return nil, explain(err, "asking for the versions of Octavia's API")
	}
	all, err := apiversions.ExtractAPIVersions(page)
	if err != nil {
		return nil, explain(err, "reading the versions of Octavia's API")
	}
	if len(all) == 0 {
		return nil, &cloud.Error{Class: cloud.Retryable, After: cloud.ComeAgain, Text: "Octavia says of no version of its API that it has it"}
	}
	for _, v := range all {
		d.versions = append(d.versions, v.ID)
	}
	return d.versions, nil
}

// atLeast is whether versions, such as v2.5, hold one that is 2.minor or later.
func atLeast(versions []string, minor int) bool {
	return slices.ContainsFunc(versions, func(v string) bool {
		n, err := strconv.Atoi(strings.TrimPrefix(v, "v2."))
		return err == nil && n >= minor
	})
}

// Plan implements [cloud.Driver].
func (d *driver) Plan(want cloud.LBSpec, found *cloud.Found) (cloud.Plan, error) {
	return plan(want, found, d.settings)
}

// PlanRemoval implements [cloud.Driver].
func (d *driver) PlanRemoval(f cloud.Found, p cloud.Policy) cloud.Plan { return planRemoval(f, p) }

// A change is the payload of a step: one call that changes something.
type change interface {
	apply(ctx context.Context, c *clients) (cloud.Pending, error)
}

// Apply implements [cloud.Driver].
func (d *driver) Apply(ctx context.Context, s cloud.Step) (cloud.Pending, error) {
	do, ok := s.Payload.(change)
	if !ok {
		return cloud.Pending{}, cloud.Refuse("", "the step %q is none of this driver's", s)
	}
	c, err := d.connect(ctx)
	if err != nil {
		return cloud.Pending{}, err
	}
	return do.apply(ctx, c)
}
