//go:build netns

package nft

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// lastPort is the source port that answers used last. It never uses one twice:
// a udp connection that the kernel still tracks would go where it went before.
var lastPort uint16 = 20000

// answers asks n times from a source address, and fails unless always the same
// pod answers, which sees that address. It returns the pod's name.
func answers(t *testing.T, from *nettest.Namespace, source, network, addr string, n int) string {
	t.Helper()
	name := ""
	for range n {
		lastPort++
		c, err := from.DialFrom(network, at(source, lastPort), addr)
		if err != nil {
			t.Fatalf("%s asks %s %s: %v", source, network, addr, err)
		}
		r, err := c.Ask()
		c.Close()
		if err != nil || r.Peer.String() != source {
			t.Fatalf("%s asks %s %s: %v, %v", source, network, addr, r, err)
		}
		if name != "" && r.Name != name {
			t.Fatalf("%s asks %s %s: %s answers after %s", source, network, addr, r.Name, name)
		}
		name = r.Name
	}
	return name
}

// target returns that of targets whose pod has a name.
func (w world) target(l *lab, name string) string {
	for i, pod := range l.pods {
		if pod.Name == name {
			return at(w.targets[i], 8080)
		}
	}
	return ""
}

func TestClientStaysWithItsPod(t *testing.T) {
	l := newLab(t)
	l.client.Addr(t, "eth0", worlds[0].second+"/24", worlds[1].second+"/64")
	sticky := steer.Server{Scheduler: "rr", Affinity: 600}
	each(t, func(t *testing.T, w world, network string) {
		if network == "tcp" {
			l.set(t, w.vip, 80, sticky, w.targets[:2]...)
			l.apply(t, kerneltest.Addr(steer.Add, w.vip))
		}
		addr, server := at(w.vip, 80), at(w.vip, 80)+"/"+network
		first := answers(t, l.client, w.client, network, addr, 5)
		if second := answers(t, l.client, w.second, network, addr, 5); second == first {
			t.Errorf("%s answers both clients, they were to take turns", second)
		}

		real := w.target(l, first)
		l.apply(t, kerneltest.Dest(steer.Set, server, real, 0))
		moved := answers(t, l.client, w.client, network, addr, 4)
		if moved == first {
			t.Fatalf("%s answers, which has weight 0", moved)
		}
		l.apply(t, kerneltest.Dest(steer.Set, server, real, 1))
		if now := answers(t, l.client, w.client, network, addr, 4); now != moved {
			t.Errorf("the client left %s for %s once there was a choice", moved, now)
		}
		l.apply(t, kerneltest.Dest(steer.Del, server, w.target(l, moved), 0))
		if now := answers(t, l.client, w.client, network, addr, 4); now != first {
			t.Errorf("%s answers, the only one left is %s", now, first)
		}
		l.apply(t, kerneltest.Server(steer.Del, server, "", false))
	})
}

func TestClientStaysWhateverHashesOrNodePort(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, w world, network string) {
		every := familyOf(netip.MustParseAddr(w.vip)).unspecified().String()
		if network == "tcp" {
			l.set(t, w.vip, 81, steer.Server{Scheduler: "mh", Flags: config.SchedulerPort, Affinity: 600}, w.targets[:2]...)
			l.set(t, every, 30081, steer.Server{Scheduler: "lc", Affinity: 600}, w.targets[:2]...)
			l.apply(t, kerneltest.Addr(steer.Add, w.vip))
		}
		answers(t, l.client, w.client, network, at(w.vip, 81), 8)
		name := answers(t, l.client, w.client, network, at(w.node, 30081), 8)
		if other := answers(t, l.client, w.client, network, at(w.gateway, 30081), 2); other != name {
			t.Errorf("%s answers at another address of the node, %s at the first", other, name)
		}
	})
}

// TestClientIsForgotten waits until the kernel has forgotten a client. It remembers him for
// long enough to ask twice on a busy machine.
func TestClientIsForgotten(t *testing.T) {
	l := newLab(t)
	w := worlds[0]
	l.set(t, w.vip, 80, steer.Server{Scheduler: "rr", Affinity: 4}, w.targets[:2]...)
	l.apply(t, kerneltest.Addr(steer.Add, w.vip))
	before := answers(t, l.client, w.client, "tcp", at(w.vip, 80), 2)
	remembered := func() bool {
		return strings.Contains(l.node.Run(t, "nft", "list", "map", "inet", "herald", "affinity4"), w.client)
	}
	if !remembered() {
		t.Fatal("the client is not remembered")
	}
	for deadline := time.Now().Add(time.Minute); remembered(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the client is still remembered")
		}
	}
	if after := answers(t, l.client, w.client, "tcp", at(w.vip, 80), 1); after == before {
		t.Errorf("%s answers again, it was the other's turn", after)
	}
}

func TestWhatIsRememberedOutlivesARestartAndARepair(t *testing.T) {
	l := newLab(t)
	w := worlds[0]
	l.set(t, w.vip, 80, steer.Server{Scheduler: "rr", Affinity: 600}, w.targets[:2]...)
	l.apply(t, kerneltest.Addr(steer.Add, w.vip))
	before := answers(t, l.client, w.client, "tcp", at(w.vip, 80), 1)
	l.restart(t)
	l.node.Run(t, "nft", "flush", "table", "inet", "herald")
	l.prepare(t)
	if after := answers(t, l.client, w.client, "tcp", at(w.vip, 80), 3); after != before {
		t.Errorf("%s answers, %s did before", after, before)
	}
}
