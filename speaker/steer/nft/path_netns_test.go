//go:build netns

package nft

import (
	"errors"
	"fmt"
	"maps"
	"syscall"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// each runs a test for both families and for tcp and udp.
func each(t *testing.T, test func(t *testing.T, w world, network string)) {
	for _, w := range worlds {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(w.name+" "+network, func(t *testing.T) { test(t, w, network) })
		}
	}
}

func TestLocalPodsTakeTurnsAndSeeTheClient(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, w world, network string) {
		if network == "tcp" {
			l.serve(t, w, "rr", false, w.targets[:2]...)
		}
		got := ask(t, l.client, network, at(w.vip, 80), 6, w.client)
		if want := map[string]int{"pod1-10": 3, "pod1-11": 3}; !maps.Equal(got, want) {
			t.Errorf("answers %v, want %v", got, want)
		}
	})
}

func TestPodsOfOtherNodesAnswerThroughSNAT(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, w world, network string) {
		if network == "tcp" {
			l.serve(t, w, "rr", true, w.targets...)
		}
		got := ask(t, l.client, network, at(w.vip, 80), 6, "")
		if want := map[string]int{"pod1-10": 2, "pod1-11": 2, "pod2-10": 2}; !maps.Equal(got, want) {
			t.Errorf("answers %v, want %v", got, want)
		}
		if r, err := l.client.Get(network, at(w.vip, 80)); err != nil || r.Peer.String() == w.client {
			t.Errorf("Get() = %v, %v, want an address of the node", r, err)
		}
	})
}

func TestEveryClientIsServed(t *testing.T) {
	l := newLab(t)
	l.apply(t, kerneltest.Pods(steer.Add, "10.244.1.0/24"), kerneltest.Pods(steer.Add, "fd10:244:1::/64"))
	each(t, func(t *testing.T, w world, network string) {
		if network == "tcp" {
			l.serve(t, w, "rr", false, w.targets[0])
		}
		for _, from := range []*nettest.Namespace{l.node, l.pods[0], l.pods[1]} {
			if got := ask(t, from, network, at(w.vip, 80), 2, w.gateway); got["pod1-10"] != 2 {
				t.Errorf("%s is answered by %v", from.Name, got)
			}
		}
	})
}

func TestNothingToSendToIsRefused(t *testing.T) {
	l := newLab(t)
	each(t, func(t *testing.T, w world, network string) {
		if network == "tcp" {
			l.serve(t, w, "rr", false)
			for _, proto := range []string{"/tcp", "/udp"} {
				drained := at(w.vip, 81) + proto
				l.apply(t, kerneltest.Server(steer.Add, drained, "mh", true),
					kerneltest.Dest(steer.Add, drained, at(w.targets[0], 8080), 0))
			}
		}
		for port, what := range map[uint16]string{80: "without destinations", 81: "with drained ones", 82: "that is not there"} {
			for _, from := range []*nettest.Namespace{l.client, l.node, l.pods[0]} {
				if r, err := from.Get(network, at(w.vip, port)); !refused(from, l, network, err) {
					t.Errorf("%s asks a server %s: %v, %v, want refused", from.Name, what, r, err)
				}
			}
		}
	})
}

