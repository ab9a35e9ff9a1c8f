package ipvs

import (
	"context"
	"fmt"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/speaker/steer"
)

// Table implements [steer.Kernel]. An address of which only half is there is
// not in.
func (k *Kernel) Table(ctx context.Context) (steer.Table, error) {
	if err := k.ready(); err != nil {
		return steer.Table{}, err
	}
	t := steer.NewTable()
	if err := k.listServers(ctx, t); err != nil {
		return steer.Table{}, err
	}
	if err := k.inside.nft(func(conn *nftables.Conn) error { return listElements(conn, t) }); err != nil {
		return steer.Table{}, err
	}
	inside, host, err := k.addresses()
	if err != nil {
		return steer.Table{}, fmt.Errorf("listing addresses: %w", err)
	}
	for a := range inside {
		if host[a] {
			t.Addrs[a] = true
		}
	}
	return t, nil
}

// listServers adds virtual servers and their destinations to t.
func (k *Kernel) listServers(ctx context.Context, t steer.Table) error {
	services, err := k.ipvs.GetServices()
	if err != nil {
		return fmt.Errorf("listing virtual servers: %w", err)
	}
	for _, svc := range services {
		if err := ctx.Err(); err != nil {
			return err
		}
		if svc.FWMark != 0 { // no row of ours is one
			continue
		}
		v, server, err := parseService(svc)
		if err != nil {
			return err
		}
		t.Servers[v] = server
		dests, err := k.ipvs.GetDestinations(svc)
		if err != nil {
			return fmt.Errorf("listing destinations of %s: %w", v, err)
		}
		for _, d := range dests {
			real, weight, err := parseDestination(d)
			if err != nil {
				return fmt.Errorf("of %s: %w", v, err)
			}
			t.Dests[steer.Dest{Virtual: v, Real: real}] = weight
		}
	}
	return nil
}

// listElements marks the servers of t that want SNAT, and adds the prefixes of
// pods. An element without a server is a leftover without effect: it goes when
// a server is added or deleted there.
func listElements(conn *nftables.Conn, t steer.Table) error {
	for _, set := range []*nftables.Set{snat4, snat6} {
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("listing set %s: %w", set.Name, err)
		}
		for _, e := range elements {
			v, err := parseSNATKey(e.Key)
			if err != nil {
				return fmt.Errorf("listing set %s: %w", set.Name, err)
			}
			if server, ok := t.Servers[v]; ok {
				server.SNAT = true
				t.Servers[v] = server
			}
		}
	}
	for _, set := range []*nftables.Set{pods4, pods6} {
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return fmt.Errorf("listing set %s: %w", set.Name, err)
		}
		for _, p := range parseIntervals(elements) {
			t.Pods[p] = true
		}
	}
	return nil
}
