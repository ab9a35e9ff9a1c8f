package stories

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/e2e/lab"
	"github.com/herald-lb/herald/speaker"
)

// A node that is drained gives up what others can announce, without a gap, and
// gets it back.
func TestADrainedNodeHandsOverFirst(t *testing.T) {
	l, addr, _ := served(t)
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	traffic := l.Client.Ask(url(addr), pace)
	if out, code := l.Herald("", "drain", owner.Name); code != 0 || !strings.Contains(out, "announces 0 addresses") {
		t.Errorf("drain: %d\n%s", code, out)
	}
	if now, err := l.Owner(addr); err != nil || now == owner {
		t.Errorf("%s is drained, but %v answers, %v", owner.Name, now, err)
	}
	if out, code := l.Herald("", "drain", owner.Name, "--undo"); code != 0 {
		t.Errorf("drain --undo: %d\n%s", code, out)
	}
	l.Eventually("the address is back", func() error {
		if now, err := l.Owner(addr); err != nil || now != owner {
			return errors.Join(err, errElsewhere)
		}
		return nil
	})
	traffic.Stop()
	handedOver(t, owner, traffic, 2*cutsOfAMove)
	// The last one that can goes on.
	for _, n := range l.Nodes()[1:] {
		n.Stop()
	}
	l.Eventually("it is said that it does", func() error {
		if c := l.ConditionOf("web", "herald-lb.io/Announced"); !strings.Contains(c.Message, " by "+l.Node(1).Name+" ") {
			return errors.New(c.Message)
		}
		return nil
	})
	out, code := l.Herald("", "drain", l.Node(1).Name, "--timeout", "1s")
	if code == 0 || !strings.Contains(out, addr.String()) {
		t.Errorf("drain of the last one: %d\n%s", code, out)
	}
	if _, err := l.Owner(addr); err != nil {
		t.Error(err)
	}
}

var drilled = regexp.MustCompile(`on the wire: (\S+) then (\S+) then (\S+); at most (\S+) without an answer\nconnections to port 80: (\d+), of which 0 failed`)

// A drill moves the address and back, measures it, and leaves nothing behind.
func TestADrillHandsOverAndMeasures(t *testing.T) {
	l, addr, _ := served(t)
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	var others []string
	for _, n := range l.Nodes() {
		if n != owner {
			others = append(others, n.Name)
		}
	}
	next := speaker.Elect(addr, others)
	third := l.Nodes()[slices.IndexFunc(l.Nodes(), func(n *lab.Node) bool { return n != owner && n.Name != next })]
	out, code := third.HeraldAsAdmin("drill", "failover", l.Namespace+"/web")
	m := drilled.FindStringSubmatch(out)
	if code != 0 || m == nil || m[1] != owner.MAC().String() || m[1] != m[3] || m[2] == m[1] {
		t.Errorf("drill: %d\n%s", code, out)
	}
	t.Log(out)
	if a := l.Service("web").Annotations["herald-lb.io/avoid"]; a != "" {
		t.Errorf("the annotation says %q", a)
	}
	l.Eventually("it is announced as before", func() error {
		if c := l.ConditionOf("web", "herald-lb.io/Announced"); c.Reason != "Announced" || !strings.Contains(c.Message, " by "+owner.Name+" ") {
			return fmt.Errorf("condition %+v", c)
		}
		return nil
	})

	// What somebody else wants to be avoided is not lost.
	l.Edit("web", func(svc *corev1.Service) { svc.Annotations = map[string]string{"herald-lb.io/avoid": "n9"} })
	out, code = third.HeraldAsAdmin("drill", "failover", l.Namespace+"/web")
	if a := l.Service("web").Annotations["herald-lb.io/avoid"]; code == 0 || a != "n9" || !strings.Contains(out, "n9") {
		t.Errorf("drill beside an annotation: %d, which is %q now\n%s", code, a, out)
	}
}
