package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A stage is a Source whose watches the test plays: what it brings is first in
// the store, and heard of when the test says so.
type stage struct {
	*Source
	rings   int
	version int
	unheard []func()
}

func newStage(node string) *stage {
	st := &stage{}
	o := Options{
		Classes: Classes{Default: true}, Node: node,
		Ring: func() { st.rings++ }, Log: slog.New(slog.DiscardHandler),
	}
	st.Source = newSource(newInformers(Clients{Core: fake.NewClientset()}, o), o)
	return st
}

func (st *stage) next() string { st.version++; return strconv.Itoa(st.version) }

// bring plays a watch that brings obj, or takes what has its key away.
func (st *stage) bring(i cache.SharedIndexInformer, changed func(was, now any), obj metav1.Object, gone bool) {
	key := keyOf(obj)
	was, known, _ := i.GetStore().GetByKey(key)
	h := handler(changed)
	switch {
	case gone && known:
		_ = i.GetStore().Delete(was)
		st.unheard = append(st.unheard, func() { h.OnDelete(was) })
	case gone:
	case known:
		_ = i.GetStore().Update(obj)
		st.unheard = append(st.unheard, func() { h.OnUpdate(was, obj) })
	default:
		_ = i.GetStore().Add(obj)
		st.unheard = append(st.unheard, func() { h.OnAdd(obj, false) })
	}
}

func (st *stage) hear() {
	for _, f := range st.unheard {
		f()
	}
	st.unheard = nil
}

func (st *stage) service(svc *corev1.Service) {
	svc.ResourceVersion = st.next()
	st.bring(st.informers.services, st.serviceChanged, svc, false)
}

func (st *stage) slice(es *discoveryv1.EndpointSlice) {
	es.ResourceVersion = st.next()
	one, err := sliceOf(es)
	if err != nil {
		panic(err)
	}
	st.bring(st.informers.slices, st.sliceChanged, one.(*sliced), false)
}

func (st *stage) pool(p *v1alpha1.AddressPool) {
	p.ResourceVersion = st.next()
	st.bring(st.informers.pools, st.poolChanged, p, false)
}

func (st *stage) namespace(ns *corev1.Namespace) {
	ns.ResourceVersion = st.next()
	st.bring(st.informers.namespaces, st.namespaceChanged, ns, false)
}

// write plays the StatusWriter: the API has taken svc, the watch is to bring it.
func (st *stage) write(svc *corev1.Service) {
	svc.ResourceVersion = st.next()
	st.wroteServices.put(keyOf(svc), svc)
	st.note(func(d *dirty) { d.services[keyOf(svc)] = true })
}

func lb(namespace, name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + name)},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}
}

func sliceFor(service, name, addr string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr}}},
	}
}

// poolWith is a pool that serves namespaces with the labels.
func poolWith(name string, labels map[string]string) *v1alpha1.AddressPool {
	p := &v1alpha1.AddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}}
	p.Spec.Addresses = []v1alpha1.AddressRange{v1alpha1.AddressRange(fmt.Sprintf("10.%d.0.0/16", name[len(name)-1]))}
	if labels != nil {
		p.Spec.NamespaceSelector = &v1alpha1.Selector{LabelSelector: metav1.LabelSelector{MatchLabels: labels}}
	}
	return p
}

func namespace(name string, labels map[string]string) *corev1.Namespace {
	all := map[string]string{corev1.LabelMetadataName: name}
	maps.Copy(all, labels)
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all}}
}

func only(t *testing.T, s snapshot.Snapshot) snapshot.Service {
	t.Helper()
	if len(s.Services) != 1 {
		t.Fatalf("%d Services, want 1", len(s.Services))
	}
	return s.Services[0]
}

