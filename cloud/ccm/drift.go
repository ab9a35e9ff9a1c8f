package ccm

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cloud-provider/service/helpers"

	"github.com/herald-lb/herald/cloud"
)

// drift looks whether each Service's load balancer is what it should be, and at what
// is no Service's. What somebody has changed by hand is changed back: neither a
// Service nor a node has to change for it.
func (h *host) drift(ctx context.Context) error {
	all, err := h.services.List(labels.Everything())
	if err != nil {
		return err
	}
	ctx = cloud.WithLane(ctx, cloud.Drifting)
	var errs []error
	for _, svc := range all {
		svc, err := h.services.Services(svc.Namespace).Get(svc.Name) // as it is by now
		if err != nil || !h.served(svc) || svc.DeletionTimestamp != nil {
			continue
		}
		nodes, err := h.eligible() // as they are by now, too
		if err != nil {
			return err
		}
		st, err := h.engine.Ensure(ctx, svc, nodes)
		if st != nil {
			if told := h.publish(svc, st); !apierrors.IsConflict(told) { // else it is looked at again: for what has changed, or in the next pass
				err = errors.Join(err, told)
			}
		}
		if err == nil || errors.Is(err, cloud.ErrDryRun) || errors.Is(err, cloud.ErrElsewhere) {
			continue
		}
		errs = append(errs, fmt.Errorf("looking at Service %s/%s: %w", svc.Namespace, svc.Name, err))
		if errors.Is(err, cloud.ErrNotAsked) {
			break // as it would be for all others
		}
	}
	if err := h.engine.Audit(ctx, all, h.budget.Left()); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// served is whether a Service has a load balancer of the cloud: it is of Herald's
// class, or the other controller has taken it.
func (h *host) served(svc *corev1.Service) bool {
	return h.ours(svc) && h.has(svc) || !h.config.ClassOnly && svc.Spec.Type == corev1.ServiceTypeLoadBalancer &&
		svc.Spec.LoadBalancerClass == nil && helpers.HasLBFinalizer(svc)
}
