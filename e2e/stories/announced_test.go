package stories

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// The condition says who announces, and follows him.
func TestTheConditionAnnouncedNamesTheNode(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	var pods []*lab.Pod
	for i := range l.Nodes() {
		pods = append(pods, l.Pod(i+1, fmt.Sprintf("web-%d", i+1), lab.PodSpec{Labels: lab.App("web")}))
	}
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	addr := l.WaitAddress("web")
	named := func() error {
		owner, err := l.Owner(addr)
		if err != nil {
			return err
		}
		c := l.ConditionOf("web", "herald-lb.io/Announced")
		if want := fmt.Sprintf("%s by %s on eth0", addr, owner.Name); c.Status != "True" || c.Message != want {
			return fmt.Errorf("%s %s: %s, want %s", c.Status, c.Reason, c.Message, want)
		}
		return nil
	}
	l.Eventually("the condition names the owner", named)
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	owner.Kill()
	l.Eventually("another answers", func() error {
		now, err := l.Owner(addr)
		if err == nil && now == owner {
			err = fmt.Errorf("%s answers still", owner.Name)
		}
		return err
	})
	l.Eventually("the condition names him", named)
	for _, p := range pods {
		p.Ready(false)
	}
	l.Eventually("the condition says that it is withdrawn", func() error {
		if c := l.ConditionOf("web", "herald-lb.io/Announced"); c.Status != "False" || c.Reason != "Withdrawn" {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
	l.Eventually("the others say that they miss one", func() error {
		out, err := l.Kubectl("get", "speakerstatuses")
		if err == nil && (strings.Count(out, "1/2") != 2 || strings.Count(out, l.Node(1).DataPath()) != 3) {
			err = errors.New(out)
		}
		return err
	})
}

// A host has the first address of the pool before Herald gives it out.
func TestAnAddressThatAStrangerHasIsNotUsed(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	onePodEach(l, "web")
	if out, err := l.Client.Exec("ip", "addr", "add", "192.168.50.200/32", "dev", "eth0"); err != nil {
		t.Fatal(err, out)
	}
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web"}.String())
	l.Eventually("the Service has another address, which is announced", func() error {
		c := l.ConditionOf("web", "herald-lb.io/Announced")
		if c.Status != "True" || !strings.HasPrefix(c.Message, "192.168.50.201 by ") {
			return fmt.Errorf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
		return nil
	})
	waitAnswer(t, l, l.Client, url(l.WaitAddress("web")))
	l.Eventually("the pool says so", func() error { // whose status is written once a second
		out, err := l.Kubectl("get", "addresspool", "lan", "--output", "jsonpath={.status.conflicts[*].address} {.status.conflicts[*].mac}")
		if want := "192.168.50.200 " + l.Client.MAC().String(); err == nil && out != want {
			err = fmt.Errorf("conflicts %q, want %q", out, want)
		}
		return err
	})
	if text, code := l.Herald("", "explain", "pool", "lan"); code != 0 || !strings.Contains(text, l.Client.MAC().String()) {
		t.Errorf("explain does not name the host:\n%s", text)
	}
}
