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

// An Outcome is what a change of the cluster would mean for one owner.
type Outcome struct {
	Owner string // namespace/name of a Service, or "claim namespace/name"
	Had   []netip.Addr
	Gets  []netip.Addr
	Why   string // the condition that it would have
}

// Lost reports whether the owner would not have any more what it had.
func (o Outcome) Lost() bool {
	return slices.ContainsFunc(o.Had, func(a netip.Addr) bool { return !slices.Contains(o.Gets, a) })
}

// String returns o as a line: what it means, who, and what is had and got.
func (o Outcome) String() string {
	switch {
	case len(o.Had) == 0 && len(o.Gets) == 0:
		return fmt.Sprintf("waits    %s: %s", o.Owner, o.Why)
	case len(o.Had) == 0:
		return fmt.Sprintf("assigns  %s: %s", o.Owner, list(o.Gets))
	case len(o.Gets) == 0:
		return fmt.Sprintf("releases %s: %s", o.Owner, list(o.Had))
	case o.Lost():
		return fmt.Sprintf("moves    %s: %s → %s", o.Owner, list(o.Had), list(o.Gets))
	case slices.Equal(o.Had, o.Gets):
		return fmt.Sprintf("keeps    %s: %s, but: %s", o.Owner, list(o.Had), o.Why)
	}
	return fmt.Sprintf("adds     %s: %s → %s", o.Owner, list(o.Had), list(o.Gets))
}

// Forecast returns, by Owner, what would differ for whom if the cluster were as
// after instead of as before, once the controller has done all it has to do in
// either. It runs the very Plan that the controller runs.
func Forecast(before, after snapshot.Snapshot) []Outcome {
	was, will := ends(Settle(before)), ends(Settle(after))
	owners := map[string]bool{}
	for o := range was {
		owners[o] = true
	}
	for o := range will {
		owners[o] = true
	}
	var out []Outcome
	for _, o := range slices.Sorted(maps.Keys(owners)) {
		a, b := was[o], will[o]
		if slices.Equal(a.addrs, b.addrs) && a.verdict.Reason == b.verdict.Reason {
			continue
		}
		if len(a.addrs)+len(b.addrs) > 0 || b.verdict.Reason != "" {
			out = append(out, Outcome{Owner: o, Had: a.addrs, Gets: b.addrs, Why: b.verdict.Message})
		}
	}
	return out
}

// Troubles says what of the configuration could not be used as written if the cluster
// were as after, and can now or is not there.
func Troubles(before, after snapshot.Snapshot) (out []string) {
	for _, kind := range []struct {
		name      string
		was, will []config.Problem
	}{{"AddressPool", before.Problems, after.Problems}, {"BGPPeer", before.PeerProblems, after.PeerProblems}} {
		for _, p := range kind.will {
			if !slices.Contains(kind.was, p) {
				out = append(out, fmt.Sprintf("%-8s %s %s: %s: %s", strings.ToLower(p.Reason), kind.name, p.Object, p.Field, p.Detail))
			}
		}
	}
	return out
}

// An end is where one owner ends up.
type end struct {
	addrs   []netip.Addr
	verdict snapshot.Condition
}

// settleRounds is how many passes are played at most: what one gives up is
// handed out by the next.
const settleRounds = 20

// Settle returns s as it is once the controller has done all it has to do: it plays
// passes until one has nothing to write.
func Settle(s snapshot.Snapshot) snapshot.Snapshot {
	s.Services, s.Claims, s.Pools = slices.Clone(s.Services), slices.Clone(s.Claims), slices.Clone(s.Pools)
	var m Memory
	for range settleRounds {
		var out Statuses
		out, m = Plan(s, m)
		if len(out.Services)+len(out.Claims) == 0 {
			break
		}
		written(s, out)
	}
	return s
}

// ends returns where each owner is.
func ends(s snapshot.Snapshot) map[string]end {
	ends := map[string]end{}
	for _, svc := range s.Services {
		if svc.Served || len(svc.Conditions) > 0 {
			ends[svc.Key] = end{svc.Addrs(), conditionOf(svc.Conditions)}
		}
	}
	for _, c := range s.Claims {
		ends[ipam.ClaimOwner(c.Namespace, c.Name)] = end{c.Addrs, conditionOf(c.Conditions)}
	}
	return ends
}

func conditionOf(conditions []snapshot.Condition) snapshot.Condition {
	if len(conditions) == 0 {
		return snapshot.Condition{}
	}
	return conditions[0]
}

// written puts a plan into s, as the API would have it once it is written.
// s must not share its slices with anybody.
func written(s snapshot.Snapshot, out Statuses) {
	for _, want := range out.Services {
		i, ok := slices.BinarySearchFunc(s.Services, want.Key, func(x snapshot.Service, k string) int { return cmp.Compare(x.Key, k) })
		if !ok {
			continue
		}
		svc := &s.Services[i]
		svc.Ingress, svc.Conditions = want.Ingress, want.Conditions
		svc.Ours = slices.ContainsFunc(want.Conditions, func(c snapshot.Condition) bool { return c.Type == AddressAssigned && c.Status })
	}
	for _, want := range out.Claims {
		if i := slices.IndexFunc(s.Claims, func(x snapshot.Claim) bool { return x.Key == want.Key }); i >= 0 {
			s.Claims[i].Addrs, s.Claims[i].Conditions, s.Claims[i].Observed = want.Addrs, want.Conditions, true
		}
	}
	for _, want := range out.Pools {
		if i := slices.IndexFunc(s.Pools, func(x snapshot.PoolStatus) bool { return x.Name == want.Name }); i >= 0 {
			s.Pools[i] = want.PoolStatus
		}
	}
}
