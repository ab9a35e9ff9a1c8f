package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/util/retry"
)

// ControllerLease is the name of the one that the leading controller holds.
const ControllerLease = "herald-controller"

// giveBackWithin is how long a stop waits for the API to take the Lease back.
const giveBackWithin = 2 * time.Second

// A Leadership is the Lease that one of several controllers holds.
type Leadership struct {
	Client    kubernetes.Interface
	Namespace string
	Name      string
	Identity  string // unique among replicas, and the same again after a restart
	Log       *slog.Logger
}

// Lead calls run whenever this controller leads, until ctx ends. The context
// of run ends when leadership is lost, and run is not called again before it
// has returned. On a clean stop the Lease is given back, once run has returned,
// so that the other replica need not wait for it to run out.
func Lead(ctx context.Context, l Leadership, run func(context.Context)) error {
	for ctx.Err() == nil {
		if err := lead(ctx, l, run); err != nil {
			return fmt.Errorf("standing for Lease %s/%s: %w", l.Namespace, l.Name, err)
		}
	}
	return nil
}

// lead stands for election once, and returns when leadership is lost.
func lead(ctx context.Context, l Leadership, run func(context.Context)) error {
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name},
		Client:     l.Client.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: l.Identity},
	}
	standing, lost := context.WithCancel(ctx)
	defer lost()
	led := make(chan struct{}, 1) // holds a token while run is under way
	e, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: watched{lock, func(holder string) {
			if holder != "" && holder != l.Identity && len(led) > 0 {
				lost()
			}
		}},
		LeaseDuration: 15 * time.Second,
		RenewDeadline: 10 * time.Second,
		// It is stretched by up to 1.2 of itself: a Lease that is given back
		// is taken within two seconds.
		RetryPeriod: 800 * time.Millisecond,
		Name:        l.Name,
		// Not ReleaseOnCancel: the elector gives the Lease back, even after
		// it could not renew it, while run is still under way.
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				led <- struct{}{}
				defer func() { <-led }()
				if leading.Err() == nil {
					run(leading)
				}
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	e.Run(standing)
	led <- struct{}{} // run has returned or, if it was not called yet, never is
	<-led
	if ctx.Err() == nil {
		return nil
	}
	if err := giveBack(ctx, lock); err != nil {
		l.Log.Warn("another controller has to wait until the Lease runs out", "lease", l.Namespace+"/"+l.Name, "err", err)
	}
	return nil
}

// A watched lock tells who holds it whenever it is read. Who was paused beyond
// its Lease reads that another leads, but the elector would go on trying to
// renew until its deadline, and let run go on as well.
type watched struct {
	resourcelock.Interface
	seen func(holder string)
}

// Get implements resourcelock.Interface.
func (w watched) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	r, raw, err := w.Interface.Get(ctx)
	if err == nil {
		w.seen(r.HolderIdentity)
	}
	return r, raw, err
}

// giveBack ends the holding of lock, if it is held here.
func giveBack(ctx context.Context, lock resourcelock.Interface) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackWithin)
	defer cancel()
	// The last renewal may have been cut short, and arrive meanwhile.
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		held, _, err := lock.Get(ctx)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the Lease: %w", err)
		}
		if held.HolderIdentity != lock.Identity() {
			return nil
		}
		held.HolderIdentity = ""
		held.LeaseDurationSeconds = 1 // the least the API takes
		held.RenewTime = metav1.Now()
		return lock.Update(ctx, *held)
	})
}
