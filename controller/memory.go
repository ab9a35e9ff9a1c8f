package controller

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// A Memory is what a controller knows of the time before a pass. The status of
// the objects alone decides what is assigned; memory only tells an address that
// was freed from one that never was assigned. An empty one is always right.
type Memory struct {
	// seen is who had which address at the last pass, by Owner.
	seen map[string][]netip.Addr
	// last is what each Service that is served, and each claim, was last meant
	// to have, by Owner. It may have been written and gone before a pass sees it.
	last map[string]held
	// resting are the addresses that rest, whether or not a pool's status has
	// them yet.
	resting map[netip.Addr]snapshot.Rest
	// quarantined are likewise.
	quarantined []snapshot.Quarantine
}

// held is what one object, and not another one of its name, has.
type held struct {
	uid   string
	addrs []netip.Addr
}

// lost returns the addresses of svc that were wiped from its status: those it
// was last meant to have, if it has none and nobody else has them by now.
func (m Memory) lost(svc snapshot.Service, taken map[netip.Addr]string) []netip.Addr {
	had := m.last[svc.Key]
	if !svc.Served || len(svc.Ingress) > 0 || had.uid != svc.UID {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(had.addrs), func(a netip.Addr) bool { return taken[a] != "" })
}

// rests returns the addresses that rest, by Addr: those that rested already,
// and those that had an owner at the last pass and have none now, if their
// pool lets addresses rest. taken is who has which address now.
func (m Memory) rests(s snapshot.Snapshot, taken map[netip.Addr]string) []snapshot.Rest {
	all := map[netip.Addr]snapshot.Rest{}
	add := func(r snapshot.Rest) {
		// A pool that lets its addresses rest no longer, or less long, frees them.
		if last := s.Now.Add(s.Config.PoolOf(r.Addr).ReuseAfter); r.Until.After(last) {
			r.Until = last
		}
		if had, ok := all[r.Addr]; taken[r.Addr] == "" && r.Until.After(s.Now) && (!ok || had.Until.Before(r.Until)) {
			all[r.Addr] = r
		}
	}
	for _, p := range s.Pools {
		for _, r := range p.Resting {
			add(r)
		}
	}
	for _, r := range m.resting {
		add(r)
	}
	// Of several who shared an address and have all gone, the first by name is
	// taken for its last owner.
	had := m.had(s)
	for _, owner := range slices.Sorted(maps.Keys(had)) {
		for _, a := range had[owner] {
			add(snapshot.Rest{Addr: a, Owner: owner, Until: s.Now.Add(s.Config.PoolOf(a).ReuseAfter)})
		}
	}
	out := make([]snapshot.Rest, 0, len(all))
	for _, r := range all {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b snapshot.Rest) int { return a.Addr.Compare(b.Addr) })
	return out
}

// had returns who had which address at the last pass or, of those who are gone,
// was given one by it: who sees it in a status may use it at once. One whose
// status could not be written counts as well, for nobody can tell any more.
func (m Memory) had(s snapshot.Snapshot) map[string][]netip.Addr {
	here := make(map[string]string, len(s.Services))
	for _, svc := range s.Services {
		if svc.Served {
			here[svc.Key] = svc.UID
		}
	}
	for _, c := range s.Claims {
		here[ipam.ClaimOwner(c.Namespace, c.Name)] = c.UID
	}
	had := maps.Clone(m.seen)
	for owner, last := range m.last {
		if uid, ok := here[owner]; !ok || uid != last.uid {
			had[owner] = slices.Concat(had[owner], last.addrs)
		}
	}
	return had
}

// remember returns the memory that the next pass starts from. seen is what the
// snapshot of this one showed; the grants are what is meant to be from now on.
func remember(s snapshot.Snapshot, seen map[string][]netip.Addr, rests []snapshot.Rest, quarantined []snapshot.Quarantine, granted map[string]ipam.Grant) Memory {
	m := Memory{quarantined: quarantined, seen: seen, last: map[string]held{}, resting: make(map[netip.Addr]snapshot.Rest, len(rests))}
	for _, svc := range s.Services {
		if g, ok := granted[svc.Key]; ok && len(g.Addrs) > 0 {
			m.last[svc.Key] = held{svc.UID, addrsOf(g)}
		}
	}
	for _, c := range s.Claims {
		owner := ipam.ClaimOwner(c.Namespace, c.Name)
		if g := granted[owner]; len(g.Addrs) > 0 {
			m.last[owner] = held{c.UID, addrsOf(g)}
		}
	}
	for _, r := range rests {
		m.resting[r.Addr] = r
	}
	return m
}

func addrsOf(g ipam.Grant) []netip.Addr {
	out := make([]netip.Addr, 0, len(g.Addrs))
	for _, a := range g.Addrs {
		out = append(out, a.Addr)
	}
	return out
}

// next returns when the first address has rested enough, or is out of
// quarantine; zero if there is none.
func (m Memory) next() (at time.Time) {
	for _, r := range m.resting {
		if at.IsZero() || r.Until.Before(at) {
			at = r.Until
		}
	}
	for _, q := range m.quarantined {
		if at.IsZero() || q.Until.Before(at) {
			at = q.Until
		}
	}
	return at
}
