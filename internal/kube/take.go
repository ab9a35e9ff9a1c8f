package kube

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/controller"
	"github.com/herald-lb/herald/internal/snapshot"
)

// Take returns the cluster as it is now; ok is false until everything has been
// read once. A speaker with a [Memory] does not wait for long.
func (s *Source) Take() (snap snapshot.Snapshot, ok bool) {
	now := time.Now()
	if !s.Synced() {
		return s.recall(now)
	}
	s.o.Memory = Memory{} // which may be large
	snap = s.take()
	snap.Now = now
	return snap, true
}

func (s *Source) take() snapshot.Snapshot {
	s.mu.Lock()
	d := s.dirty
	s.dirty = clean()
	s.mu.Unlock()

	if d.pools && s.informers.pools != nil && s.takePools() {
		d.nodes, d.all = true, true
	}
	if d.peers && s.informers.peers != nil {
		s.takePeers()
		d.nodes = true
	}
	if (d.peers || d.secrets) && s.informers.secrets != nil {
		s.takePasswords()
	}
	if d.nodes && s.informers.nodes != nil {
		s.takeNodes()
	}
	if d.all || len(d.namespaces) > 0 {
		for _, key := range s.informers.services.GetStore().ListKeys() {
			namespace, _, _ := strings.Cut(key, "/")
			if d.all || d.namespaces[namespace] {
				d.services[key] = true
			}
		}
	}
	for key := range d.services {
		s.takeService(key)
	}
	if (d.claims || d.all) && s.informers.claims != nil {
		s.takeClaims()
	}
	if d.reports && s.informers.reports != nil {
		s.takeReports()
	}
	judged := s.census.judged()
	return snapshot.Snapshot{
		Claims: s.claims, Reports: s.reports,
		Config: s.config, Problems: s.problems, Nodes: s.nodes, Pools: s.pools,
		PeerProblems: s.peerProblems, Peers: s.peers, Passwords: s.passwords, PasswordsKept: s.kept,
		Speakers: judged.alive, Lost: judged.lost, Services: s.services.list(),
	}
}

// takeService converts the Service at key anew.
func (s *Source) takeService(key string) {
	svc, ok := s.newestService(key)
	if !ok {
		s.services.drop(key)
		return
	}
	next := service(svc, s.o.Classes)
	next.Proxied = s.o.ServiceProxy && proxied(svc)
	next.Told = told(s.rules, svc.Labels)
	if (next.Served || next.Routed || next.Proxied) && s.informers.slices != nil {
		next.Endpoints = endpoints(s.slices.of(key))
	}
	if s.informers.namespaces != nil {
		next.Pools = poolsFor(s.rules, svc.Labels, s.namespaceLabels(svc.Namespace))
	}
	s.services.put(next)
}

// newest returns the object at key, as the watch brought it or as it was
// written here, whichever is newer.
func newest[T any](i cache.SharedIndexInformer, wrote *overlay, key string) (T, bool) {
	obj, ok, err := i.GetStore().GetByKey(key)
	if err != nil || !ok {
		obj = nil
	}
	one, ok := wrote.pick(key, asMeta(obj)).(T)
	return one, ok
}

// namespaceLabels returns the labels of a Namespace, or nil while it has not
// been read: one that has been has at least its name for a label.
func (s *Source) namespaceLabels(name string) map[string]string {
	obj, ok, err := s.informers.namespaces.GetStore().GetByKey(name)
	if ns, is := obj.(*corev1.Namespace); is && ok && err == nil {
		return ns.Labels
	}
	return nil
}

// takePools compiles the pools, and reports whether their selectors have
// changed. All else may change with each address that is assigned.
func (s *Source) takePools() (selectors bool) {
	var objs []v1alpha1.AddressPool
	for _, key := range slices.Sorted(slices.Values(s.informers.pools.GetStore().ListKeys())) {
		if p, ok := newest[*v1alpha1.AddressPool](s.informers.pools, &s.wrotePools, key); ok {
			objs = append(objs, *p)
		}
	}
	problems, rules := s.problems, s.rules
	peers := s.config.Peers
	s.config, s.problems = v1alpha1.Compile(objs, s.config)
	s.config.Peers = peers
	if !slices.Equal(problems, s.problems) {
		for _, p := range s.problems {
			s.o.Log.Warn("configuration", "pool", p.Object, "field", p.Field, "reason", p.Reason, "detail", p.Detail)
		}
	}
	s.pools = make([]snapshot.PoolStatus, 0, len(objs))
	for _, p := range objs {
		s.pools = append(s.pools, poolStatus(p))
	}
	s.rules = compileRules(s.config)
	return !equalRules(rules, s.rules)
}

// takePeers compiles the BGPPeers.
func (s *Source) takePeers() {
	var objs []v1alpha1.BGPPeer
	for _, key := range slices.Sorted(slices.Values(s.informers.peers.GetStore().ListKeys())) {
		if p, ok := newest[*v1alpha1.BGPPeer](s.informers.peers, &s.wrotePeers, key); ok {
			objs = append(objs, *p)
		}
	}
	problems := s.peerProblems
	s.config.Peers, s.peerProblems = v1alpha1.CompilePeers(objs, s.config.Peers)
	if !slices.Equal(problems, s.peerProblems) {
		for _, p := range s.peerProblems {
			s.o.Log.Warn("configuration", "peer", p.Object, "field", p.Field, "reason", p.Reason, "detail", p.Detail)
		}
	}
	s.peers = make([]snapshot.PeerStatus, 0, len(objs))
	for _, p := range objs {
		s.peers = append(s.peers, peerStatus(p))
	}
}

