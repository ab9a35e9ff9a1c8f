package controller

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// maxListed is how many of a pool's addresses an explanation lists.
const maxListed = 50

// ExplainService says in a few lines which address the Service at key has, or
// why it has none, and what ruled out each pool. It runs the very Plan that the
// controller runs; ok is false if there is no such Service.
func ExplainService(s snapshot.Snapshot, key string) (text string, ok bool) {
	i := slices.IndexFunc(s.Services, func(x snapshot.Service) bool { return x.Key == key })
	if i < 0 {
		return "", false
	}
	svc := s.Services[i]
	w, _ := world(s, Memory{}, quarantines(s, Memory{}, reports{}))
	grants := ipam.Plan(w)
	g, planned := grantOf(grants, key)
	var b strings.Builder
	line := func(title, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s %s\n", title, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "Service %s: %s\n", key, cmp.Or(list(svc.Addrs()), "no address"))
	switch {
	case svc.Routed && !svc.Served:
		line("routed", "by a cloud, to one node at a time: the plugin of its class has reserved it; kubectl describe says to which node, and why (condition herald-lb.io/Routed)")
		return b.String(), true
	case !svc.Served:
		line("not served", "its type is not LoadBalancer, its class is not one of Herald's, or it is being deleted")
		return b.String(), true
	case !planned:
		line("foreign", "%s", serviceStatus(svc, s.Config, nil, reports{}).Conditions[0].Message)
		return b.String(), true
	}
	line("asks for", "%s", wish(svc))
	for _, a := range g.Addrs {
		line("gets", "%s", source(a, svc))
	}
	for _, r := range g.Refusals {
		line("refused", "%s: %s", r.Reason, r.Detail)
	}
	for _, n := range g.Notes {
		line("note", "%s: %s", n.Reason, n.Detail)
	}
	if c, ok := said(svc, Announced); ok {
		line("announced", "%s: %s", c.Reason, c.Message)
	}
	if svc.Invalid != "" {
		line("invalid", "%s", svc.Invalid)
	}
	for _, p := range explainPools(w, ipam.Use(w, grants), svc) {
		line("pool", "%s", p)
	}
	return b.String(), true
}

func grantOf(grants []ipam.Grant, owner string) (ipam.Grant, bool) {
	i, ok := slices.BinarySearchFunc(grants, owner, func(g ipam.Grant, o string) int { return cmp.Compare(g.Owner, o) })
	if !ok {
		return ipam.Grant{}, false
	}
	return grants[i], true
}

// wish says what svc asks for.
func wish(svc snapshot.Service) string {
	var words []string
	for _, f := range svc.Families {
		words = append(words, f.String())
	}
	wish := strings.Join(words, " and ")
	if svc.Require {
		wish += ", all or nothing"
	}
	switch {
	case len(svc.Want) > 0:
		wish += ": exactly " + list(svc.Want)
	case svc.Claim != "":
		wish += ": from AddressClaim " + svc.Claim
	case svc.Pool != "":
		wish += ": from pool " + svc.Pool
	}
	if svc.Share != "" {
		wish += fmt.Sprintf(", shared under key %q", svc.Share)
	}
	if moves(svc) {
		wish += fmt.Sprintf(", and another one than it has (reassign %q)", svc.Reassign)
	}
	return wish
}

// source says where an address comes from.
func source(a ipam.Assigned, svc snapshot.Service) string {
	verb := "which the controller is about to assign"
	if slices.Contains(svc.Addrs(), a.Addr) {
		verb = "which it holds"
	}
	if a.Pool == "" {
		return fmt.Sprintf("%s, %s though no pool covers it any more", a.Addr, verb)
	}
	return fmt.Sprintf("%s from pool %s, %s", a.Addr, a.Pool, verb)
}

// explainPools says of every pool, in the order they are tried, whether it
// would give svc a new address and, if not, what rules it out.
func explainPools(w ipam.World, usage []ipam.Usage, svc snapshot.Service) (out []string) {
	pools := slices.SortedFunc(slices.Values(w.Pools), func(a, b ipam.Pool) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Name, b.Name))
	})
	for _, p := range pools {
		i := slices.IndexFunc(usage, func(u ipam.Usage) bool { return u.Pool == p.Name })
		out = append(out, fmt.Sprintf("%s (priority %d): %s", p.Name, p.Priority, ruledOut(p, usage[i], svc)))
	}
	return out
}

