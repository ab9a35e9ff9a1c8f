package ccm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/cloud-provider/service/helpers"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/loop"
)

// How the host works.
const (
	workers  = 10
	patience = 2 * time.Minute // with one Service
	// Changes of nodes come in bursts: they are waited for, for some time.
	nodeQuiet, nodeMax   = time.Second, 10 * time.Second
	retryFirst, retryMax = 2 * time.Second, 5 * time.Minute
)

// A host serves the Services of Herald's class, and looks now and then at what all
// have in the cloud.
type host struct {
	*Provider
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	synced   []cache.InformerSynced
	queue    workqueue.TypedRateLimitingInterface[string]
	burst    *burst

	// What follows is for addresses that are routed to nodes.
	bell         loop.Bell
	floats       chan struct{} // closed once there is a Service that has one
	float        sync.Once     // closes it
	nodesChanged atomic.Bool
}

func newHost(p *Provider, factory informers.SharedInformerFactory) *host {
	s, n := factory.Core().V1().Services(), factory.Core().V1().Nodes()
	h := &host{
		Provider: p, services: s.Lister(), nodes: n.Lister(),
		synced: []cache.InformerSynced{s.Informer().HasSynced, n.Informer().HasSynced},
		bell:   loop.NewBell(), floats: make(chan struct{}),
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryMax)),
	}
	h.burst = newBurst(nodeQuiet, nodeMax, h.all)
	h.watch(s.Informer(), n.Informer())
	return h
}

// watch has changes of Services and of nodes be noticed.
func (h *host) watch(services, nodes cache.SharedIndexInformer) {
	service := func(obj any) {
		svc, ok := obj.(*corev1.Service)
		if ok && marked(svc) && h.served(svc) {
			h.floating() // addresses may have to move before it was looked at
		}
		if ok && (h.ours(svc) || h.has(svc)) {
			h.queue.Add(svc.Namespace + "/" + svc.Name)
		}
	}
	_, err := services.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: service, UpdateFunc: func(_, obj any) { service(obj) },
	})
	_, err2 := nodes.AddEventHandler(h.nodeEvents())
	if err := errors.Join(err, err2); err != nil { // an informer that has ended
		h.log.Error("watching Services and nodes", "err", err)
	}
}

// matters is whether a change of a node may be one of targets.
func matters(a, b *corev1.Node) bool {
	return eligible(a) != eligible(b) || a.Spec.ProviderID != b.Spec.ProviderID ||
		!slices.Equal(a.Status.Addresses, b.Status.Addresses) || !labels.Equals(a.Labels, b.Labels) ||
		a.Annotations[cloud.InstanceAnnotation] != b.Annotations[cloud.InstanceAnnotation]
}

// run serves until ctx ends.
func (h *host) run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-h.ready:
	}
	if !cache.WaitForCacheSync(ctx.Done(), h.synced...) {
		return
	}
	h.log.Info("serving a cloud's load balancers", "class", h.class(), "without class", !h.config.ClassOnly, "cluster", h.engine.Cluster)
	done := make(chan struct{})
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for h.next(ctx) {
			}
		}()
	}
	go h.burst.run(ctx)
	routed := make(chan struct{})
	go func() {
		defer close(routed)
		h.route(ctx)
	}()
	h.look(ctx)
	h.queue.ShutDown()
	for range workers {
		<-done
	}
	<-routed
}

// look goes through all Services, those of the other controller as well, now and then.
func (h *host) look(ctx context.Context) {
	every := h.config.Drift.Interval.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every - every/10 + rand.N(every/5)):
		}
		if err := h.drift(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("looking at the cloud", "err", err)
		}
	}
}

// next serves one Service, and returns false once there will be none.
func (h *host) next(ctx context.Context) bool {
	key, over := h.queue.Get()
	if over {
		return false
	}
	defer h.queue.Done(key)
	one, cancel := context.WithTimeout(ctx, patience)
	err := h.serve(one, key)
	cancel()
	after := comeAgain(err)
	switch {
	case after > 0:
		h.queue.Forget(key)
		h.queue.AddAfter(key, after)
	case err == nil, errors.Is(err, cloud.ErrDryRun), errors.Is(err, cloud.ErrElsewhere), cloud.Is(err, cloud.Terminal):
		h.queue.Forget(key) // until it is changed
	default:
		h.queue.AddRateLimited(key)
	}
	if err != nil && ctx.Err() == nil {
		h.log.Warn("serving a Service", "service", key, "err", err)
	}
	return true
}

// comeAgain is when to try again what has failed; zero where an error does not say so. What
// a token may not do, it may later.
func comeAgain(err error) time.Duration {
	var why *cloud.Error
	switch {
	case errors.As(err, &why) && why.After > 0:
		return jittered(why.After)
	case cloud.Is(err, cloud.Auth):
		return jittered(time.Minute)
	}
	return 0
}