func TestAPoolMadeAnewSelectsByItsNewSelectors(t *testing.T) {
	st := newStage("")
	st.namespace(namespace("ns", nil))
	st.service(lb("ns", "a"))
	st.pool(poolWith("lan", nil))
	st.hear()
	if got := only(t, st.take()).Pools; !slices.Equal(got, []string{"lan"}) {
		t.Fatalf("Pools = %v", got)
	}
	st.bring(st.informers.pools, st.poolChanged, poolWith("lan", nil), true)
	st.hear()
	if got := only(t, st.take()).Pools; got != nil {
		t.Errorf("with the pool gone Pools = %v", got)
	}
	st.pool(poolWith("lan", map[string]string{"team": "red"})) // of generation 1, like the first
	st.hear()
	if got := only(t, st.take()).Pools; got != nil {
		t.Errorf("with a pool for others Pools = %v", got)
	}
}

func TestANamespaceThatIsNotReadYetIsInNoPool(t *testing.T) {
	st := newStage("")
	p := poolWith("lan", nil)
	p.Spec.NamespaceSelector = &v1alpha1.Selector{LabelSelector: metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "internal", Operator: metav1.LabelSelectorOpDoesNotExist}}}}
	st.pool(p)
	st.service(lb("ns", "a"))
	st.hear()
	if got := only(t, st.take()).Pools; got != nil {
		t.Errorf("unread: Pools = %v", got)
	}
	st.namespace(namespace("ns", nil))
	st.hear()
	if got := only(t, st.take()).Pools; !slices.Equal(got, []string{"lan"}) {
		t.Errorf("without the label: Pools = %v", got)
	}
	st.namespace(namespace("ns", map[string]string{"internal": ""}))
	st.hear()
	if got := only(t, st.take()).Pools; got != nil {
		t.Errorf("with the label: Pools = %v", got)
	}
}

func TestASliceThatMovesLeavesItsFirstService(t *testing.T) {
	st := newStage("n1")
	st.service(lb("ns", "a"))
	st.service(lb("ns", "b"))
	st.slice(sliceFor("a", "s", "10.0.0.1"))
	st.hear()
	st.take()
	st.slice(sliceFor("b", "s", "10.0.0.1"))
	st.hear()
	got := st.take().Services
	if len(got[0].Endpoints) != 0 || len(got[1].Endpoints) != 1 {
		t.Errorf("endpoints of a: %v, of b: %v", got[0].Endpoints, got[1].Endpoints)
	}
}

func TestWhatWasWrittenHereIsNoNews(t *testing.T) {
	st := newStage("")
	svc := lb("ns", "a")
	st.service(svc)
	st.hear()
	st.take()
	st.rings = 0
	wrote := svc.DeepCopy()
	wrote.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	st.write(wrote)
	if got := only(t, st.take()).Ingress; len(got) != 1 {
		t.Errorf("a write is not seen before the watch brings it: %v", got)
	}
	st.bring(st.informers.services, st.serviceChanged, wrote.DeepCopy(), false)
	st.hear()
	if st.rings != 0 || len(st.wroteServices.newer) != 0 {
		t.Errorf("%d rings for what was written here, %d objects kept; want none", st.rings, len(st.wroteServices.newer))
	}
	st.service(svc.DeepCopy())
	st.hear()
	if got := only(t, st.take()).Ingress; st.rings != 1 || len(got) != 0 {
		t.Errorf("somebody wiped the status: %d rings, ingress %v", st.rings, got)
	}
}

// Whatever comes, in whatever order, and however late it is heard of: in the
// end a Source shows what one shows that reads all of it anew, and it has rung
// if that is something else than before.
func TestTakeEqualsAFreshReading(t *testing.T) {
	for _, node := range []string{"", "n1"} {
		rnd := rand.New(rand.NewPCG(1, uint64(len(node))))
		st := newStage(node)
		st.o.ServiceProxy = node != ""
		before := st.take()
		rings, wrote := st.rings, false
		for step := range 1000 {
			wrote = st.randomly(rnd) || wrote
			if rnd.IntN(3) > 0 {
				continue
			}
			if rnd.IntN(2) == 0 {
				before, rings, wrote = st.take(), st.rings, false // before all is heard of
			}
			st.hear()
			rang := st.rings > rings
			got := st.take()
			again := newSource(st.informers, st.o)
			again.wroteServices.newer = maps.Clone(st.wroteServices.newer)
			if diff := cmp.Diff(again.take(), got, compareAddrs, anyRevision); diff != "" {
				t.Fatalf("node %q, step %d (-fresh +taken):\n%s", node, step, diff)
			}
			if diff := cmp.Diff(before, got, compareAddrs, anyRevision); diff != "" && !rang && !wrote {
				t.Fatalf("node %q, step %d: nobody rang for (-before +after):\n%s", node, step, diff)
			}
			before, rings, wrote = got, st.rings, false
		}
	}
}

