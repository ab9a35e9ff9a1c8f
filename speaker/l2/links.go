package l2

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/snapshot"
)

// Links returns the links of the namespace of h on which addresses can be
// announced, by name, with their global unicast prefixes. Left out are: links that are down,
// have no carrier or speak no ARP; ports of a bridge or a bond, whose traffic
// is that of the device above; links without an address, as the host's ends
// of pods usually are; and Herald's own.
func Links(h *netlink.Handle) ([]snapshot.Link, error) {
	found, err := linkList(h)
	if err != nil {
		return nil, err
	}
	addrs, err := addrList(h)
	if err != nil {
		return nil, err
	}
	kinds := make(map[int]string, len(found)) // by index
	for _, f := range found {
		kinds[f.Attrs().Index] = f.Type()
	}
	var links []snapshot.Link
	for _, f := range found {
		attrs := f.Attrs()
		prefixes := globals(addrs, attrs.Index)
		if fault(attrs) != "" || isPort(kinds[attrs.MasterIndex]) || isHeralds(attrs.Name) || len(prefixes) == 0 {
			continue
		}
		links = append(links, snapshot.Link{Name: attrs.Name, MAC: [6]byte(attrs.HardwareAddr), Prefixes: prefixes})
	}
	slices.SortFunc(links, func(a, b snapshot.Link) int { return cmp.Compare(a.Name, b.Name) })
	return links, nil
}

// fault returns why neither ARP nor NDP can be spoken on a link, or "" if they
// can. Drivers that do not keep an operational state leave it unknown (RFC 2863).
func fault(attrs *netlink.LinkAttrs) string {
	switch {
	case attrs.RawFlags&unix.IFF_LOOPBACK != 0, attrs.EncapType != "ether", len(attrs.HardwareAddr) != len(MAC{}):
		return "not an Ethernet link"
	case attrs.RawFlags&unix.IFF_NOARP != 0:
		return "ARP is off on this link"
	case attrs.RawFlags&unix.IFF_UP == 0:
		return "link is down"
	case attrs.OperState != netlink.OperUp && attrs.OperState != netlink.OperUnknown:
		return "link has no carrier"
	}
	return ""
}

// isPort is whether a link below a master of this kind has no say of its own.
// A VRF is a master too, but only for routes.
func isPort(master string) bool {
	return slices.Contains([]string{"bridge", "bond", "team", "openvswitch"}, master)
}

// isHeralds is whether a link is one end of a cable to a namespace that Herald's
// virtual servers stand in. Those have IPv6 addresses that look like any other.
func isHeralds(name string) bool {
	return name == "herald0" || name == "herald1" || strings.HasPrefix(name, "herald-")
}

// globals returns the global unicast addresses of a link, sorted.
func globals(addrs []netlink.Addr, index int) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range addrs {
		if a.LinkIndex != index || a.IPNet == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(a.IP)
		if addr = addr.Unmap(); !ok || !addr.IsGlobalUnicast() {
			continue
		}
		bits, _ := a.Mask.Size()
		prefixes = append(prefixes, netip.PrefixFrom(addr, bits))
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes)
}

// attempts is how often a listing is repeated that changes of the namespace
// have made inconsistent while it was read (NLM_F_DUMP_INTR).
const attempts = 5

func linkList(h *netlink.Handle) ([]netlink.Link, error) {
	links, err := h.LinkList()
	for i := 1; i < attempts && errors.Is(err, netlink.ErrDumpInterrupted); i++ {
		links, err = h.LinkList()
	}
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	return links, nil
}

func addrList(h *netlink.Handle) ([]netlink.Addr, error) {
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	for i := 1; i < attempts && errors.Is(err, netlink.ErrDumpInterrupted); i++ {
		addrs, err = h.AddrList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	return addrs, nil
}
