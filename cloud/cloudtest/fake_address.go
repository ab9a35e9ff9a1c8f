package cloudtest

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

var _ cloud.AddressDriver = (*Fake)(nil)

// FindAddresses implements cloud.AddressDriver.
func (f *Fake) FindAddresses(_ context.Context, o cloud.Owner) ([]cloud.FoundAddress, error) {
	return f.someAddresses("FindAddresses", func(a *cloud.FoundAddress) bool { return a.Owner.Same(o) })
}

// ListAddresses implements cloud.AddressDriver.
func (f *Fake) ListAddresses(_ context.Context, cluster string) ([]cloud.FoundAddress, error) {
	return f.someAddresses("ListAddresses", func(a *cloud.FoundAddress) bool { return a.Owner.Cluster == cluster })
}

// LookupAddress implements cloud.AddressDriver.
func (f *Fake) LookupAddress(_ context.Context, ref string) (cloud.FoundAddress, error) {
	all, err := f.someAddresses("LookupAddress", func(a *cloud.FoundAddress) bool {
		return a.ID == ref || a.Name == ref || a.Addrs[0].String() == ref
	})
	if err == nil && len(all) == 0 {
		err = &cloud.Error{Class: cloud.NotFound, Text: "there is no address " + ref}
	}
	if err != nil {
		return cloud.FoundAddress{}, err
	}
	return all[0], nil
}

func (f *Fake) someAddresses(call string, is func(*cloud.FoundAddress) bool) ([]cloud.FoundAddress, error) {
	if hidden, err := f.read(call); hidden || err != nil {
		return nil, err
	}
	return f.addresses(is), nil
}

func (f *Fake) addresses(is func(*cloud.FoundAddress) bool) (all []cloud.FoundAddress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.addrs {
		if is(a) {
			all = append(all, *a)
		}
	}
	slices.SortFunc(all, func(a, b cloud.FoundAddress) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Addresses are those that there are, whosever they are.
func (f *Fake) Addresses() []cloud.FoundAddress {
	return f.addresses(func(*cloud.FoundAddress) bool { return true })
}

// AddressPrice implements cloud.AddressDriver.
func (f *Fake) AddressPrice(context.Context, cloud.AddressSpec) (cloud.Money, error) {
	return addressPrice, nil
}

var addressPrice = cloud.Money{Milli: 3000, Currency: "EUR"}

// Reserve implements cloud.AddressDriver.
func (f *Fake) Reserve(_ context.Context, spec cloud.AddressSpec) (a cloud.FoundAddress, err error) {
	err = f.write("Reserve", func() error {
		a = f.reserved(spec.ResourceName(), spec.Owner, spec.Family)
		if !a.Owner.Same(spec.Owner) {
			return &cloud.Error{Class: cloud.Conflict, Text: "name " + a.Name + " is taken"}
		}
		return nil
	})
	return a, err
}

// reserved returns the address of a name, which is made if there is none.
func (f *Fake) reserved(name string, o cloud.Owner, family corev1.IPFamily) cloud.FoundAddress {
	for _, a := range f.addrs {
		if a.Name == name {
			return *a
		}
	}
	f.next++
	addr := netip.AddrFrom4([4]byte{203, 0, 113, byte(f.next)})
	if family == corev1.IPv6Protocol {
		addr = netip.MustParseAddr(fmt.Sprintf("2001:db8:2::%x", f.next))
	}
	a := &cloud.FoundAddress{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Found: cloud.Found{
		Kind: cloud.Address, ID: fmt.Sprint(f.next), Name: name, Owner: o, State: cloud.Ready, Created: time.Now(),
		Addrs: []netip.Addr{addr}, Cost: addressPrice,
	}}
	f.addrs[a.ID] = a
	return *a
}

// AddAddress reserves an address as somebody else would.
func (f *Fake) AddAddress(name string) cloud.FoundAddress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reserved(name, cloud.Owner{}, corev1.IPv4Protocol)
}

// Remark implements cloud.AddressDriver.
func (f *Fake) Remark(_ context.Context, a cloud.FoundAddress, to cloud.Owner) (got cloud.FoundAddress, err error) {
	err = f.write("Remark", func() error {
		have, ok := f.addrs[a.ID]
		if !ok || !have.Owner.Same(a.Owner) {
			return &cloud.Error{Class: cloud.Conflict, Text: "address " + a.ID + " is not as it was"}
		}
		family := corev1.IPv4Protocol
		if have.Addrs[0].Is6() {
			family = corev1.IPv6Protocol
		}
		have.Owner, have.Name, have.Retained = to, cloud.AddressSpec{Owner: to, Family: family}.ResourceName(), false
		got = *have
		return nil
	})
	return got, err
}

// Routable implements cloud.AddressDriver.
func (f *Fake) Routable(cloud.Instance) bool { return true }

// Assign implements cloud.AddressDriver.
func (f *Fake) Assign(_ context.Context, a cloud.FoundAddress, to cloud.Instance) (p cloud.Pending, err error) {
	err = f.write("Assign", func() error {
		have, ok := f.addrs[a.ID]
		switch {
		case !ok:
			return &cloud.Error{Class: cloud.NotFound, Text: "there is no address " + a.ID}
		case time.Now().Before(f.pending[a.ID]):
			return &cloud.Error{Class: cloud.Locked, Text: "address " + a.ID + " is busy"}
		}
		have.Instance = to
		p = f.busy(a.ID)
		return nil
	})
	return p, err
}

// Reroute has an address be routed to a machine, as people do in a cloud's console.
func (f *Fake) Reroute(id string, to cloud.Instance) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.addrs[id].Instance = to
}

// write is one call that changes something.
func (f *Fake) write(call string, do func() error) error {
	f.mu.Lock()
	f.writes++
	f.mu.Unlock()
	if err := f.fault(call, false); err != nil {
		return err
	}
	f.mu.Lock()
	err := do()
	f.mu.Unlock()
	return cmp.Or(err, f.fault(call, true))
}

// changeAddress does a step of one.
func (f *Fake) changeAddress(a *cloud.FoundAddress, s cloud.Step) (cloud.Pending, error) {
	switch {
	case time.Now().Before(f.pending[a.ID]):
		return cloud.Pending{}, &cloud.Error{Class: cloud.Locked, Text: "address " + a.ID + " is busy"}
	case s.Kind == "unassign":
		a.Instance = cloud.Instance{}
		return f.busy(a.ID), nil
	case s.Kind == "delete" && a.Instance.ID != "":
		return cloud.Pending{}, &cloud.Error{Class: cloud.Terminal, Text: "address " + a.ID + " must be unassigned"}
	case s.Kind == "delete":
		delete(f.addrs, a.ID)
	case s.Kind == "retain":
		a.Retained = true
	default:
		a.Owner, a.Name = cloud.Owner{}, a.Name+"-"+a.ID
	}
	return cloud.Pending{}, nil
}
