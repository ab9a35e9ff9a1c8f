package stories

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/e2e/lab"
)

// In User-Mode Linux, where starting a process takes long, the controller is
// killed 20 times during 50 changes.
func TestTheControllerKilled200TimesDuring500ChangesNeitherLosesNorDoublesAnAddress(t *testing.T) {
	kills, changes := 200, 500
	if lab.InGuest() {
		kills, changes = 20, 50
	}
	l := lab.Start(t, lab.Options{NoNodes: true})
	l.Apply(pool("lan", "192.0.2.0/24"))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &churn{t: t, l: l, r: keepRegister(t, l), rnd: rand.New(rand.NewPCG(seed, 0))}
	for k := range kills {
		c.letLive()
		l.Controller.Kill()
		if c.rnd.IntN(2) == 0 {
			l.Controller.Start()
		}
		for c.changed < (k+1)*changes/kills {
			c.change()
		}
		if !l.Controller.Alive() {
			l.Controller.Start()
		}
	}
	c.settle()
	c.r.check(t)
	c.checkEvents()
	led, wrote := l.Controller.Said("msg=leading"), l.Controller.Said("status written")
	t.Logf("%d changes, %d services left; of %d runs %d came to lead, %d were killed at work; %d statuses written",
		c.changed, len(c.live), kills+1, led, c.cut, wrote)
	if led < kills/4 || c.cut == 0 {
		t.Errorf("only %d of %d runs came to lead, and %d were killed at work: this proves little", led, kills+1, c.cut)
	}
}

// A churn creates and deletes Services at random.
type churn struct {
	t       *testing.T
	l       *lab.Lab
	r       *register
	rnd     *rand.Rand
	made    int // Services
	changed int // creations and deletions
	live    []string
	gone    []string // names that were used, and are free again
	cut     int      // kills right after an address was seen
}

// change creates or deletes a Service. Names come back.
func (c *churn) change() {
	c.t.Helper()
	c.changed++
	const most = 100
	if n := len(c.live); n == most || n > 0 && c.rnd.IntN(5) < 2 {
		i := c.rnd.IntN(n)
		name := c.live[i]
		c.l.DeleteService(name)
		c.live, c.gone = slices.Delete(c.live, i, i+1), append(c.gone, name)
		return
	}
	name := fmt.Sprintf("web-%d", c.made)
	if n := len(c.gone); n > 0 && c.rnd.IntN(3) == 0 {
		name, c.gone = c.gone[n-1], c.gone[:n-1]
	}
	if _, err := create(c.l, plain(name)); err != nil {
		c.t.Fatalf("creating service %s: %v", name, err)
	}
	c.made++
	c.live = append(c.live, name)
}

// letLive lets the controller live for a random while, or until it is in the
// middle of assigning addresses.
func (c *churn) letLive() {
	if c.rnd.IntN(3) == 0 {
		<-time.After(time.Duration(c.rnd.IntN(200)) * time.Millisecond)
		return
	}
	before, all := c.r.assigned()
	if before == all {
		c.change()
	}
	const idle, within = time.Second, 30 * time.Second
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		now, all := c.r.assigned()
		if now > before {
			c.cut++
			return
		}
		// A controller that is slow to start is waited for where it has something to do.
		if took := time.Since(began); took > within || took > idle && now == all {
			return
		}
	}
}

// settle waits until every Service has an address, and the pool says as many.
func (c *churn) settle() {
	c.t.Helper()
	if len(c.live) == 0 {
		c.change()
	}
	c.l.Eventually("every service has an address", c.r.allAssigned(len(c.live)))
	if err := eachOnce(c.t, c.l); err != nil {
		c.t.Error(err)
	}
	want := lab.Count{Total: 256, Assigned: int64(len(c.live)), Free: 256 - int64(len(c.live))}
	c.l.Eventually("the pool counts no address that nobody has", func() error {
		got, err := c.l.PoolCount("lan")
		if err == nil && got != want {
			err = fmt.Errorf("it counts %+v, want %+v", got, want)
		}
		return err
	})
}

// checkEvents checks that nothing was told twice.
func (c *churn) checkEvents() {
	c.t.Helper()
	list, err := c.l.API().CoreV1().Events(c.l.Namespace).List(context.WithoutCancel(c.t.Context()), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	type news struct {
		about           types.UID
		reason, message string
	}
	told := map[news]int{}
	for _, e := range list.Items {
		told[news{e.InvolvedObject.UID, e.Reason, e.Message}] += int(max(e.Count, 1))
	}
	var errs []error
	for n, times := range told {
		if times > 1 {
			errs = append(errs, fmt.Errorf("told %d times: %s: %s", times, n.reason, n.message))
		}
	}
	if err := errors.Join(errs...); err != nil || len(told) == 0 {
		c.t.Errorf("%d events: %v", len(told), err)
	}
}