func ruledOut(p ipam.Pool, u ipam.Usage, svc snapshot.Service) string {
	switch {
	case !slices.Contains(svc.Pools, p.Name):
		return string(ipam.NotEligible) + ": its selectors do not match the Service or its namespace"
	case svc.Pool != "" && svc.Pool != p.Name:
		return "passed over: the Service asks for pool " + svc.Pool
	case svc.Pool == "" && !p.Auto && len(svc.Want) == 0:
		return string(ipam.NotAuto) + ": it serves only who name it (assign: OnRequest)"
	}
	var words []string
	for _, f := range svc.Families {
		tally := u.V4
		if f == ipam.IPv6 {
			tally = u.V6
		}
		switch {
		case tally.Total == 0:
			words = append(words, fmt.Sprintf("%s: it has no %s address", ipam.WrongFamily, f))
		case tally.Free == 0:
			words = append(words, fmt.Sprintf("%s: all of its %d %s addresses are taken", ipam.PoolFull, tally.Total, f))
		default:
			words = append(words, fmt.Sprintf("can serve: %d of %d %s addresses are free", tally.Free, tally.Total, f))
		}
	}
	return strings.Join(words, "; ")
}

// ExplainPool says what the pool called name has, who has it, and what is wrong
// with it; ok is false if there is no such pool.
func ExplainPool(s snapshot.Snapshot, name string) (text string, ok bool) {
	i := slices.IndexFunc(s.Pools, func(p snapshot.PoolStatus) bool { return p.Name == name })
	if i < 0 {
		return "", false
	}
	w, rests := world(s, Memory{}, quarantines(s, Memory{}, reports{}))
	var b strings.Builder
	pool, used := s.Config.Pool(name)
	fmt.Fprintf(&b, "AddressPool %s\n", name)
	for _, problem := range s.Problems {
		if problem.Object == name {
			fmt.Fprintf(&b, "  problem    %s %s: %s\n", problem.Reason, problem.Field, problem.Detail)
		}
	}
	if !used {
		fmt.Fprintln(&b, "  not in use until that is mended")
		return b.String(), true
	}
	explainUse(&b, pool, w)
	explainHolders(&b, s, pool)
	for _, r := range rests {
		if pool.Contains(r.Addr) {
			fmt.Fprintf(&b, "  resting    %s, which %s had, until %s\n", r.Addr, r.Owner, r.Until.UTC().Format("2006-01-02 15:04:05 MST"))
		}
	}
	for _, a := range slices.SortedFunc(maps.Keys(w.Reserved), netip.Addr.Compare) {
		if pool.Contains(a) {
			fmt.Fprintf(&b, "  reserved   %s, of %s\n", a, w.Reserved[a])
		}
	}
	return b.String(), true
}

func explainUse(b *strings.Builder, pool config.Pool, w ipam.World) {
	var ranges []string
	for _, r := range pool.Ranges {
		ranges = append(ranges, r.String())
	}
	assign := "Auto"
	if !pool.Auto {
		assign = "OnRequest"
	}
	fmt.Fprintf(b, "  addresses  %s\n  rules      assign %s, priority %d", strings.Join(ranges, ", "), assign, pool.Priority)
	for _, s := range []struct{ title, selector string }{{"namespaces", pool.NamespaceSelector}, {"services", pool.ServiceSelector}} {
		if s.selector != "" {
			fmt.Fprintf(b, ", %s with %s", s.title, s.selector)
		}
	}
	fmt.Fprintln(b)
	for _, u := range ipam.Use(w, ipam.Plan(w)) {
		if u.Pool != pool.Name {
			continue
		}
		for _, t := range []struct {
			family ipam.Family
			tally  ipam.Tally
		}{{ipam.IPv4, u.V4}, {ipam.IPv6, u.V6}} {
			if t.tally.Total > 0 {
				fmt.Fprintf(b, "  %-10s %d in all, %d assigned, %d free\n", t.family, t.tally.Total, t.tally.Assigned, t.tally.Free)
			}
		}
	}
}

// explainHolders lists who has an address of the pool, and who waits for one
// that may take from it.
func explainHolders(b *strings.Builder, s snapshot.Snapshot, pool config.Pool) {
	type line struct {
		addr  netip.Addr
		owner string
	}
	var lines []line
	for owner, addrs := range holders(s) {
		for _, a := range addrs {
			if pool.Contains(a) {
				lines = append(lines, line{a, owner})
			}
		}
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.owner, b.owner))
	})
	for i, l := range lines {
		if i == maxListed {
			fmt.Fprintf(b, "  assigned   … and %d more\n", len(lines)-i)
			break
		}
		fmt.Fprintf(b, "  assigned   %s to %s\n", l.addr, l.owner)
	}
	for _, svc := range s.Services {
		if svc.Served && len(svc.Ingress) == 0 && slices.Contains(svc.Pools, pool.Name) {
			fmt.Fprintf(b, "  waiting    %s\n", svc.Key)
		}
	}
}
