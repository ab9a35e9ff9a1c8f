package kube

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/internal/loop"
)

const (
	// syncedEvery is the time between two looks at whether all has been read.
	syncedEvery = 5 * time.Millisecond
	// catchUpFirst is the time between the first two looks at whether the
	// cache is behind; it doubles up to catchUpLast.
	catchUpFirst = 50 * time.Millisecond
	catchUpLast  = 2 * time.Second
	// catchUpPage is how many Services are in memory twice while looking.
	catchUpPage = 500
)

// CatchUp returns once the next Take shows every Service as it is in the API
// now. A new leader calls it before its first pass: its cache may lag behind
// what the last leader wrote just before it went.
func (w *StatusWriter) CatchUp(ctx context.Context) error {
	for !w.Source.Synced() { // asks nobody
		if !loop.Pause(ctx, syncedEvery) {
			return ctx.Err()
		}
	}
	for wait := catchUpFirst; ; wait = min(2*wait, catchUpLast) {
		behind, err := w.behind(ctx)
		if err == nil && !behind {
			// The cache may be ahead of its handlers.
			w.Source.note(func(d *dirty) { d.all, d.claims = true, true })
			return nil
		}
		if err != nil && ctx.Err() == nil {
			w.Log.Warn("waiting to see all Services as they are", "retry", wait, "err", err)
		}
		if !loop.Pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

// behind compares the cache with a consistent read.
func (w *StatusWriter) behind(ctx context.Context) (bool, error) {
	if behind, err := w.claimsBehind(ctx); behind || err != nil {
		return true, err
	}
	page := metav1.ListOptions{Limit: catchUpPage}
	for {
		now, err := w.Clients.Core.CoreV1().Services("").List(ctx, page)
		if err != nil {
			return true, fmt.Errorf("listing Services: %w", err)
		}
		for i := range now.Items {
			svc := &now.Items[i]
			have, ok := w.Source.newestService(svc.Namespace + "/" + svc.Name)
			if !ok || version(have) < version(svc) {
				return true, nil
			}
		}
		if page.Continue = now.Continue; page.Continue == "" {
			return false, nil
		}
	}
}

// claimsBehind is behind for AddressClaims, which hold addresses, too.
func (w *StatusWriter) claimsBehind(ctx context.Context) (bool, error) {
	if w.Source.informers.claims == nil {
		return false, nil
	}
	var now v1alpha1.AddressClaimList
	if err := w.Clients.Herald.Get().Resource("addressclaims").Do(ctx).Into(&now); err != nil {
		return true, fmt.Errorf("listing AddressClaims: %w", err)
	}
	for i := range now.Items {
		c := &now.Items[i]
		have, ok := newest[*v1alpha1.AddressClaim](w.Source.informers.claims, &w.Source.wroteClaims, c.Namespace+"/"+c.Name)
		if !ok || version(have) < version(c) {
			return true, nil
		}
	}
	return false, nil
}
