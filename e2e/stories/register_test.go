package stories

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"

	"github.com/herald-lb/herald/e2e/lab"
)

// A register notes every change of the story's Services, in the order in which
// the API server made them, and so sees also what lasts only for a moment.
type register struct {
	stop func()

	mu     sync.Mutex
	homes  map[string]*home        // by name: the Services there are
	holder map[netip.Addr]*home    // who has an address
	since  map[types.UID]time.Time // when a Service was first seen with an address; also of those that are gone
	wrong  []string                // what must never happen
}

// A home is a Service and the addresses that it was last seen with.
type home struct {
	name    string
	uid     types.UID
	version string
	addrs   []netip.Addr
}

// keepRegister begins a register. It ends with the story.
func keepRegister(t testing.TB, l *lab.Lab) *register {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	events, err := l.API().CoreV1().Services(l.Namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		cancel()
		t.Fatalf("watching Services: %v", err)
	}
	r := newRegister()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range events.ResultChan() {
			r.note(e)
		}
	}()
	r.stop = sync.OnceFunc(func() { cancel(); events.Stop(); <-done })
	t.Cleanup(r.stop)
	return r
}

func newRegister() *register {
	return &register{homes: map[string]*home{}, holder: map[netip.Addr]*home{}, since: map[types.UID]time.Time{}}
}

func (r *register) note(e watch.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := e.Object.(*corev1.Service)
	if !ok {
		r.wrong = append(r.wrong, fmt.Sprintf("the watch has ended: %v", e.Object))
		return
	}
	h := r.homes[s.Name]
	if h == nil || h.uid != s.UID {
		h = &home{name: s.Name, uid: s.UID}
		r.homes[s.Name] = h
	}
	h.version = s.ResourceVersion
	if e.Type == watch.Deleted {
		r.move(h, nil)
		delete(r.homes, s.Name)
		return
	}
	now := lab.Addresses(s)
	if len(h.addrs) > 0 && !slices.Equal(h.addrs, now) {
		r.wrong = append(r.wrong, fmt.Sprintf("%s went from %v to %v", s.Name, h.addrs, now))
	}
	r.move(h, now)
	if _, seen := r.since[s.UID]; !seen && len(now) > 0 {
		r.since[s.UID] = time.Now()
	}
}

// move notes that h has other addresses than before.
func (r *register) move(h *home, to []netip.Addr) {
	for _, a := range h.addrs {
		if r.holder[a] == h {
			delete(r.holder, a)
		}
	}
	for _, a := range to {
		if other := r.holder[a]; other != nil && other != h {
			r.wrong = append(r.wrong, fmt.Sprintf("%s and %s both have %s", other.name, h.name, a))
		}
		r.holder[a] = h
	}
	h.addrs = to
}

// assigned returns how many of the Services have an address, and how many
// there are.
func (r *register) assigned() (have, all int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.homes {
		if len(h.addrs) > 0 {
			have++
		}
	}
	return have, len(r.homes)
}

// allAssigned says whether there are n Services, each with an address.
func (r *register) allAssigned(n int) func() error {
	return func() error {
		if have, all := r.assigned(); have != n || all != n {
			return fmt.Errorf("%d of %d services have an address, want %d of %d", have, all, n, n)
		}
		return nil
	}
}

// address returns the first address of a Service, and whether it has one.
func (r *register) address(name string) (netip.Addr, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.homes[name]; h != nil && len(h.addrs) > 0 {
		return h.addrs[0], true
	}
	return netip.Addr{}, false
}

// hasAddress says whether a Service has an address.
func (r *register) hasAddress(name string) func() error {
	return func() error {
		if _, ok := r.address(name); !ok {
			return errors.New("it has none")
		}
		return nil
	}
}

// seen returns when a Service was first seen with an address.
func (r *register) seen(uid types.UID) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.since[uid]
	return at, ok
}

// versions returns the resourceVersion of every Service.
func (r *register) versions() map[string]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]string, len(r.homes))
	for name, h := range r.homes {
		all[name] = h.version
	}
	return all
}

// complaints returns what went wrong since it was last asked.
func (r *register) complaints() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	wrong := r.wrong
	r.wrong = nil
	return wrong
}

// check reports what went wrong since it was last asked.
func (r *register) check(t testing.TB) {
	t.Helper()
	const enough = 10
	wrong := r.complaints()
	for i, w := range wrong {
		if i == enough {
			t.Errorf("and %d more like these", len(wrong)-enough)
			break
		}
		t.Error(w)
	}
}

// plain returns a Service of type LoadBalancer without pods. It asks for no
// node ports, of which there are too few for some stories.
func plain(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, AllocateLoadBalancerNodePorts: ptr.To(false),
			Ports: []corev1.ServicePort{{Name: "web", Port: 80}},
		},
	}
}

// create creates a Service and returns it.
func create(l *lab.Lab, s *corev1.Service) (*corev1.Service, error) {
	return l.API().CoreV1().Services(l.Namespace).Create(context.Background(), s, metav1.CreateOptions{})
}

// createAll creates n Services, called prefix-0 and so on, many at once, and
// returns when each was asked for.
func createAll(l *lab.Lab, prefix string, n int) (map[types.UID]time.Time, error) {
	return createEach(l, n, func(i int) *corev1.Service { return plain(fmt.Sprintf("%s-%d", prefix, i)) })
}

// createEach is createAll for Services of any kind.
func createEach(l *lab.Lab, n int, service func(i int) *corev1.Service) (map[types.UID]time.Time, error) {
	const creators = 16
	var mu sync.Mutex
	asked, errs := make(map[types.UID]time.Time, n), []error(nil)
	next := make(chan int)
	var g sync.WaitGroup
	for range creators {
		g.Go(func() {
			for i := range next {
				began := time.Now()
				s, err := create(l, service(i))
				mu.Lock()
				if err != nil {
					errs = append(errs, err)
				} else {
					asked[s.UID] = began
				}
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	g.Wait()
	return asked, errors.Join(errs...)
}
