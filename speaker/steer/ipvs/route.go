package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks our routes and rules: nobody else's are touched. It is
// none that /etc/iproute2/rt_protos gives a name to.
const routeProtocol = 72

// rulePriority puts our rule before those of CNI plug-ins that route by the
// address of a pod (AWS: from 512 on): a reply of a pod is what it is for.
const rulePriority = 72

// A family is IPv4 or IPv6, by the number of its address family.
type family int

const (
	family4 family = unix.AF_INET
	family6 family = unix.AF_INET6
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return family4
	}
	return family6
}

func (f family) six() bool { return f == family6 }

// everything is the prefix of all addresses.
func (f family) everything() netip.Prefix {
	if f.six() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

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

// routes makes sure that everything leaves the namespaces for the host, and
// that the host sends what carries a mark of ours into the namespace it is for.
func (k *Kernel) routes(context.Context) error {
	fams, err := k.families()
	if err != nil {
		return err
	}
	for _, f := range fams {
		wanted := make([]*netlink.Rule, 0, len(tiers))
		for _, s := range k.spaces {
			if err := s.defaultRoute(f, insideLink, s.tier.host(f), unix.RT_TABLE_MAIN, k.mtu(s.tier, f)); err != nil {
				return err
			}
			if err := k.host.defaultRoute(f, s.veth, s.inside(f), k.table(s.tier), 0); err != nil {
				return err
			}
			wanted = append(wanted, k.markRule(f, s.tier))
		}
		if err := k.host.ensureRules(f, wanted); err != nil {
			return err
		}
	}
	return nil
}

// defaultRoute makes sure that the default route of a table leads by a link to
// a gateway. An mtu other than 0 bounds what may be sent there in one packet.
func (p *place) defaultRoute(f family, linkName string, gateway netip.Addr, table, mtu int) error {
	link, err := p.link.LinkByName(linkName)
	if err != nil {
		return fmt.Errorf("looking for link %s: %w", linkName, err)
	}
	have, err := p.ours(f, table)
	if err != nil {
		return err
	}
	for _, r := range have {
		if prefixOf(r).Bits() == 0 && r.LinkIndex == link.Attrs().Index && r.Gw.Equal(gateway.AsSlice()) && r.MTU == mtu {
			return nil
		}
	}
	err = p.link.RouteReplace(&netlink.Route{
		Dst: ipNet(f.everything()), Gw: gateway.AsSlice(), LinkIndex: link.Attrs().Index,
		Table: table, Protocol: routeProtocol, MTU: mtu,
	})
	if err != nil {
		return fmt.Errorf("routing default via %s in table %d: %w", gateway, table, err)
	}
	p.mend("default route via %s in table %d", gateway, table)
	return nil
}

// ours lists the routes of one table that carry our protocol number.
func (p *place) ours(f family, table int) ([]netlink.Route, error) {
	var routes []netlink.Route
	err := steady(func() (err error) {
		filter := &netlink.Route{Table: table, Protocol: routeProtocol}
		routes, err = p.link.RouteListFiltered(int(f), filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
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

// newRule returns a rule of ours that looks up a table.
func newRule(f family, table int) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family, rule.Priority, rule.Table, rule.Protocol = int(f), rulePriority, table, routeProtocol
	return rule
}

// markRule routes what is marked for a tier by the table that leads there.
func (k *Kernel) markRule(f family, t *tier) *netlink.Rule {
	mask := k.marks.mask()
	rule := newRule(f, k.table(t))
	rule.Mark, rule.Mask = k.marks.of(t.of), &mask
	return rule
}

// ensureRules makes wanted be the rules of ours, each once.
func (p *place) ensureRules(f family, wanted []*netlink.Rule) error {
	have, err := p.ourRules(f)
	if err != nil {
		return err
	}
	for _, r := range wanted {
		i := slices.IndexFunc(have, func(h netlink.Rule) bool { return sameRule(h, *r) })
		if i >= 0 {
			have = slices.Delete(have, i, i+1)
			continue
		}
		if err := p.link.RuleAdd(r); err != nil {
			return fmt.Errorf("adding rule %s: %w", r, err)
		}
		p.mend("rule %s", r)
	}
	for _, r := range have { // another make's, or a second one
		if err := p.link.RuleDel(&r); err != nil {
			return fmt.Errorf("deleting rule %s: %w", r, err)
		}
		p.mend("rule %s", r)
	}
	return nil
}

func sameRule(a, b netlink.Rule) bool {
	return a.Table == b.Table && a.Mark == b.Mark && maskOf(a) == maskOf(b)
}

func maskOf(r netlink.Rule) uint32 {
	if r.Mask == nil {
		return 0
	}
	return *r.Mask
}

// ourRules lists our rules of one family: those of our protocol and priority.
func (p *place) ourRules(f family) ([]netlink.Rule, error) {
	var rules []netlink.Rule
	err := steady(func() (err error) {
		rules, err = p.link.RuleListFiltered(int(f), &netlink.Rule{Priority: rulePriority}, netlink.RT_FILTER_PRIORITY)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing rules: %w", err)
	}
	for i := range rules {
		rules[i].Family = int(f)
	}
	return slices.DeleteFunc(rules, func(r netlink.Rule) bool { return r.Protocol != routeProtocol }), nil
}

// unroute removes our rules and routes from the host.
func (k *Kernel) unroute(context.Context) error {
	fams, err := k.families()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range fams {
		rules, err := k.host.ourRules(f)
		errs = append(errs, err)
		for _, r := range rules {
			if err := k.host.link.RuleDel(&r); err != nil {
				errs = append(errs, fmt.Errorf("deleting %s: %w", r, err))
			}
		}
		for _, table := range []int{unix.RT_TABLE_MAIN, k.table(single), k.table(front), k.table(back)} {
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
