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
func poolStatuses(s snapshot.Snapshot, usage []ipam.Usage) []PoolStatus {
	used := map[string]ipam.Usage{}
	for _, u := range usage {
		used[u.Pool] = u
	}
	var out []PoolStatus
	for _, have := range s.Pools {
		want := have
		want.V4 = snapshot.Count(used[have.Name].V4)
		want.V6 = snapshot.Count(used[have.Name].V6)
		want.Conditions = poolConditions(have.Name, s.Problems)
		if want.V4 == have.V4 && want.V6 == have.V6 && slices.Equal(want.Conditions, have.Conditions) {
			continue
		}
		out = append(out, PoolStatus{PoolStatus: want, Events: poolEvents(have, want)})
	}
	return out
}

// poolConditions puts the problems of the pool called name into its Ready
// condition.
func poolConditions(name string, problems []config.Problem) []snapshot.Condition {
	var words []string
	reason := ""
	for _, p := range problems {
		if p.Object != name {
			continue
		}
		if reason == "" {
			reason = p.Reason
		}
		words = append(words, p.Field+": "+p.Detail)
	}
	if len(words) > 0 {
		return []snapshot.Condition{{Type: Ready, Reason: reason, Message: strings.Join(words, "; ")}}
	}
	return []snapshot.Condition{{Type: Ready, Status: true, Reason: "Ready", Message: "all of the pool is in use as written"}}
}

// poolEvents returns a warning if the pool has turned bad.
func poolEvents(have, want snapshot.PoolStatus) []Event {
	now := want.Conditions[0]
	if now.Status || slices.Equal(have.Conditions, want.Conditions) {
		return nil
	}
	return []Event{{Warning: true, Reason: now.Reason, Message: now.Message}}
}
