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

// An address is in if two routes stand: inside, one that makes it a local
// address, and on the host one that leads it there. They come in that order
// and go in the other, so that half an address takes no packets.

// insideRoute makes a local to the namespace.
func insideRoute(a netip.Addr, lo int) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(netip.PrefixFrom(a, a.BitLen())), LinkIndex: lo, Scope: unix.RT_SCOPE_HOST,
		Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Protocol: routeProtocol,
	}
}

// hostRoute leads a into the namespace.
func hostRoute(a netip.Addr, veth int) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(netip.PrefixFrom(a, a.BitLen())), Gw: familyOf(a).inside.AsSlice(), LinkIndex: veth,
		Table: unix.RT_TABLE_MAIN, Protocol: routeProtocol,
	}
}

// loopback is the index that lo has in every namespace (net/core/dev.c).
const loopback = 1

// addresses lists the addresses that each half of the routes stands for.
func (k *Kernel) addresses() (inside, host map[netip.Addr]bool, err error) {
	fams, err := k.families()
	if err != nil {
		return nil, nil, err
	}
	inside, host = map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, f := range fams {
		if err := k.inside.single(f, unix.RT_TABLE_LOCAL, inside); err != nil {
			return nil, nil, fmt.Errorf("inside: %w", err)
		}
		if err := k.host.single(f, unix.RT_TABLE_MAIN, host); err != nil {
			return nil, nil, fmt.Errorf("on the host: %w", err)
		}
	}
	return inside, host, nil
}

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
	link, err := k.host.link.LinkByName(hostLink)
	if err != nil {
		return nil, fmt.Errorf("looking for link %s: %w", hostLink, err)
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

// add takes a in. What a crash has left of it is no hindrance.
func (w *way) add(a netip.Addr) error {
	if err := w.forwards(a); err != nil {
		return err
	}
	inside := w.k.inside.link.RouteAdd(insideRoute(a, loopback))
	if inside != nil && !errors.Is(inside, unix.EEXIST) {
		return fmt.Errorf("making it local to the namespace: %w", inside)
	}
	err := w.k.host.link.RouteAdd(hostRoute(a, w.veth))
	if err == nil || !errors.Is(err, unix.EEXIST) {
		return err
	}
	_, host, err := w.k.addresses()
	switch {
	case err != nil:
		return err
	case host[a] && inside == nil:
		return nil // that was the half that was missing
	case host[a]:
		return os.ErrExist
	}
	foreign := fmt.Errorf("the host has a route to %s that is not Herald's", a)
	if inside == nil {
		return errors.Join(foreign, w.k.inside.link.RouteDel(insideRoute(a, loopback)))
	}
	return foreign
}

// del stops taking a in.
func (w *way) del(a netip.Addr) error {
	host := w.k.host.link.RouteDel(hostRoute(a, w.veth))
	if host != nil && !errors.Is(host, unix.ESRCH) {
		return fmt.Errorf("deleting the host's route: %w", host)
	}
	inside := w.k.inside.link.RouteDel(insideRoute(a, loopback))
	if inside != nil && !errors.Is(inside, unix.ESRCH) {
		return fmt.Errorf("deleting the local route: %w", inside)
	}
	if host != nil && inside != nil {
		return os.ErrNotExist
	}
	return nil
}

// sweep takes away addresses that are only half in: a crash in the middle of a
// change leaves them, or somebody who deleted the other half. If they are
// wanted the next changes bring them in whole.
func (k *Kernel) sweep(context.Context) error {
	inside, host, err := k.addresses()
	if err != nil {
		return err
	}
	w, err := k.way()
	if err != nil {
		return err
	}
	var errs []error
	for a := range inside {
		if !host[a] {
			errs = append(errs, w.del(a))
		}
	}
	for a := range host {
		if !inside[a] {
			errs = append(errs, w.del(a))
		}
	}
	return errors.Join(errs...)
}
