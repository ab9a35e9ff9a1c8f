package kube

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// An Options says what a Source reads.
type Options struct {
	Classes   Classes
	Namespace string // where the Leases of speakers are
	// Node is the node whose speaker this is, or "" for a controller. A
	// speaker reads Nodes, EndpointSlices and the Leases of its peers as
	// well; a controller reads Namespaces, and Services of every type.
	Node string
	// Onlooker is whether it is neither: it reads what a speaker does, and none of
	// Herald's own kinds. Who is alive it knows by their Leases alone.
	Onlooker bool
	// ServiceProxy is whether the speaker stands in for kube-proxy: it reads
	// all Services that have a cluster IP, not only those of type LoadBalancer.
	ServiceProxy bool
	Memory       Memory // of a speaker; the zero value has it wait for the API
	Ring         func() // called when something has changed; never blocks
	Log          *slog.Logger
}

// A Source keeps what is read from the API, and makes Snapshots of it.
//
// Take belongs to the goroutine of the pass. It converts only what has changed
// since it was last called.
type Source struct {
	o         Options
	informers informers
	heard     []cache.InformerSynced // by each handler: it has heard of all that was there at first
	census    *census

	slices sliceIndex

	wroteServices, wrotePools, wroteClaims, wrotePeers overlay // what was written here

	impatient atomic.Bool // the API has been waited for long enough

	mu    sync.Mutex
	dirty dirty

	// What follows is touched by Take only.
	services shelf
	nodes    []snapshot.Node
	config   config.Config
	problems []config.Problem
	pools    []snapshot.PoolStatus
	claims   []snapshot.Claim
	reports  []snapshot.Report
	rules    []rules

	peers        []snapshot.PeerStatus
	peerProblems []config.Problem
	passwords    map[string]string // replaced whole
	kept         map[string]string // why a password is the last one, replaced whole
}

// dirty is what has changed since the last Take.
type dirty struct {
	services   map[string]bool
	namespaces map[string]bool // all Services in these
	all        bool            // every Service
	nodes      bool
	pools      bool
	claims     bool
	reports    bool
	peers      bool
	secrets    bool
}

func clean() dirty { return dirty{services: map[string]bool{}, namespaces: map[string]bool{}} }

// NewSource returns a Source that reads through c. It reads nothing before Run.
func NewSource(c Clients, o Options) (*Source, error) {
	s := newSource(newInformers(c, o), o)
	return s, s.listen()
}

func newSource(i informers, o Options) *Source {
	s := &Source{o: o, informers: i, census: newCensus(o), dirty: clean()}
	s.dirty.all, s.dirty.nodes, s.dirty.pools, s.dirty.claims, s.dirty.reports, s.dirty.peers = true, true, true, true, true, true
	return s
}

// listen hears what the watches bring.
func (s *Source) listen() error {
	i := s.informers
	for _, on := range []struct {
		informer cache.SharedIndexInformer
		changed  func(was, now any)
	}{
		{i.services, s.serviceChanged},
		{i.slices, s.sliceChanged},
		{i.nodes, s.nodeChanged},
		{i.pools, s.poolChanged},
		{i.claims, s.claimChanged},
		{i.namespaces, s.namespaceChanged},
		{i.leases, s.leaseChanged},
		{i.reports, s.reportChanged},
		{i.peers, s.peerChanged},
		{i.secrets, s.secretChanged},
	} {
		if on.informer == nil {
			continue
		}
		handle, err := on.informer.AddEventHandler(handler(on.changed))
		if err != nil {
			return fmt.Errorf("watching: %w", err)
		}
		s.heard = append(s.heard, handle.HasSynced)
	}
	return nil
}

func (s *Source) serviceChanged(was, now any) {
	key := keyOf(either(was, now))
	if s.wroteServices.brought(key, asMeta(now)) {
		return // no news: Take knows it since it was written
	}
	s.mark(func(d *dirty) { d.services[key] = true })
}

func (s *Source) poolChanged(was, now any) {
	if s.wrotePools.brought(keyOf(either(was, now)), asMeta(now)) {
		return
	}
	s.mark(func(d *dirty) { d.pools = true })
}

