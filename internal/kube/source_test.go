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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/config/v1alpha1"
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
	st.bring(st.informers.slices, st.sliceChanged, es, false)
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
			if diff := cmp.Diff(again.take(), got, compareAddrs); diff != "" {
				t.Fatalf("node %q, step %d (-fresh +taken):\n%s", node, step, diff)
			}
			if diff := cmp.Diff(before, got, compareAddrs); diff != "" && !rang && !wrote {
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

func TestTrimServiceKeepsOnlyWhatIsRead(t *testing.T) {
	svc := lb("ns", "a")
	svc.Annotations = map[string]string{annotationPool: "lan", corev1.LastAppliedConfigAnnotation: "{}"}
	svc.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	if _, err := trimService(svc); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{annotationPool: "lan"}, svc.Annotations); diff != "" || svc.ManagedFields != nil {
		t.Errorf("managed fields %v, annotations (-want +got):\n%s", svc.ManagedFields, diff)
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