// randomly plays one event, and reports whether it was a write of our own.
func (st *stage) randomly(rnd *rand.Rand) (wrote bool) {
	letter := func() string { return string(rune('a' + rnd.IntN(4))) }
	color := func() map[string]string { return map[string]string{"color": letter()} }
	gone := rnd.IntN(4) == 0
	svc := lb("ns"+letter(), letter())
	svc.UID = types.UID(strconv.Itoa(rnd.IntN(2)))
	if node := st.o.Node; node != "" {
		svc.Namespace = "ns"
	}
	switch rnd.IntN(5) {
	case 0:
		svc.Labels = color()
		if st.o.ServiceProxy && rnd.IntN(2) == 0 {
			svc.Spec.Type, svc.Spec.ClusterIP = corev1.ServiceTypeClusterIP, "10.96.0.1"
		}
		svc.ResourceVersion = st.next()
		st.bring(st.informers.services, st.serviceChanged, svc, gone)
	case 1: // our own write, over what the cache has
		have, ok := st.newestService(keyOf(svc))
		if !ok {
			return false
		}
		next := have.DeepCopy()
		next.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("192.0.2.%d", rnd.IntN(9))}}
		st.write(next)
		return true
	case 2: // the watch brings what we wrote
		if obj, ok := st.wroteServices.newer[keyOf(svc)]; ok {
			st.bring(st.informers.services, st.serviceChanged, obj.(*corev1.Service).DeepCopy(), false)
		}
	case 3:
		p := poolWith(letter(), nil)
		if rnd.IntN(2) == 0 {
			p = poolWith(letter(), color())
		}
		p.ResourceVersion = st.next()
		st.bring(st.informers.pools, st.poolChanged, p, gone)
	case 4:
		st.randomlyByRole(letter(), color(), gone)
	}
	return false
}

func (st *stage) randomlyByRole(letter string, color map[string]string, gone bool) {
	if st.informers.namespaces != nil {
		ns := namespace("ns"+letter, color)
		ns.ResourceVersion = st.next()
		st.bring(st.informers.namespaces, st.namespaceChanged, ns, gone)
		return
	}
	es := sliceFor(color["color"], letter, "10.0.0."+strconv.Itoa(int(letter[0])))
	es.ResourceVersion = st.next()
	st.bring(st.informers.slices, st.sliceChanged, es, gone)
}

// An informer says that it has synced before its handlers have heard of all:
// a first pass in between would give away addresses that are held.
func TestTheFirstTakeShowsEverything(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			const n = 300
			api := fcache.NewFakeControllerSource()
			defer api.Shutdown()
			for i := range n {
				api.Add(lb("ns", fmt.Sprintf("s%03d", i)))
			}
			informer := func(of runtime.Object) cache.SharedIndexInformer {
				return cache.NewSharedIndexInformer(api, of, 0, cache.Indexers{})
			}
			empty := fcache.NewFakeControllerSource()
			defer empty.Shutdown()
			o := Options{Classes: Classes{Default: true}, Ring: func() {}, Log: slog.New(slog.DiscardHandler)}
			s := newSource(informers{
				services: informer(&corev1.Service{}),
				pools:    cache.NewSharedIndexInformer(empty, &v1alpha1.AddressPool{}, 0, cache.Indexers{}),
			}, o)
			first := make(chan int, 1)
			s.o.Ring = func() { // looks whenever anything stirs
				if now, ok := s.Take(); ok && len(first) == 0 {
					first <- len(now.Services)
				}
			}
			if err := s.listen(); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := s.Run(ctx); err != nil {
				t.Fatal(err)
			}
			if got := <-first; got != n {
				t.Fatalf("the first Take shows %d of %d Services", got, n)
			}
		})
	}
}

