package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// Plan returns every status that has to change, and what the next Plan should
// remember of this one. Without a memory it is as right, but cannot tell that
// an address was freed or a status wiped.
func Plan(s snapshot.Snapshot, m Memory) (Statuses, Memory) {
	heard := sortReports(s.Reports)
	barred := quarantines(s, m, heard)
	w, rests := world(s, m, barred)
	grants := ipam.Plan(w)
	granted := make(map[string]ipam.Grant, len(grants))
	for _, g := range grants {
		granted[g.Owner] = g
	}
	var out Statuses
	for _, svc := range s.Services {
		want := serviceStatus(svc, s.Config, granted, heard)
		if changed(svc, want) {
			want.Events = events(svc, want)
			out.Services = append(out.Services, want)
		}
	}
	for _, c := range s.Claims {
		if want, differs := claimStatus(c, granted[ipam.ClaimOwner(c.Namespace, c.Name)]); differs {
			out.Claims = append(out.Claims, want)
		}
	}
	out.Pools = poolStatuses(s, ipam.Use(w, grants), rests, barred)
	out.Peers = peerStatuses(s)
	return out, remember(s, holders(s), rests, barred, granted)
}

// serviceStatus returns the status that svc should have.
func serviceStatus(svc snapshot.Service, c config.Config, grants map[string]ipam.Grant, heard reports) ServiceStatus {
	want := ServiceStatus{Key: svc.Key, UID: svc.UID, Version: svc.Version}
	grant, planned := grants[svc.Key]
	switch {
	case svc.Served && !planned:
		want.Ingress, want.Leave = svc.Ingress, true
		want.Conditions = assignment(false, ForeignAddress, fmt.Sprintf(
			"status.loadBalancer holds %s, which no AddressPool covers and Herald has not assigned; clear the status, or give the Service a class that says who serves it", cmp.Or(list(svc.Addrs()), "a host name")))
	case svc.Served:
		for _, a := range grant.Addrs {
			want.Ingress = append(want.Ingress, snapshot.Ingress{Addr: a.Addr, Mode: mode(c, a.Addr)})
		}
		want.Conditions = slices.Concat(verdict(svc, grant), announced(svc, want.Ingress, c, heard), reassigned(svc, grant))
	case !svc.Ours || replaced(svc):
		want.Ingress, want.Leave = svc.Ingress, true // somebody else's, or nobody's
	}
	return want
}

// replaced reports whether what stands in the status of svc, which Herald has
// marked, was written by somebody else since. With the type of a Service the
// API server clears the addresses, but not the mark; the controller of its new
// class may be faster than Herald. The message of the mark names every address
// that is Herald's.
func replaced(svc snapshot.Service) bool {
	i := slices.IndexFunc(svc.Conditions, func(c snapshot.Condition) bool { return c.Type == AddressAssigned })
	if i < 0 || len(svc.Ingress) == 0 {
		return svc.Named
	}
	words := strings.FieldsFunc(svc.Conditions[i].Message, func(r rune) bool { return strings.ContainsRune(" ,;", r) })
	return !slices.ContainsFunc(svc.Ingress, func(in snapshot.Ingress) bool { return slices.Contains(words, in.Addr.String()) })
}

// mode returns the ipMode of addr: "Proxy" where Herald steers, so that
// kube-proxy leaves the address alone.
func mode(c config.Config, addr netip.Addr) string {
	if c.PoolOf(addr).Steer == config.SteerServiceProxy {
		return "VIP"
	}
	return "Proxy"
}

func assignment(ok bool, reason, message string) []snapshot.Condition {
	return []snapshot.Condition{{Type: AddressAssigned, Status: ok, Reason: reason, Message: message}}
}

// verdict puts a grant into words.
func verdict(svc snapshot.Service, g ipam.Grant) []snapshot.Condition {
	var got, lost, why []string
	for _, a := range g.Addrs {
		if a.Pool == "" {
			lost = append(lost, a.Addr.String())
			continue
		}
		got = append(got, a.Addr.String()+" from pool "+a.Pool)
	}
	if len(lost) > 0 {
		why = append(why, fmt.Sprintf("no pool covers %s any more; it is kept until the Service goes or asks for another address", strings.Join(lost, ", ")))
	}
	for _, r := range g.Refusals {
		why = append(why, r.Detail)
	}
	for _, n := range g.Notes {
		why = append(why, n.Detail)
	}
	if svc.Invalid != "" {
		why = append(why, svc.Invalid)
	}
	message := strings.Join(append(got, why...), "; ")
	switch {
	case len(g.Addrs) == 0 && svc.Invalid != "":
		return assignment(false, InvalidRequest, message)
	case len(g.Addrs) == 0 && len(g.Refusals) > 0:
		return assignment(false, string(g.Refusals[0].Reason), message)
	case svc.Invalid != "":
		return assignment(true, InvalidRequest, message)
	case len(lost) > 0:
		return assignment(true, OutsidePools, message)
	case len(g.Refusals) > 0 && len(g.Addrs) < len(svc.Families):
		return assignment(true, PartlyAssigned, message)
	case len(g.Refusals) > 0: // it keeps what it has, and cannot have what it asks for
		return assignment(true, string(g.Refusals[0].Reason), message)
	}
	return assignment(true, Assigned, message)
}

func list(addrs []netip.Addr) string {
	words := make([]string, 0, len(addrs))
	for _, a := range addrs {
		words = append(words, a.String())
	}
	return strings.Join(words, ", ")
}

func changed(svc snapshot.Service, want ServiceStatus) bool {
	return !slices.Equal(svc.Ingress, want.Ingress) || !slices.Equal(svc.Conditions, want.Conditions)
}

// events returns what people should hear of the step from svc to want: the new
// verdict, if it is not the old one in other words, or that all is released.
func events(svc snapshot.Service, want ServiceStatus) []Event {
	if len(want.Conditions) == 0 {
		if svc.Ours {
			what := list(svc.Addrs())
			if what == "" || want.Leave { // the API server itself has cleared the status when the type changed
				what = "its address"
			}
			return []Event{{Reason: AddressReleased, Message: "released " + what}}
		}
		return nil
	}
	now := want.Conditions[0]
	if len(svc.Conditions) > 0 && svc.Conditions[0] == now && sameAddrs(svc.Ingress, want.Ingress) {
		return announcedEvents(svc, want)
	}
	return append([]Event{{Warning: now.Reason != Assigned, Reason: now.Reason, Message: now.Message}}, announcedEvents(svc, want)...)
}

func sameAddrs(a, b []snapshot.Ingress) bool {
	return slices.EqualFunc(a, b, func(x, y snapshot.Ingress) bool { return x.Addr == y.Addr })
}