func peerStatus(p v1alpha1.BGPPeer) snapshot.PeerStatus {
	out := snapshot.PeerStatus{Name: p.Name, Version: p.ResourceVersion, Established: p.Status.Established}
	for _, c := range p.Status.Conditions {
		if c.Type == controller.Ready {
			out.Conditions = append(out.Conditions, condition(c))
			out.Observed = c.ObservedGeneration == p.Generation
		}
	}
	return out
}

// takePasswords looks up the passwords of the peers. What was never there, or of use, is
// said of the session; where it was the last one stays in use, and that is said.
func (s *Source) takePasswords() {
	last := s.passwords
	s.passwords, s.kept = map[string]string{}, map[string]string{}
	for _, p := range s.config.Peers {
		if p.Secret == "" {
			continue
		}
		text, why := s.password(p)
		if was := last[p.Name]; why != "" && was != "" && len(was) <= config.LongestPassword {
			s.o.Log.Warn("the last password of a BGPPeer stays in use", "peer", p.Name, "why", why)
			text, s.kept[p.Name] = was, why
		}
		if text != "" {
			s.passwords[p.Name] = text
		}
	}
}

// password returns what the Secret of a peer has, and why that is of no use; "" if it is.
func (s *Source) password(p config.Peer) (text, why string) {
	obj, ok, err := s.informers.secrets.GetStore().GetByKey(s.o.Namespace + "/" + p.Secret)
	if secret, is := obj.(*corev1.Secret); is && ok && err == nil {
		text = string(secret.Data[p.SecretKey])
	}
	switch {
	case text == "":
		why = fmt.Sprintf("there is no Secret %s with a key %s in Herald's namespace", p.Secret, p.SecretKey)
	case len(text) > config.LongestPassword:
		why = fmt.Sprintf("key %s of Secret %s is longer than %d bytes", p.SecretKey, p.Secret, config.LongestPassword)
	}
	return text, why
}

func (s *Source) takeClaims() {
	s.claims = make([]snapshot.Claim, 0, len(s.claims))
	for _, key := range slices.Sorted(slices.Values(s.informers.claims.GetStore().ListKeys())) {
		c, ok := newest[*v1alpha1.AddressClaim](s.informers.claims, &s.wroteClaims, key)
		if !ok || c.DeletionTimestamp != nil {
			continue
		}
		next := claimOf(c)
		next.Pools = poolsFor(s.rules, c.Labels, s.namespaceLabels(c.Namespace))
		s.claims = append(s.claims, next)
	}
}

func (s *Source) takeReports() {
	s.reports = []snapshot.Report{} // not nil, which would say that nobody was asked
	for _, key := range slices.Sorted(slices.Values(s.informers.reports.GetStore().ListKeys())) {
		obj, ok, err := s.informers.reports.GetStore().GetByKey(key)
		if one, is := obj.(*v1alpha1.SpeakerStatus); is && ok && err == nil {
			s.reports = append(s.reports, readReport(one))
		}
	}
}

func (s *Source) takeNodes() {
	byName := map[string]snapshot.Node{}
	for _, obj := range s.informers.nodes.GetStore().List() {
		if n, ok := obj.(*corev1.Node); ok {
			next := node(n)
			next.Announces = announcedFrom(s.rules, n.Labels)
			next.Ranks = ranksOf(s.rules, n.Labels)
			next.Tells = tells(s.rules, n.Labels)
			next.Peers = peersOf(s.config.Peers, n.Labels)
			byName[n.Name] = next
		}
	}
	s.nodes = make([]snapshot.Node, 0, len(byName))
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		s.nodes = append(s.nodes, byName[name])
	}
}

// poolStatus converts the status of p; of its conditions, Herald's own.
func poolStatus(p v1alpha1.AddressPool) snapshot.PoolStatus {
	out := snapshot.PoolStatus{Name: p.Name, Version: p.ResourceVersion}
	if c := p.Status.IPv4; c != nil {
		out.V4 = snapshot.Count(*c)
	}
	if c := p.Status.IPv6; c != nil {
		out.V6 = snapshot.Count(*c)
	}
	for _, r := range p.Status.Resting {
		if a, err := netip.ParseAddr(r.Address); err == nil {
			out.Resting = append(out.Resting, snapshot.Rest{Addr: a, Owner: r.Service, Until: r.Until.Time})
		}
	}
	for _, c := range p.Status.Conflicts {
		if a, err := netip.ParseAddr(c.Address); err == nil {
			out.Conflicts = append(out.Conflicts, snapshot.Quarantine{Addr: a, MAC: c.MAC, Node: c.Node, Until: c.Until.Time})
		}
	}
	slices.SortFunc(out.Conflicts, func(a, b snapshot.Quarantine) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(out.Resting, func(a, b snapshot.Rest) int { return a.Addr.Compare(b.Addr) })
	for _, c := range p.Status.Conditions {
		switch c.Type {
		case controller.Ready:
			out.Observed = c.ObservedGeneration == p.Generation
		case controller.Overlap, controller.Exhausted:
		default:
			continue
		}
		out.Conditions = append(out.Conditions, condition(c))
	}
	slices.SortFunc(out.Conditions, func(a, b snapshot.Condition) int { return strings.Compare(a.Type, b.Type) })
	return out
}
