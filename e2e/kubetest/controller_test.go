package kubetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/e2e/lab"
)

// many is how many Services a test has.
const many = 500

func TestEachStatusIsWrittenOnceAndNoneAfterARestart(t *testing.T) {
	c := newCluster(t, "quiet")
	var count counter
	start := time.Now()
	stop := replica{identity: "a", count: &count}.start(t)
	defer stop()
	c.create(many)
	c.eventually(c.settled)
	took := time.Since(start)
	c.eventually(func() error { return c.poolSays(many) })
	stop()
	if n := count.services.Load(); n != many {
		t.Errorf("%d Services took %d writes", many, n)
	}
	if n, most := count.pools.Load(), int64(took/time.Second)+3; n > most {
		t.Errorf("in %s the status of the pool was written %d times, want %d at most", took, n, most)
	}
	t.Logf("%d Services in %s: %d and %d writes", many, took, count.services.Load(), count.pools.Load())

	var again counter
	c.pass(replica{identity: "a", count: &again})
	if n := again.services.Load() + again.pools.Load(); n != 0 {
		t.Errorf("after a restart %d statuses are written that were right", n)
	}
}

// pass starts r and stops it after a pass.
func (c *cluster) pass(r replica) {
	c.t.Helper()
	var passed atomic.Bool
	r.passed = func() { passed.Store(true) }
	stop := r.start(c.t)
	defer stop()
	c.eventually(func() error {
		if !passed.Load() {
			return errors.New("no pass has succeeded")
		}
		return nil
	})
}

// poolSays looks for the number of assigned addresses in the pool's status.
func (c *cluster) poolSays(assigned int) error {
	client := shared.cp.API.CoreV1().RESTClient()
	text, err := client.Get().AbsPath("/apis/herald-lb.io/v1alpha1/addresspools/" + c.namespace).DoRaw(c.t.Context())
	if err != nil {
		return err
	}
	if want := fmt.Sprintf(`"assigned":%d`, assigned); !strings.Contains(string(text), want) {
		return fmt.Errorf("%s is not in %s", want, text)
	}
	return nil
}

// Two that lead at once are what a process that was paused leads to: each
// thinks it is alone.
func TestNoAddressIsDoubledByControllersThatComeAndGo(t *testing.T) {
	c := newCluster(t, "chaos")
	rnd := rand.New(rand.NewPCG(7, 8))
	made := make(chan struct{})
	go func() { defer close(made); c.create(many) }()
	running := map[string]func(){}
	for creating := true; creating; {
		select {
		case <-made:
			creating = false
		case <-time.After(time.Duration(rnd.IntN(400)) * time.Millisecond):
		}
		name := fmt.Sprintf("chaos-%d", rnd.IntN(2))
		if stop, runs := running[name]; runs {
			stop()
			delete(running, name)
		} else {
			running[name] = replica{lease: name, identity: name}.start(t)
		}
	}
	for _, stop := range running {
		stop()
	}
	stop := replica{identity: "a"}.start(t)
	defer stop()
	c.eventually(c.settled)
	stop()
	c.pass(replica{identity: "a"}) // what it has not come to do
	was := map[string]string{}
	for _, s := range c.services() {
		was[s.Name] = s.ResourceVersion
	}
	c.pass(replica{identity: "b"}) // another comes: nothing is left to do
	for _, s := range c.services() {
		if s.ResourceVersion != was[s.Name] {
			t.Errorf("%s was written though it was right", s.Name)
		}
	}
}

func TestAStatusThatIsWipedIsRestored(t *testing.T) {
	c := newCluster(t, "wiped")
	c.create(3)
	stop := replica{identity: "a"}.start(t)
	defer stop()
	c.eventually(c.settled)
	before := c.address("s001")
	_, err := c.api.CoreV1().Services(c.namespace).Patch(t.Context(), "s001", types.MergePatchType,
		[]byte(`{"status": {"loadBalancer": null, "conditions": null}}`), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	c.eventually(c.settled)
	if after := c.address("s001"); after != before {
		t.Errorf("the address was %s and is %s, though nobody else took it", before, after)
	}
}

// A Service that is made anew under its name, and one whose type changes and
// changes back, hold nothing of what was.
func TestAServiceMadeAnewIsANewOne(t *testing.T) {
	c := newCluster(t, "anew")
	stop := replica{identity: "a"}.start(t)
	defer stop()
	services := c.api.CoreV1().Services(c.namespace)
	for range 20 {
		c.create(2)
		if err := services.Delete(t.Context(), "s000", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.create(1)
		c.eventually(c.settled)
		for _, kind := range []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeLoadBalancer} {
			patch := fmt.Sprintf(`{"spec": {"type": %q}}`, kind)
			if _, err := services.Patch(t.Context(), "s001", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		c.eventually(c.settled)
		for _, name := range []string{"s000", "s001"} {
			if err := services.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (c *cluster) address(name string) string {
	c.t.Helper()
	svc, err := c.api.CoreV1().Services(c.namespace).Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprint(lab.Addresses(svc))
}
