package webhook

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// A Reserved is an address that goes to one instance at a time.
type Reserved struct {
	ID        string
	Addr      netip.Addr // that clients use; zero while it is being reserved
	Delivered netip.Addr // that the instance sees as the destination
	Instance  string     // that packets go to; empty for none
}

// ReservedOf returns what a Found of Kind Address says.
func ReservedOf(f cloud.Found) (Reserved, bool) {
	a, ok := f.Raw.(address)
	return a.reserved(), ok
}

func (a address) reserved() Reserved {
	addr, _ := netip.ParseAddr(a.Address) // checked, or empty
	to, err := netip.ParseAddr(a.DeliveredAddress)
	if err != nil {
		to = addr
	}
	return Reserved{ID: a.ID, Addr: addr, Delivered: to, Instance: a.AssignedTo}
}

// Reserve reserves the owner's address of a family, if it has none yet: one call.
// Location may be empty.
func (d *Driver) Reserve(ctx context.Context, o cloud.Owner, family corev1.IPFamily, location string) (Reserved, cloud.Pending, error) {
	path := addressPath(addressKey(o, string(family)))
	body := addressRequest{Owner: ownerOut(o), Name: o.ResourceName(), Family: string(family), Location: location}
	c := call{request: request{Method: http.MethodPut, Path: path, Body: body}, want: serves, owner: o}
	a, err := d.addressCall(ctx, c)
	if err != nil {
		return Reserved{}, cloud.Pending{}, err
	}
	if a.Family != string(family) {
		return Reserved{}, cloud.Pending{}, malformed(c.request, fmt.Errorf("%s is of family %s", quote(a.ID), a.Family))
	}
	p, err := c.outcome(a.resource)
	return a.reserved(), p, err
}

// Assign has packets for an address of an owner go to an instance: one call, also
// if they go there already.
func (d *Driver) Assign(ctx context.Context, f cloud.Found, instance string) (cloud.Pending, error) {
	a, ok := f.Raw.(address)
	if !ok || instance == "" {
		return cloud.Pending{}, cloud.Refuse("", "webhook: %s %s cannot be assigned to %s", f.Kind, quote(f.ID), quote(instance))
	}
	c := call{request: request{Method: http.MethodPost, Path: "/v1/addresses/" + url.PathEscape(f.ID) + "/assign", Body: assignment{instance}}, want: serves, owner: f.Owner}
	got, err := d.addressCall(ctx, c)
	if err != nil {
		return cloud.Pending{}, err
	}
	if got.State == string(cloud.Ready) && got.AssignedTo != instance {
		return cloud.Pending{}, malformed(c.request, fmt.Errorf("%s is ready, and goes to %s", quote(got.ID), quote(got.AssignedTo)))
	}
	c.Path = addressPath(addressKey(f.Owner, a.Family)) // where to ask
	return c.outcome(got.resource)
}

func (d *Driver) addressCall(ctx context.Context, c call) (address, error) {
	got, err := d.client.do(ctx, c.request)
	if err != nil {
		return address{}, err
	}
	a, err := parseAddress(got.body)
	if err != nil {
		return address{}, malformed(c.request, err)
	}
	return a, nil
}
