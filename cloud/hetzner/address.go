package hetzner

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// pause is how long it takes at least until an address is unassigned.
const pause = 500 * time.Millisecond

// Payloads of steps for addresses.
type (
	markAddress struct { // takes the marks away, or adds that it is retained
		from     cloud.Owner
		retained bool
	}
	unassignAddress struct{}
	deleteAddress   struct{}
)

// FindAddresses implements [cloud.AddressDriver].
func (d *Driver) FindAddresses(ctx context.Context, o cloud.Owner) ([]cloud.FoundAddress, error) {
	if o.Cluster == "" || o.UID == "" {
		return nil, &cloud.Error{Class: cloud.Unsafe, Text: "finding addresses: neither the cluster nor the UID may be empty"}
	}
	return d.addressesBy(ctx, selector(o), o.Cluster)
}

// ListAddresses implements [cloud.AddressDriver].
func (d *Driver) ListAddresses(ctx context.Context, cluster string) ([]cloud.FoundAddress, error) {
	if cluster == "" {
		return nil, &cloud.Error{Class: cloud.Unsafe, Text: "listing addresses: the cluster may not be empty"}
	}
	return d.addressesBy(ctx, selector(cloud.Owner{Cluster: cluster})+","+labelUID, cluster)
}

func (d *Driver) addressesBy(ctx context.Context, labels, cluster string) ([]cloud.FoundAddress, error) {
	c, err := d.known(ctx)
	if err != nil {
		return nil, err
	}
	ips, err := pages("floating IPs", func(ip *hcloud.FloatingIP) int64 { return ip.ID },
		func(o hcloud.ListOpts) ([]*hcloud.FloatingIP, *hcloud.Response, error) {
			o.LabelSelector = labels
			return d.api.FloatingIP.List(ctx, hcloud.FloatingIPListOpts{ListOpts: o})
		})
	if err != nil {
		return nil, err
	}
	all := make([]cloud.FoundAddress, 0, len(ips))
	for _, ip := range ips {
		f := foundAddress(ip, c)
		f.Owner.Cluster = cluster
		all = append(all, f)
	}
	return all, nil
}

// foundAddress is what a floating IP is for an engine. One of IPv6 is a /64, and the
// address of it that clients use is its first.
func foundAddress(ip *hcloud.FloatingIP, c *catalogue) cloud.FoundAddress {
	m := marksOf(ip.Labels)
	f := cloud.FoundAddress{Found: cloud.Found{
		Kind: cloud.Address, ID: strconv.FormatInt(ip.ID, 10), Name: ip.Name,
		Owner: m.owner, State: cloud.Ready, Adopted: m.adopted, Retained: m.retained, Protected: ip.Protection.Delete, Created: ip.Created, Raw: ip,
		Cost: cloud.Money{Milli: c.floating[string(ip.Type)+ip.HomeLocation.Name], Currency: c.currency},
	}}
	if a, ok := netip.AddrFromSlice(ip.IP); ok {
		a = a.Unmap()
		f.Prefix = netip.PrefixFrom(a, a.BitLen())
		if a.Is6() {
			f.Prefix = netip.PrefixFrom(a, 64).Masked()
			a = f.Prefix.Addr().Next()
		}
		f.Addrs = []netip.Addr{a}
	}
	if ip.Server != nil {
		f.Instance = cloud.Instance{ID: strconv.FormatInt(ip.Server.ID, 10), Name: ip.Server.Name}
	}
	return f
}

// LookupAddress implements [cloud.AddressDriver].
func (d *Driver) LookupAddress(ctx context.Context, ref string) (cloud.FoundAddress, error) {
	c, err := d.known(ctx)
	if err != nil {
		return cloud.FoundAddress{}, err
	}
	ip, resp, err := d.api.FloatingIP.Get(ctx, ref)
	if addr, bad := netip.ParseAddr(ref); bad == nil {
		ip, resp, err = d.byText(ctx, addr)
	}
	switch {
	case err != nil:
		return cloud.FoundAddress{}, wrap(resp, err, "looking up address %s", ref)
	case ip == nil:
		return cloud.FoundAddress{}, &cloud.Error{Class: cloud.NotFound, Text: "there is no address " + ref}
	}
	f := foundAddress(ip, c)
	f.Owner = d.inFull(f.Owner)
	return f, nil
}

// byText looks for an address among all: the API does not ask for one by what it is.
func (d *Driver) byText(ctx context.Context, addr netip.Addr) (*hcloud.FloatingIP, *hcloud.Response, error) {
	ips, err := pages("floating IPs", func(ip *hcloud.FloatingIP) int64 { return ip.ID },
		func(o hcloud.ListOpts) ([]*hcloud.FloatingIP, *hcloud.Response, error) {
			return d.api.FloatingIP.List(ctx, hcloud.FloatingIPListOpts{ListOpts: o})
		})
	i := slices.IndexFunc(ips, func(ip *hcloud.FloatingIP) bool {
		a, ok := netip.AddrFromSlice(ip.IP)
		published := a.Unmap() // of a network, its first
		if published.Is6() {
			published = netip.PrefixFrom(published, 64).Masked().Addr().Next()
		}
		return ok && published == addr
	})
	if i < 0 {
		return nil, nil, err
	}
	return ips[i], nil, nil
}

