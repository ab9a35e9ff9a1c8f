package cloudtest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// finalizer is that of the controller which a soak plays.
const finalizer = "service.kubernetes.io/load-balancer-cleanup"

// sync does for a Service what a controller does, once.
func (s *soak) sync(name string) {
	svc := s.services[name]
	if svc == nil {
		return
	}
	defer s.note()
	switch wanted := svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil; {
	case wanted:
		if !slices.Contains(svc.Finalizers, finalizer) {
			svc = s.edit(name, func(svc *corev1.Service) { svc.Finalizers = append(svc.Finalizers, finalizer) })
		}
		st, err := s.Ensure(s.t.Context(), svc, s.list())
		if s.hear("ensuring "+name, err); st != nil {
			s.publish(svc, st)
		}
	case slices.Contains(svc.Finalizers, finalizer):
		s.clean(svc)
	case svc.DeletionTimestamp != nil:
		s.gone(name)
	}
}

func (s *soak) publish(svc *corev1.Service, st *corev1.LoadBalancerStatus) {
	edited := svc.DeepCopy()
	edited.Status.LoadBalancer = *st
	s.services[svc.Name] = edited
	s.Put(edited)
}

// clean removes what a Service had, and then its finalizer, as the service controller of
// k8s.io/cloud-provider does.
func (s *soak) clean(svc *corev1.Service) {
	_, exists, err := s.Exists(s.t.Context(), svc)
	if s.hear("looking for what "+svc.Name+" has", err) != nil {
		return
	}
	if exists && s.hear("deleting what "+svc.Name+" has", s.Delete(s.t.Context(), svc)) != nil {
		return
	}
	s.tell("%s has nothing any more", svc.Name)
	if svc.DeletionTimestamp != nil {
		s.gone(svc.Name)
		return
	}
	s.edit(svc.Name, func(svc *corev1.Service) {
		svc.Finalizers, svc.Status.LoadBalancer = nil, corev1.LoadBalancerStatus{}
	})
}

func (s *soak) syncAll() {
	for _, name := range s.names() {
		s.sync(name)
	}
}

// atOnce ensures and updates all Services, each from two goroutines, as that controller
// does.
func (s *soak) atOnce() {
	s.tell("all at once")
	s.line.hurry()
	var wg sync.WaitGroup
	nodes := s.list()
	for _, name := range s.names() {
		svc := s.services[name]
		if svc.DeletionTimestamp != nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer || len(svc.Finalizers) == 0 {
			continue
		}
		wg.Go(func() { _, _ = s.Ensure(s.t.Context(), svc, nodes) })
		wg.Go(func() { _ = s.Update(s.t.Context(), svc, nodes) })
	}
	wg.Wait()
}

// look does what is done without cause.
func (s *soak) look() {
	ctx := cloud.WithLane(s.t.Context(), cloud.Drifting)
	var all []*corev1.Service
	for _, name := range s.names() {
		svc := s.services[name]
		all = append(all, svc)
		if svc.DeletionTimestamp == nil && svc.Spec.Type == corev1.ServiceTypeLoadBalancer && len(svc.Finalizers) > 0 {
			st, err := s.Ensure(ctx, svc, s.list())
			if s.hear("looking at "+name, err); st != nil {
				s.publish(svc, st)
			}
		}
	}
	_ = s.hear("auditing", s.Audit(ctx, all, 0))
}

// calm ends whatever goes wrong.
func (s *soak) calm() {
	s.line.set(noise{})
	if s.Heal != nil {
		s.Heal()
	}
}

func (s *soak) breakCloud() {
	if s.Break != nil {
		s.tell("the cloud: %s", s.Break(s.rnd))
	}
}

// disrupt has some calls fail until it is calm.
func (s *soak) disrupt() {
	n := noise{before: s.rnd.IntN(40), lost: s.rnd.IntN(20)}
	switch s.rnd.IntN(5) {
	case 0:
		n = noise{before: 100, class: classes[s.rnd.IntN(len(classes))]}
	case 1:
		n.slow = time.Duration(1+s.rnd.IntN(20)) * time.Second
	}
	s.tell("of 100 calls %d fail %s, %d answers are lost, each takes %s", n.before, n.class, n.lost, n.slow)
	s.line.set(n)
}

// kill has the process die at one of the calls of a sync.
func (s *soak) kill() {
	n := noise{killAt: 1 + s.rnd.IntN(12), killAfter: s.rnd.IntN(2) == 0}
	s.tell("killed at call %d, after it %t", n.killAt, n.killAfter)
	s.line.set(n)
	s.syncAll()
	s.line.set(noise{})
	s.restart()
}

// classes are those of errors.
var classes = []cloud.Class{cloud.Retryable, cloud.Locked, cloud.NotFound, cloud.Conflict, cloud.Terminal, cloud.Quota, cloud.Auth, cloud.RateLimited, cloud.Unsafe}

// noise is what goes wrong with calls. Its zero value is nothing.
type noise struct {
	before, lost int           // of 100 calls, so many fail, or are done and not answered
	class        cloud.Class   // of those that fail; empty for any
	slow         time.Duration // each takes at most
	killAt       int
	killAfter    bool
}

// A line is how calls go, for many at once.
type line struct {
	mu    sync.Mutex
	rnd   randomness
	noise noise
	calls int
	dead  bool
}

type randomness interface{ IntN(int) int }

func (l *line) set(n noise) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noise, l.calls, l.dead = n, 0, false
}

// hurry has calls take no time: who waits for a Mutex keeps made-up time from going by.
func (l *line) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noise.slow = 0
}

// fault is a Lab's.
func (l *line) fault(call string, after bool) error {
	l.mu.Lock()
	n := l.noise
	if !after {
		l.calls++
	}
	l.dead = l.dead || n.killAt > 0 && l.calls == n.killAt && after == n.killAfter
	dead, dice, class, slow := l.dead, l.rnd.IntN(100), n.class, time.Duration(0)
	if class == "" {
		class = classes[l.rnd.IntN(len(classes))]
	}
	if n.slow > 0 {
		slow = time.Duration(l.rnd.IntN(int(n.slow/time.Second)+1)) * time.Second
	}
	l.mu.Unlock()
	switch {
	case dead:
		return errKilled
	case !after && dice < n.before:
		return &cloud.Error{Class: class, Text: fmt.Sprintf("%s: %s, as the soak has it", call, class)}
	case after && dice < n.lost:
		return fmt.Errorf("%s: the answer is lost", call)
	case !after && slow > 0:
		time.Sleep(slow)
	}
	return nil
}
