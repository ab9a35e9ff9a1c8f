package openstack

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/herald-lb/herald/cloud"
)

// occm is what the annotation adopt-from calls OpenStack's own controller,
// openstack-cloud-controller-manager.
const occm = "openstack"

// A maker is how that controller has called what it has made for a Service. It has
// no UID in it: of two clusters that are called the same, each takes the other's for
// its own.
type maker struct{ cluster, service string }

func makerOf(s settings, o cloud.Owner) maker {
	return maker{cluster: cmp.Or(s.OtherCluster, "kubernetes"), service: o.Key()}
}

// longest is how long it lets a name be.
const longest = 255

// balancer is the name of a load balancer, and a tag of it.
func (m maker) balancer() string {
	return cut("kube_service_" + m.cluster + "_" + strings.ReplaceAll(m.service, "/", "_"))
}

func cut(name string) string { return name[:min(len(name), longest)] }

// inside is whether a listener or pool is one of its: listener_0_ or pool_0_ and the
// name of the load balancer, 0 being a port's place in the Service.
func (m maker) inside(name string) bool {
	kind, rest, _ := strings.Cut(name, "_")
	place, _, _ := strings.Cut(rest, "_")
	return (kind == "listener" || kind == "pool") && place != "" && strings.Trim(place, "0123456789") == "" &&
		name == cut(kind+"_"+place+"_"+m.balancer())
}

// address is what it describes a floating IP as.
func (m maker) address() string {
	return fmt.Sprintf("Floating IP for Kubernetes external service %s from cluster %s", m.service, m.cluster)
}

// made is whether it has made a load balancer for this Service, and for no other.
func (m maker) made(b *balancer) bool {
	return b.Name == m.balancer() && !slices.ContainsFunc(b.Tags, func(t string) bool {
		return strings.HasPrefix(t, "kube_service_") && t != b.Name
	})
}

// LookupFrom implements [cloud.Adopter], for OpenStack's own controller.
func (d *driver) LookupFrom(ctx context.Context, other string, o cloud.Owner) (*cloud.Found, error) {
	if other != occm {
		return nil, cloud.Refuse(cloud.ReasonInvalidAnnotation, "adopt-from %q: use %s", other, occm)
	}
	c, err := d.connect(ctx)
	if err != nil {
		return nil, err
	}
	m := makerOf(d.settings, o)
	all, err := c.balancers(ctx, loadbalancers.ListOpts{Name: m.balancer()})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	if len(all) > 1 || !m.made(all[0]) {
		return nil, &cloud.Error{Class: cloud.Conflict, Reason: cloud.ReasonConflict, Text: "load balancer " + m.balancer() + " is not the only one of this name, or serves another Service as well"}
	}
	if err := c.details(ctx, all, true); err != nil {
		return nil, err
	}
	addresses, err := c.addresses(ctx)
	if err != nil {
		return nil, err
	}
	f := found(all, addresses, func(cloud.Owner) bool { return false })[0]
	return &f, nil
}
