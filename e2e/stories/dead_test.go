package stories

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// other returns a node that does not announce addr, and its pod of onePodEach.
func other(t *testing.T, l *lab.Lab, addr netip.Addr, app string) (*lab.Node, string) {
	t.Helper()
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	i := len(l.Nodes())
	if l.Node(i) == owner {
		i--
	}
	return l.Node(i), fmt.Sprintf("%s-%d", app, i)
}

// connections opens one to every pod.
func connections(t *testing.T, l *lab.Lab, addr netip.Addr, pods []string) sessions {
	t.Helper()
	to := sessions{}
	l.Eventually("a connection to every pod", func() error {
		s, err := l.Client.Connect(netip.AddrPortFrom(addr, 80))
		if err != nil {
			return err
		}
		t.Cleanup(func() { s.Close() })
		body, err := s.Ask()
		if err != nil {
			return err
		}
		to[lab.PodOf(body)] = s
		if len(to) < len(pods) {
			return errors.New("some have none")
		}
		return nil
	})
	return to
}

// The pods of a node that is dead are listed as ready until the cluster has
// noticed, which takes most of a minute.
func TestNewConnectionsAvoidADeadNodeWithinSeconds(t *testing.T) {
	l, addr, pods := served(t)
	dead, pod := other(t, l, addr, "web")
	to := connections(t, l, addr, pods)
	rest := slices.DeleteFunc(slices.Clone(pods), func(p string) bool { return p == pod })
	dead.Unplug()
	dead.Kill()
	died := time.Now()
	avoided := func() error {
		for range 15 {
			if body, err := l.Client.GetWithin(url(addr), patience); err != nil {
				return fmt.Errorf("%q, %w", body, err)
			}
		}
		return nil
	}
	l.Eventually("the others know that it is dead", func() error { return saidByOthers(l, dead, "a node is dead") })
	l.Eventually("new connections avoid "+pod, avoided)
	t.Logf("new connections avoid the dead node after %s", time.Since(died).Round(time.Millisecond))
	traffic := l.Client.Ask(url(addr), pace)
	for _, from := range []*lab.Host{l.Client, l.Far} {
		waitAnswer(t, l, from, url(addr))
		askAll(t, from, url(addr), rest...)
	}
	traffic.Stop()
	noneLost(t, l, traffic, dead)
	delete(to, pod)
	to.lasts(t, l, dead)
	dead.Replug()
	dead.StartSpeaker()
	dead.Speaker.WaitReady()
	l.Eventually("all pods answer again", func() error {
		for range 40 {
			if body, err := l.Client.Get(url(addr)); err != nil || lab.PodOf(body) == pod {
				return err
			}
		}
		return fmt.Errorf("%s does not", pod)
	})
	askAll(t, l.Client, url(addr), pods...)
	to.lasts(t, l, dead)
}

// A speaker that is dead, or cut off from the API, leaves a node that steers on.
func TestThePodsOfANodeWhoseSpeakerDiedStillAnswer(t *testing.T) {
	l, addr, pods := served(t)
	node, _ := other(t, l, addr, "web")
	to := connections(t, l, addr, pods)
	traffic := l.Client.Ask(url(addr), pace)
	node.Kill()
	l.Eventually("the others miss its speaker", func() error {
		return saidByOthers(l, node, "a speaker is lost")
	})
	askAll(t, l.Client, url(addr), pods...)
	askAll(t, l.Far, url(addr), pods...)
	traffic.Stop()
	noneLost(t, l, traffic, node)
	to.lasts(t, l, node)
}

// saidByOthers says which speaker, of all but that of a node, has not said text.
func saidByOthers(l *lab.Lab, node *lab.Node, text string) error {
	for _, n := range l.Nodes() {
		if n != node && n.Speaker.Said(text) == 0 {
			return fmt.Errorf("%s has not said %q", n.Name, text)
		}
	}
	return nil
}

// A node whose cable to the segment is out may still reach the API server by
// another: it is missed all the same.
func TestNewConnectionsAvoidANodeThatIsCutOff(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	addr, _ := dualStack(t, l, "")
	owner, err := l.Owner(addr)
	if err != nil {
		t.Fatal(err)
	}
	owner.Unplug()
	l.Eventually("nobody is led to the node's pod", func() error {
		for range 12 {
			if _, err := l.Client.GetWithin(url(addr), time.Second); err != nil {
				return err
			}
		}
		return nil
	})
}
