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
// When the last Lease was written is taken for now, for the clock here may disagree
// with that of the API server: so if all have fallen silent together, those that
// were the last to do so seem alive.
func rollCall(leases []coordinationv1.Lease) (alive, lost []snapshot.Speaker) {
	var now time.Time
	for _, l := range leases {
		if at := written(l); at.After(now) {
			now = at
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
		case now.Sub(written(l)) < ttl:
			alive = append(alive, sp)
		case !sp.Leaving:
			lost = append(lost, sp)
		}
	}
	return byNode(alive), byNode(lost)
}

// written is when a Lease was written last, by the clock of the API server, or by
// that of its holder in a reading that does not say. The clocks of two holders are
// not to be compared: one may be an hour ahead.
func written(l coordinationv1.Lease) (last time.Time) {
	for _, f := range l.ManagedFields {
		if f.Time != nil && f.Time.After(last) {
			last = f.Time.Time
		}
	}
	if last.IsZero() && l.Spec.RenewTime != nil {
		last = l.Spec.RenewTime.Time
	}
	return last
}
