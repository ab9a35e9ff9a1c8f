package kube

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/snapshot"
)

// pool writes the status of an AddressPool.
func (w *StatusWriter) pool(ctx context.Context, want controller.PoolStatus) error {
	have, ok := newest[*v1alpha1.AddressPool](w.Source.informers.pools, &w.Source.wrotePools, want.Name)
	if !ok || have.ResourceVersion != want.Version {
		return nil
	}
	got := &v1alpha1.AddressPool{}
	written, err := w.patch(ctx, got, target{resource: "addresspools", name: have.Name}, map[string]any{
		"metadata": over(have),
		"status": map[string]any{
			"ipv4":       count(want.V4),
			"ipv6":       count(want.V6),
			"resting":    resting(want.Resting),
			"conflicts":  conflicting(want.Conflicts),
			"conditions": conditions(have.Status.Conditions, want.Conditions, have.Generation),
		},
	})
	if err != nil {
		return fmt.Errorf("writing the status of AddressPool %s: %w", want.Name, err)
	}
	if written {
		w.Source.wrotePools.put(want.Name, got)
		w.Source.note(func(d *dirty) { d.pools = true }) // nobody waits for it
		w.tell(got, want.Events)
	}
	return nil
}

// claim writes the status of an AddressClaim.
func (w *StatusWriter) claim(ctx context.Context, want controller.ClaimStatus) error {
	have, ok := newest[*v1alpha1.AddressClaim](w.Source.informers.claims, &w.Source.wroteClaims, want.Key)
	if !ok || have.ResourceVersion != want.Version {
		return nil
	}
	var addrs []string
	for _, a := range want.Addrs {
		addrs = append(addrs, a.String())
	}
	got := &v1alpha1.AddressClaim{}
	written, err := w.patch(ctx, got, target{"addressclaims", have.Namespace, have.Name}, map[string]any{
		"metadata": over(have),
		"status": map[string]any{
			"addresses":  addrs,
			"conditions": conditions(have.Status.Conditions, want.Conditions, have.Generation),
		},
	})
	if err != nil {
		return fmt.Errorf("writing the status of AddressClaim %s: %w", want.Key, err)
	}
	if written {
		w.Source.wroteClaims.put(want.Key, got)
		w.Source.mark(func(d *dirty) { d.claims = true })
		w.Log.Info("status written", "claim", want.Key, "addresses", addrs, "reason", reason(want.Conditions))
		w.tell(got, want.Events)
	}
	return nil
}

// peer writes the status of a BGPPeer.
func (w *StatusWriter) peer(ctx context.Context, want controller.PeerStatus) error {
	have, ok := newest[*v1alpha1.BGPPeer](w.Source.informers.peers, &w.Source.wrotePeers, want.Name)
	if !ok || have.ResourceVersion != want.Version {
		return nil
	}
	got := &v1alpha1.BGPPeer{}
	written, err := w.patch(ctx, got, target{resource: "bgppeers", name: have.Name}, map[string]any{
		"metadata": over(have),
		"status": map[string]any{
			"established": want.Established,
			"conditions":  conditions(have.Status.Conditions, want.Conditions, have.Generation),
		},
	})
	if err != nil {
		return fmt.Errorf("writing the status of BGPPeer %s: %w", want.Name, err)
	}
	if written {
		w.Source.wrotePeers.put(want.Name, got)
		w.Source.note(func(d *dirty) { d.peers = true }) // nobody waits for it
		w.tell(got, want.Events)
	}
	return nil
}

// A target is an object of Herald's own kinds.
type target struct{ resource, namespace, name string }

// patch patches the status of t into got, and reports whether it did: not if
// the object has moved on.
func (w *StatusWriter) patch(ctx context.Context, got runtime.Object, t target, patch map[string]any) (bool, error) {
	body, err := json.Marshal(patch)
	if err != nil {
		return false, err
	}
	r := w.Clients.Herald.Patch(types.MergePatchType).Resource(t.resource).Name(t.name).SubResource("status")
	if t.namespace != "" {
		r = r.Namespace(t.namespace)
	}
	if err := r.Body(body).Do(ctx).Into(got); err != nil {
		if stale(err) {
			return false, nil
		}
		return false, err
	}
	return true, nil
}

// count returns c for the API: null, which takes it away, if the pool has no
// address of the family.
func count(c snapshot.Count) *v1alpha1.AddressCount {
	if c == (snapshot.Count{}) {
		return nil
	}
	return ptr.To(v1alpha1.AddressCount(c))
}

// resting returns rests for the API: null, which takes the list away, if there
// are none.
func resting(rests []snapshot.Rest) []v1alpha1.RestingAddress {
	var out []v1alpha1.RestingAddress
	for _, r := range rests {
		out = append(out, v1alpha1.RestingAddress{
			Address: r.Addr.String(), Service: r.Owner, Until: metav1.NewTime(r.Until.UTC()),
		})
	}
	return out
}

// conflicting returns addresses in quarantine for the API: null, which takes the
// list away, if there are none.
func conflicting(all []snapshot.Quarantine) []v1alpha1.ConflictingAddress {
	var out []v1alpha1.ConflictingAddress
	for _, q := range all {
		out = append(out, v1alpha1.ConflictingAddress{
			Address: q.Addr.String(), MAC: q.MAC, Node: q.Node, Until: metav1.NewTime(q.Until.UTC()),
		})
	}
	return out
}

// claimOf converts c; the pools it may take from are added by others.
func claimOf(c *v1alpha1.AddressClaim) snapshot.Claim {
	compiled, problems := v1alpha1.CompileClaim(c)
	out := snapshot.Claim{
		Claim: compiled, Key: c.Namespace + "/" + c.Name, UID: string(c.UID), Version: c.ResourceVersion,
		Created: c.CreationTimestamp.Time,
	}
	for _, p := range problems {
		out.Invalid = cmp.Or(out.Invalid, p.Field+": "+p.Detail)
	}
	for _, text := range c.Status.Addresses {
		if a, err := netip.ParseAddr(string(text)); err == nil {
			out.Addrs = append(out.Addrs, a)
		}
	}
	for _, have := range c.Status.Conditions {
		if have.Type == controller.Ready {
			out.Conditions = append(out.Conditions, condition(have))
			out.Observed = have.ObservedGeneration == c.Generation
		}
	}
	return out
}
