package kube

import (
	"context"
	"fmt"
	"log/slog"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// labelComponent marks the Leases of speakers.
const (
	labelComponent   = "app.kubernetes.io/component"
	componentSpeaker = "speaker"
)

// Clients are the two clients of the API: for its own kinds, and for Herald's.
type Clients struct {
	Core   kubernetes.Interface
	Herald rest.Interface
}

// NewClients returns clients for cfg. They do not limit their own rate: the
// API server's priority and fairness does that, and knows better.
func NewClients(cfg *rest.Config) (Clients, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	binary := rest.CopyConfig(cfg) // which costs a third of what JSON does
	binary.ContentType = runtime.ContentTypeProtobuf
	binary.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	core, err := kubernetes.NewForConfig(binary)
	if err != nil {
		return Clients{}, fmt.Errorf("making a client: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return Clients{}, fmt.Errorf("registering %s: %w", v1alpha1.GroupVersion, err)
	}
	own := rest.CopyConfig(cfg)
	own.GroupVersion = &v1alpha1.GroupVersion
	own.APIPath = "/apis"
	own.ContentType = runtime.ContentTypeJSON
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	herald, err := rest.RESTClientFor(own)
	if err != nil {
		return Clients{}, fmt.Errorf("making a client for %s: %w", v1alpha1.GroupVersion, err)
	}
	return Clients{Core: core, Herald: herald}, nil
}

// informers are the watches of a Source; nil where it has no use for one.
type informers struct {
	services, slices, nodes, pools, claims, namespaces, leases, reports, peers, secrets cache.SharedIndexInformer
}

func (i informers) list() []cache.SharedIndexInformer {
	var out []cache.SharedIndexInformer
	for _, one := range []cache.SharedIndexInformer{i.services, i.slices, i.nodes, i.pools, i.claims, i.namespaces, i.leases, i.reports, i.peers, i.secrets} {
		if one != nil {
			out = append(out, one)
		}
	}
	return out
}

func newInformers(c Clients, o Options) informers {
	core := c.Core.CoreV1().RESTClient()
	every := func(*metav1.ListOptions) {}
	if o.Onlooker {
		i := informers{nodes: informer(watch{core, "nodes", "", every}, &corev1.Node{}, trimNode)}
		i.steering(c, o)
		return i
	}
	i := informers{
		pools: informer(watch{c.Herald, "addresspools", "", every}, &v1alpha1.AddressPool{}, trim),
		nodes: informer(watch{core, "nodes", "", every}, &corev1.Node{}, trimNode),
		peers: informer(watch{c.Herald, "bgppeers", "", every}, &v1alpha1.BGPPeer{}, trim),
	}
	_ = i.peers.SetWatchErrorHandlerWithContext(missing(o.Log, "bgppeers."+v1alpha1.GroupVersion.Group))
	// SetWatchErrorHandler fails only on an informer that runs already.
	_ = i.pools.SetWatchErrorHandlerWithContext(missing(o.Log, "addresspools."+v1alpha1.GroupVersion.Group))
	if o.Node == "" {
		// Services of every type: one that has changed its type away from
		// LoadBalancer has still to be let go of.
		i.services = informer(watch{core, "services", "", every}, &corev1.Service{}, trimService)
		i.namespaces = informer(watch{core, "namespaces", "", every}, &corev1.Namespace{}, trim)
		i.claims = informer(watch{c.Herald, "addressclaims", "", every}, &v1alpha1.AddressClaim{}, trim)
		_ = i.claims.SetWatchErrorHandlerWithContext(missing(o.Log, "addressclaims."+v1alpha1.GroupVersion.Group))
		i.reports = informer(watch{c.Herald, speakerStatuses, "", every}, &v1alpha1.SpeakerStatus{}, trim)
		_ = i.reports.SetWatchErrorHandlerWithContext(missing(o.Log, speakerStatuses+"."+v1alpha1.GroupVersion.Group))
		return i
	}
	// Of the namespace that Herald alone lives in.
	i.secrets = informer(watch{core, "secrets", o.Namespace, every}, &corev1.Secret{}, trim)
	i.steering(c, o)
	return i
}

// steering adds what has to be known for steering: Services, endpoints, and who is alive.
func (i *informers) steering(c Clients, o Options) {
	i.services = informer(watch{c.Core.CoreV1().RESTClient(), "services", "", func(l *metav1.ListOptions) {
		l.FieldSelector = steered(o).String()
	}}, &corev1.Service{}, trimSteered)
	i.slices = informer(watch{c.Core.DiscoveryV1().RESTClient(), "endpointslices", "", func(l *metav1.ListOptions) {
		l.LabelSelector = "!" + corev1.IsHeadlessService // for those nobody steers
	}}, &discoveryv1.EndpointSlice{}, sliceOf)
	i.leases = informer(watch{c.Core.CoordinationV1().RESTClient(), "leases", o.Namespace, func(l *metav1.ListOptions) {
		l.LabelSelector = labels.SelectorFromSet(labels.Set{labelComponent: componentSpeaker}).String()
	}}, &coordinationv1.Lease{}, trim)
}

// steered selects the Services that a speaker may have to steer.
func steered(o Options) fields.Selector {
	if !o.ServiceProxy {
		return fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer))
	}
	return fields.AndSelectors(
		fields.OneTermNotEqualSelector("spec.type", string(corev1.ServiceTypeExternalName)),
		fields.OneTermNotEqualSelector("spec.clusterIP", corev1.ClusterIPNone))
}