// full is a Service with everything that may stand in one.
func full() *corev1.Service {
	svc := lb("ns", "a")
	svc.ResourceVersion, svc.CreationTimestamp = "7", metav1.Unix(9, 0)
	svc.Labels = map[string]string{"app": "a", labelProxy: ""}
	svc.Annotations = map[string]string{
		annotationPool: "lan", annotationScheduler: "mh", annotationSources: "192.0.2.0/24", corev1.LastAppliedConfigAnnotation: "{}"}
	svc.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	svc.OwnerReferences, svc.Finalizers = []metav1.OwnerReference{{Name: "owner"}}, []string{"example.com/hold"}
	svc.Spec.Selector = map[string]string{"app": "a"}
	svc.Spec.ClusterIP, svc.Spec.ClusterIPs, svc.Spec.ExternalIPs = "10.96.0.1", []string{"10.96.0.1"}, []string{"198.51.100.1"}
	svc.Spec.IPFamilies, svc.Spec.IPFamilyPolicy = []corev1.IPFamily{corev1.IPv4Protocol}, ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	svc.Spec.ExternalTrafficPolicy, svc.Spec.InternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal, ptr.To(corev1.ServiceInternalTrafficPolicyLocal)
	svc.Spec.HealthCheckNodePort, svc.Spec.SessionAffinity = 32000, corev1.ServiceAffinityClientIP
	svc.Spec.Ports = []corev1.ServicePort{{Name: "web", Port: 80, NodePort: 30080, TargetPort: intstr.FromString("http"), AppProtocol: ptr.To("http")}}
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}}
	svc.Status.Conditions = []metav1.Condition{
		{Type: markCondition, Status: metav1.ConditionTrue, Reason: "Assigned", Message: "m"}, {Type: "example.com/Seen", Status: metav1.ConditionTrue}}
	return svc
}

// What trimming drops is what nobody reads: neither a conversion nor a write
// comes out otherwise.
func TestTrimServiceKeepsWhatIsRead(t *testing.T) {
	for name, trim := range map[string]cache.TransformFunc{"a controller": trimService, "a speaker": trimSteered} {
		t.Run(name, func(t *testing.T) {
			whole, trimmed := full(), full()
			if _, err := trim(trimmed); err != nil {
				t.Fatal(err)
			}
			classes := Classes{Default: true, MetalLB: true}
			if diff := cmp.Diff(service(whole, classes), service(trimmed, classes), compareAddrs, comparePrefixes); diff != "" {
				t.Errorf("the Service is read otherwise (-whole +trimmed):\n%s", diff)
			}
			if proxied(whole) != proxied(trimmed) {
				t.Error("the label of another proxy is lost")
			}
			if trimmed.ManagedFields != nil || trimmed.Spec.Selector != nil || len(trimmed.Annotations) != 3 {
				t.Errorf("too much is kept: %+v", trimmed)
			}
		})
	}
	whole, trimmed := full(), full()
	if _, err := trimService(trimmed); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(servicePatch(whole, controller.ServiceStatus{}), servicePatch(trimmed, controller.ServiceStatus{})); diff != "" {
		t.Errorf("the Service is written otherwise (-whole +trimmed):\n%s", diff)
	}
	if !maps.Equal(trimmed.Labels, whole.Labels) {
		t.Errorf("labels %v, by which pools select", trimmed.Labels)
	}
}

