//go:build netns

package nft

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// every is the address of w that stands for all addresses of the node.
func (w world) every() string { return familyOf(netip.MustParseAddr(w.vip)).unspecified().String() }

func TestNodePortServesEveryClientAtEveryAddress(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, w world, network string) {
		if network == "tcp" {
			l.set(t, w.every(), 30080, steer.Server{Scheduler: "rr", SNAT: true}, w.targets...)
			l.set(t, w.every(), 30082, steer.Server{Scheduler: "rr"}, w.targets[:2]...) // policy Local
		}
		for _, who := range []*nettest.Namespace{l.client, l.pods[0], l.pods[1], l.node} {
			for _, addr := range []string{w.node, w.gateway} {
				got := ask(t, who, network, at(addr, 30080), 6, "")
				if got["pod1-10"] != 2 || got["pod1-11"] != 2 || got["pod2-10"] != 2 {
					t.Errorf("%s is answered at %s by %v, want each pod twice", who.Name, addr, got)
				}
			}
		}
		answers(t, l.client, w.client, network, at(w.node, 30082), 1)
		ask(t, l.node, network, at(w.node, 30082), 2, w.node)
	})
}

func TestOtherPortsOfTheNodeAreLeftAlone(t *testing.T) {
	l := newLab(t)
	loopback := map[string]string{"v4": "127.0.0.1", "v6": "::1"}
	each(t, func(t *testing.T, w world, network string) {
		if network == "tcp" {
			l.set(t, w.every(), 30080, steer.Server{Scheduler: "rr", SNAT: true}, w.targets[0])
			l.set(t, w.every(), 30083, steer.Server{Scheduler: "rr", Sources: w.elsewhere()}, w.targets[0])
			l.set(t, w.every(), 30084, steer.Server{Scheduler: "rr"})
		}
		l.node.Serve(t, network, at(w.node, 22))
		l.node.Serve(t, network, at(loopback[w.name], 30080))
		ask(t, l.client, network, at(w.node, 22), 1, w.client)
		ask(t, l.node, network, at(w.node, 22), 1, w.node)
		if got := ask(t, l.node, network, at(loopback[w.name], 30080), 1, loopback[w.name]); got["node"] != 1 {
			t.Errorf("the loopback address is answered by %v", got)
		}
		if r, err := l.client.Get(network, at(w.node, 23)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a closed port: %v, %v, want refused", r, err)
		}
		if r, err := l.client.Get(network, at(w.node, 30083)); !dropped(err) {
			t.Errorf("a node port that lets others in: %v, %v, want silence", r, err)
		}
		for _, who := range []*nettest.Namespace{l.client, l.node} {
			if r, err := who.Get(network, at(w.node, 30084)); !refused(who, l, network, err) {
				t.Errorf("%s asks a node port without destinations: %v, %v, want refused", who.Name, r, err)
			}
		}
		// Another host's port of the same number is not the node's.
		if r, err := l.client.Get(network, at(w.targets[0], 8080)); err == nil && r.Peer.String() != w.client {
			t.Errorf("what passes through is seen as %s", r.Peer)
		}
	})
}

func TestUDPClientOfANodePortMovesWhenItsDestinationGoes(t *testing.T) {
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			l := newLab(t)
			server, first := at(w.every(), 30080)+"/udp", at(w.targets[0], 8080)
			c, err := l.client.Dial("udp", at(w.node, 30080))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if r, err := c.Ask(); err == nil {
				t.Errorf("without a server: %v", r)
			}
			l.set(t, w.every(), 30080, steer.Server{Scheduler: "rr"}, w.targets[0])
			steps := []struct {
				name   string
				change steer.Change
				want   string
			}{
				{"with another", kerneltest.Dest(steer.Add, server, at(w.targets[1], 8080), 1), "pod1-10"},
				{"while it drains", kerneltest.Dest(steer.Set, server, first, 0), "pod1-10"},
				{"when it is gone", kerneltest.Dest(steer.Del, server, first, 0), "pod1-11"},
			}
			for _, s := range steps {
				l.apply(t, s.change)
				if r, err := c.Ask(); err != nil || r.Name != s.want {
					t.Errorf("%s: Ask() = %v, %v, want %s", s.name, r, err, s.want)
				}
			}
		})
	}
}
