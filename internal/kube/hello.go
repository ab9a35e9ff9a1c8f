package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/internal/loop"
	"github.com/herald-lb/herald/internal/snapshot"
)

const (
	// helloEvery is how often a speaker renews its Lease in a cluster of up
	// to helloCrowd speakers. In a larger one all of them together make no
	// more writes a second than those would.
	helloEvery = time.Second
	helloCrowd = 50
	// helloMissed renewals in a row, and a speaker is dead.
	helloMissed = 3
)

// A Hello makes known, by a Lease that is renewed all the time, that the
// speaker of one node is alive and what it can do.
type Hello struct {
	Client    kubernetes.Interface
	Namespace string
	Node      string
	// Facts returns what this speaker can do just now.
	Facts func() (snapshot.Speaker, error)
	// Peers returns how many speakers there are, this one included.
	Peers func() int
	// Changed makes the Hello look at its facts before its time.
	Changed loop.Bell
	Log     *slog.Logger

	leaving atomic.Bool
	lease   *coordinationv1.Lease // as last written; nil if it must be read first
}

// Leave makes known that this speaker is about to stop, and wants others to
// take over what it announces.
func (h *Hello) Leave() {
	h.leaving.Store(true)
	h.Changed.Ring()
}

// Run renews the Lease until ctx ends.
func (h *Hello) Run(ctx context.Context) error {
	failing := false
	for ctx.Err() == nil {
		every := h.every()
		// It runs from the beginning of the write, so that one that hangs is
		// not late for the next. Jitter keeps speakers that were started
		// together apart.
		t := time.NewTimer(every - every/10 + rand.N(every/10))
		err := h.renew(ctx, every)
		if stale(err) { // deleted, or written by somebody else: read it anew
			err = h.renew(ctx, every)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil && !failing:
			h.Log.Warn("peers cannot hear this speaker, and will take it for dead", "err", err)
		case err == nil && failing:
			h.Log.Info("peers can hear this speaker again")
		}
		failing = err != nil
		select {
		case <-t.C:
		case <-h.Changed:
		case <-ctx.Done():
		}
		t.Stop()
	}
	return nil
}

func (h *Hello) every() time.Duration {
	crowds := (h.Peers() + helloCrowd - 1) / helloCrowd
	return helloEvery * time.Duration(max(1, crowds))
}

// renew writes the Lease once, creating it if it is not there.
func (h *Hello) renew(ctx context.Context, every time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	leases := h.Client.CoordinationV1().Leases(h.Namespace)
	if h.lease == nil {
		var err error
		h.lease, err = leases.Get(ctx, h.name(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			h.lease, err = h.create(ctx)
		}
		if err != nil {
			h.lease = nil
			return fmt.Errorf("reading Lease %s/%s: %w", h.Namespace, h.name(), err)
		}
	}
	facts, err := h.Facts() // now, and not before an answer that may have taken a second
	if err != nil {
		return fmt.Errorf("reading the links of node %s: %w", h.Node, err)
	}
	next := h.lease.DeepCopy()
	if err := h.fill(next, facts, every); err != nil {
		return err
	}
	written, err := leases.Update(ctx, next, metav1.UpdateOptions{})
	if err != nil {
		h.lease = nil // it may be gone, or somebody else's version be newer
		return fmt.Errorf("renewing Lease %s/%s: %w", h.Namespace, h.name(), err)
	}
	h.lease = written
	return nil
}

func (h *Hello) name() string { return "herald-speaker-" + h.Node }

// create makes an empty Lease, owned by the Node so that it goes with it.
func (h *Hello) create(ctx context.Context) (*coordinationv1.Lease, error) {
	l := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Name: h.name(), Namespace: h.Namespace,
		Labels: map[string]string{labelComponent: componentSpeaker, "app.kubernetes.io/name": "herald"},
	}}
	n, err := h.Client.CoreV1().Nodes().Get(ctx, h.Node, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading Node %s: %w", h.Node, err)
	}
	l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}}
	return h.Client.CoordinationV1().Leases(h.Namespace).Create(ctx, l, metav1.CreateOptions{})
}

func (h *Hello) fill(l *coordinationv1.Lease, facts snapshot.Speaker, every time.Duration) error {
	say := hello{DataPath: facts.DataPath, Leaving: h.leaving.Load(), Tunnels: facts.Tunnels, Lacks: facts.Lacks, BFD: facts.BFD, Hears: facts.Hears}
	for _, link := range facts.Links {
		say.Links = append(say.Links, helloLink{Name: link.Name, MAC: net.HardwareAddr(link.MAC[:]).String(), Prefixes: link.Prefixes, Unsteady: link.Unsteady})
	}
	text, err := json.Marshal(say)
	if err != nil {
		return fmt.Errorf("encoding annotation %s: %w", annotationSpeaker, err)
	}
	if l.Annotations == nil {
		l.Annotations = map[string]string{}
	}
	l.Annotations[annotationSpeaker] = string(text)
	now := metav1.NowMicro()
	l.Spec.HolderIdentity = ptr.To(h.Node)
	l.Spec.RenewTime = &now
	l.Spec.LeaseDurationSeconds = ptr.To(int32(helloMissed * every / time.Second))
	return nil
}
