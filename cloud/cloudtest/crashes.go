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

// crashes kills the process at each call of what a Service goes through, starts it
// again, and looks at what is there in the end.
func (w *World) crashes(t *testing.T) {
	changed := func(svc *corev1.Service) *corev1.Service {
		svc = svc.DeepCopy()
		svc.Spec.Ports[0].NodePort = 31000
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolTCP, Port: 8080, NodePort: 31001})
		return svc
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

// crash is one of them; more is whether the process got as far as being killed.
func (w *World) crash(t *testing.T, name string, svc *corev1.Service, before, then func() error, k *killer, wanted bool) (more bool) {
	t.Helper()
	retry := func(do func() error) {
		if _, err := Until(t, func() (any, error) { return nil, do() }); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if before != nil {
		retry(before)
	}
	w.Restart()
	w.Fault(k.fault)
	_ = then() // dies
	w.Fault(nil)
	w.Restart()
	retry(then)
	owned := w.Owned(svc)
	if wanted {
		w.one(t, svc)
		if _, writes := w.count(func() { retry(then) }); writes != 0 {
			t.Errorf("%s: %d writes when it should be settled", name, writes)
		}
	} else if len(owned) != 0 {
		t.Errorf("%s: left behind: %v", name, owned)
	}
	w.End(t, svc)
	if all := w.All(); len(all) != 0 {
		t.Fatalf("%s: there are %v in the end", name, all)
	}
	return k.dead
}

func (w *World) ensure(t *testing.T, svc *corev1.Service, nodes int) func() error {
	return func() error {
		w.Put(svc)
		_, err := w.Ensure(t.Context(), svc, w.Nodes(nodes))
		return err
	}
}
