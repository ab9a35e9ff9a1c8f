package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	moby "github.com/moby/ipvs"

	"github.com/herald-lb/herald/speaker/steer"
)

// known is what the kernel has beside destinations and addresses, as last
// listed or acknowledged since.
type known struct {
	servers map[steer.Virtual]steer.Server
	members map[member]bool // of every set
}

// Table implements [steer.Kernel]. An address of which only half is there is
// not in. A server whose elements somebody has taken away, so that no packet
// finds it, is listed with a scheduler that nobody wants; elements without a
// server would lead packets nowhere, and are taken away.
func (k *Kernel) Table(ctx context.Context) (steer.Table, error) {
	if err := k.ready(); err != nil {
		return steer.Table{}, err
	}
	k.known = nil
	t := steer.NewTable()
	for _, s := range k.spaces {
		if err := s.list(ctx, t); err != nil {
			return steer.Table{}, fmt.Errorf("listing virtual servers: %w", err)
		}
	}
	members := map[member]bool{}
	if err := k.members(func(m member) { members[m] = true }); err != nil {
		return steer.Table{}, err
	}
	complete(t, members)
	now := &known{servers: maps.Clone(t.Servers), members: members}
	if err := k.weed(now); err != nil {
		return steer.Table{}, fmt.Errorf("taking away elements without a server: %w", err)
	}
	routes, err := k.addresses()
	if err != nil {
		return steer.Table{}, fmt.Errorf("listing addresses: %w", err)
	}
	for a := range routes.host {
		if routes.whole(a) && members[member{set: addrs, addr: a}] {
			t.Addrs[a] = true
		}
	}
	k.known = now
	return t, nil
}

// list adds the virtual servers of one tier and their destinations to t.
func (s *space) list(ctx context.Context, t steer.Table) error {
	begin := func() {
		maps.DeleteFunc(t.Servers, func(v steer.Virtual, _ steer.Server) bool { return v.Tier == s.of })
		maps.DeleteFunc(t.Dests, func(d steer.Dest, _ int) bool { return d.Virtual.Tier == s.of })
	}
	return s.rows(ctx, begin, func(v steer.Virtual, server steer.Server, dests []row) bool {
		t.Servers[v] = server
		for _, d := range dests {
			t.Dests[steer.Dest{Virtual: v, Real: d.real}] = d.weight
		}
		return true
	})
}

// A row is a destination.
type row struct {
	real   netip.AddrPort
	weight int
}

