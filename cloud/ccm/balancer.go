package ccm

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/api"
	"k8s.io/cloud-provider/service/helpers"

	"github.com/herald-lb/herald/cloud"
)

// A balancer is what the service controller of k8s.io/cloud-provider asks. It may ask
// for one Service from two goroutines; the engine keeps them apart.
type balancer struct{ *Provider }

// GetLoadBalancer says that one exists as long as anything in the cloud is the
// Service's: only then is EnsureLoadBalancerDeleted called, and the finalizer goes in
// any case. It is asked as well after an update has failed: then an address that is lent,
// and bears no marks, is one.
func (b balancer) GetLoadBalancer(ctx context.Context, _ string, svc *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	st, exists, err := b.engine.Exists(ctx, svc)
	switch {
	case err != nil || exists:
	case wanted(svc):
		return svc.Status.LoadBalancer.DeepCopy(), b.engine.Floats(svc), nil
	default: // it is not called to delete what there is not
		b.engine.Gone(svc)
		err = b.unmark(svc)
	}
	return st, exists, err
}

// wanted is whether a Service is to have a load balancer from here.
func wanted(svc *corev1.Service) bool {
	return svc.DeletionTimestamp == nil && svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.LoadBalancerClass == nil
}

// GetLoadBalancerName is the name that nothing else in the cloud has.
func (b balancer) GetLoadBalancerName(_ context.Context, _ string, svc *corev1.Service) string {
	return cloud.Owner{Cluster: b.engine.Cluster, UID: svc.UID}.ResourceName()
}

// EnsureLoadBalancer makes it what it should be. If that takes longer than a call
// should, it returns an api.RetryError.
func (b balancer) EnsureLoadBalancer(ctx context.Context, _ string, svc *corev1.Service, nodes []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	st, err := b.engine.Ensure(ctx, svc, nodes)
	after := comeAgain(err)
	switch {
	case errors.Is(err, cloud.ErrDryRun), errors.Is(err, cloud.ErrElsewhere):
		return nil, cloudprovider.ImplementedElsewhere // not wrapped: it is compared
	case st != nil: // what could not be done is an Event; what could be is not to wait
		return st, b.float(svc)
	case after > 0:
		return nil, api.NewRetryError(err.Error(), after)
	}
	return nil, err
}

// UpdateLoadBalancer makes it what it should be, if there is one. The Service that it is
// given is as it was when a pass through all began.
func (b balancer) UpdateLoadBalancer(_ context.Context, _ string, svc *corev1.Service, nodes []*corev1.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience) // the caller gives none that ends
	defer cancel()
	if svc = b.latest(svc); !wanted(svc) {
		return nil // somebody else is about to take it away
	}
	err := b.engine.Update(ctx, svc, nodes)
	if errors.Is(err, cloud.ErrDryRun) || errors.Is(err, cloud.ErrElsewhere) || cloud.Is(err, cloud.Unsafe) || cloud.Is(err, cloud.NotFound) {
		return nil
	}
	return err
}

// latest returns a Service as it is cached by now.
func (b balancer) latest(svc *corev1.Service) *corev1.Service {
	if b.host == nil {
		return svc
	}
	if now, err := b.host.services.Services(svc.Namespace).Get(svc.Name); err == nil && now.UID == svc.UID {
		return now
	}
	return svc
}

// EnsureLoadBalancerDeleted returns nil once nothing is left.
func (b balancer) EnsureLoadBalancerDeleted(ctx context.Context, _ string, svc *corev1.Service) error {
	if err := b.engine.Delete(ctx, svc); err != nil {
		return err
	}
	return b.unmark(svc)
}

// float has a Service say that its addresses are routed to a node, if that is so: the
// service controller writes the addresses only.
func (b balancer) float(svc *corev1.Service) error {
	if b.host != nil && b.engine.Floats(svc) {
		defer b.host.floating()
	}
	return b.write(svc, b.routing(svc))
}

// unmark has one that is of another type now not say so any more.
func (b balancer) unmark(svc *corev1.Service) error {
	if svc.DeletionTimestamp != nil {
		return nil
	}
	return b.write(svc, unrouted(svc))
}

func (b balancer) write(svc, edited *corev1.Service) error {
	if edited == svc || b.dry(svc) {
		return nil
	}
	_, err := helpers.PatchService(b.client.CoreV1(), svc, edited)
	return err
}
