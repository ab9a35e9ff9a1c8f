package look

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/doctor"
)

// heralds is the number of the protocol that Herald's routes carry.
const heralds = 72

// steady repeats a listing that was disturbed by a change in its middle.
func steady[T any](list func() ([]T, error)) (all []T, err error) {
	for range 5 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// addrs reads the addresses of the host.
func addrs(f *doctor.Facts, h *netlink.Handle) error {
	found, err := steady(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("listing addresses: %w", err)
	}
	names, err := linkNames(h)
	if err != nil {
		return err
	}
	for _, a := range found {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			f.Addrs = append(f.Addrs, doctor.Addr{Addr: addr.Unmap(), Link: names[a.LinkIndex]})
		}
	}
	slices.SortFunc(f.Addrs, func(a, b doctor.Addr) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Link, b.Link)) })
	return nil
}

// routes reads the routes to single addresses that are not Herald's, of the
// table that packets meet unless a rule says otherwise.
func routes(f *doctor.Facts, h *netlink.Handle) error {
	names, err := linkNames(h)
	if err != nil {
		return err
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		found, err := steady(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		})
		if err != nil {
			return fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range found {
			if addr, ok := single(r); ok && r.Protocol != heralds {
				f.Routes = append(f.Routes, doctor.Route{Addr: addr, Text: text(r, names)})
			}
		}
	}
	slices.SortFunc(f.Routes, func(a, b doctor.Route) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Text, b.Text)) })
	return nil
}

// single returns the one address that r leads to, if it is for one only.
func single(r netlink.Route) (netip.Addr, bool) {
	if r.Dst == nil {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	ones, bits := r.Dst.Mask.Size()
	return addr.Unmap(), ok && ones == bits
}

// text is r as ip route shows it.
func text(r netlink.Route, names map[int]string) string {
	via := ""
	if len(r.Gw) > 0 {
		via = "via " + r.Gw.String() + " "
	}
	return fmt.Sprintf("%sdev %s proto %s", via, names[r.LinkIndex], r.Protocol)
}

func linkNames(h *netlink.Handle) (map[int]string, error) {
	found, err := steady(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	names := make(map[int]string, len(found))
	for _, l := range found {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names, nil
}
