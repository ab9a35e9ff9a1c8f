package kube

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

func leadership(client *fake.Clientset, identity string) Leadership {
	return Leadership{Client: client, Namespace: "herald-system", Name: "herald-controller", Identity: identity, Log: slog.New(slog.DiscardHandler)}
}

func holder(t *testing.T, client *fake.Clientset) string {
	t.Helper()
	l, err := client.CoordinationV1().Leases("herald-system").Get(t.Context(), "herald-controller", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return *l.Spec.HolderIdentity
}

// held is the Lease as one who has been killed at now leaves it.
func held(by string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "herald-system", Name: "herald-controller"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &by, LeaseDurationSeconds: ptr.To(int32(15)),
			AcquireTime: ptr.To(metav1.NowMicro()), RenewTime: ptr.To(metav1.NowMicro()), LeaseTransitions: ptr.To(int32(0)),
		},
	}
}

// Who was paused beyond its Lease hears of the new leader at its next look, and
// must not go on until its own deadline.
func TestWhoSeesAnotherLeaderStopsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var taken atomic.Bool
		client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			// What a compares its write with is of a version before b's.
			return taken.Load(), nil, apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, "herald-controller", errors.New("newer"))
		})
		began := time.Now()
		var ended time.Duration
		time.AfterFunc(3*time.Second, func() {
			defer taken.Store(true)
			if _, err := client.CoordinationV1().Leases("herald-system").Update(t.Context(), held("b"), metav1.UpdateOptions{}); err != nil {
				t.Error(err)
			}
		})
		err := Lead(ctx, leadership(client, "a"), func(ctx context.Context) {
			<-ctx.Done()
			if ended == 0 {
				ended = time.Since(began)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if ended < 3*time.Second || ended > 5*time.Second {
			t.Errorf("it led until %v, though another has led since 3s", ended)
		}
	})
}

func TestTheLeaseIsGivenBackOnceRunHasReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var running atomic.Bool
		client.PrependReactor("update", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
			l := a.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
			if ptr.Deref(l.Spec.HolderIdentity, "") == "" && running.Load() {
				t.Error("the Lease is given back while run is under way")
			}
			return false, nil, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		err := Lead(ctx, leadership(client, "a"), func(ctx context.Context) {
			running.Store(true)
			<-ctx.Done()
			time.Sleep(3 * time.Second) // a last write takes its time
			running.Store(false)
		})
		if err != nil {
			t.Fatal(err)
		}
		if running.Load() {
			t.Error("Lead returns before run")
		}
		if got := holder(t, client); got != "" {
			t.Errorf("the Lease is still held by %q", got)
		}
	})
}

func TestWhoStopsBeforeItLeadsLeavesTheLeaseAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset(held("b"))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := Lead(ctx, leadership(client, "a"), func(context.Context) { t.Error("it leads") }); err != nil {
			t.Fatal(err)
		}
		if got := holder(t, client); got != "b" {
			t.Errorf("the Lease is held by %q, want b", got)
		}
	})
}

func TestARestartedLeaderLeadsAtOnceAndAnotherWaits(t *testing.T) {
	for identity, want := range map[string]struct{ least, most time.Duration }{
		"a": {0, time.Second},
		"b": {15 * time.Second, 18 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := fake.NewClientset(held("a"))
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			led := time.Duration(-1)
			err := Lead(ctx, leadership(client, identity), func(ctx context.Context) {
				led = time.Since(start)
				cancel()
			})
			if err != nil {
				t.Fatal(err)
			}
			if led < want.least || led > want.most {
				t.Errorf("%s leads after %v, want %v to %v", identity, led, want.least, want.most)
			}
		})
	}
}

func TestRunIsNotCalledAgainBeforeItHasReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		start := time.Now()
		client.PrependReactor("update", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if at := time.Since(start); at > 5*time.Second && at < 17*time.Second {
				return true, nil, errors.New("connection refused")
			}
			return false, nil, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var running, runs atomic.Int32
		err := Lead(ctx, leadership(client, "a"), func(ctx context.Context) {
			runs.Add(1)
			if n := running.Add(1); n > 1 {
				t.Errorf("%d run at once", n)
			}
			<-ctx.Done()
			time.Sleep(20 * time.Second) // it is slow to notice
			running.Add(-1)
		})
		if err != nil {
			t.Fatal(err)
		}
		if runs.Load() != 2 {
			t.Errorf("leadership was lost once, and run was called %d times", runs.Load())
		}
	})
}
