package ccm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

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

	machines map[string]cloud.Target // by node; replaced whole
	unknown  map[string]time.Time    // nodes that are none, and since when
	ask      time.Time               // when they are to be asked for again
	failing  time.Duration           // for how long that was put off last
	news     chan news               // the latest, to be told
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
	for err != nil {
		h.log.Error("no address is routed to a node: trying again", "err", err)
		if !loop.Pause(ctx, steady) {
			return
		}
		r, err = h.newRouter()
	}
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() {
		if err := r.source.Run(ctx); err != nil {
			h.log.Error("reading what speakers are alive", "err", err)
		}
	})
	parts.Go(func() { r.tellAll(ctx) })
	for ctx.Err() == nil {
		again := r.pass(ctx)
		select {
		case <-ctx.Done():
		case <-h.bell:
		case <-time.After(again):
		}
		loop.Pause(ctx, gather)
	}
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
	r := &router{host: h, chosen: map[netip.Addr]tenure{}, unknown: map[string]time.Time{}, news: make(chan news, 1)}
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
	if err := r.resolve(ctx, time.Now()); err != nil && ctx.Err() == nil {
		r.log.Warn("asking which machines nodes are: those that were known are used", "err", err)
	}
	holders := speaker.Holders(s, func(node string) bool { return r.machines[node].Instance.ID != "" })
	want, settles := r.placements(holders, time.Now())
	next, err := r.mover.Move(ctx, want)
	if err != nil && ctx.Err() == nil {
		r.log.Warn("routing addresses", "err", err)
	}
	r.publish(news{holders, r.mover.Routed(), r.machines, r.users})
	for _, d := range []time.Duration{next, settles, time.Until(r.ask)} {
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

// How often machines are asked for.
const (
	unknownAsk  = 15 * time.Second // while there is a node that is none yet
	unknownFor  = 2 * time.Minute  // and not for longer: it may never be one
	failingMost = 30 * time.Second // after what has failed
)

// resolve finds out which machines nodes are, if nodes have changed or it was long ago.
// A new one may not be known at once.
func (r *router) resolve(ctx context.Context, now time.Time) error {
	if changed := r.nodesChanged.Swap(false); changed && r.failing == 0 {
		r.ask = time.Time{}
	}
	if now.Before(r.ask) {
		return nil
	}
	nodes, err := r.eligible()
	if err != nil {
		return err
	}
	machines, err := r.resolved(cloud.WithLane(ctx, cloud.Drifting), nodes)
	if err != nil {
		r.failing = min(max(2*r.failing, retry), failingMost)
		r.ask = now.Add(r.failing)
		return err
	}
	r.machines, r.failing, r.ask = machines, 0, now.Add(r.config.Drift.Interval.Duration)
	unknown := map[string]time.Time{}
	for _, n := range nodes {
		if _, ok := machines[n.Name]; ok {
			continue
		}
		if unknown[n.Name] = r.unknown[n.Name]; unknown[n.Name].IsZero() {
			unknown[n.Name] = now
		}
		if now.Sub(unknown[n.Name]) < unknownFor {
			r.ask = now.Add(unknownAsk)
		}
	}
	r.unknown = unknown
	return nil
}

// resolved returns the machines to which the cloud can route, by node: how a load balancer
// would reach them does not matter.
func (r *router) resolved(ctx context.Context, nodes []*corev1.Node) (map[string]cloud.Target, error) {
	machines := map[string]cloud.Target{}
	for _, private := range []bool{true, false} {
		known, _, err := r.engine.Driver.Instances(ctx, nodes, cloud.LBSpec{UsePrivateIP: private})
		if err != nil {
			return nil, err
		}
		for _, m := range known {
			if r.mover.Driver.Routable(m.Instance) {
				machines[m.Node] = m
			}
		}
	}
	return machines, nil
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

// news are what Services are to say of where their addresses are.
type news struct {
	holders  map[netip.Addr]speaker.Holding
	at       map[netip.Addr]cloud.Instance
	machines map[string]cloud.Target
	users    map[netip.Addr][]*corev1.Service
}

// publish has news be told instead of those that are not told yet. It never blocks.
func (r *router) publish(n news) {
	select {
	case <-r.news:
	default:
	}
	r.news <- n // only pass sends
}

// tellAll tells news until ctx ends: writing is slow, and no address is to wait for it.
func (r *router) tellAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-r.news:
			if err := r.tell(n); err != nil && ctx.Err() == nil {
				r.log.Warn("saying where addresses are routed", "err", err)
				time.AfterFunc(retry, r.bell.Ring) // it is said anew
			}
		}
	}
}

// tell has each Service say where its addresses are routed.
func (r *router) tell(n news) error {
	if r.config.DryRun {
		return nil
	}
	nodes, told := map[string]string{}, map[*corev1.Service]bool{}
	for node, m := range n.machines {
		nodes[m.Instance.ID] = node
	}
	var errs []error
	for _, addr := range slices.SortedFunc(maps.Keys(n.users), netip.Addr.Compare) {
		for _, svc := range n.users[addr] {
			if told[svc] || !r.engine.Floats(svc) {
				continue
			}
			told[svc] = true
			cond, known := routed(svc, n.at, nodes, n.holders)
			if !known {
				continue // it has not been looked at since this process began
			}
			edited := svc.DeepCopy()
			if !meta.SetStatusCondition(&edited.Status.Conditions, cond) {
				continue
			}
			if err := r.overwrite(svc, edited); err != nil {
				errs = append(errs, fmt.Errorf("writing condition %s of Service %s/%s: %w", cond.Type, svc.Namespace, svc.Name, err))
			}
		}
	}
	return errors.Join(errs...)
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
			words = append(words, fmt.Sprintf("%s: no node can serve it: none that is a machine of the cloud has a speaker that is alive and a usable endpoint within reach, or its loadBalancerSourceRanges cannot be read", addr))
		case node == "" || !slices.Contains(should.Able, node):
			c.Status, c.Reason = metav1.ConditionFalse, cmp.Or(strings.TrimPrefix(c.Reason, reasonRouted), reasonPending)
			words = append(words, fmt.Sprintf("%s is on its way to node %s", addr, should.Node))
		default:
			words = append(words, fmt.Sprintf("%s is routed to node %s", addr, node))
		}
	}
	c.Message = strings.Join(words, "; ")
	return c, len(words) > 0
}

// routing returns a Service with the condition that its addresses are routed, or without,
// as it should be; it is svc itself if it is so. Speakers steer by that condition.
func (p *Provider) routing(svc *corev1.Service) *corev1.Service {
	if !p.engine.Floats(svc) {
		return unrouted(svc)
	}
	if marked(svc) {
		return svc
	}
	edited := svc.DeepCopy()
	meta.SetStatusCondition(&edited.Status.Conditions, metav1.Condition{Type: kube.ConditionRouted, Status: metav1.ConditionFalse,
		Reason: reasonPending, Message: "the cloud is being asked to route its addresses to a node", ObservedGeneration: svc.Generation})
	return edited
}

// unrouted returns a Service without the condition; svc itself if it has none.
func unrouted(svc *corev1.Service) *corev1.Service {
	if !marked(svc) {
		return svc
	}
	edited := svc.DeepCopy()
	meta.RemoveStatusCondition(&edited.Status.Conditions, kube.ConditionRouted)
	return edited
}

func marked(svc *corev1.Service) bool {
	return meta.FindStatusCondition(svc.Status.Conditions, kube.ConditionRouted) != nil
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
