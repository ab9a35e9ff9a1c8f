package controller

import (
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// poolStatuses returns the status of every pool that has another one than it
// should have.
func poolStatuses(s snapshot.Snapshot, usage []ipam.Usage, rests []snapshot.Rest, barred []snapshot.Quarantine) []PoolStatus {
	used := map[string]ipam.Usage{}
	for _, u := range usage {
		used[u.Pool] = u
	}
	var out []PoolStatus
	for _, have := range s.Pools {
		want := have
		want.V4 = snapshot.Count(used[have.Name].V4)
		want.V6 = snapshot.Count(used[have.Name].V6)
		want.Resting = restingIn(have.Name, s.Config, rests)
		want.Conflicts = conflictsIn(have.Name, s.Config, barred)
		want.Conditions, want.Observed = poolConditions(want, s.Problems), true
		if have.Observed && want.V4 == have.V4 && want.V6 == have.V6 &&
			slices.Equal(want.Conditions, have.Conditions) && slices.EqualFunc(want.Resting, have.Resting, sameRest) &&
			slices.EqualFunc(want.Conflicts, have.Conflicts, sameQuarantine) {
			continue
		}
		out = append(out, PoolStatus{PoolStatus: want, Events: poolEvents(have, want)})
	}
	return out
}

// maxResting is how many resting addresses the status of a pool has room for.
const maxResting = 256

// restingIn returns those of rests that lie in the pool called name: of too
// many those that rest longest.
func restingIn(name string, c config.Config, rests []snapshot.Rest) []snapshot.Rest {
	var in []snapshot.Rest
	for _, r := range rests {
		if c.PoolOf(r.Addr).Name == name {
			in = append(in, r)
		}
	}
	if len(in) > maxResting {
		slices.SortStableFunc(in, func(a, b snapshot.Rest) int { return b.Until.Compare(a.Until) })
		in = in[:maxResting]
		slices.SortFunc(in, func(a, b snapshot.Rest) int { return a.Addr.Compare(b.Addr) })
	}
	return in
}

// sameRest compares times as the API keeps them, in seconds.
func sameRest(a, b snapshot.Rest) bool {
	return a.Addr == b.Addr && a.Owner == b.Owner && a.Until.Unix() == b.Until.Unix()
}

// poolConditions puts the problems of a pool, and how full it is, into words.
func poolConditions(p snapshot.PoolStatus, problems []config.Problem) []snapshot.Condition {
	ready := snapshot.Condition{Type: Ready, Status: true, Reason: ReasonReady, Message: "all of the pool is in use as written"}
	overlap := snapshot.Condition{Type: Overlap, Reason: NoOverlap}
	var words []string
	for _, problem := range problems {
		if problem.Object != p.Name {
			continue
		}
		if len(words) == 0 {
			ready = snapshot.Condition{Type: Ready, Reason: problem.Reason}
		}
		words = append(words, problem.Field+": "+problem.Detail)
		ready.Message = strings.Join(words, "; ")
		if problem.Reason == config.Overlap {
			overlap = snapshot.Condition{Type: Overlap, Status: true, Reason: config.Overlap, Message: problem.Field + ": " + problem.Detail}
		}
	}
	return []snapshot.Condition{exhausted(p), overlap, ready}
}

// exhausted says of which families the pool has nothing left to give.
func exhausted(p snapshot.PoolStatus) snapshot.Condition {
	var full []string
	for _, f := range []struct {
		family ipam.Family
		count  snapshot.Count
	}{{ipam.IPv4, p.V4}, {ipam.IPv6, p.V6}} {
		if f.count.Total > 0 && f.count.Free == 0 {
			full = append(full, f.family.String())
		}
	}
	if len(full) == 0 {
		return snapshot.Condition{Type: Exhausted, Reason: AddressesFree}
	}
	return snapshot.Condition{Type: Exhausted, Status: true, Reason: string(ipam.PoolFull),
		Message: "no " + strings.Join(full, " and no ") + " address is free: add addresses to the pool, or free some"}
}

// poolEvents returns a warning for each condition that has turned bad.
func poolEvents(have, want snapshot.PoolStatus) []Event {
	var out []Event
	for _, now := range want.Conditions {
		if bad(now) && now.Type != Overlap && !slices.Contains(have.Conditions, now) { // Ready tells of overlaps
			out = append(out, Event{Warning: true, Reason: now.Reason, Message: now.Message})
		}
	}
	return out
}
