package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/steer"
)

// The links in the back that take packets out of their tunnels, whoever has
// sent them: the host lets only those of nodes through.
const (
	tunnelLink4 = "herald-ipip"
	tunnelLink6 = "herald-ip6"
)

// What a tunnel adds to a packet: an IPv4 header (RFC 2003), an IPv6 header
// (RFC 2473).
const (
	overhead4 = 20
	overhead6 = 40
)

// tunnels makes sure that the back takes tunnels of every family that this node
// has an address for, and notes which it does. One that it cannot take is no
// failure: it is said, and packets are sent with SNAT instead.
func (k *Kernel) tunnels(context.Context) error {
	fams, err := k.families()
	if err != nil {
		return err
	}
	self, lacks := steer.Self{Tiers: true}, []string{}
	for _, f := range fams {
		i := slices.IndexFunc(k.opts.Tunnels, func(a netip.Addr) bool { return familyOf(a) == f })
		if i < 0 {
			continue
		}
		if err := k.spaces[back.of].take(f); err != nil {
			lacks = append(lacks, fmt.Sprintf("tunnels for %s: %v", f, err))
			continue
		}
		self.Tunnels = append(self.Tunnels, k.opts.Tunnels[i])
	}
	if len(k.opts.Tunnels) == 0 {
		lacks = append(lacks, "tunnels: the speaker was told to do without (--tunnels), or given no address of this node (--node-ips)")
	}
	k.self.Store(&self)
	k.lacks.Store(&lacks)
	return nil
}

// String returns "IPv4" or "IPv6".
func (f family) String() string {
	if f.six() {
		return "IPv6"
	}
	return "IPv4"
}

// take makes sure that the link which takes tunnels of f stands and is up.
func (s *space) take(f family) error {
	want := s.tunnelLink(f)
	have, err := s.find(want.Attrs().Name)
	if err != nil {
		return err
	}
	if have != nil && !sameTunnel(have, want) {
		if err := s.place.link.LinkDel(have); err != nil {
			return fmt.Errorf("deleting another link %s: %w", have.Attrs().Name, err)
		}
		have = nil
	}
	if have == nil {
		switch err := s.place.link.LinkAdd(want); {
		case errors.Is(err, unix.EOPNOTSUPP):
			return fmt.Errorf("this kernel has no %s links; load the module %s on the node", want.Type(), module(f))
		case err != nil:
			return fmt.Errorf("making link %s: %w", want.Attrs().Name, err)
		}
	}
	return s.raise(want.Attrs().Name)
}

func module(f family) string {
	if f.six() {
		return "ip6_tunnel"
	}
	return "ipip"
}

// raise sets a link up that keeps its own MTU.
func (p *place) raise(name string) error {
	link, err := p.link.LinkByName(name)
	if err != nil {
		return fmt.Errorf("looking for link %s: %w", name, err)
	}
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := p.link.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", name, err)
	}
	p.mend("link %s", name)
	return nil
}

// tunnelLink is the link that takes tunnels of f: to the end of the pair, from
// anywhere.
func (s *space) tunnelLink(f family) netlink.Link {
	if f.six() {
		return &netlink.Ip6tnl{
			LinkAttrs: netlink.LinkAttrs{Name: tunnelLink6},
			Local:     s.inside(f).AsSlice(), Remote: net.IPv6zero, Proto: unix.IPPROTO_IPV6, Ttl: 64,
		}
	}
	return &netlink.Iptun{
		LinkAttrs: netlink.LinkAttrs{Name: tunnelLink4},
		Local:     s.inside(f).AsSlice(), Remote: net.IPv4zero, Proto: unix.IPPROTO_IPIP, Ttl: 64, PMtuDisc: 1,
	}
}

func sameTunnel(have, want netlink.Link) bool {
	switch w := want.(type) {
	case *netlink.Iptun:
		h, ok := have.(*netlink.Iptun)
		return ok && h.Local.Equal(w.Local) && (h.Remote == nil || h.Remote.IsUnspecified())
	case *netlink.Ip6tnl:
		h, ok := have.(*netlink.Ip6tnl)
		return ok && h.Local.Equal(w.Local) && (h.Remote == nil || h.Remote.IsUnspecified())
	}
	return false
}

// mtu is the greatest packet that may be sent out of a tier in one piece, where
// that is not for the links behind to say: the front has to know what a tunnel
// leaves room for, to tell clients itself. 0 is no bound.
func (k *Kernel) mtu(t *tier, f family) int {
	if t != front {
		return 0
	}
	return k.uplink(f)
}

// uplink returns the MTU of the link that has this node's address for tunnels;
// 0 if there is none.
func (k *Kernel) uplink(f family) int {
	i := slices.IndexFunc(k.opts.Tunnels, func(a netip.Addr) bool { return familyOf(a) == f })
	if i < 0 {
		return 0
	}
	addrs, err := k.host.link.AddrList(nil, int(f))
	if err != nil {
		return 0
	}
	for _, a := range addrs {
		if !a.IP.Equal(k.opts.Tunnels[i].AsSlice()) {
			continue
		}
		if link, err := k.host.link.LinkByIndex(a.LinkIndex); err == nil {
			return link.Attrs().MTU
		}
	}
	return 0
}

// segment is the greatest TCP segment that fits into a tunnel of f over a link
// of mtu; 0 if that is not known.
func segment(f family, mtu int) int {
	headers := 20 + 20 + overhead4 // TCP, IPv4
	if f.six() {
		headers = 20 + 40 + overhead6
	}
	return max(0, mtu-headers)
}
