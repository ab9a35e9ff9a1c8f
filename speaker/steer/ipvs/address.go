package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An address is in if these routes stand: in each tier one that makes it a
// local address, and on the host one that leads it to the single tier. They
// come in that order and go in the other, so that a part of an address takes no
// packets.

// insideRoute makes a local to a namespace.
func insideRoute(a netip.Addr, lo int) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(netip.PrefixFrom(a, a.BitLen())), LinkIndex: lo, Scope: unix.RT_SCOPE_HOST,
		Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Protocol: routeProtocol,
	}
}

// hostRoute leads a into the namespace.
func hostRoute(a netip.Addr, veth int) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(netip.PrefixFrom(a, a.BitLen())), Gw: single.inside(familyOf(a)).AsSlice(), LinkIndex: veth,
		Table: unix.RT_TABLE_MAIN, Protocol: routeProtocol,
	}
}

// loopback is the index that lo has in every namespace (net/core/dev.c).
const loopback = 1

// addresses lists the addresses that the routes stand for: those inside all
// tiers, those on the host, and all that any route is there for.
func (k *Kernel) addresses() (in addressRoutes, err error) {
	fams, err := k.families()
	if err != nil {
		return in, err
	}
	in = addressRoutes{inside: map[netip.Addr]int{}, host: map[netip.Addr]bool{}}
	for _, f := range fams {
		for _, t := range tiers {
			found := map[netip.Addr]bool{}
			if err := k.spaces[t.of].single(f, unix.RT_TABLE_LOCAL, found); err != nil {
				return in, fmt.Errorf("in %s: %w", t.file, err)
			}
			for a := range found {
				in.inside[a]++
			}
		}
		if err := k.host.single(f, unix.RT_TABLE_MAIN, in.host); err != nil {
			return in, fmt.Errorf("on the host: %w", err)
		}
	}
	return in, nil
}

// addressRoutes are the routes that are there for each address.
type addressRoutes struct {
	inside map[netip.Addr]int // in how many tiers
	host   map[netip.Addr]bool
}

// whole is whether a is in.
func (r addressRoutes) whole(a netip.Addr) bool { return r.host[a] && r.inside[a] == len(tiers) }

// single adds to found every single address that a route of ours leads to.
func (p *place) single(f family, table int, found map[netip.Addr]bool) error {
	routes, err := p.ours(f, table)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if dst := prefixOf(r); dst.IsSingleIP() {
			found[dst.Addr()] = true
		}
	}
	return nil
}

// A way is what taking addresses in needs to know of the host, found out once
// for many.
type way struct {
	k       *Kernel
	veth    int            // index of our link
	blocked map[bool]error // by whether it is IPv6: why the host does not forward it
}

func (k *Kernel) way() (*way, error) {
	link, err := k.host.link.LinkByName(single.veth)
	if err != nil {
		return nil, fmt.Errorf("looking for link %s: %w", single.veth, err)
	}
	return &way{k, link.Attrs().Index, map[bool]error{}}, nil
}

// forwards says why the host does not forward the family of a, or nil.
func (w *way) forwards(a netip.Addr) error {
	err, asked := w.blocked[a.Is6()]
	if !asked {
		err = w.k.host.forwards(a.Is6())
		w.blocked[a.Is6()] = err
	}
	return err
}

// add takes a in. What a crash has left of it is no hindrance. Made is whether
// something of it had to be made already.
func (w *way) add(a netip.Addr, made bool) error {
	if err := w.forwards(a); err != nil {
		return err
	}
	for _, t := range tiers {
		err := w.k.spaces[t.of].place.link.RouteAdd(insideRoute(a, loopback))
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("making it local to %s: %w", t.file, err)
		}
		made = made || err == nil
	}
	err := w.k.host.link.RouteAdd(hostRoute(a, w.veth))
	if err == nil || !errors.Is(err, unix.EEXIST) {
		return err
	}
	have, err := w.k.addresses()
	switch {
	case err != nil:
		return err
	case have.host[a] && made:
		return nil // that was what was missing
	case have.host[a]:
		return os.ErrExist
	}
	foreign := fmt.Errorf("the host has a route to %s that is not Herald's", a)
	if made {
		return errors.Join(foreign, w.delInside(a, new(bool)))
	}
	return foreign
}

// del stops taking a in.
func (w *way) del(a netip.Addr) error {
	host := w.k.host.link.RouteDel(hostRoute(a, w.veth))
	if host != nil && !errors.Is(host, unix.ESRCH) {
		return fmt.Errorf("deleting the host's route: %w", host)
	}
	had := host == nil
	if err := w.delInside(a, &had); err != nil {
		return err
	}
	if !had {
		return os.ErrNotExist
	}
	return nil
}

// delInside deletes the routes inside, and notes if there was one.
func (w *way) delInside(a netip.Addr, had *bool) error {
	for _, t := range tiers {
		err := w.k.spaces[t.of].place.link.RouteDel(insideRoute(a, loopback))
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("deleting the local route in %s: %w", t.file, err)
		}
		*had = *had || err == nil
	}
	return nil
}

// sweep takes away addresses that are only partly in: a crash in the middle of
// a change leaves them, or somebody who deleted the rest. If they are wanted
// the next changes bring them in whole.
func (k *Kernel) sweep(context.Context) error {
	have, err := k.addresses()
	if err != nil {
		return err
	}
	w, err := k.way()
	if err != nil {
		return err
	}
	var errs []error
	for a := range have.inside {
		if !have.whole(a) {
			errs = append(errs, w.del(a))
		}
	}
	for a := range have.host {
		if have.inside[a] == 0 {
			errs = append(errs, w.del(a))
		}
	}
	return errors.Join(errs...)
}