// AddressPrice implements [cloud.AddressDriver].
func (d *Driver) AddressPrice(ctx context.Context, spec cloud.AddressSpec) (cloud.Money, error) {
	c, err := d.known(ctx)
	if err != nil {
		return cloud.Money{}, err
	}
	return cloud.Money{Milli: c.floating[string(floatingType(spec.Family))+cmp.Or(spec.Location, d.defaults.Location)], Currency: c.currency}, nil
}

func floatingType(f corev1.IPFamily) hcloud.FloatingIPType {
	if f == corev1.IPv6Protocol {
		return hcloud.FloatingIPTypeIPv6
	}
	return hcloud.FloatingIPTypeIPv4
}

// Reserve implements [cloud.AddressDriver]. A Service has one address of a family; if
// it is there already, that is it.
func (d *Driver) Reserve(ctx context.Context, spec cloud.AddressSpec) (cloud.FoundAddress, error) {
	if spec.Location == "" {
		spec.Location = d.defaults.Location
	}
	if spec.Location == "" {
		return cloud.FoundAddress{}, cloud.Refuse("", "no location is named: set the annotation herald-lb.io/location, or defaults.location")
	}
	c, err := d.known(ctx)
	if err != nil {
		return cloud.FoundAddress{}, err
	}
	opts := addressOpts(spec)
	made, resp, err := d.api.FloatingIP.Create(ctx, opts)
	if err == nil {
		return foundAddress(made.FloatingIP, c), nil
	}
	refused := wrap(resp, err, "reserving address %s", *opts.Name)
	if !hcloud.IsError(err, hcloud.ErrorCodeUniquenessError) {
		return cloud.FoundAddress{}, refused
	}
	ip, resp, err := d.api.FloatingIP.GetByName(ctx, *opts.Name)
	switch {
	case err != nil:
		return cloud.FoundAddress{}, wrap(resp, err, "looking up address %s", *opts.Name)
	case ip == nil:
		refused.Class = cloud.Locked
		return cloud.FoundAddress{}, refused
	case !owned(ip.Labels, spec.Owner):
		refused.Reason = cloud.ReasonConflict
		return cloud.FoundAddress{}, refused
	}
	return foundAddress(ip, c), nil
}

// addressOpts makes the name tell the families apart; one that is asked for twice is
// refused by the API, so that nobody pays for two.
func addressOpts(spec cloud.AddressSpec) hcloud.FloatingIPCreateOpts {
	family := floatingType(spec.Family)
	m := marks{owner: spec.Owner, title: spec.Title}
	labels := m.labels()
	labels[labelFamily] = string(family)
	return hcloud.FloatingIPCreateOpts{
		Type:         family,
		HomeLocation: &hcloud.Location{Name: spec.Location},
		Name:         hcloud.Ptr(spec.ResourceName()),
		Description:  hcloud.Ptr(spec.Owner.Key()),
		Labels:       labels,
	}
}

// Assign implements [cloud.AddressDriver]. An address moves by one call. The API's
// document has an error for one that is assigned; then it is looked at, and taken
// away first if it is not where it should be.
func (d *Driver) Assign(ctx context.Context, a cloud.FoundAddress, to cloud.Instance) (cloud.Pending, error) {
	id, server, err := addressAndServer(a.ID, to)
	if err != nil {
		return cloud.Pending{}, err
	}
	for again := false; ; again = true {
		action, resp, err := d.api.FloatingIP.Assign(ctx, &hcloud.FloatingIP{ID: id}, &hcloud.Server{ID: server})
		if err == nil {
			return pending(action, id), nil
		}
		assigned := hcloud.IsError(err, "floating_ip_assigned")
		refused := wrap(resp, err, "assigning address %d to server %d", id, server)
		if again || !certain(refused) {
			return cloud.Pending{}, refused
		}
		ip, err := d.address(ctx, id)
		switch {
		case err != nil:
			return cloud.Pending{}, err
		case ip.Server != nil && ip.Server.ID == server:
			return cloud.Pending{}, nil
		case ip.Server == nil || !assigned:
			return cloud.Pending{}, refused
		}
		if err := d.unassignAndWait(ctx, id); err != nil {
			return cloud.Pending{}, err
		}
	}
}

