package cloudtest

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

var errKilled = errors.New("the process was killed")

// A killer has the process die at its n-th call: before it is sent, or after it was
// done and before its answer came.
type killer struct {
	at    int
	after bool
	calls int
	dead  bool
}

func (k *killer) fault(_ string, after bool) error {
	if !after {
		k.calls++
	}
	k.dead = k.dead || k.calls == k.at && after == k.after
	if k.dead {
		return errKilled
	}
	return nil
}

// changed is a Service with a nodePort that is another, and a port more.
func changed(svc *corev1.Service) *corev1.Service {
	svc = svc.DeepCopy()
	svc.Spec.Ports[0].NodePort = 31000
	svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolTCP, Port: 8080, NodePort: 31001})
	return svc
}

// crashes kills the process at each call of what a Service goes through, starts it
// again, and looks at what is there in the end.
func (w *World) crashes(t *testing.T) {
	if w.Slow {
		w.lives(t)
		return
	}
	round := 0
	for _, script := range []struct {
		name string
		do   func(svc *corev1.Service) (before, then func() error)
	}{
		{"create", func(svc *corev1.Service) (func() error, func() error) {
			return nil, w.ensure(t, svc, 2)
		}},
		{"update", func(svc *corev1.Service) (func() error, func() error) {
			return w.ensure(t, svc, 2), w.ensure(t, changed(svc), 3)
		}},
		{"adopt", func(svc *corev1.Service) (func() error, func() error) {
			w.Lab.Add(svc.Name)
			svc.Annotations[cloud.Prefix+"adopt"] = svc.Name
			svc.Annotations[cloud.Prefix+"deletion-policy"] = string(cloud.PolicyDelete)
			return nil, w.ensure(t, svc, 2)
		}},
		{"delete", func(svc *corev1.Service) (func() error, func() error) {
			return w.ensure(t, svc, 2), func() error { return w.Delete(t.Context(), svc) }
		}},
	} {
		for at, more := 1, true; more; at++ {
			for _, after := range []bool{false, true} {
				round++
				name := fmt.Sprintf("%s-%d", script.name, round)
				svc := Service(name, types.UID("uid-"+name), 80)
				before, then := script.do(svc)
				more = w.crash(t, fmt.Sprintf("%s, killed at call %d, after it %t", script.name, at, after), svc, before, then, &killer{at: at, after: after}, script.name != "delete")
			}
			if at == 1 && !more || at > 60 {
				t.Fatalf("%s: killed at no call, or at more than 60", script.name)
			}
		}
	}
}

// lives is crashes where calls take long: the process dies at a call of what a Service
// goes through, and then at one that it has not come to before, until it has died at
// each. Once that is before they are sent, and once before their answer comes.
func (w *World) lives(t *testing.T) {
	for _, after := range []bool{false, true} {
		name := fmt.Sprintf("killed-after-%t", after)
		svc := Service(name, types.UID("uid-"+name), 80)
		changed := changed(svc)
		for _, stage := range []struct {
			name string
			do   func() error
		}{
			{"create", w.ensure(t, svc, 2)},
			{"update", w.ensure(t, changed, 3)},
			{"delete", func() error { return w.Delete(t.Context(), changed) }},
		} {
			m := &mortal{after: after, died: map[string]bool{}}
			for m.dead = true; m.dead && len(m.died) < 100; {
				m.dead = false
				w.die(t, m.fault, stage.do)
				if lbs := balancers(w.Owned(svc)); len(lbs) > 1 {
					t.Fatalf("%s, killed at %v, after it %t: there are %v", stage.name, m.died, after, lbs)
				}
			}
			if len(m.died) < 4 || m.dead {
				t.Errorf("%s: killed at %d calls", stage.name, len(m.died))
			}
			t.Logf("%s: killed at %d calls, after them %t", stage.name, len(m.died), after)
			w.settled(t, fmt.Sprintf("%s, killed at each of %d calls, after it %t", stage.name, len(m.died), after), svc, stage.do, stage.name != "delete")
		}
		if all := w.All(); len(all) != 0 {
			t.Fatalf("there are %v in the end", all)
		}
	}
}

// A mortal has the process die at the first call at which it has not died yet.
type mortal struct {
	after bool
	died  map[string]bool
	dead  bool
}

func (m *mortal) fault(call string, after bool) error {
	if !m.dead && after == m.after && !m.died[call] {
		m.died[call], m.dead = true, true
	}
	if m.dead {
		return errKilled
	}
	return nil
}

// crash is one of them; more is whether the process got as far as being killed.
func (w *World) crash(t *testing.T, name string, svc *corev1.Service, before, then func() error, k *killer, wanted bool) (more bool) {
	t.Helper()
	if before != nil {
		retry(t, name, before)
	}
	w.die(t, k.fault, then)
	w.settled(t, name, svc, then, wanted)
	w.End(t, svc)
	if all := w.All(); len(all) != 0 {
		t.Fatalf("%s: there are %v in the end", name, all)
	}
	return k.dead
}

// die has a process die at what it does.
func (w *World) die(t *testing.T, fault func(string, bool) error, do func() error) {
	t.Helper()
	w.Restart()
	w.Fault(fault)
	_ = do() // dies
	w.Fault(nil)
}

// settled is what another process, to which nothing happens, makes of it.
func (w *World) settled(t *testing.T, name string, svc *corev1.Service, do func() error, wanted bool) {
	t.Helper()
	w.Restart()
	retry(t, name, do)
	if !wanted {
		if owned := w.Owned(svc); len(owned) != 0 {
			t.Errorf("%s: left behind: %v", name, owned)
		}
		return
	}
	w.one(t, svc)
	if _, writes := w.count(func() { retry(t, name, do) }); writes != 0 {
		t.Errorf("%s: %d writes when it should be settled", name, writes)
	}
}

func retry(t *testing.T, name string, do func() error) {
	t.Helper()
	if _, err := Until(t, func() (any, error) { return nil, do() }); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func (w *World) ensure(t *testing.T, svc *corev1.Service, nodes int) func() error {
	return func() error {
		w.Put(svc)
		_, err := w.Ensure(t.Context(), svc, w.Nodes(nodes))
		return err
	}
}