// rows calls each with the virtual servers of one tier, as far as IPVS knows
// them, until it returns false; the destinations are valid until then. Begin is
// called before the first, and again if all begins anew.
func (s *space) rows(ctx context.Context, begin func(), each func(steer.Virtual, steer.Server, []row) bool) error {
	var rows []row
	err := s.wire.visit(ctx, begin, func(svc *moby.Service, dests []moby.Destination) error {
		if svc.FWMark != 0 { // no row of ours is one
			return nil
		}
		v, server, err := parseService(s.of, svc)
		if err != nil {
			return err
		}
		rows = rows[:0]
		for i := range dests {
			real, weight, err := parseDestination(s.of, &dests[i])
			if err != nil {
				return fmt.Errorf("of %s: %w", v, err)
			}
			rows = append(rows, row{real, weight})
		}
		if !each(v, server, rows) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// errEnough ends a visit early.
var errEnough = errors.New("enough was seen")

// Holds implements [steer.Kernel]. What is compared is not kept, so that it
// costs no memory.
func (k *Kernel) Holds(ctx context.Context, want steer.Table) (bool, error) {
	if err := k.ready(); err != nil || k.known == nil {
		return false, err
	}
	servers, dests := 0, 0
	for _, s := range k.spaces {
		had := [...]int{servers, dests}
		same := true
		err := s.rows(ctx, func() { servers, dests, same = had[0], had[1], true }, func(v steer.Virtual, got steer.Server, rows []row) bool {
			server, ok := want.Servers[v]
			known := k.known.servers[v]
			same = ok && known == server && got == steer.Server{Scheduler: server.Scheduler, Flags: server.Flags, Affinity: server.Affinity}
			for _, r := range rows {
				weight, ok := want.Dests[steer.Dest{Virtual: v, Real: r.real}]
				same = same && ok && weight == r.weight
			}
			servers, dests = servers+1, dests+len(rows)
			return same
		})
		if err != nil {
			return false, fmt.Errorf("listing virtual servers: %w", err)
		}
		if !same {
			return false, nil
		}
	}
	if servers != len(want.Servers) || dests != len(want.Dests) {
		return false, nil
	}
	members := 0
	same := true
	if err := k.members(func(m member) { members++; same = same && k.known.members[m] }); err != nil {
		return false, err
	}
	if !same || members != len(k.known.members) {
		return false, nil
	}
	routes, err := k.addresses()
	if err != nil {
		return false, fmt.Errorf("listing addresses: %w", err)
	}
	for a := range want.Addrs {
		same = same && routes.whole(a)
	}
	return same && len(routes.host) == len(want.Addrs) && len(routes.inside) == len(want.Addrs), nil
}

// members calls each with the elements of every set.
func (k *Kernel) members(each func(member)) error {
	for _, in := range []struct {
		at   *place
		sets []setName
	}{{k.host, onHost}, {k.spaces[single.of].place, inSingle}} {
		if err := in.at.nft(func(conn *nftables.Conn) error { return listMembers(conn, in.sets, each) }); err != nil {
			return err
		}
	}
	return nil
}

func listMembers(conn *nftables.Conn, names []setName, each func(member)) error {
	for _, name := range names {
		for _, f := range both {
			set := setOf(name, f)
			elements, err := conn.GetSetElements(set)
			if err != nil {
				return fmt.Errorf("listing set %s: %w", set.Name, err)
			}
			members, err := decode(name, f, elements)
			if err != nil {
				return err
			}
			for _, m := range members {
				each(m)
			}
		}
	}
	return nil
}

// complete adds to t what the members say of its servers, and what they say
// by themselves.
func complete(t steer.Table, members map[member]bool) {
	sources := map[steer.Virtual][]netip.Prefix{}
	for m := range members {
		switch m.set {
		case allowed:
			sources[m.virtual] = append(sources[m.virtual], m.prefix)
		case nodes:
			t.Nodes[m.addr] = true
		case pods:
			if members[member{set: locals, prefix: m.prefix}] { // a half is none
				t.Pods[m.prefix] = true
			}
		}
	}
	for v, s := range t.Servers {
		of := func(set setName) bool {
			return members[member{set: set, virtual: steer.Virtual{Addr: v.Addr, Proto: v.Proto}}]
		}
		switch v.Tier {
		case steer.Back:
			s.Direct = of(direct)
		case steer.Single:
			s.SNAT = of(snat)
			if of(limited) {
				s.Sources = cmp.Or(steer.SourcesOf(sources[v], v.Addr.Addr().Is6()), steer.Nobody)
			}
		}
		if v.Tier == steer.Front && !of(fronts) || v.Addr.Addr().IsUnspecified() && !of(ports) {
			s.Scheduler += " (out of reach)"
		}
		t.Servers[v] = s
	}
}

// weed takes away elements of servers that are not there: somebody has deleted
// the servers, or a crash has left the elements.
func (k *Kernel) weed(now *known) error {
	stands := map[member]bool{}
	for v, s := range now.servers {
		for _, m := range membersOf(v, s) {
			stands[m] = true
		}
	}
	var weeds []member
	for m := range now.members {
		if m.virtual.Addr.IsValid() && !stands[m] {
			weeds = append(weeds, m)
		}
	}
	if len(weeds) == 0 {
		return nil
	}
	for _, in := range []struct {
		at   *place
		sets []setName
	}{{k.host, onHost}, {k.spaces[single.of].place, inSingle}} {
		del := slices.DeleteFunc(slices.Clone(weeds), func(m member) bool { return !slices.Contains(in.sets, m.set) })
		if err := in.at.change(nil, del); err != nil {
			return err
		}
	}
	for _, m := range weeds {
		delete(now.members, m)
	}
	return nil
}
