package openstack

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/cloud"
	sim "github.com/herald-lb/herald/internal/cloudsim/openstack"
)

// Whoever is killed at a call that changes something, before it is sent or before its
// answer comes, and starts again, has one load balancer and one address in the end,
// and then none. A death at a call that reads is one of these.
func TestKilledAtAnyCall(t *testing.T) {
	w := newWorld(t)
	spec := want("web", 1, 80)
	create := func() error {
		for range 3 {
			if f, _, err := w.pass(t, spec); f != nil || err != nil {
				return err
			}
		}
		return nil
	}
	remove := func() error { return w.remove(t, spec.Owner, cloud.PolicyDelete) }
	const creating, deleting = 3, 2 // calls that change something
	for n := 1; n <= creating; n++ {
		for _, after := range []bool{false, true} {
			w.killed(t, n, after, create)
			w.settle(t, spec)
			if lbs, ips := w.balancersNow(t), w.floatingIPs(t); len(lbs) != 1 || len(ips) != 1 {
				t.Errorf("killed at call %d of creating, after it %t: there are load balancers %v, addresses %v", n, after, lbs, ips)
			}
			if n <= deleting {
				w.killed(t, n, after, remove)
			}
			w.end(t, spec.Owner)
			if lbs, ips := w.balancersNow(t), w.floatingIPs(t); len(lbs) != 0 || len(ips) != 0 {
				t.Fatalf("killed at call %d of deleting, after it %t: left behind are load balancers %v, addresses %v", n, after, lbs, ips)
			}
		}
	}
}

// killed does something, and is killed at the n-th call that changes something.
func (w *world) killed(t *testing.T, n int, after bool, do func() error) {
	t.Helper()
	dead, changes := false, 0
	w.Fault(func(r *http.Request, answered bool) int {
		changing := r.Method != http.MethodGet
		if changing && !answered {
			changes++
		}
		if dead = dead || changing && changes == n && answered == after; dead {
			return -1
		}
		return 0
	})
	if err := do(); err == nil || !cloud.Is(err, cloud.Retryable) {
		t.Errorf("call %d: it did not die: %v", n, err)
	}
	w.Fault(nil)
	w.restart(t)
}

// What a server refuses is of a class, and no secret is in any error.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	for status, class := range map[int]cloud.Class{403: cloud.Auth, 404: cloud.NotFound, 413: cloud.Quota, 429: cloud.RateLimited, 500: cloud.Retryable, 503: cloud.Retryable, -1: cloud.Retryable} {
		w.Fault(func(r *http.Request, _ bool) int {
			if r.URL.Path == "/v3/auth/tokens" {
				return 0
			}
			return status
		})
		w.secretive(t, status, class)
	}
	w.Fault(nil)
	t.Setenv("OS_APPLICATION_CREDENTIAL_SECRET", "wr0ng-secret")
	w.restart(t)
	w.secretive(t, 401, cloud.Auth)
}

// secretive looks at the error of a call.
func (w *world) secretive(t *testing.T, status int, class cloud.Class) {
	t.Helper()
	_, err := w.Find(t.Context(), owner("web"))
	if !cloud.Is(err, class) {
		t.Errorf("%d: %v is of class %s, not %s", status, err, cloud.ClassOf(err), class)
	}
	for _, secret := range []string{sim.Secret, "wr0ng-secret", "t0ken"} {
		if strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("%d: a secret is in %q", status, err)
		}
	}
	var why *cloud.Error
	if errors.As(err, &why) && status == 429 && why.After != 7*time.Second {
		t.Errorf("Retry-After is %s", why.After)
	}
}
