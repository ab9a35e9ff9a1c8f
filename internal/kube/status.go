package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"

	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/snapshot"
)

// markCondition is the condition by which Herald knows its own.
const markCondition = controller.AddressAssigned

const (
	// writers is how many writes are under way at once.
	writers = 16
	// ownEvery is the least time between two writes of the statuses of pools, which
	// change with every address that is assigned, and of those of BGPPeers, which do
	// with every session of any node.
	ownEvery = time.Second
	// errorsNamed is how many of the errors of one Sync are said in full: without
	// the API there is one for each Service.
	errorsNamed = 5
)

// A StatusWriter writes what the controller has planned. It implements
// controller.Writer. It belongs to the goroutine of the pass.
type StatusWriter struct {
	Clients Clients
	Source  *Source // whose snapshot the plan was made of
	Events  record.EventRecorder
	Log     *slog.Logger

	pools, peers pace // of their statuses
}

var _ controller.Writer = (*StatusWriter)(nil)

// Sync implements controller.Writer. A write over a version that is not the
// newest any more, or of an object that is gone, is dropped: the watch is about
// to bring the news, and with it the next pass.
func (w *StatusWriter) Sync(ctx context.Context, want controller.Statuses) error {
	if len(want.Pools) > 0 && !w.pools.due(time.Now(), w.Source.o.Ring) {
		want.Pools = nil
	}
	if len(want.Peers) > 0 && !w.peers.due(time.Now(), w.Source.o.Ring) {
		want.Peers = nil
	}
	var writes []func() error
	for _, c := range want.Claims { // Services wait for them
		writes = append(writes, func() error { return w.claim(ctx, c) })
	}
	for _, s := range want.Services {
		writes = append(writes, func() error { return w.service(ctx, s) })
	}
	for _, p := range want.Pools {
		writes = append(writes, func() error { return w.pool(ctx, p) })
	}
	for _, p := range want.Peers {
		writes = append(writes, func() error { return w.peer(ctx, p) })
	}
	errs := make([]error, len(writes))
	var g errgroup.Group
	g.SetLimit(writers)
	for i, write := range writes {
		g.Go(func() error { errs[i] = write(); return nil })
	}
	_ = g.Wait() // every error is in errs
	return some(errs)
}

// some joins errs, and only counts those beyond the first few.
func some(errs []error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if more := len(errs) - errorsNamed; more > 0 {
		errs = append(errs[:errorsNamed:errorsNamed], fmt.Errorf("and %d more like these", more))
	}
	return errors.Join(errs...)
}

func (w *StatusWriter) service(ctx context.Context, want controller.ServiceStatus) error {
	have, ok := w.Source.newestService(want.Key)
	if !ok || have.ResourceVersion != want.Version {
		return nil
	}
	patch, err := json.Marshal(servicePatch(have, want))
	if err != nil {
		return fmt.Errorf("encoding the status of Service %s: %w", want.Key, err)
	}
	got, err := w.patchService(ctx, have, patch)
	if stale(err) {
		w.Log.Debug("a newer version is on its way", "service", want.Key, "err", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the status of Service %s: %w", want.Key, err)
	}
	set := func(d *dirty) { d.services[want.Key] = true }
	if w.Source.note(set); frees(have, want) {
		w.Source.o.Ring() // others may be waiting for just that
	}
	w.Log.Info("status written", "service", want.Key, "ingress", addresses(want.Ingress), "reason", reason(want.Conditions))
	w.tell(got, want.Events)
	return nil
}

// patchService writes one status. If the watch brings other news of the Service
// meanwhile, it rings.
func (w *StatusWriter) patchService(ctx context.Context, have *corev1.Service, patch []byte) (*corev1.Service, error) {
	key := have.Namespace + "/" + have.Name
	w.Source.wroteServices.expect(key)
	got, err := w.Clients.Core.CoreV1().Services(have.Namespace).Patch(ctx, have.Name,
		types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		_, err = trimService(got)
	}
	var written metav1.Object
	if err == nil {
		written = got
	}
	if w.Source.wroteServices.settle(key, written) {
		w.Source.mark(func(d *dirty) { d.services[key] = true })
	}
	return got, err
}

// frees reports whether want gives up an address that have has.
func frees(have *corev1.Service, want controller.ServiceStatus) bool {
	return slices.ContainsFunc(have.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool {
		return !slices.ContainsFunc(want.Ingress, func(w snapshot.Ingress) bool { return w.Addr.String() == in.IP })
	})
}

// stale reports whether err says that the object has moved on.
func stale(err error) bool { return apierrors.IsConflict(err) || apierrors.IsNotFound(err) }

// servicePatch returns a JSON merge patch (RFC 7386). It carries uid and
// resourceVersion, so that the API server refuses it if the Service is not the
// one, or not the version, that was planned for.
func servicePatch(have *corev1.Service, want controller.ServiceStatus) map[string]any {
	var ingress any // null takes the list away
	if len(want.Ingress) > 0 {
		var list []corev1.LoadBalancerIngress
		for _, in := range want.Ingress {
			mode := corev1.LoadBalancerIPMode(in.Mode)
			one := corev1.LoadBalancerIngress{IP: in.Addr.String()}
			if in.Mode != "" {
				one.IPMode = &mode
			}
			list = append(list, one)
		}
		ingress = list
	}
	status := map[string]any{"conditions": conditions(have.Status.Conditions, want.Conditions, 0)}
	if !want.Leave {
		status["loadBalancer"] = map[string]any{"ingress": ingress}
	}
	return map[string]any{"metadata": over(have), "status": status}
}

// over is the part of a patch that makes the API server refuse it unless the
// object is still as have is.
func over(have metav1.Object) map[string]any {
	return map[string]any{"uid": have.GetUID(), "resourceVersion": have.GetResourceVersion()}
}

// conditions returns those of have that are not Herald's, and those of want.
// The time of the last transition stays where the status has not changed.
func conditions(have []metav1.Condition, want []snapshot.Condition, generation int64) []metav1.Condition {
	out := slices.DeleteFunc(slices.Clone(have), func(c metav1.Condition) bool {
		return strings.HasPrefix(c.Type, prefix) || slices.ContainsFunc(want, func(w snapshot.Condition) bool { return w.Type == c.Type })
	})
	for _, c := range want {
		next := metav1.Condition{
			Type: c.Type, Status: metav1.ConditionFalse, Reason: c.Reason, Message: c.Message,
			ObservedGeneration: generation, LastTransitionTime: metav1.Now(),
		}
		if c.Status {
			next.Status = metav1.ConditionTrue
		}
		for _, was := range have {
			if was.Type == next.Type && was.Status == next.Status {
				next.LastTransitionTime = was.LastTransitionTime
			}
		}
		out = append(out, next)
	}
	return out
}

// tell records events; the recorder sends them in its own time.
func (w *StatusWriter) tell(about runtime.Object, events []controller.Event) {
	for _, e := range events {
		kind := corev1.EventTypeNormal
		if e.Warning {
			kind = corev1.EventTypeWarning
		}
		w.Events.Event(about, kind, e.Reason, e.Message)
	}
}

func addresses(ingress []snapshot.Ingress) string {
	var words []string
	for _, in := range ingress {
		words = append(words, in.Addr.String())
	}
	return strings.Join(words, ",")
}

func reason(conditions []snapshot.Condition) string {
	if len(conditions) == 0 {
		return ""
	}
	return conditions[0].Reason
}
