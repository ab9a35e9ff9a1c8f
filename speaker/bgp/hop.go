package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// nextHops are where the router is to send what is for our routes: an address
// of this node for each family; invalid for none.
type nextHops map[family]netip.Addr

// chooseHops returns them for a session between local and a router that has
// said o. Addrs are those of the link that local is of.
//
// The address of the session itself is best: the router reaches it. The other
// family's has to be on the same link. IPv4 routes by an IPv6 next hop need a
// router that knows RFC 8950; one that does and is spoken to by IPv6 may have
// no IPv4 there at all.
func chooseHops(local netip.Addr, addrs []netip.Addr, o open) nextHops {
	local = local.Unmap()
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return a.IsLoopback() != local.IsLoopback() })
	chosen := nextHops{familyOf(local): local.WithZone("")}
	if local.Is6() {
		chosen[ipv4] = first(addrs, netip.Addr.Is4)
		if o.extended {
			chosen[ipv4] = local.WithZone("")
		}
		return chosen
	}
	chosen[ipv6] = first(addrs, func(a netip.Addr) bool { return a.Is6() && !a.IsLinkLocalUnicast() })
	if !chosen[ipv6].IsValid() {
		chosen[ipv6] = first(addrs, netip.Addr.IsLinkLocalUnicast)
	}
	return chosen
}

func first(addrs []netip.Addr, is func(netip.Addr) bool) netip.Addr {
	for _, a := range addrs {
		if is(a) {
			return a.WithZone("")
		}
	}
	return netip.Addr{}
}

// missing says which families the router cannot be told, and why.
func missing(families []family, chosen nextHops, o open) error {
	var errs []error
	for _, f := range families {
		switch {
		case !o.families[f]:
			errs = append(errs, fmt.Errorf("the router does not take %s routes in this session: activate the family there, or take it out of spec.families", f))
		case !chosen[f].IsValid():
			errs = append(errs, fmt.Errorf("%s routes are not told: this node has no %[1]s address on the link of the session, and the router takes no other next hop (RFC 8950)", f))
		}
	}
	return errors.Join(errs...)
}

// onLinkOf returns the addresses of the link that has addr.
func onLinkOf(addr netip.Addr) ([]netip.Addr, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	for _, link := range links {
		if addr.Zone() != "" && addr.Zone() != link.Name {
			continue
		}
		all, err := addrsOf(link)
		if err != nil {
			return nil, err
		}
		for _, a := range all {
			if a == addr.Unmap().WithZone("") {
				return all, nil
			}
		}
	}
	return nil, nil
}

func addrsOf(link net.Interface) ([]netip.Addr, error) {
	nets, err := link.Addrs()
	if err != nil {
		return nil, fmt.Errorf("listing addresses of %s: %w", link.Name, err)
	}
	addrs := make([]netip.Addr, 0, len(nets))
	for _, n := range nets {
		if p, err := netip.ParsePrefix(n.String()); err == nil {
			addrs = append(addrs, p.Addr().Unmap())
		}
	}
	return addrs, nil
}
