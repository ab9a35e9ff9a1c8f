package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks our routes and rules: nobody else's are touched. It is
// none that /etc/iproute2/rt_protos gives a name to.
const routeProtocol = 72

// rulePriority puts our rule before those of CNI plug-ins that route by the
// address of a pod (AWS: from 512 on): a reply of a pod is what it is for.
const rulePriority = 72

// A family is what differs between IPv4 and IPv6 on the pair.
type family struct {
	af           int
	host, inside netip.Addr
}

var (
	family4 = family{unix.AF_INET, host4.Addr(), inside4.Addr()}
	family6 = family{unix.AF_INET6, host6.Addr(), inside6.Addr()}
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return family4
	}
	return family6
}

func (f family) six() bool { return f.af == unix.AF_INET6 }

// families returns those that the host speaks.
func (k *Kernel) families() ([]family, error) {
	six, err := k.host.hasIPv6()
	if err != nil {
		return nil, fmt.Errorf("looking for IPv6: %w", err)
	}
	if six {
		return []family{family4, family6}, nil
	}
	return []family{family4}, nil
}

// routes makes sure that everything leaves the namespace for the host, and
// that the host sends what carries our mark into the namespace.
func (k *Kernel) routes(context.Context) error {
	fams, err := k.families()
	if err != nil {
		return err
	}
	for _, f := range fams {
		if err := k.inside.defaultRoute(f, insideLink, f.host, unix.RT_TABLE_MAIN); err != nil {
			return err
		}
		if err := k.host.defaultRoute(f, hostLink, f.inside, k.opts.RouteTable); err != nil {
			return err
		}
		if err := k.rule(f); err != nil {
			return err
		}
	}
	return nil
}

// defaultRoute makes sure that the default route of a table leads by a link to
// a gateway.
func (p *place) defaultRoute(f family, linkName string, gateway netip.Addr, table int) error {
	link, err := p.link.LinkByName(linkName)
	if err != nil {
		return fmt.Errorf("looking for link %s: %w", linkName, err)
	}
	have, err := p.ours(f, table)
	if err != nil {
		return err
	}
	for _, r := range have {
		if prefixOf(r).Bits() == 0 && r.LinkIndex == link.Attrs().Index && r.Gw.Equal(gateway.AsSlice()) {
			return nil
		}
	}
	everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if f.six() {
		everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	err = p.link.RouteReplace(&netlink.Route{
		Dst: ipNet(everything), Gw: gateway.AsSlice(), LinkIndex: link.Attrs().Index,
		Table: table, Protocol: routeProtocol,
	})
	if err != nil {
		return fmt.Errorf("routing default via %s in table %d: %w", gateway, table, err)
	}
	return nil
}

// ours lists the routes of one table that carry our protocol number.
func (p *place) ours(f family, table int) ([]netlink.Route, error) {
	var routes []netlink.Route
	err := steady(func() (err error) {
		filter := &netlink.Route{Table: table, Protocol: routeProtocol}
		routes, err = p.link.RouteListFiltered(f.af, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing routes of table %d: %w", table, err)
	}
	return routes, nil
}

// steady repeats a listing that was disturbed by a change in its middle.
func steady(list func() error) (err error) {
	for range 5 {
		if err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

// prefixOf returns where r leads; the zero Prefix if it cannot be told.
func prefixOf(r netlink.Route) netip.Prefix {
	if r.Dst == nil {
		return netip.Prefix{}
	}
	a, ok := netip.AddrFromSlice(r.Dst.IP)
	if !ok {
		return netip.Prefix{}
	}
	bits, _ := r.Dst.Mask.Size()
	if r.Family == unix.AF_INET {
		a = a.Unmap()
	}
	return netip.PrefixFrom(a, bits)
}

// rule makes sure that marked packets are routed by our table, once.
func (k *Kernel) rule(f family) error {
	have, err := k.rules(f)
	if err != nil {
		return err
	}
	if len(have) > 0 {
		return nil
	}
	mask := k.opts.Mark
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table = f.af, rulePriority, k.opts.RouteTable
	rule.Mark, rule.Mask, rule.Protocol = k.opts.Mark, &mask, routeProtocol
	if err := k.host.link.RuleAdd(rule); err != nil {
		return fmt.Errorf("adding the rule for mark %#x: %w", k.opts.Mark, err)
	}
	return nil
}

// rules lists our rules of one family.
func (k *Kernel) rules(f family) ([]netlink.Rule, error) {
	var rules []netlink.Rule
	err := steady(func() (err error) {
		mask := k.opts.Mark
		rules, err = k.host.link.RuleListFiltered(f.af,
			&netlink.Rule{Table: k.opts.RouteTable, Mark: k.opts.Mark, Mask: &mask, Priority: rulePriority},
			netlink.RT_FILTER_TABLE|netlink.RT_FILTER_MARK|netlink.RT_FILTER_MASK|netlink.RT_FILTER_PRIORITY)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing rules: %w", err)
	}
	return rules, nil
}

// unroute removes our rules and routes from the host.
func (k *Kernel) unroute(context.Context) error {
	fams, err := k.families()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range fams {
		rules, err := k.rules(f)
		errs = append(errs, err)
		for _, r := range rules {
			if err := k.host.link.RuleDel(&r); err != nil {
				errs = append(errs, fmt.Errorf("deleting %s: %w", r, err))
			}
		}
		for _, table := range []int{unix.RT_TABLE_MAIN, k.opts.RouteTable} {
			routes, err := k.host.ours(f, table)
			errs = append(errs, err)
			for _, r := range routes {
				if err := k.host.link.RouteDel(&r); err != nil {
					errs = append(errs, fmt.Errorf("deleting the route to %s: %w", prefixOf(r), err))
				}
			}
		}
	}
	return errors.Join(errs...)
}