// jittered is a little longer than a time, so that not all come back at once.
func jittered(d time.Duration) time.Duration { return d + rand.N(d/10+1) }

// ours is whether a Service is one of Herald's class.
func (h *host) ours(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.Spec.LoadBalancerClass != nil && *svc.Spec.LoadBalancerClass == h.class()
}

// finalizer keeps a Service of Herald's class until nothing of it is left in this cloud.
// It is not the one of k8s.io/cloud-provider, which removes its own from whatever has
// it, nor that of a plugin for another cloud.
func (h *host) finalizer() string { return cloud.Finalizer + "-" + h.config.Provider }

func (h *host) has(svc *corev1.Service) bool { return slices.Contains(svc.Finalizers, h.finalizer()) }

// serve brings a Service and the cloud in line.
func (h *host) serve(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return err
	}
	svc, err := h.services.Services(namespace).Get(name)
	if err != nil {
		return nil // it is gone, and could only go when nothing was left of it
	}
	switch {
	case h.has(svc) && (svc.DeletionTimestamp != nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer):
		return h.clean(ctx, svc)
	case h.ours(svc) && svc.DeletionTimestamp == nil:
		return h.keep(ctx, svc)
	case h.has(svc) && marked(svc): // of another class by now: nodes are not to steer what that gives it
		_, err := helpers.PatchService(h.client.CoreV1(), svc, unrouted(svc))
		return err
	}
	return nil
}

// keep gives a Service its load balancer.
func (h *host) keep(ctx context.Context, svc *corev1.Service) error {
	if !h.has(svc) && !h.dry(svc) {
		edited := svc.DeepCopy()
		edited.Finalizers = append(edited.Finalizers, h.finalizer())
		var err error
		if svc, err = helpers.PatchService(h.client.CoreV1(), svc, edited); err != nil {
			return fmt.Errorf("adding finalizer %s: %w", h.finalizer(), err)
		}
	}
	nodes, err := h.eligible()
	if err != nil {
		return err
	}
	st, err := h.engine.Ensure(ctx, svc, nodes)
	if st != nil {
		err = errors.Join(err, h.publish(svc, st))
	}
	return err
}

func (p *Provider) dry(svc *corev1.Service) bool {
	return p.config.DryRun || svc.Annotations[cloud.Prefix+"dry-run"] == "true"
}

// clean removes what a Service had, then its status, then the finalizer.
func (h *host) clean(ctx context.Context, svc *corev1.Service) error {
	err := h.engine.Delete(ctx, svc)
	if cloud.Is(err, cloud.Terminal) { // it is paid for: nobody is to wait until it is edited
		return &cloud.Error{Class: cloud.Retryable, Text: "removing it", Err: err}
	}
	if err != nil {
		return err
	}
	edited := svc.DeepCopy()
	edited.Finalizers = slices.DeleteFunc(edited.Finalizers, func(f string) bool { return f == h.finalizer() })
	if svc.DeletionTimestamp == nil { // it is of another type or class now
		edited.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		meta.RemoveStatusCondition(&edited.Status.Conditions, kube.ConditionRouted)
	}
	_, err = helpers.PatchService(h.client.CoreV1(), svc, edited)
	return err
}

// publish writes a Service's status, if it differs.
func (h *host) publish(svc *corev1.Service, st *corev1.LoadBalancerStatus) error {
	if h.dry(svc) {
		return nil
	}
	if h.engine.Floats(svc) {
		defer h.floating()
	}
	edited := h.routing(svc)
	if edited == svc && helpers.LoadBalancerStatusEqual(&svc.Status.LoadBalancer, st) {
		return nil
	}
	edited = edited.DeepCopy()
	edited.Status.LoadBalancer = *st
	return h.overwrite(svc, edited)
}

// overwrite writes the status of a Service that is still as it was when svc was read: what
// takes long to find out may say nothing of what it is by now. If it is not, the error is a
// conflict, and what has changed it is reason enough to look at it again.
func (p *Provider) overwrite(svc, edited *corev1.Service) error {
	was := svc.DeepCopy()
	was.ResourceVersion = "" // so that the patch has it, and holds for it only
	_, err := helpers.PatchService(p.client.CoreV1(), was, edited)
	return err
}

// eligible are the nodes to which load balancers send.
func (h *host) eligible() ([]*corev1.Node, error) {
	nodes, err := h.nodes.List(labels.Everything())
	return slices.DeleteFunc(slices.Clone(nodes), func(n *corev1.Node) bool { return !eligible(n) }), err
}

// all queues every Service of Herald's class.
func (h *host) all() {
	services, err := h.services.List(labels.Everything())
	if err != nil {
		return // a lister of a cache does not fail
	}
	for _, svc := range services {
		if h.ours(svc) {
			h.queue.Add(svc.Namespace + "/" + svc.Name)
		}
	}
}