func (s *Source) claimChanged(was, now any) {
	if s.wroteClaims.brought(keyOf(either(was, now)), asMeta(now)) {
		return
	}
	s.mark(func(d *dirty) { d.claims = true })
}

// nodeChanged passes over what a kubelet reports from time to time.
func (s *Source) nodeChanged(was, now any) {
	a, before := was.(*corev1.Node)
	b, after := now.(*corev1.Node)
	if before && after && maps.Equal(a.Labels, b.Labels) && equalNodes(node(a), node(b)) {
		return
	}
	s.mark(func(d *dirty) { d.nodes = true })
}

func equalNodes(a, b snapshot.Node) bool {
	return a.Excluded == b.Excluded && a.Draining == b.Draining && a.Ready == b.Ready && slices.Equal(a.Addrs, b.Addrs) &&
		slices.Equal(a.Internal, b.Internal) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}

// sliceChanged marks two Services if the slice has moved between them.
func (s *Source) sliceChanged(was, now any) {
	before, after := asSliced(was), asSliced(now)
	s.slices.change(before, after)
	for _, one := range []*sliced{before, after} {
		if one != nil && one.service != "" {
			s.mark(func(d *dirty) { d.services[one.service] = true })
		}
	}
}

func (s *Source) namespaceChanged(was, now any) {
	name := keyOf(either(was, now))
	s.mark(func(d *dirty) { d.namespaces[name], d.claims = true, true })
}

func (s *Source) peerChanged(was, now any) {
	if s.wrotePeers.brought(keyOf(either(was, now)), asMeta(now)) {
		return
	}
	s.mark(func(d *dirty) { d.peers = true })
}

func (s *Source) secretChanged(_, _ any) { s.mark(func(d *dirty) { d.secrets = true }) }

func (s *Source) reportChanged(_, _ any) { s.mark(func(d *dirty) { d.reports = true }) }

func (s *Source) leaseChanged(was, now any) {
	changed := false
	if l, ok := now.(*coordinationv1.Lease); ok {
		changed = s.census.observe(l, time.Now())
	} else {
		changed = s.census.forget(nameOf(was), time.Now())
	}
	if changed {
		s.o.Ring()
	}
}

// mark notes what has changed, and rings.
func (s *Source) mark(set func(*dirty)) {
	s.note(set)
	s.o.Ring()
}

// note is mark without the ring, for whoever runs a pass next anyway.
func (s *Source) note(set func(*dirty)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set(&s.dirty)
}

// Run reads the API until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	var running sync.WaitGroup
	for _, i := range s.informers.list() {
		running.Go(func() { i.RunWithContext(ctx) })
	}
	defer running.Wait()
	impatient := time.NewTimer(patience)
	defer impatient.Stop()
	// A dead speaker makes no event: its silence has to be noticed.
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for synced := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-impatient.C:
			s.impatient.Store(true)
			s.o.Ring()
		case now := <-tick.C:
			changed := s.census.judge(now)
			// What is empty makes no event either, when it has been read.
			if first := !synced && s.Synced(); first || changed {
				synced = synced || first
				s.o.Ring()
			}
		}
	}
}

// judgeEvery adds to the time after which a dead speaker is missed.
const judgeEvery = 50 * time.Millisecond

// Synced reports whether everything has been read once, and been heard of: an
// informer's own word for it comes before its handlers have been called.
func (s *Source) Synced() bool {
	for _, all := range s.heard {
		if !all() {
			return false
		}
	}
	return true
}

// Meet takes in what is known of the speakers of other nodes by their BFD
// sessions. The map is not edited any more.
func (s *Source) Meet(contacts map[string]snapshot.Contact) {
	if s.census.meet(contacts, time.Now()) {
		s.o.Ring()
	}
}

// Peers returns how many speakers are alive, this one included.
func (s *Source) Peers() int { return len(s.census.judged().alive) }

// newestService returns the Service at key, as the watch brought it or as it
// was written here.
func (s *Source) newestService(key string) (*corev1.Service, bool) {
	return newest[*corev1.Service](s.informers.services, &s.wroteServices, key)
}
