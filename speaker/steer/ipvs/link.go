package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkMTU is the greatest that veth has, so that the pair is never what limits
// the size of a packet: the links before and behind it do.
const linkMTU = 65535

// link makes sure that the veth pairs stand, are up, have their addresses and
// forward both ways.
func (k *Kernel) link(ctx context.Context) error {
	six, err := k.host.hasIPv6()
	if err != nil {
		return fmt.Errorf("looking for IPv6: %w", err)
	}
	for _, s := range k.spaces {
		if err := s.up("lo"); err != nil { // IPVS takes no destinations without
			return err
		}
		if err := k.joined(s); err != nil {
			return err
		}
		if err := k.host.equip(s.outer(six)); err != nil {
			return err
		}
		if err := s.equip(s.inner(six)); err != nil {
			return err
		}
	}
	for _, s := range k.spaces { // they come up together
		if err := k.host.carrier(ctx, s.veth); err != nil {
			return err
		}
	}
	return nil
}

// outer is the host's end of t's pair.
func (t *tier) outer(six bool) end {
	if six {
		return end{t.veth, slices.Concat(hostSysctls(t.veth), hostSysctls6(t.veth)), []netip.Prefix{t.host4, t.host6}}
	}
	return end{t.veth, hostSysctls(t.veth), []netip.Prefix{t.host4}}
}

// inner is the end inside.
func (t *tier) inner(six bool) end {
	if six {
		return end{insideLink, slices.Concat(t.settings, t.settings6), []netip.Prefix{t.inside4, t.inside6}}
	}
	return end{insideLink, t.settings, []netip.Prefix{t.inside4}}
}

// An end is one end of the pair, with what is set in its namespace.
type end struct {
	link     string
	settings []sysctl
	addrs    []netip.Prefix
}

func (p *place) equip(e end) error {
	if err := p.set(e.settings); err != nil {
		return err
	}
	if err := p.up(e.link); err != nil {
		return err
	}
	return p.address(e.link, e.addrs)
}

// joined makes the veth pair of s unless both ends are there and belong
// together.
func (k *Kernel) joined(s *space) error {
	outer, err := k.host.find(s.veth)
	if err != nil {
		return err
	}
	inner, err := s.find(insideLink)
	if err != nil {
		return err
	}
	if outer != nil && inner != nil && peers(outer, inner) {
		return nil
	}
	if outer != nil && outer.Type() != "veth" {
		return fmt.Errorf("link %s is a %s that is not Herald's", s.veth, outer.Type())
	}
	for _, end := range []struct {
		at   *place
		link netlink.Link
	}{{k.host, outer}, {s.place, inner}} {
		if end.link == nil {
			continue
		}
		if err := end.at.link.LinkDel(end.link); err != nil {
			return fmt.Errorf("deleting half a pair, %s: %w", end.link.Attrs().Name, err)
		}
	}
	err = k.host.link.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: s.veth, MTU: linkMTU},
		PeerName:      insideLink,
		PeerMTU:       linkMTU,
		PeerNamespace: netlink.NsFd(int(s.ns)),
	})
	if err != nil {
		return fmt.Errorf("making the pair %s, %s: %w", s.veth, insideLink, err)
	}
	k.host.mend("link %s", s.veth)
	return nil
}

// peers is whether two links in two namespaces are the ends of one pair.
func peers(a, b netlink.Link) bool {
	return a.Type() == "veth" && b.Type() == "veth" &&
		a.Attrs().ParentIndex == b.Attrs().Index && b.Attrs().ParentIndex == a.Attrs().Index
}

// find returns a link by name, or nil if there is none.
func (p *place) find(name string) (netlink.Link, error) {
	link, err := p.link.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for link %s: %w", name, err)
	}
	return link, nil
}

// up sets a link up, with the MTU of the pair if it is one of it.
func (p *place) up(name string) error {
	link, err := p.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("looking for link %s: %w", name, err)
	}
	if name != "lo" && link.Attrs().MTU != linkMTU {
		if err := p.link.LinkSetMTU(link, linkMTU); err != nil {
			return fmt.Errorf("setting the MTU of %s: %w", name, err)
		}
		p.mend("MTU of %s", name)
	}
	return p.raise(name)
}

// address gives a link the addresses that it lacks.
func (p *place) address(name string, want []netip.Prefix) error {
	link, err := p.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("looking for link %s: %w", name, err)
	}
	have, err := p.link.AddrList(link, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("listing the addresses of %s: %w", name, err)
	}
	there := map[string]bool{}
	for _, a := range have {
		there[a.IPNet.String()] = true
	}
	for _, w := range want {
		if there[w.String()] {
			continue
		}
		addr := &netlink.Addr{IPNet: ipNet(w)}
		if w.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD // nobody else is on this link
		}
		if err := p.link.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("adding %s to %s: %w", w, name, err)
		}
		p.mend("address %s of %s", w, name)
	}
	return nil
}

// carrier waits until the kernel has noticed that the other end of a new pair
// is up: it drops packets until then (net/core/link_watch.c).
func (p *place) carrier(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		link, err := p.link.LinkByName(name)
		if err != nil {
			return fmt.Errorf("looking for link %s: %w", name, err)
		}
		if link.Attrs().OperState == netlink.OperUp {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the carrier of %s: %w", name, ctx.Err())
		}
	}
}

// unlink deletes the pairs. A link of their names that is no veth is not ours.
func (k *Kernel) unlink(context.Context) error {
	var errs []error
	for _, t := range tiers {
		link, err := k.host.find(t.veth)
		if err != nil || link == nil || link.Type() != "veth" {
			errs = append(errs, err)
			continue
		}
		if err := k.host.link.LinkDel(link); err != nil {
			errs = append(errs, fmt.Errorf("deleting %s: %w", t.veth, err))
		}
	}
	return errors.Join(errs...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
