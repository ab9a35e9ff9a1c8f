package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// An address is in if these routes stand: in each tier one that makes it a
// local address, and on the host one that leads it to the single tier. They
// come in that order and go in the other, so that a part of an address takes no
// packets.

// insideRoute makes a local to a namespace.
func insideRoute(a netip.Addr) hostAddr { return hostAddr{addr: a, link: loopback} }

// hostRoute leads a into the single tier.
func hostRoute(a netip.Addr, veth int) hostAddr {
	return hostAddr{addr: a, gateway: single.inside(familyOf(a)), link: veth}
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

// An entry is one address that comes or goes, and what becomes of it.
type entry struct {
	addr netip.Addr
	// touched is whether something of it was made, of one that comes; or was
	// there, of one that goes.
	touched bool
	err     error
}

// add takes addresses in. What a crash has left of one is no hindrance; touched
// says of which something had to be made already.
func (w *way) add(ctx context.Context, entries []entry) {
	for i := range entries {
		if e := &entries[i]; e.err == nil {
			e.err = w.forwards(e.addr)
		}
	}
	for _, t := range tiers {
		w.each(ctx, w.k.spaces[t.of].place, entries, insideRoute, func(e *entry, err error) {
			if err != nil && !errors.Is(err, unix.EEXIST) {
				e.err = fmt.Errorf("making it local to %s: %w", t.file, err)
			}
			e.touched = e.touched || err == nil
		})
	}
	var there []int
	for i := range entries {
		if entries[i].err == nil {
			there = append(there, i)
		}
	}
	w.each(ctx, w.k.host, entries, func(a netip.Addr) hostAddr { return hostRoute(a, w.veth) }, func(e *entry, err error) { e.err = err })
	for _, i := range there {
		if errors.Is(entries[i].err, unix.EEXIST) {
			w.explain(ctx, entries, there)
			return
		}
	}
}

// explain says of those of entries that the host had a route for whose it is.
func (w *way) explain(ctx context.Context, entries []entry, which []int) {
	have, err := w.k.addresses()
	var undo []entry
	for _, i := range which {
		e := &entries[i]
		switch {
		case !errors.Is(e.err, unix.EEXIST):
		case err != nil:
			e.err = err
		case have.host[e.addr] && e.touched:
			e.err = nil // what was missing was something else
		case have.host[e.addr]:
			e.err = os.ErrExist
		default:
			e.err = fmt.Errorf("the host has a route to %s that is not Herald's", e.addr)
			if e.touched {
				undo = append(undo, entry{addr: e.addr})
			}
		}
	}
	w.delInside(ctx, undo)
}

// del stops taking addresses in.
func (w *way) del(ctx context.Context, entries []entry) {
	w.each(ctx, w.k.host, entries, func(a netip.Addr) hostAddr {
		r := hostRoute(a, w.veth)
		r.del = true
		return r
	}, func(e *entry, err error) { e.gone("deleting the host's route", err) })
	w.delInside(ctx, entries)
	for i := range entries {
		if e := &entries[i]; e.err == nil && !e.touched {
			e.err = os.ErrNotExist
		}
	}
}

// delInside deletes the routes inside.
func (w *way) delInside(ctx context.Context, entries []entry) {
	for _, t := range tiers {
		w.each(ctx, w.k.spaces[t.of].place, entries, func(a netip.Addr) hostAddr {
			r := insideRoute(a)
			r.del = true
			return r
		}, func(e *entry, err error) { e.gone("deleting the local route in "+t.file, err) })
	}
}

// gone notes what has become of a route of e that was to be deleted.
func (e *entry) gone(doing string, err error) {
	if err != nil && !errors.Is(err, unix.ESRCH) {
		e.err = fmt.Errorf("%s: %w", doing, err)
	}
	e.touched = e.touched || err == nil
}

// each makes one route in p for every entry that has not failed, and notes what
// has become of it.
func (w *way) each(ctx context.Context, p *place, entries []entry, route func(netip.Addr) hostAddr, note func(*entry, error)) {
	var routes []hostAddr
	var of []int
	for i := range entries {
		if entries[i].err == nil {
			routes, of = append(routes, route(entries[i].addr)), append(of, i)
		}
	}
	if len(routes) == 0 {
		return
	}
	for j, err := range p.route(ctx, routes) {
		note(&entries[of[j]], err)
	}
}

// sweep takes away addresses that are only partly in: a crash in the middle of
// a change leaves them, or somebody who deleted the rest. If they are wanted
// the next changes bring them in whole.
func (k *Kernel) sweep(ctx context.Context) error {
	have, err := k.addresses()
	if err != nil {
		return err
	}
	w, err := k.way()
	if err != nil {
		return err
	}
	var parts []entry
	for a := range have.inside {
		if !have.whole(a) {
			parts = append(parts, entry{addr: a})
		}
	}
	for a := range have.host {
		if have.inside[a] == 0 {
			parts = append(parts, entry{addr: a})
		}
	}
	w.del(ctx, parts)
	var errs []error
	for _, e := range parts {
		errs = append(errs, e.err)
	}
	return errors.Join(errs...)
}
