package controller

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// world turns a snapshot into what ipam plans with, and what a memory adds.
func world(s snapshot.Snapshot, m Memory, barred []snapshot.Quarantine) (w ipam.World, rests []snapshot.Rest) {
	taken := assigned(s)
	rests = m.rests(s, taken)
	prefer := map[string][]netip.Addr{}
	for _, r := range rests {
		prefer[r.Owner] = append(prefer[r.Owner], r.Addr)
	}
	w = ipam.World{
		Now: s.Now.UnixNano(), Reserved: map[netip.Addr]string{},
		Requests: make([]ipam.Request, 0, len(s.Services)+len(s.Claims)),
	}
	for _, p := range s.Config.Pools {
		w.Pools = append(w.Pools, p.Pool)
	}
	strangers := map[netip.Addr]bool{}
	for _, q := range barred {
		w.Reserved[q.Addr] = fmt.Sprintf("the host %s, as %s has found", q.MAC, q.Node)
		strangers[q.Addr] = true
	}
	for _, n := range s.Nodes {
		for _, a := range n.Addrs {
			w.Reserved[a] = "node " + n.Name
		}
	}
	// A controller that died between two writes may have given a Service the
	// address of a claim that has none yet.
	for _, svc := range s.Services {
		if svc.Served && svc.Claim != "" {
			owner := ipam.ClaimOwner(svc.Namespace, svc.Claim)
			prefer[owner] = append(prefer[owner], svc.Addrs()...)
		}
	}
	for _, c := range s.Claims {
		r := claimRequest(c)
		r.Prefer = prefer[r.Owner]
		w.Requests = append(w.Requests, r)
	}
	for _, svc := range s.Services {
		if !svc.Served || foreign(svc, s.Config) {
			continue
		}
		r := request(svc)
		r.Held = append(r.Held, m.lost(svc, taken)...)
		if firstTime(svc, svc.Ingress) || len(svc.Ingress) == 0 {
			r.Held = slices.DeleteFunc(r.Held, func(a netip.Addr) bool { return strangers[a] })
		}
		r.Prefer = prefer[svc.Key]
		w.Requests = append(w.Requests, r)
	}
	for _, r := range rests {
		w.Resting = append(w.Resting, ipam.Rest{Addr: r.Addr, Owner: r.Owner, Until: r.Until.UnixNano()})
	}
	return w, rests
}

// assigned returns who has which address, by the status of all objects.
func assigned(s snapshot.Snapshot) map[netip.Addr]string {
	taken := make(map[netip.Addr]string, len(s.Services))
	for owner, addrs := range holders(s) {
		for _, a := range addrs {
			taken[a] = owner
		}
	}
	return taken
}

// holders returns what stands in the status of every Service that is served
// and of every claim, by Owner.
func holders(s snapshot.Snapshot) map[string][]netip.Addr {
	out := make(map[string][]netip.Addr, len(s.Services))
	for _, svc := range s.Services {
		if svc.Served && len(svc.Ingress) > 0 {
			out[svc.Key] = svc.Addrs()
		}
	}
	for _, c := range s.Claims {
		if len(c.Addrs) > 0 {
			out[ipam.ClaimOwner(c.Namespace, c.Name)] = c.Addrs
		}
	}
	return out
}

// foreign reports whether the status of svc was written by somebody else: it
// bears no mark of Herald, and holds host names, or addresses of which no pool
// covers any.
func foreign(svc snapshot.Service, c config.Config) bool {
	covered := func(in snapshot.Ingress) bool { return c.PoolOf(in.Addr).Name != "" }
	return !svc.Ours && (svc.Named || len(svc.Ingress) > 0 && !slices.ContainsFunc(svc.Ingress, covered))
}

// request turns svc into a request. One that cannot be read asks for nothing
// but what it holds.
func request(svc snapshot.Service) ipam.Request {
	r := ipam.Request{
		Owner: svc.Key, Namespace: svc.Namespace, Age: svc.Created.UnixNano(), Held: svc.Addrs(),
		Families: svc.Families, Require: svc.Require,
		Pools: svc.Pools, Pool: svc.Pool, Want: svc.Want, Claim: svc.Claim,
		Share: svc.Share, ShareWith: svc.ShareWith, Move: moves(svc),
	}
	for _, p := range svc.Ports {
		r.Ports = append(r.Ports, ipam.Port{Proto: uint8(p.Proto), Number: p.Number})
	}
	if svc.Invalid == "" {
		return r
	}
	r.Pool, r.Want, r.Require, r.Claim, r.Move = "", nil, false, "", false
	r.Families = slices.DeleteFunc(slices.Clone(r.Families), func(f ipam.Family) bool {
		return !slices.ContainsFunc(r.Held, func(a netip.Addr) bool { return ipam.FamilyOf(a) == f })
	})
	return r
}

// moves reports whether svc asks for another address than it has, and has not
// been served yet: the text of its annotation is not the one in its condition.
func moves(svc snapshot.Service) bool {
	if svc.Reassign == "" || len(svc.Ingress) == 0 {
		return false
	}
	i := slices.IndexFunc(svc.Conditions, func(c snapshot.Condition) bool { return c.Type == Reassigned })
	return i < 0 || svc.Conditions[i].Message != svc.Reassign
}

// claimRequest turns c into a request. One that cannot be read keeps what it
// has.
func claimRequest(c snapshot.Claim) ipam.Request {
	r := ipam.Request{
		Kind: ipam.Claim, Owner: ipam.ClaimOwner(c.Namespace, c.Name), Namespace: c.Namespace,
		Age: c.Created.UnixNano(), Held: c.Addrs, Pools: c.Pools,
		Families: c.Families, Pool: c.Pool, Want: c.Want,
	}
	if c.Invalid == "" {
		return r
	}
	r.Families, r.Pool, r.Want = nil, "", nil
	for _, a := range c.Addrs {
		r.Families = append(r.Families, ipam.FamilyOf(a))
	}
	return r
}
