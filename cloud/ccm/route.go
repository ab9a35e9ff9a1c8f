package ccm

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/cloud-provider/service/helpers"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/internal/kube"
	"github.com/herald-lb/herald/internal/loop"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
)

// A router has the cloud route addresses to nodes whose speakers steer what is sent to
// them. Which nodes these are, it finds as speakers do.
type router struct {
	*host
	source *kube.Source
	mover  *cloud.Mover

	machines map[string]cloud.Target // by node
	read     time.Time               // when they were asked for
	chosen   map[netip.Addr]tenure
	users    map[netip.Addr][]*corev1.Service // of the last pass
}

// A tenure is a node that should have an address, and since when that is so.
type tenure struct {
	node  string
	since time.Time
}

// How a router works.
const (
	gather = 5 * time.Millisecond // changes that come together
	retry  = time.Second          // after what has failed
	// steady is for how long a node has to be the one that should have an address which
	// another serves: moving it breaks no connection for nothing.
	steady = 10 * time.Second
)

// Reasons of the condition by which a Service says where its addresses are routed.
const (
	reasonRouted  = "Routed"
	reasonPending = "Pending" // it is on its way
	reasonNoNode  = "NoNode"  // there is none that can serve it
)

// route has addresses routed from when there is a Service that has some, until ctx ends.
func (h *host) route(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-h.floats:
	}
	r, err := h.newRouter()
	if err != nil {
		h.log.Error("no address is routed to a node", "err", err)
		return
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		if err := r.source.Run(ctx); err != nil {
			h.log.Error("reading what speakers are alive", "err", err)
		}
	}()
	for ctx.Err() == nil {
		again := r.pass(ctx)
		select {
		case <-ctx.Done():
		case <-h.bell:
		case <-time.After(again):
		}
		loop.Pause(ctx, gather)
	}
	<-read
}

func (h *host) newRouter() (*router, error) {
	d, ok := h.engine.Driver.(cloud.AddressDriver)
	if !ok {
		return nil, fmt.Errorf("the driver %s has no addresses", h.config.Provider)
	}
	cfg, err := h.builder.Config("herald-cloud")
	if err != nil {
		return nil, err
	}
	clients, err := kube.NewClients(cfg)
	if err != nil {
		return nil, err
	}
	r := &router{host: h, chosen: map[netip.Addr]tenure{}}
	r.mover = &cloud.Mover{Engine: h.engine, Driver: d, Services: func(a netip.Addr) []*corev1.Service { return r.users[a] }}
	r.source, err = kube.NewSource(clients, kube.Options{Namespace: h.config.Namespace, Onlooker: true, Ring: h.bell.Ring, Log: h.log})
	return r, err
}

// pass routes what should be elsewhere, and returns when to look again.
func (r *router) pass(ctx context.Context) (again time.Duration) {
	s, ok := r.source.Take()
	if !ok {
		return retry
	}
	r.users = r.usersOf(s)
	if len(r.users) == 0 {
		return r.config.Drift.Interval.Duration
	}
	if err := r.resolve(ctx); err != nil {
		r.log.Warn("asking which machines nodes are: those that were known are used", "err", err)
		again = retry
	}
	holders := speaker.Holders(s, func(node string) bool { return r.machines[node].Instance.ID != "" })
	want, settles := r.placements(holders, time.Now())
	next, err := r.mover.Move(ctx, want)
	if err != nil && ctx.Err() == nil {
		r.log.Warn("routing addresses", "err", err)
	}
	if err := r.tell(holders); err != nil && ctx.Err() == nil {
		r.log.Warn("saying where addresses are routed", "err", err)
		again = retry
	}
	for _, d := range []time.Duration{next, settles} {
		if d > 0 && (again == 0 || d < again) {
			again = d
		}
	}
	return again
}

// usersOf returns, by address, the Services whose addresses are routed, as they are cached.
func (r *router) usersOf(s snapshot.Snapshot) map[netip.Addr][]*corev1.Service {
	users := map[netip.Addr][]*corev1.Service{}
	for _, svc := range s.Services {
		if !svc.Routed {
			continue
		}
		obj, err := r.services.Services(svc.Namespace).Get(svc.Name)
		if err != nil || string(obj.UID) != svc.UID {
			continue
		}
		for _, a := range svc.Addrs() {
			users[a] = append(users[a], obj)
		}
	}
	return users
}

// resolve finds out which machines nodes are, if nodes have changed or it was long ago.
func (r *router) resolve(ctx context.Context) error {
	if !r.nodesChanged.Swap(false) && time.Since(r.read) < r.config.Drift.Interval.Duration {
		return nil
	}
	nodes, err := r.eligible()
	if err != nil {
		return err
	}
	known, _, err := r.engine.Driver.Instances(cloud.WithLane(ctx, cloud.Failover), nodes, false)
	if err != nil {
		r.nodesChanged.Store(true)
		return err
	}
	r.machines, r.read = map[string]cloud.Target{}, time.Now()
	for _, m := range known {
		if r.mover.Driver.Routable(m.Instance) {
			r.machines[m.Node] = m
		}
	}
	return nil
}

