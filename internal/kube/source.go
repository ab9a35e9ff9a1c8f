package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/internal/snapshot"
)

// An Options says what a Source reads.
type Options struct {
	Classes   Classes
	Namespace string // where the Leases of speakers are
	// Node is the node whose speaker this is, or "" for a controller. A
	// speaker reads EndpointSlices and the Leases of its peers as well; a
	// controller reads Namespaces, and Services of every type.
	Node string
	Ring func() // called when something has changed; never blocks
	Log  *slog.Logger
}

// A Source keeps what is read from the API, and makes Snapshots of it.
//
// Take belongs to the goroutine of the pass. It converts only what has changed
// since it was last called.
type Source struct {
	o         Options
	informers informers

	wroteServices, wrotePools overlay // what was written here

	mu          sync.Mutex
	dirty       dirty
	generations map[string]int64 // of the AddressPools, as last seen
	peers       *peers
	alive       []snapshot.Speaker // of peers, at the last judgement

	// What follows is touched by Take only.
	services map[string]snapshot.Service // by Key, as of the last Take
	order    []string                    // keys of services, sorted
	nodes    []snapshot.Node
	config   config.Config
	problems []config.Problem
	pools    []snapshot.PoolStatus
	rules    []rules
}

// dirty is what has changed since the last Take.
type dirty struct {
	services map[string]bool
	all      bool // every Service: a pool or the labels of a namespace changed
	nodes    bool
	pools    bool
}

// NewSource returns a Source that reads through c. It reads nothing before Run.
func NewSource(c Clients, o Options) (*Source, error) {
	s := &Source{
		o: o, peers: newPeers(o.Node),
		services: map[string]snapshot.Service{}, generations: map[string]int64{},
		dirty: dirty{services: map[string]bool{}, nodes: true, pools: true},
	}
	s.informers = newInformers(c, o)
	if err := s.listen(); err != nil {
		return nil, err
	}
	return s, nil
}

// listen marks as dirty what the watches bring, and rings.
func (s *Source) listen() error {
	byKey := func(obj any) { s.mark(func(d *dirty) { d.services[keyOf(obj)] = true }) }
	bySlice := func(obj any) {
		if key, ok := serviceOf(obj); ok {
			s.mark(func(d *dirty) { d.services[key] = true })
		}
	}
	i := s.informers
	return firstError(
		handle(i.services, byKey),
		handle(i.slices, bySlice),
		handle(i.nodes, func(any) { s.mark(func(d *dirty) { d.nodes = true }) }),
		handle(i.pools, s.poolChanged),
		handle(i.namespaces, func(any) { s.mark(func(d *dirty) { d.all = true }) }),
		s.listenLeases(),
	)
}

// poolChanged marks every Service as dirty only if the pool's spec may have
// changed: its status does with each address that is assigned.
func (s *Source) poolChanged(obj any) {
	p, ok := obj.(*v1alpha1.AddressPool)
	name := keyOf(obj)
	s.mark(func(d *dirty) {
		d.pools = true
		if gone := !ok; gone || s.generations[name] != p.Generation || p.DeletionTimestamp != nil {
			d.nodes, d.all = true, true
		}
		if ok {
			s.generations[name] = p.Generation
		}
	})
}

func (s *Source) mark(set func(*dirty)) {
	s.mu.Lock()
	set(&s.dirty)
	s.mu.Unlock()
	s.o.Ring()
}

// listenLeases feeds the judgement of who is alive.
func (s *Source) listenLeases() error {
	if s.informers.leases == nil {
		return nil
	}
	seen := func(obj any) {
		if l, ok := obj.(*coordinationv1.Lease); ok {
			s.mu.Lock()
			err := s.peers.observe(l, time.Now())
			s.mu.Unlock()
			if err != nil {
				s.o.Log.Warn("a speaker is passed over", "err", err)
			}
			s.judge()
		}
	}
	_, err := s.informers.leases.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    seen,
		UpdateFunc: func(_, now any) { seen(now) },
		DeleteFunc: func(obj any) {
			s.mu.Lock()
			s.peers.forget(nameOf(obj))
			s.mu.Unlock()
			s.judge()
		},
	})
	return err
}

// judge looks anew at who is alive, and rings if that has changed.
func (s *Source) judge() {
	s.mu.Lock()
	now := s.peers.alive(time.Now())
	changed := !equalSpeakers(now, s.alive)
	s.alive = now
	s.mu.Unlock()
	if changed {
		s.o.Ring()
	}
}

func equalSpeakers(a, b []snapshot.Speaker) bool {
	sameLink := func(x, y snapshot.Link) bool { return x.Name == y.Name && slices.Equal(x.Prefixes, y.Prefixes) }
	return slices.EqualFunc(a, b, func(x, y snapshot.Speaker) bool {
		return x.Node == y.Node && x.DataPath == y.DataPath && x.Leaving == y.Leaving &&
			slices.EqualFunc(x.Links, y.Links, sameLink)
	})
}

// Run reads the API until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, i := range s.informers.list() {
		running.Go(func() { i.RunWithContext(ctx) })
	}
	defer running.Wait()
	// A dead speaker makes no event: its silence has to be noticed.
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for synced := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.judge()
			// What is empty makes no event either, when it has been read.
			if !synced && s.Synced() {
				synced = true
				s.o.Ring()
			}
		}
	}
}

