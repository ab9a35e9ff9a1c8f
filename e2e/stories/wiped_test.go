package stories

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
)

func TestAStatusWipedByHandIsRestoredWithTheSameAddress(t *testing.T) {
	l := lab.Start(t, lab.Options{NoNodes: true, Controllers: 2})
	l.Apply(pool("lan", "192.0.2.0/28"))
	had := map[string]netip.Addr{}
	for i := range 6 {
		name := fmt.Sprintf("web-%d", i)
		l.Apply(plainManifest(name))
		had[name] = l.WaitAddress(name)
	}
	// Lower addresses are free now: whoever is assigned one anew gets another.
	l.DeleteService("web-0")
	l.DeleteService("web-1")
	wipes := []struct {
		name string
		wipe func(*corev1.ServiceStatus)
	}{
		{"the address", func(s *corev1.ServiceStatus) { s.LoadBalancer.Ingress = nil }},
		{"everything", func(s *corev1.ServiceStatus) { *s = corev1.ServiceStatus{} }},
	}
	restored := func(t *testing.T, name string) {
		t.Helper()
		if now := l.WaitAddress(name); now != had[name] {
			t.Errorf("%s has %s, and had %s", name, now, had[name])
		}
		if c := l.Condition(name); c.Reason != "Assigned" {
			t.Errorf("the condition of %s is %+v", name, c)
		}
	}
	wipeAll := func(t *testing.T) {
		for _, w := range wipes {
			t.Run(w.name, func(t *testing.T) {
				for _, name := range []string{"web-3", "web-4"} {
					editStatus(t, l, name, w.wipe)
				}
				for _, name := range []string{"web-2", "web-3", "web-4", "web-5"} {
					restored(t, name)
				}
			})
		}
	}
	t.Run("while one controller leads", wipeAll)
	t.Run("and when another has taken over", func(t *testing.T) {
		leader, other := replicas(t, l)
		leader.Stop()
		l.Eventually("the other one leads", func() error {
			if other.Said("msg=leading") == 0 {
				return fmt.Errorf("%s does not", other.Name())
			}
			return nil
		})
		// It has seen what there was before it is wiped.
		l.Apply(plainManifest("next"))
		l.WaitAddress("next")
		wipeAll(t)
	})
	if err := eachOnce(t, l); err != nil {
		t.Error(err)
	}
}
