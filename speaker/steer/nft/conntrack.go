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
		wanted := astray{}
		for v := range k.stale {
			if familyOf(v.Addr.Addr()) == f {
				wanted[v] = k.have.rows[v].row().dests
			}
		}
		if len(wanted) == 0 {
			continue
		}
		inet := netlink.InetFamily(unix.AF_INET)
		if f == v6 {
			inet = unix.AF_INET6
		}
		// An interrupted listing has done part of it; the rest is for later.
		if _, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, inet, wanted); err != nil {
			errs = append(errs, fmt.Errorf("deleting udp connections to endpoints that are gone: %w", err))
		}
	}
	if len(errs) == 0 {
		clear(k.stale)
	}
	return errors.Join(errs...)
}

// conntrack opens a socket to the connection tracker.
func (k *Kernel) conntrack() (*netlink.Handle, error) {
	if k.options.NetNS == 0 {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		return h, wrap("opening a conntrack socket", err)
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(k.options.NetNS), unix.NETLINK_NETFILTER)
	return h, wrap("opening a conntrack socket", err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// astray are servers with their destinations. It matches a connection to one
// of them that is not with one of its destinations; weight 0 is one.
type astray map[steer.Virtual]map[netip.AddrPort]int

// MatchConntrackFlow implements [netlink.CustomConntrackFilter].
func (a astray) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	v := steer.Virtual{
		Addr:  addrPort(flow.Forward.DstIP, flow.Forward.DstPort),
		Proto: snapshot.Proto(flow.Forward.Protocol),
	}
	dests, ours := a[v]
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