// judgeEvery adds to the time after which a dead speaker is missed.
const judgeEvery = 50 * time.Millisecond

// Synced reports whether everything has been read once.
func (s *Source) Synced() bool {
	for _, i := range s.informers.list() {
		if !i.HasSynced() {
			return false
		}
	}
	return true
}

// Take returns the cluster as it is now; ok is false until everything has been
// read once.
func (s *Source) Take() (snap snapshot.Snapshot, ok bool) {
	if !s.Synced() {
		return snapshot.Snapshot{}, false
	}
	s.mu.Lock()
	d := s.dirty
	s.dirty = dirty{services: map[string]bool{}}
	alive := s.alive
	s.mu.Unlock()

	if d.pools {
		s.takePools()
	}
	if d.nodes || d.pools {
		s.takeNodes()
	}
	if d.all {
		for _, key := range s.informers.services.GetStore().ListKeys() {
			d.services[key] = true
		}
	}
	for key := range d.services {
		s.takeService(key)
	}
	snap = snapshot.Snapshot{
		Config: s.config, Problems: s.problems, Nodes: s.nodes, Pools: s.pools, Speakers: alive,
		Services: make([]snapshot.Service, 0, len(s.order)),
	}
	for _, key := range s.order {
		snap.Services = append(snap.Services, s.services[key])
	}
	return snap, true
}

// takeService converts the Service at key anew.
func (s *Source) takeService(key string) {
	at, known := slices.BinarySearch(s.order, key)
	svc, ok := get[*corev1.Service](s.informers.services, &s.wroteServices, key)
	if !ok {
		if known {
			s.order = slices.Delete(s.order, at, at+1)
			delete(s.services, key)
		}
		return
	}
	next := service(svc, s.o.Classes)
	if next.Served && s.informers.slices != nil {
		next.Endpoints = endpoints(s.slicesOf(key))
	}
	if s.informers.namespaces != nil {
		next.Pools = poolsFor(s.rules, svc, s.namespaceLabels(svc.Namespace))
	}
	if !known {
		s.order = slices.Insert(s.order, at, key)
	}
	s.services[key] = next
}

// get returns the object at key, as the watch brought it or as it was written
// here, whichever is newer.
func get[T any](i cache.SharedIndexInformer, wrote *overlay, key string) (T, bool) {
	obj, ok, err := i.GetStore().GetByKey(key)
	if err != nil || !ok {
		obj = nil
	}
	newest, ok := wrote.pick(key, asMeta(obj)).(T)
	return newest, ok
}

func (s *Source) slicesOf(key string) []*discoveryv1.EndpointSlice {
	objs, err := s.informers.slices.GetIndexer().ByIndex(indexService, key)
	if err != nil {
		s.o.Log.Error("reading EndpointSlices", "service", key, "err", err)
	}
	var out []*discoveryv1.EndpointSlice
	for _, obj := range objs {
		if es, ok := obj.(*discoveryv1.EndpointSlice); ok {
			out = append(out, es)
		}
	}
	return out
}

func (s *Source) namespaceLabels(name string) map[string]string {
	obj, ok, err := s.informers.namespaces.GetStore().GetByKey(name)
	if ns, is := obj.(*corev1.Namespace); is && ok && err == nil {
		return ns.Labels
	}
	return nil
}

func (s *Source) takePools() {
	var objs []v1alpha1.AddressPool
	for _, key := range slices.Sorted(slices.Values(s.informers.pools.GetStore().ListKeys())) {
		if p, ok := get[*v1alpha1.AddressPool](s.informers.pools, &s.wrotePools, key); ok {
			objs = append(objs, *p)
		}
	}
	was := s.problems
	s.config, s.problems = v1alpha1.Compile(objs, s.config)
	if !slices.Equal(was, s.problems) {
		for _, p := range s.problems {
			s.o.Log.Warn("configuration", "pool", p.Object, "field", p.Field, "reason", p.Reason, "detail", p.Detail)
		}
	}
	s.pools = make([]snapshot.PoolStatus, 0, len(objs))
	for _, p := range objs {
		s.pools = append(s.pools, poolStatus(p))
	}
	s.rules = compileRules(s.config)
}

func (s *Source) takeNodes() {
	byName := map[string]snapshot.Node{}
	for _, obj := range s.informers.nodes.GetStore().List() {
		if n, ok := obj.(*corev1.Node); ok {
			next := node(n)
			next.Announces = announcedFrom(s.rules, n.Labels)
			byName[n.Name] = next
		}
	}
	s.nodes = make([]snapshot.Node, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		s.nodes = append(s.nodes, byName[name])
	}
}

// poolStatus converts the status of p.
func poolStatus(p v1alpha1.AddressPool) snapshot.PoolStatus {
	out := snapshot.PoolStatus{
		Name: p.Name, Version: p.ResourceVersion,
	}
	if c := p.Status.IPv4; c != nil {
		out.V4 = snapshot.Count(*c)
	}
	if c := p.Status.IPv6; c != nil {
		out.V6 = snapshot.Count(*c)
	}
	for _, c := range p.Status.Conditions {
		out.Conditions = append(out.Conditions, condition(c))
	}
	return out
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("watching: %w", err)
		}
	}
	return nil
}

// Peers returns how many speakers are alive, this one included.
func (s *Source) Peers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.alive)
}