// A watch is one resource to list and watch.
type watch struct {
	client    rest.Interface
	resource  string
	namespace string
	narrow    func(*metav1.ListOptions)
}

func informer(w watch, of runtime.Object, trim cache.TransformFunc) cache.SharedIndexInformer {
	lw := cache.NewFilteredListWatchFromClient(w.client, w.resource, w.namespace, w.narrow)
	i := cache.NewSharedIndexInformer(listed{lw}, of, 0, cache.Indexers{})
	// SetTransform fails only on an informer that runs already.
	_ = i.SetTransform(trim)
	return i
}

// A listed reads all that is there in one answer. Client-go would rather be told it
// by the watch, object by object, which takes several times as long with thousands.
type listed struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported keeps client-go from that.
func (listed) IsWatchListSemanticsUnSupported() bool { return true }

// ListWithContext implements [cache.ListerWithContext]. The first list is as new as
// what the watch would tell: client-go would take one of any age, and a process that
// starts could go by what the one before it knew to be over. The API server has it in
// its cache (KEP-2340), and need not cut it up.
func (l listed) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.ResourceVersion == "0" {
		o.ResourceVersion, o.Limit = "", 0
	}
	return l.ListWatch.ListWithContext(ctx, o)
}

// missing says in plain words that the API server does not know a resource;
// the informer tries again.
func missing(log *slog.Logger, resource string) cache.WatchErrorHandlerWithContext {
	return func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsNotFound(err) {
			log.Error("waiting for a kind that the API server does not know: install Herald's CRDs", "resource", resource, "err", err)
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	}
}

// handler calls changed with every object that comes (was is nil), changes or
// goes (now is nil).
func handler(changed func(was, now any)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { changed(nil, obj) },
		UpdateFunc: func(was, now any) {
			if a, b := asMeta(was), asMeta(now); a == nil || b == nil || a.GetResourceVersion() != b.GetResourceVersion() {
				changed(was, now)
			}
		},
		DeleteFunc: func(obj any) { changed(obj, nil) },
	}
}

// either returns now or, if that is gone, was.
func either(was, now any) any {
	if now != nil {
		return now
	}
	return was
}

// keyOf returns namespace/name of obj, or name if it has no namespace.
func keyOf(obj any) string {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
	if err != nil {
		return ""
	}
	return key
}

func nameOf(obj any) string {
	_, name, err := cache.SplitMetaNamespaceKey(keyOf(obj))
	if err != nil {
		return ""
	}
	return name
}

func asMeta(obj any) metav1.Object {
	m, ok := obj.(metav1.Object)
	if !ok {
		return nil
	}
	return m
}

// trim drops what nobody reads, before it is cached.
func trim(obj any) (any, error) {
	if m := asMeta(obj); m != nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

// trimService drops what neither Take reads nor StatusWriter: this one writes
// all conditions back, other people's too.
func trimService(obj any) (any, error) {
	if svc, ok := obj.(*corev1.Service); ok {
		svc.ManagedFields, svc.OwnerReferences, svc.Finalizers = nil, nil, nil
		svc.Annotations = trimAnnotations(svc.Annotations)
		svc.Spec.Selector = nil
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].TargetPort, svc.Spec.Ports[i].AppProtocol = intstr.IntOrString{}, nil
		}
	}
	return obj, nil
}

// trimSteered is trimService for a speaker, which writes nothing. It may have every
// Service of the cluster, and needs the labels of those that routers are told.
func trimSteered(obj any) (any, error) {
	if svc, ok := obj.(*corev1.Service); ok {
		proxy, named := svc.Labels[labelProxy]
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			svc.Labels = nil
			if named {
				svc.Labels = map[string]string{labelProxy: proxy}
			}
		}
	}
	return trimService(obj)
}

func trimNode(obj any) (any, error) {
	if n, ok := obj.(*corev1.Node); ok {
		n.ManagedFields, n.Annotations = nil, trimAnnotations(n.Annotations)
		n.Status = corev1.NodeStatus{Addresses: n.Status.Addresses, Conditions: n.Status.Conditions}
	}
	return obj, nil
}