// A kubelet reports every few seconds that nothing has happened.
func TestOnlyNewsOfANodeRing(t *testing.T) {
	at := func(second int64, edit func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"rack": "a"}}}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeInternalIP, Address: "2001:db8::1"}}
		n.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Unix(second, 0), Message: "kubelet is posting ready status"}}
		edit(n)
		n.ResourceVersion = strconv.FormatInt(second, 10)
		return n
	}
	tests := []struct {
		name  string
		edit  func(*corev1.Node)
		rings int
	}{
		{"a heartbeat is no news", func(*corev1.Node) {}, 0},
		{"nor is what a node has room for", func(n *corev1.Node) {
			n.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("9")}
		}, 0},
		{"nor a cordon", func(n *corev1.Node) { n.Spec.Unschedulable = true }, 0},
		{"that it is not ready any more is", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }, 1},
		{"another order of addresses is: the first of a family counts", func(n *corev1.Node) { slices.Reverse(n.Status.Addresses) }, 1},
		{"an address that others do not use to reach it is", func(n *corev1.Node) { n.Status.Addresses[1].Type = corev1.NodeExternalIP }, 1},
		{"a label is", func(n *corev1.Node) { n.Labels["rack"] = "b" }, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st := newStage("n1")
			st.bring(st.informers.nodes, st.nodeChanged, at(1, func(*corev1.Node) {}), false)
			st.hear()
			st.rings = 0
			st.bring(st.informers.nodes, st.nodeChanged, at(2, tt.edit), false)
			if st.hear(); st.rings != tt.rings {
				t.Errorf("it rings %d times, want %d", st.rings, tt.rings)
			}
		})
	}
}

func TestPoolStatusIsHeraldsOwn(t *testing.T) {
	p := poolWith("lan", nil)
	p.Generation = 2
	p.Status.Conditions = []metav1.Condition{
		{Type: "example.com/Seen", Status: metav1.ConditionTrue},
		{Type: "Ready", Status: metav1.ConditionTrue, ObservedGeneration: 1},
	}
	got := poolStatus(*p)
	if len(got.Conditions) != 1 || got.Conditions[0].Type != "Ready" || got.Observed {
		t.Errorf("%+v", got)
	}
	p.Status.Conditions[1].ObservedGeneration = 2
	if !poolStatus(*p).Observed {
		t.Error("a condition of this generation counts as stale")
	}
}

// crowd is a Source with n Services that have an address.
func crowd(n int) (*stage, []*corev1.Service) {
	st := newStage("")
	st.namespace(namespace("ns", nil))
	st.pool(poolWith("lan", nil))
	var all []*corev1.Service
	for i := range n {
		svc := lb("ns", fmt.Sprintf("s%05d", i))
		svc.Spec.Ports = []corev1.ServicePort{{Name: "web", Port: 80}}
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
		svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("10.110.%d.%d", i>>8, i&255), IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}}
		svc.Status.Conditions = []metav1.Condition{{Type: markCondition, Status: metav1.ConditionTrue, Reason: "Assigned", Message: "m"}}
		st.service(svc)
		all = append(all, svc)
	}
	st.hear()
	st.take()
	return st, all
}

func BenchmarkTakeOfOneChangeIn10000(b *testing.B) {
	st, all := crowd(10000)
	b.ReportAllocs()
	for b.Loop() {
		st.service(all[5000].DeepCopy())
		st.hear()
		st.take()
	}
}

func BenchmarkTakeOf10000Anew(b *testing.B) {
	st, _ := crowd(10000)
	b.ReportAllocs()
	for b.Loop() {
		st.note(func(d *dirty) { d.all = true })
		st.take()
	}
}

func TestAKindThatTheAPIServerDoesNotKnowIsNamed(t *testing.T) {
	var text strings.Builder
	say := missing(slog.New(slog.NewTextHandler(&text, nil)), "addresspools.herald-lb.io")
	say(t.Context(), nil, apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("addresspools").GroupResource(), ""))
	if got := text.String(); !strings.Contains(got, "install Herald's CRDs") || !strings.Contains(got, "addresspools.herald-lb.io") {
		t.Errorf("log %q", got)
	}
}
