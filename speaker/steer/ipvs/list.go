package ipvs

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"

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
	members, err := k.members()
	if err != nil {
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
	all, err := s.wire.list(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if all[i].svc.FWMark != 0 { // no row of ours is one
			continue
		}
		v, server, err := parseService(s.of, &all[i].svc)
		if err != nil {
			return err
		}
		t.Servers[v] = server
		for j := range all[i].dests {
			real, weight, err := parseDestination(s.of, &all[i].dests[j])
			if err != nil {
				return fmt.Errorf("of %s: %w", v, err)
			}
			t.Dests[steer.Dest{Virtual: v, Real: real}] = weight
		}
	}
	return nil
}

// members lists the elements of every set.
func (k *Kernel) members() (map[member]bool, error) {
	found := map[member]bool{}
	for _, in := range []struct {
		at   *place
		sets []setName
	}{{k.host, onHost}, {k.spaces[single.of].place, inSingle}} {
		if err := in.at.nft(func(conn *nftables.Conn) error { return listMembers(conn, in.sets, found) }); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func listMembers(conn *nftables.Conn, names []setName, found map[member]bool) error {
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
				found[m] = true
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
