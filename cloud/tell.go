package cloud

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// said is what people were told, by Service, reason and text: what is tried again and
// again is said once, until it was well in between.
type said struct {
	mu  sync.Mutex
	all map[types.UID]map[string]*saidOf
}

// saidOf is what was said of one reason.
type saidOf struct {
	texts map[string]bool
	pass  bool // whether also since begin
}

// texts is how many of one reason are remembered.
const texts = 64

// begin begins to look what is still so.
func (s *said) begin(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.all[uid] {
		of.pass = false
	}
}

// news is whether a text was not said yet.
func (s *said) news(uid types.UID, reason, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[types.UID]map[string]*saidOf{}
	}
	if s.all[uid] == nil {
		s.all[uid] = map[string]*saidOf{}
	}
	of := s.all[uid][reason]
	if of == nil || len(of.texts) >= texts {
		of = &saidOf{texts: map[string]bool{}}
		s.all[uid][reason] = of
	}
	before := of.texts[text]
	of.texts[text], of.pass = true, true
	return !before
}

// lasting are the reasons that outlast the pass in which all was well for a time.
var lasting = map[string]bool{ReasonOrphan: true, ReasonDuplicate: true, ReasonProtected: true, ReasonDryRun: true}

// well forgets what was wrong and is not any more: should it be so again, that is news.
func (s *said) well(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for reason, of := range s.all[uid] {
		if !of.pass && !lasting[reason] {
			delete(s.all[uid], reason)
		}
	}
}

func (s *said) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, uid)
}

// warn tells people what is wrong, once.
func (e *Engine) warn(svc *corev1.Service, reason, text string) {
	e.warnOnce(svc, true, reason, text)
}

func (e *Engine) warnOnce(svc *corev1.Service, warning bool, reason, text string) {
	if e.said.news(svc.UID, reason, text) {
		e.say(svc, warning, reason, text)
	}
}

// note tells people what was done.
func (e *Engine) note(svc *corev1.Service, reason, text string) { e.say(svc, false, reason, text) }

func (e *Engine) say(svc *corev1.Service, warning bool, reason, text string) {
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

// A lock is held by who has put something into it. It is no Mutex, for those who wait
// would keep time that is made up from going by.
type lock struct {
	held  chan struct{}
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
		one = &lock{held: make(chan struct{}, 1)}
		l.all[key] = one
	}
	one.users++
	l.mu.Unlock()
	one.held <- struct{}{}
	return func() {
		<-one.held
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.all, key)
		}
	}
}
