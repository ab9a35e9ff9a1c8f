package controller

import (
	"slices"
	"strings"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// claimStatus returns the status that c should have, and whether it differs
// from the one it has.
func claimStatus(c snapshot.Claim, g ipam.Grant) (want ClaimStatus, differs bool) {
	want = ClaimStatus{Key: c.Key, UID: c.UID, Version: c.Version, Addrs: addrsOf(g)}
	ready := snapshot.Condition{Type: Ready, Status: true, Reason: Assigned}
	var why []string
	for _, a := range g.Addrs {
		if a.Pool != "" {
			why = append(why, a.Addr.String()+" from pool "+a.Pool)
		} else {
			why = append(why, a.Addr.String()+", which no pool covers any more")
		}
	}
	for _, r := range g.Refusals {
		ready.Status, ready.Reason = false, string(r.Reason)
		why = append(why, r.Detail)
	}
	for _, n := range g.Notes {
		why = append(why, n.Detail)
	}
	if c.Invalid != "" {
		ready.Status, ready.Reason = false, InvalidRequest
		why = append(why, c.Invalid)
	}
	ready.Message = strings.Join(why, "; ")
	want.Conditions = []snapshot.Condition{ready}
	same := slices.Equal(want.Conditions, c.Conditions)
	if !same {
		want.Events = []Event{{Warning: !ready.Status, Reason: ready.Reason, Message: ready.Message}}
	}
	return want, !same || !c.Observed || !slices.Equal(want.Addrs, c.Addrs)
}

// reassigned returns the condition that says which request for another address
// was served last: this one if svc has moved, or had nothing to move from.
func reassigned(svc snapshot.Service, g ipam.Grant) []snapshot.Condition {
	if svc.Reassign == "" {
		return nil
	}
	served := []snapshot.Condition{{Type: Reassigned, Status: true, Reason: Reassigned[len("herald-lb.io/"):], Message: svc.Reassign}}
	if !moves(svc) || !slices.Equal(addrsOf(g), svc.Addrs()) {
		return served
	}
	i := slices.IndexFunc(svc.Conditions, func(c snapshot.Condition) bool { return c.Type == Reassigned })
	if i < 0 {
		return nil
	}
	return svc.Conditions[i : i+1]
}
