package ipvs

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// A Trial is what the kernel has been found to do by having it done once.
// Errors are why it cannot; nil if it can.
type Trial struct {
	Schedulers map[string]error // by name; none if there is no IPVS
	Tunnels    map[string]error // by "IPv4" and "IPv6", of the families that the host speaks
}

// Try makes a server with each of the schedulers, and the links that take
// tunnels, in a network namespace that is thrown away at once. It changes
// nothing, but the kernel may load modules for it.
func Try(ctx context.Context, schedulers []string) (Trial, error) {
	trial := Trial{Schedulers: map[string]error{}, Tunnels: map[string]error{}}
	p, err := throwAway()
	if err != nil {
		return trial, err
	}
	defer p.close()
	six, err := p.hasIPv6()
	if err != nil {
		return trial, fmt.Errorf("looking for IPv6: %w", err)
	}
	s := &space{tier: back, place: p}
	trial.Tunnels[family4.String()] = s.take(family4)
	if six {
		trial.Tunnels[family6.String()] = s.take(family6)
	}
	if Probe() != nil {
		return trial, nil
	}
	wire, err := openWire(p.ns)
	if err != nil {
		return trial, err
	}
	cmds := make([]command, 0, len(schedulers))
	for i, name := range schedulers {
		v := steer.Virtual{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(1+i)), Proto: snapshot.TCP}
		cmds = append(cmds, command{op: opNewService, svc: service(v, steer.Server{Scheduler: name})})
	}
	for i, err := range wire.do(ctx, cmds) {
		trial.Schedulers[schedulers[i]] = err
	}
	return trial, wire.close()
}

// throwAway makes a network namespace that is gone once it is closed.
func throwAway() (p *place, err error) {
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace (it takes root): %w", err)
		}
		p, err = openPlace("")
		return err
	})
	return p, err
}

// A Foreign is what others have on this host that Herald needs for itself.
type Foreign struct {
	Taken  []string // Herald cannot work beside it
	Shared []string // it may lead packets of Herald's elsewhere
}

// FindForeign looks in the host's namespace at what goes by the names and
// numbers that Herald uses, and is not Herald's. Rules of netfilter are not
// looked at: they may set any mark.
func FindForeign(h *netlink.Handle) (Foreign, error) {
	var found Foreign
	host, marks := &place{link: h}, marks{DefaultMark, DefaultSecondMark}
	for _, t := range tiers {
		link, err := host.find(t.veth)
		if err != nil {
			return found, err
		}
		if link != nil && link.Type() != "veth" {
			found.Taken = append(found.Taken, fmt.Sprintf("link %s is a %s", t.veth, link.Type()))
		}
	}
	for _, f := range []family{family4, family6} {
		if err := found.routes(host, f); err != nil {
			return found, err
		}
		if err := found.rules(host, f, marks.mask()); err != nil {
			return found, err
		}
	}
	return found, nil
}

// routes finds routes of others in the tables of Herald.
func (found *Foreign) routes(host *place, f family) error {
	for _, t := range tiers {
		table := DefaultRouteTable + int(t.of)
		var routes []netlink.Route
		err := steady(func() (err error) {
			routes, err = host.link.RouteListFiltered(int(f), &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
			return err
		})
		if err != nil {
			return fmt.Errorf("listing routes of table %d: %w", table, err)
		}
		if slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Protocol != routeProtocol }) {
			found.Taken = append(found.Taken, fmt.Sprintf("routing table %d has routes of others (%s)", table, f))
		}
	}
	return nil
}

// rules finds rules of others that look at the bits of Herald, or have its
// priority.
func (found *Foreign) rules(host *place, f family, bits uint32) error {
	var rules []netlink.Rule
	err := steady(func() (err error) {
		rules, err = host.link.RuleList(int(f))
		return err
	})
	if err != nil {
		return fmt.Errorf("listing rules: %w", err)
	}
	said := map[string]bool{}
	for _, r := range rules {
		switch {
		case r.Protocol == routeProtocol && r.Priority == rulePriority:
		case r.Mark&maskOf(r)&bits != 0:
			said[fmt.Sprintf("routing rule %d of %s looks at mark %#x/%#x", r.Priority, f, r.Mark, maskOf(r))] = true
		case r.Priority == rulePriority:
			said[fmt.Sprintf("routing rule %d of %s has the priority of Herald's", r.Priority, f)] = true
		}
	}
	found.Shared = append(found.Shared, slices.Sorted(maps.Keys(said))...)
	return nil
}
