//go:build netns

package nft

import (
	"errors"
	"syscall"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// dropped is whether err says that nobody answered at all.
func dropped(err error) bool {
	return err != nil && !errors.Is(err, syscall.ECONNREFUSED)
}

// letIn is the client alone, and elsewhere is somebody else.
func (w world) letIn() steer.Sources {
	if w.name == "v4" {
		return "198.51.100.0/31 203.0.113.128/25"
	}
	return "2001:db8:1::/127 2001:db8:2::/48"
}

func (w world) elsewhere() steer.Sources {
	if w.name == "v4" {
		return "203.0.113.128/25"
	}
	return "2001:db8:2::/48"
}

func TestOnlySourcesAreLetIn(t *testing.T) {
	l := newLab(t)
	l.client.Addr(t, "eth0", worlds[0].second+"/24", worlds[1].second+"/64")
	each(t, func(t *testing.T, w world, network string) {
		limited := steer.Server{Scheduler: "rr", Sources: w.letIn()}
		if network == "tcp" {
			l.apply(t, kerneltest.Addr(steer.Add, w.vip))
			l.set(t, w.vip, 80, limited, w.targets[0])
			l.set(t, w.vip, 81, steer.Server{Scheduler: "rr"}, w.targets[0])
		}
		addr := at(w.vip, 80)
		answers(t, l.client, w.client, network, addr, 2)
		answers(t, l.client, w.second, network, at(w.vip, 81), 1) // which lets everybody in
		for who, ask := range map[string]func() (nettest.Reply, error){
			"another client": func() (nettest.Reply, error) { return from(l.client, w.second, network, addr) },
			"a pod":          func() (nettest.Reply, error) { return l.pods[1].Get(network, addr) },
		} {
			if r, err := ask(); !dropped(err) {
				t.Errorf("%s is answered %v, %v, want silence", who, r, err)
			}
		}
		if r, err := l.node.Get(network, addr); err != nil {
			t.Errorf("the node itself is answered %v, %v", r, err)
		}
	})
}

func TestNarrowingHoldsForNewConnections(t *testing.T) {
	l := newLab(t)
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			server := at(w.vip, 80) + "/tcp"
			l.apply(t, kerneltest.Addr(steer.Add, w.vip))
			l.set(t, w.vip, 80, steer.Server{Scheduler: "rr"}, w.targets[0])
			c, err := l.client.Dial("tcp", at(w.vip, 80))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, s := range []steer.Sources{w.elsewhere(), steer.Nobody} {
				l.apply(t, kerneltest.Set(steer.Set, server, steer.Server{Scheduler: "rr", Sources: s}))
				if _, err := c.Ask(); err != nil {
					t.Errorf("from %s: the connection from before is dead: %v", s, err)
				}
				if r, err := l.client.Get("tcp", at(w.vip, 80)); !dropped(err) {
					t.Errorf("from %s: %v, %v, want silence", s, r, err)
				}
			}
			l.apply(t, kerneltest.Set(steer.Set, server, steer.Server{Scheduler: "rr", Sources: w.letIn()}))
			answers(t, l.client, w.client, "tcp", at(w.vip, 80), 1)
			l.apply(t, kerneltest.Set(steer.Set, server, steer.Server{Scheduler: "rr"}))
			answers(t, l.client, w.client, "tcp", at(w.vip, 80), 1)
		})
	}
}
