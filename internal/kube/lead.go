package kube

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// A Leadership is the Lease that one of several controllers holds.
type Leadership struct {
	Client    kubernetes.Interface
	Namespace string
	Name      string
	Identity  string // unique among replicas, and the same again after a restart
}

// Lead calls run whenever this controller leads, until ctx ends. The context
// of run ends when leadership is lost. On a clean stop the Lease is given back
// only after run has returned, so that two never lead at once, and the other
// replica need not wait for it to run out.
func Lead(ctx context.Context, l Leadership, run func(context.Context)) error {
	for ctx.Err() == nil {
		if err := lead(ctx, l, run); err != nil {
			return err
		}
	}
	return nil
}

// lead stands for election once, and returns when leadership is lost.
func lead(ctx context.Context, l Leadership, run func(context.Context)) error {
	elector, stop := context.WithCancel(context.Background())
	defer stop()
	led := make(chan struct{}, 1) // holds a token while run is under way
	e, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: l.Namespace, Name: l.Name},
			Client:     l.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: l.Identity},
		},
		LeaseDuration:   15 * time.Second,
		RenewDeadline:   10 * time.Second,
		RetryPeriod:     time.Second,
		ReleaseOnCancel: true,
		Name:            l.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				led <- struct{}{}
				defer func() { <-led }()
				both, cancel := context.WithCancel(leading)
				defer cancel()
				defer context.AfterFunc(ctx, cancel)()
				run(both)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("standing for Lease %s/%s: %w", l.Namespace, l.Name, err)
	}
	defer context.AfterFunc(ctx, func() {
		led <- struct{}{} // once run has returned
		stop()
	})()
	e.Run(elector)
	return nil
}