// refused is whether err says so at once. On the node itself the kernel drops
// the udp packet under the eyes of the sender, who is told EPERM.
func refused(from *nettest.Namespace, l *lab, network string, err error) bool {
	if from == l.node && network == "udp" && errors.Is(err, syscall.EPERM) {
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

func TestEchoRequestIsAnswered(t *testing.T) {
	l := newLab(t)
	for _, w := range worlds {
		l.apply(t, kerneltest.Addr(steer.Add, w.vip))
		for _, from := range []*nettest.Namespace{l.client, l.node, l.pods[0]} {
			from.Run(t, "ping", "-c", "1", "-W", "2", w.vip)
		}
	}
}

func TestAddressThatIsNotInIsNotTouched(t *testing.T) {
	l := newLab(t)
	w := worlds[0]
	l.serve(t, w, "rr", false, w.targets[0])
	l.apply(t, kerneltest.Addr(steer.Del, w.vip))
	// The node is asked for an address that is nobody's: it sends the packet
	// back the way it came, where it is lost or refused by a router.
	if r, err := l.client.Get("tcp", at(w.vip, 80)); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Get() = %v, %v, want no answer", r, err)
	}
}

func TestWeightsAreShares(t *testing.T) {
	l := newLab(t)
	w := worlds[0]
	l.serve(t, w, "wrr", false, w.targets[:2]...)
	server := at(w.vip, 80) + "/tcp"
	l.apply(t, kerneltest.Dest(steer.Set, server, at(w.targets[0], 8080), 3))
	got := ask(t, l.client, "tcp", at(w.vip, 80), 8, w.client)
	if want := map[string]int{"pod1-10": 6, "pod1-11": 2}; !maps.Equal(got, want) {
		t.Errorf("answers %v with weights 3 and 1, want %v", got, want)
	}
	l.apply(t, kerneltest.Dest(steer.Set, server, at(w.targets[0], 8080), 0))
	if got := ask(t, l.client, "tcp", at(w.vip, 80), 4, w.client); got["pod1-11"] != 4 {
		t.Errorf("answers %v with weights 0 and 1", got)
	}
}

func TestHashesChooseAlikeOnEveryNode(t *testing.T) {
	one, two := newLab(t), newLab(t)
	for _, w := range worlds {
		hashes := map[uint16]steer.Server{80: {Scheduler: "sh"}, 81: {Scheduler: "mh", Flags: config.SchedulerPort},
			82: {Scheduler: "mh", Flags: config.SchedulerFallback}, 83: {Scheduler: "sh", Flags: config.SchedulerPort}}
		for port, s := range hashes {
			server := at(w.vip, port) + "/tcp"
			for i, l := range []*lab{one, two} {
				// The order in which rows come must not matter.
				first, second := at(w.targets[i], 8080), at(w.targets[1-i], 8080)
				l.apply(t, kerneltest.Set(steer.Add, server, s),
					kerneltest.Dest(steer.Add, server, first, 1), kerneltest.Dest(steer.Add, server, second, 1))
				if port == 80 {
					l.apply(t, kerneltest.Addr(steer.Add, w.vip))
				}
			}
		}
		for port, s := range hashes {
			var answers [2][]string
			for i, l := range []*lab{one, two} {
				answers[i] = fromPorts(t, l.client, w, port)
			}
			if fmt.Sprint(answers[0]) != fmt.Sprint(answers[1]) {
				t.Errorf("%s %s: the nodes answer\n%v\n%v", w.name, s, answers[0], answers[1])
			}
			if spread := distinct(answers[0]); (spread == 1) != (s.Flags&config.SchedulerPort == 0) {
				t.Errorf("%s %s: %d pods answer one client", w.name, s, spread)
			}
		}
	}
}

// fromPorts returns who answers a client on each of some source ports.
func fromPorts(t *testing.T, from *nettest.Namespace, w world, port uint16) []string {
	t.Helper()
	var names []string
	for source := uint16(20000); source < 20012; source++ {
		c, err := from.DialFrom("tcp", at(w.client, source), at(w.vip, port))
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Ask()
		if err != nil {
			t.Error(err)
		}
		names = append(names, r.Name)
		c.Reset()
		c.Close()
	}
	return names
}

func distinct(names []string) int {
	set := map[string]bool{}
	for _, n := range names {
		set[n] = true
	}
	return len(set)
}

func TestConnectionOutlivesEveryChange(t *testing.T) {
	l := newLab(t)
	w := worlds[0]
	l.serve(t, w, "rr", false, w.targets[0])
	c, err := l.client.Dial("tcp", at(w.vip, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server, first := at(w.vip, 80)+"/tcp", at(w.targets[0], 8080)
	steps := []struct {
		name string
		do   func()
	}{
		{"nothing", func() {}},
		{"another server comes", func() { l.serve(t, worlds[1], "mh", true, worlds[1].targets...) }},
		{"another destination comes", func() { l.apply(t, kerneltest.Dest(steer.Add, server, at(w.targets[1], 8080), 1)) }},
		{"its destination drains", func() { l.apply(t, kerneltest.Dest(steer.Set, server, first, 0)) }},
		{"its destination goes", func() { l.apply(t, kerneltest.Dest(steer.Del, server, first, 0)) }},
		{"SNAT begins", func() { l.apply(t, kerneltest.Server(steer.Set, server, "sh", true)) }},
		{"Herald restarts", func() { l.restart(t) }},
		{"somebody flushes the rules", func() {
			l.node.Run(t, "nft", "flush", "table", "inet", "herald")
			l.prepare(t)
		}},
	}
	for _, s := range steps {
		s.do()
		if r, err := c.Ask(); err != nil || r.Name != "pod1-10" {
			t.Fatalf("after %s: Ask() = %v, %v", s.name, r, err)
		}
	}
}

// restart replaces the kernel by a new one, as a new process would.
func (l *lab) restart(t testing.TB) {
	t.Helper()
	if err := l.kernel.Close(); err != nil {
		t.Fatal(err)
	}
	l.kernel = New(Options{NetNS: l.node.FD()})
	t.Cleanup(func() { l.kernel.Close() })
	l.prepare(t)
}

func TestUDPClientMovesWhenItsDestinationGoes(t *testing.T) {
	for _, w := range worlds {
		t.Run(w.name, func(t *testing.T) {
			l := newLab(t)
			l.serve(t, w, "rr", false, w.targets[0])
			server, first := at(w.vip, 80)+"/udp", at(w.targets[0], 8080)
			c, err := l.client.Dial("udp", at(w.vip, 80))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			expect := func(when, name string) {
				t.Helper()
				if r, err := c.Ask(); err != nil || r.Name != name {
					t.Errorf("%s: Ask() = %v, %v, want %s", when, r, err, name)
				}
			}
			expect("at first", "pod1-10")
			l.apply(t, kerneltest.Dest(steer.Add, server, at(w.targets[1], 8080), 1))
			expect("with another", "pod1-10")
			l.apply(t, kerneltest.Dest(steer.Set, server, first, 0))
			expect("while it drains", "pod1-10")
			l.apply(t, kerneltest.Dest(steer.Del, server, first, 0))
			expect("when it is gone", "pod1-11")
		})
	}
}

func TestUDPClientThatWasEarlyIsServed(t *testing.T) {
	l := newLab(t)
	w := worlds[0]
	c, err := l.client.Dial("udp", at(w.vip, 80))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Without rows the node forwards the packet to where it came from, and
	// remembers the connection as one that goes there.
	if _, err := c.Write([]byte("early\n")); err != nil {
		t.Fatal(err)
	}
	l.serve(t, w, "rr", false, w.targets[0])
	if r, err := c.Ask(); err != nil || r.Name != "pod1-10" {
		t.Errorf("Ask() = %v, %v", r, err)
	}
}

// TestNoPacketIsRefusedWhileDestinationsChange replaces destinations over and
// over while a client connects without pause. Chains come and go each time,
// which is when a packet could slip through unserved: see putHelpers.
func TestNoPacketIsRefusedWhileDestinationsChange(t *testing.T) {
	for name, server := range map[string]steer.Server{
		"turns":    {Scheduler: "rr"},
		"affinity": {Scheduler: "rr", Affinity: 600},
	} {
		t.Run(name, func(t *testing.T) { change(t, server) })
	}
}

func change(t *testing.T, s steer.Server) {
	l := newLab(t)
	l.kernel.maxIdle = 0
	w := worlds[0]
	l.set(t, w.vip, 80, s, w.targets[0])
	l.apply(t, kerneltest.Addr(steer.Add, w.vip))
	server := at(w.vip, 80) + "/tcp"
	done := make(chan error, 1)
	go func() {
		for range 300 {
			if _, err := l.client.Get("tcp", at(w.vip, 80)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := 0; ; i++ {
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("after %d changes: %v", i, err)
			}
			t.Logf("%d changes", i)
			return
		default:
		}
		come, leave := at(w.targets[(i+1)%2], 8080), at(w.targets[i%2], 8080)
		l.apply(t, kerneltest.Dest(steer.Add, server, come, 1))
		l.apply(t, kerneltest.Dest(steer.Del, server, leave, 0))
	}
}
