package cloudtest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
)

// moving is a mover with the Services that have addresses.
type moving struct {
	*cloud.Mover
	w *World
}

func (w *World) mover() moving {
	w.Engine.Config.Drift.Interval.Duration = time.Minute
	return moving{w: w, Mover: &cloud.Mover{Engine: w.Engine, Driver: w.Lab.Driver.(cloud.AddressDriver), Services: w.with}}
}

// with returns the Services that have an address in their status.
func (w *World) with(addr netip.Addr) (all []*corev1.Service) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(w.live)) {
		for _, in := range w.live[key].Status.LoadBalancer.Ingress {
			if in.IP == addr.String() {
				all = append(all, w.live[key])
			}
		}
	}
	return all
}

// machine is the i-th node's, by an answer that is kept: it is not what is tested.
func (w *World) machine(t *testing.T, i int) cloud.Target {
	t.Helper()
	if m, ok := w.machines[i]; ok {
		return m
	}
	known, _, err := w.Lab.Driver.Instances(t.Context(), []*corev1.Node{w.Node(i)}, cloud.LBSpec{})
	if err != nil || len(known) != 1 {
		t.Fatalf("node %d: %v, %v", i, known, err)
	}
	w.machines[i] = known[0]
	return known[0]
}

// placements says at which node each address should be, of those that are able.
func (w *World) placements(t *testing.T, at map[netip.Addr]int, steady bool, able ...int) map[netip.Addr]cloud.Placement {
	t.Helper()
	ids, want := map[string]bool{}, map[netip.Addr]cloud.Placement{}
	for _, i := range able {
		ids[w.machine(t, i).Instance.ID] = true
	}
	for addr, i := range at {
		want[addr] = cloud.Placement{To: w.machine(t, i), Able: ids, Steady: steady}
	}
	return want
}

// settle moves until nothing is on its way, for minutes at most.
func (m moving) settle(t *testing.T, at map[netip.Addr]int, able ...int) {
	t.Helper()
	want := m.w.placements(t, at, true, able...)
	for began := time.Now(); time.Since(began) < 5*time.Minute; {
		again, err := m.Move(t.Context(), want)
		if err == nil && again == m.w.Engine.Config.Drift.Interval.Duration {
			break
		}
		time.Sleep(again)
	}
	m.w.at(t, want)
}

// at is whether each address is where it should be.
func (w *World) at(t *testing.T, want map[netip.Addr]cloud.Placement) {
	t.Helper()
	for _, a := range w.Addresses() {
		if p, ok := want[a.Addrs[0]]; ok && a.Instance.ID != p.To.Instance.ID {
			t.Errorf("%s is at %+v, want %+v", a.Addrs[0], a.Instance, p.To.Instance)
		}
	}
}

func (w *World) failsOver(t *testing.T) {
	const many = 20
	at := map[netip.Addr]int{}
	var services []*corev1.Service
	for i := range many {
		svc := floating(fmt.Sprintf("web-%02d", i))
		at[netip.MustParseAddr(w.Serve(t, svc, w.Nodes(3)).Ingress[0].IP)] = 1
		services = append(services, svc)
	}
	m := w.mover()
	m.settle(t, at, 1, 2, 3)
	if n := w.Heard(cloud.ReasonMoved); n != 0 {
		t.Errorf("%d Events of addresses that have come from nowhere", n)
	}
	time.Sleep(time.Second)
	if reads, writes := w.count(func() { m.settle(t, at, 1, 2, 3) }); reads+writes > 1 {
		t.Errorf("where all is as it should be: %d reads and %d writes", reads, writes)
	}
	back := maps.Clone(at)
	for addr := range at {
		at[addr] = 2 + len(addr.String())%2
	}
	began := time.Now()
	reads, writes := w.count(func() { m.settle(t, at, 2, 3) })
	t.Logf("%d addresses: %d reads and %d writes in %s", many, reads, writes, time.Since(began))
	if writes != many || w.Heard(cloud.ReasonMoved) != many {
		t.Errorf("%d writes for %d addresses, %d Events", writes, many, w.Heard(cloud.ReasonMoved))
	}
	_, writes = w.count(func() {
		for range 10 {
			if _, err := m.Move(t.Context(), w.placements(t, back, false, 1, 2, 3)); err != nil {
				t.Error(err)
			}
		}
	})
	if writes != 0 {
		t.Errorf("%d writes for a node that has just come back", writes)
	}
	for _, svc := range services {
		w.End(t, svc)
	}
	w.none(t)
}