// Remark implements [cloud.AddressDriver]: one call, for the name and all marks.
func (d *Driver) Remark(ctx context.Context, a cloud.FoundAddress, to cloud.Owner) (cloud.FoundAddress, error) {
	id, err := strconv.ParseInt(a.ID, 10, 64)
	if err != nil {
		return cloud.FoundAddress{}, cloud.Refuse("", "%q is no ID of an address", a.ID)
	}
	ip, err := d.address(ctx, id)
	if err != nil {
		return cloud.FoundAddress{}, err
	}
	if !owned(ip.Labels, a.Owner) {
		return cloud.FoundAddress{}, &cloud.Error{Class: cloud.Conflict, Reason: cloud.ReasonConflict, Text: fmt.Sprintf("address %s is somebody else's by now", ip.Name)}
	}
	m := marksOf(ip.Labels)
	m.owner, m.retained = to, false
	labels := relabel(ip.Labels, m)
	labels[labelFamily] = string(ip.Type)
	next, resp, err := d.api.FloatingIP.Update(ctx, ip, hcloud.FloatingIPUpdateOpts{Labels: labels, Name: to.ResourceName() + "-" + string(ip.Type)})
	if err != nil {
		return cloud.FoundAddress{}, wrap(resp, err, "labelling address %d", id)
	}
	a.Owner, a.Name, a.Retained, a.Raw = to, next.Name, false, next
	return a, nil
}

// Routable implements [cloud.AddressDriver]: robots are no cloud servers.
func (d *Driver) Routable(to cloud.Instance) bool {
	_, err := strconv.ParseInt(to.ID, 10, 64)
	return err == nil
}

func addressAndServer(ref string, to cloud.Instance) (id, server int64, err error) {
	id, errID := strconv.ParseInt(ref, 10, 64)
	server, errServer := strconv.ParseInt(to.ID, 10, 64)
	if errID != nil || errServer != nil {
		return 0, 0, cloud.Refuse(cloud.ReasonNoInstance, "address %s can be assigned to cloud servers only, and %q is none", ref, to.ID)
	}
	return id, server, nil
}

// address returns a floating IP, or an error of class NotFound.
func (d *Driver) address(ctx context.Context, id int64) (*hcloud.FloatingIP, error) {
	ip, resp, err := d.api.FloatingIP.GetByID(ctx, id)
	switch {
	case err != nil:
		return nil, wrap(resp, err, "looking at address %d", id)
	case ip == nil:
		return nil, &cloud.Error{Class: cloud.NotFound, Text: fmt.Sprintf("there is no address %d", id)}
	}
	return ip, nil
}

func (d *Driver) deleteAddress(ctx context.Context, id int64) error {
	resp, err := d.api.FloatingIP.Delete(ctx, &hcloud.FloatingIP{ID: id})
	if err == nil || hcloud.IsError(err, hcloud.ErrorCodeNotFound) {
		return nil
	}
	return wrap(resp, err, "deleting address %d", id)
}

// unassign takes an address away from its server. That it has none is what was
// wanted.
func (d *Driver) unassign(ctx context.Context, id int64) (cloud.Pending, error) {
	action, resp, err := d.api.FloatingIP.Unassign(ctx, &hcloud.FloatingIP{ID: id})
	if err == nil {
		return pending(action, id), nil
	}
	refused := wrap(resp, err, "unassigning address %d", id)
	if !certain(refused) {
		return cloud.Pending{}, refused
	}
	ip, err := d.address(ctx, id)
	if cloud.Is(err, cloud.NotFound) || err == nil && ip.Server == nil {
		return cloud.Pending{}, nil
	}
	return cloud.Pending{}, refused
}

func (d *Driver) unassignAndWait(ctx context.Context, id int64) error {
	p, err := d.unassign(ctx, id)
	for wait := d.pause; err == nil && p.ID != ""; wait = min(2*wait, 8*d.pause) {
		select {
		case <-ctx.Done():
			return wrap(nil, ctx.Err(), "waiting until address %d is unassigned", id)
		case <-time.After(wait):
		}
		var left []cloud.Pending
		if left, err = d.Poll(ctx, []cloud.Pending{p}); len(left) == 0 {
			break
		}
	}
	return err
}

// markAddress changes our marks, and leaves what others have written.
func (d *Driver) markAddress(ctx context.Context, id int64, m markAddress) error {
	ip, err := d.address(ctx, id)
	if err != nil {
		return err
	}
	if !owned(ip.Labels, m.from) {
		return nil
	}
	// What is nobody's does not keep the name under which the Service would look for it.
	opts := hcloud.FloatingIPUpdateOpts{Labels: relabel(ip.Labels, marks{}), Name: fmt.Sprintf("%s-%d", ip.Name, ip.ID)}
	if m.retained {
		opts = hcloud.FloatingIPUpdateOpts{Labels: maps.Clone(ip.Labels)}
		opts.Labels[labelRetained] = "true"
	}
	if _, resp, err := d.api.FloatingIP.Update(ctx, ip, opts); err != nil {
		return wrap(resp, err, "labelling address %d", id)
	}
	return nil
}
