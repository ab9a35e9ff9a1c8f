package nft

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// settle deletes the connections of udp servers that are on an endpoint which
// is no longer theirs, or on none.
//
// A udp client that keeps its port would stay on an endpoint that is gone for
// as long as it sends: udp has nothing like the reset that makes a tcp client
// connect anew. tcp connections are left alone, so that they can drain.
func (k *Kernel) settle() error {
	if len(k.stale) == 0 {
		return nil
	}
	h, err := k.conntrack()
	if err != nil {
		return err
	}
	defer h.Close()
	var errs []error
	for _, f := range families {
		errs = append(errs, wrap("deleting udp connections to endpoints that are gone", k.settleFamily(h, f)))
	}
	err = errors.Join(errs...)
	if err == nil {
		clear(k.stale)
	}
	return err
}

// settleFamily does for f. An interrupted listing has done part of it; the
// rest is for later.
func (k *Kernel) settleFamily(h *netlink.Handle, f family) error {
	wanted := astray{servers: map[steer.Virtual]map[netip.AddrPort]int{}}
	ports := false
	for v := range k.stale {
		if familyOf(v.Addr.Addr()) == f {
			wanted.servers[v] = k.have.rows[v].row().dests
			ports = ports || v.Addr.Addr().IsUnspecified()
		}
	}
	if len(wanted.servers) == 0 {
		return nil
	}
	inet := unix.AF_INET
	if f == v6 {
		inet = unix.AF_INET6
	}
	if ports {
		addrs, err := h.AddrList(nil, inet)
		if err != nil {
			return fmt.Errorf("listing the addresses of the node: %w", err)
		}
		wanted.node = map[netip.Addr]bool{}
		for _, a := range addrs {
			wanted.node[addrPort(a.IP, 0).Addr()] = true
		}
	}
	_, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(inet), wanted)
	return err
}

// conntrack opens sockets to the connection tracker, and for addresses.
func (k *Kernel) conntrack() (*netlink.Handle, error) {
	if k.options.NetNS == 0 {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
		return h, wrap("opening a conntrack socket", err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(k.options.NetNS), unix.NETLINK_NETFILTER, unix.NETLINK_ROUTE)
	return h, wrap("opening a conntrack socket", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// astray matches a connection to one of servers that is not with one of its
// destinations; weight 0 is one.
type astray struct {
	servers map[steer.Virtual]map[netip.AddrPort]int
	node    map[netip.Addr]bool // addresses of the node, at which node ports are
}

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (a astray) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	v := steer.Virtual{
		Addr:  addrPort(flow.Forward.DstIP, flow.Forward.DstPort),
		Proto: snapshot.Proto(flow.Forward.Protocol),
	}
	if a.node[v.Addr.Addr()] {
		v.Addr = netip.AddrPortFrom(familyOf(v.Addr.Addr()).unspecified(), v.Addr.Port())
	}
	dests, ours := a.servers[v]
	if !ours {
		return false
	}
	// The answer comes from the endpoint that the connection is with.
	_, kept := dests[addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)]
	return !kept
}

func addrPort(ip []byte, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}