func (w *World) movesBack(t *testing.T) {
	svc := floating("web")
	at := map[netip.Addr]int{netip.MustParseAddr(w.Serve(t, svc, w.Nodes(2)).Ingress[0].IP): 1}
	m := w.mover()
	m.settle(t, at, 1, 2)
	w.Reroute(w.Addresses()[0].ID, w.machine(t, 2).Instance)
	time.Sleep(61 * time.Second)
	m.settle(t, at, 1, 2)
	if w.Heard(cloud.ReasonMoved) != 1 {
		t.Errorf("Events %v", w.Events)
	}
	// What nobody can serve stays where it is.
	_, writes := w.count(func() {
		if _, err := m.Move(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
	if writes != 0 {
		t.Errorf("%d writes where no node is able", writes)
	}
}

func (w *World) triesAgain(t *testing.T) {
	svc := floating("web")
	at := map[netip.Addr]int{netip.MustParseAddr(w.Serve(t, svc, w.Nodes(2)).Ingress[0].IP): 1}
	m := w.mover()
	want, calls := w.placements(t, at, true, 1, 2), 0
	w.Fault(func(string, bool) error {
		calls++
		return &cloud.Error{Class: cloud.Retryable, Text: "the API is down"}
	})
	said := 0
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(50 * time.Millisecond) { // somebody rings
		if _, err := m.Move(t.Context(), want); err != nil {
			said++
		}
	}
	if calls > 20 || said == 0 {
		t.Errorf("%d calls in a minute of an API that is down, of which %d errors were told", calls, said)
	}
	w.Fault(nil)
	m.settle(t, at, 1, 2)
}

// addressCrashes is crashes for addresses.
func (w *World) addressCrashes(t *testing.T) {
	round := 0
	_, _ = w.machine(t, 1), w.machine(t, 2)
	for _, script := range []string{"create", "move", "delete"} {
		for at, more := 1, true; more; at++ {
			for _, after := range []bool{false, true} {
				round++
				svc := floating(fmt.Sprintf("%s-%d", script, round))
				more = w.addressCrash(t, script, svc, &killer{at: at, after: after})
			}
			if at == 1 && !more || at > 60 {
				t.Fatalf("%s: killed at no call, or at more than 60", script)
			}
		}
	}
}

func (w *World) addressCrash(t *testing.T, script string, svc *corev1.Service, k *killer) (more bool) {
	t.Helper()
	move := func(node int) error {
		if err := w.ensure(t, svc, 2)(); err != nil {
			return err
		}
		m := w.mover()
		for range 20 {
			again, err := m.Move(t.Context(), w.placements(t, map[netip.Addr]int{w.Addresses()[0].Addrs[0]: node}, true, 1, 2))
			if err != nil {
				return err
			}
			if again == w.Engine.Config.Drift.Interval.Duration {
				return nil
			}
			time.Sleep(again)
		}
		return fmt.Errorf("it does not come to rest")
	}
	then := func() error { return w.ensure(t, svc, 2)() }
	switch script {
	case "move":
		if _, err := Until(t, func() (any, error) { return nil, move(1) }); err != nil {
			t.Fatal(err)
		}
		then = func() error { return move(2) }
	case "delete":
		if _, err := Until(t, func() (any, error) { return nil, move(1) }); err != nil {
			t.Fatal(err)
		}
		then = func() error { return w.Delete(t.Context(), svc) }
	}
	w.Restart()
	w.Fault(k.fault)
	_ = then() // dies
	w.Fault(nil)
	w.Restart()
	name := fmt.Sprintf("%s, killed at call %d, after it %t", script, k.at, k.after)
	if _, err := Until(t, func() (any, error) { return nil, then() }); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	all := w.Addresses()
	switch {
	case script == "delete" && len(all) != 0, script != "delete" && len(all) != 1:
		t.Fatalf("%s: there are %v", name, all)
	case script == "move":
		w.at(t, w.placements(t, map[netip.Addr]int{all[0].Addrs[0]: 2}, true, 1, 2))
	}
	w.End(t, svc)
	w.none(t)
	return k.dead
}
