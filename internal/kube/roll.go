package kube

import (
	"encoding/json"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"github.com/herald-lb/herald/internal/snapshot"
)

// rollCall judges by one reading of their Leases which speakers are alive and
// which are lost, each by Node; it does what peers do who watch Leases change.
//
// The last to have renewed its Lease is taken for the clock of all, for the one
// here may disagree with theirs: so if all have fallen silent together, those
// that were the last to do so seem alive.
func rollCall(leases []coordinationv1.Lease) (alive, lost []snapshot.Speaker) {
	var now time.Time
	for _, l := range leases {
		if l.Spec.RenewTime != nil && l.Spec.RenewTime.After(now) {
			now = l.Spec.RenewTime.Time
		}
	}
	for _, l := range leases {
		var h hello
		if l.Spec.HolderIdentity == nil || l.Spec.RenewTime == nil || l.Spec.LeaseDurationSeconds == nil ||
			json.Unmarshal([]byte(l.Annotations[annotationSpeaker]), &h) != nil {
			continue // peers pass it over, and say why
		}
		sp, ttl := h.speaker(*l.Spec.HolderIdentity), time.Duration(*l.Spec.LeaseDurationSeconds)*time.Second
		switch {
		case now.Sub(l.Spec.RenewTime.Time) < ttl:
			alive = append(alive, sp)
		case !sp.Leaving:
			lost = append(lost, sp)
		}
	}
	return byNode(alive), byNode(lost)
}
