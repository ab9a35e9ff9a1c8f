package cloud

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// said is what people were told last, by Service and reason: what is tried again and
// again is said once.
type said struct {
	mu   sync.Mutex
	last map[types.UID]map[string]string
}

// news is whether a text is not what was said last.
func (s *said) news(uid types.UID, reason, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[types.UID]map[string]string{}
	}
	if s.last[uid] == nil {
		s.last[uid] = map[string]string{}
	}
	if s.last[uid][reason] == text {
		return false
	}
	s.last[uid][reason] = text
	return true
}

// passing are the reasons that say what is wrong as long as it is.
var passing = map[string]bool{
	ReasonConflict: true, ReasonLimit: true, ReasonAuth: true, ReasonRateLimited: true, ReasonRecreate: true,
	ReasonNodePort: true, ReasonInvalidAnnotation: true, ReasonSourceRanges: true,
}

// well forgets what was wrong: should it be wrong again, that is news.
func (s *said) well(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for reason := range s.last[uid] {
		if passing[reason] {
			delete(s.last[uid], reason)
		}
	}
}

func (s *said) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, uid)
}

// warn tells people what is wrong, once.
func (e *Engine) warn(svc *corev1.Service, reason, text string) { e.say(svc, true, reason, text) }

// note tells people what was done.
func (e *Engine) note(svc *corev1.Service, reason, text string) { e.say(svc, false, reason, text) }

func (e *Engine) say(svc *corev1.Service, warning bool, reason, text string) {
	if !e.said.news(svc.UID, reason, text) {
		return
	}
	if e.Tell != nil {
		e.Tell(svc, warning, reason, text)
	}
	e.Log.Info(text, "service", svc.Namespace+"/"+svc.Name, "reason", reason)
}

// locks keep those apart that work for one Service.
type locks struct {
	mu  sync.Mutex
	all map[string]*lock
}

type lock struct {
	sync.Mutex
	users int
}

// lock waits until nobody else has a key, and returns what gives it back.
func (l *locks) lock(key string) (unlock func()) {
	l.mu.Lock()
	if l.all == nil {
		l.all = map[string]*lock{}
	}
	one := l.all[key]
	if one == nil {
		one = &lock{}
		l.all[key] = one
	}
	one.users++
	l.mu.Unlock()
	one.Lock()
	return func() {
		one.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.all, key)
		}
	}
}
