package webhook

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/herald-lb/herald/cloud"
)

var _ cloud.AddressDriver = (*Driver)(nil)

// FindAddresses implements [cloud.AddressDriver].
func (d *Driver) FindAddresses(ctx context.Context, o cloud.Owner) ([]cloud.FoundAddress, error) {
	if o.Cluster == "" || o.UID == "" {
		return nil, cloud.Refuse("", "webhook: finding the addresses of %s: it has no cluster or no UID", o.Key())
	}
	return d.addresses(ctx, filter{Cluster: o.Cluster, UID: string(o.UID)})
}

// ListAddresses implements [cloud.AddressDriver].
func (d *Driver) ListAddresses(ctx context.Context, cluster string) ([]cloud.FoundAddress, error) {
	if cluster == "" {
		return nil, cloud.Refuse("", "webhook: listing addresses: no cluster is named")
	}
	return d.addresses(ctx, filter{Cluster: cluster})
}

// LookupAddress implements [cloud.AddressDriver].
func (d *Driver) LookupAddress(ctx context.Context, ref string) (cloud.FoundAddress, error) {
	if ref == "" || len(ref) > 255 {
		return cloud.FoundAddress{}, cloud.Refuse("", "webhook: %s is neither an ID nor a name nor an address", quote(ref))
	}
	found, err := d.addresses(ctx, filter{Ref: ref})
	switch {
	case err != nil:
		return cloud.FoundAddress{}, err
	case len(found) == 0:
		return cloud.FoundAddress{}, &cloud.Error{Class: cloud.NotFound, Text: fmt.Sprintf("webhook: no address is called %s", quote(ref))}
	case len(found) > 1:
		return cloud.FoundAddress{}, &cloud.Error{Class: cloud.Conflict, Text: fmt.Sprintf("webhook: more than one address is called %s: use an ID", quote(ref))}
	}
	return found[0], nil
}

// addresses returns those that pass a filter; none of a server that has none.
func (d *Driver) addresses(ctx context.Context, f filter) ([]cloud.FoundAddress, error) {
	can, err := d.capabilities(ctx)
	if err != nil || !can.Addresses {
		return nil, err
	}
	all, err := pages[address](ctx, d.client, "/v1/addresses", f)
	if err != nil {
		return nil, err
	}
	return each(all, address.routed), nil
}

// routed is what an address is for an engine. The node has to see what clients use: that
// is what it steers.
func (a address) routed() cloud.FoundAddress {
	f := cloud.FoundAddress{Found: a.found(), Instance: cloud.Instance{ID: a.AssignedTo, Name: a.AssignedTo}}
	if addr, err := netip.ParseAddr(a.Address); err == nil {
		f.Prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	if a.DeliveredAddress != "" && a.DeliveredAddress != a.Address {
		f.State = cloud.Failed
	}
	return f
}

// AddressPrice implements [cloud.AddressDriver]: the protocol has no prices beforehand.
func (d *Driver) AddressPrice(context.Context, cloud.AddressSpec) (cloud.Money, error) {
	return cloud.Money{}, nil
}

// Reserve implements [cloud.AddressDriver]: one call. An address that is delivered as
// another one is refused.
func (d *Driver) Reserve(ctx context.Context, spec cloud.AddressSpec) (cloud.FoundAddress, error) {
	family := string(spec.Family)
	path := addressPath(addressKey(spec.Owner, family))
	body := addressRequest{Owner: ownerOut(spec.Owner), Name: spec.ResourceName(), Family: family, Location: spec.Location}
	c := call{request: request{Method: http.MethodPut, Path: path, Body: body}, want: serves, owner: spec.Owner}
	a, err := d.addressCall(ctx, c)
	switch {
	case err != nil:
		return cloud.FoundAddress{}, err
	case a.Family != family:
		return cloud.FoundAddress{}, malformed(c.request, fmt.Errorf("%s is of family %s", quote(a.ID), a.Family))
	case a.DeliveredAddress != "" && a.DeliveredAddress != a.Address:
		return cloud.FoundAddress{}, cloud.Refuse("", "webhook: nodes see %s as %s: only an address that is delivered as it is can be steered", quote(a.Address), quote(a.DeliveredAddress))
	}
	_, err = c.outcome(a.resource) // one that is not ready is looked at again
	return a.routed(), err
}

// Remark implements [cloud.AddressDriver]: the protocol has it for load balancers only.
func (d *Driver) Remark(_ context.Context, a cloud.FoundAddress, to cloud.Owner) (cloud.FoundAddress, error) {
	return cloud.FoundAddress{}, cloud.Refuse("", "webhook: address %s cannot be given to %s", quote(a.ID), to.Key())
}

// Routable implements [cloud.AddressDriver].
func (d *Driver) Routable(to cloud.Instance) bool { return to.ID != "" }

// Assign implements [cloud.AddressDriver]: one call, also if it is routed there already.
func (d *Driver) Assign(ctx context.Context, f cloud.FoundAddress, to cloud.Instance) (cloud.Pending, error) {
	a, ok := f.Raw.(address)
	if !ok || to.ID == "" {
		return cloud.Pending{}, cloud.Refuse("", "webhook: address %s cannot be assigned to %s", quote(f.ID), quote(to.ID))
	}
	c := call{request: request{Method: http.MethodPost, Path: "/v1/addresses/" + url.PathEscape(f.ID) + "/assign", Body: assignment{to.ID}}, want: serves, owner: f.Owner}
	if f.Owner.UID == "" {
		c.want = done // there is nowhere to ask
	}
	got, err := d.addressCall(ctx, c)
	if err != nil {
		return cloud.Pending{}, err
	}
	if got.State == string(cloud.Ready) && got.AssignedTo != to.ID {
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