// placements says where addresses should be; settles is when the first of those becomes
// steady that is not yet.
func (r *router) placements(holders map[netip.Addr]speaker.Holding, now time.Time) (want map[netip.Addr]cloud.Placement, settles time.Duration) {
	want = make(map[netip.Addr]cloud.Placement, len(holders))
	chosen := make(map[netip.Addr]tenure, len(holders))
	for addr, h := range holders {
		t := r.chosen[addr]
		if t.node != h.Node {
			t = tenure{h.Node, now}
		}
		chosen[addr] = t
		p := cloud.Placement{To: r.machines[h.Node], Able: map[string]bool{}, Steady: now.Sub(t.since) >= steady}
		for _, node := range h.Able {
			p.Able[r.machines[node].Instance.ID] = true
		}
		want[addr] = p
		if left := steady - now.Sub(t.since); left > 0 && (settles == 0 || left < settles) {
			settles = left
		}
	}
	r.chosen = chosen
	return want, settles
}

// tell has each Service say where its addresses are routed.
func (r *router) tell(holders map[netip.Addr]speaker.Holding) error {
	at, nodes := r.mover.Routed(), map[string]string{}
	for node, m := range r.machines {
		nodes[m.Instance.ID] = node
	}
	told := map[*corev1.Service]bool{}
	for _, addr := range slices.SortedFunc(keys(r.users), netip.Addr.Compare) {
		for _, svc := range r.users[addr] {
			if told[svc] {
				continue
			}
			told[svc] = true
			cond, known := routed(svc, at, nodes, holders)
			if !known {
				continue // it has not been looked at since this process began
			}
			edited := svc.DeepCopy()
			if !meta.SetStatusCondition(&edited.Status.Conditions, cond) {
				continue
			}
			if _, err := helpers.PatchService(r.client.CoreV1(), svc, edited); err != nil {
				return fmt.Errorf("writing condition %s of Service %s/%s: %w", cond.Type, svc.Namespace, svc.Name, err)
			}
		}
	}
	return nil
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// routed is what a Service says of where its addresses are routed; known is whether that
// is known of all.
func routed(svc *corev1.Service, at map[netip.Addr]cloud.Instance, nodes map[string]string, holders map[netip.Addr]speaker.Holding) (c metav1.Condition, known bool) {
	c = metav1.Condition{Type: kube.ConditionRouted, Status: metav1.ConditionTrue, Reason: reasonRouted, ObservedGeneration: svc.Generation}
	var words []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		addr, err := netip.ParseAddr(in.IP)
		if err != nil {
			continue
		}
		is, ok := at[addr]
		if !ok {
			return c, false
		}
		node, should := nodes[is.ID], holders[addr]
		switch {
		case should.Node == "":
			c.Status, c.Reason = metav1.ConditionFalse, reasonNoNode
			words = append(words, fmt.Sprintf("%s: no node can serve it: none that is a machine of the cloud has a speaker that is alive and a usable endpoint within reach", addr))
		case node == "" || !slices.Contains(should.Able, node):
			c.Status, c.Reason = metav1.ConditionFalse, cmp.Or(strings.TrimPrefix(c.Reason, reasonRouted), reasonPending)
			words = append(words, fmt.Sprintf("%s is on its way to node %s", addr, should.Node))
		default:
			words = append(words, fmt.Sprintf("%s is routed to node %s", addr, node))
		}
	}
	c.Message = strings.Join(words, "; ")
	return c, true
}

// routing returns a Service with the condition that its addresses are routed, or without,
// as it should be; it is svc itself if it is so. Speakers steer by that condition.
func (p *Provider) routing(svc *corev1.Service) *corev1.Service {
	had := meta.FindStatusCondition(svc.Status.Conditions, kube.ConditionRouted) != nil
	wants := svc.Spec.Type == corev1.ServiceTypeLoadBalancer && p.engine.Floating(svc)
	if had == wants {
		return svc
	}
	edited := svc.DeepCopy()
	if wants {
		meta.SetStatusCondition(&edited.Status.Conditions, metav1.Condition{Type: kube.ConditionRouted, Status: metav1.ConditionFalse,
			Reason: reasonPending, Message: "the cloud is being asked to route its addresses to a node", ObservedGeneration: svc.Generation})
	} else {
		meta.RemoveStatusCondition(&edited.Status.Conditions, kube.ConditionRouted)
	}
	return edited
}

// floating has addresses be routed, now that there is a Service that has some.
func (h *host) floating() {
	h.float.Do(func() { close(h.floats) })
	h.bell.Ring()
}

// nodeEvents has machines be asked for anew.
func (h *host) nodeEvents() cache.ResourceEventHandler {
	changed := func() {
		h.nodesChanged.Store(true)
		h.bell.Ring()
		h.burst.ring()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, DeleteFunc: func(any) { changed() },
		UpdateFunc: func(was, is any) {
			a, ok1 := was.(*corev1.Node)
			b, ok2 := is.(*corev1.Node)
			if ok1 && ok2 && matters(a, b) {
				changed()
			}
		},
	}
}
