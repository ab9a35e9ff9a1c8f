package cloudtest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

// floating is a Service that is served with addresses.
func floating(name string, families ...corev1.IPFamily) *corev1.Service {
	svc := Service(name, types.UID("uid-"+name), 80)
	svc.Annotations[cloud.Prefix+"serve-with"] = string(cloud.WithFloatingIP)
	if families != nil {
		svc.Spec.IPFamilies = families
	}
	return svc
}

// routesAddresses skips what is about addresses where the cloud has none.
func (w *World) routesAddresses(t *testing.T) {
	t.Helper()
	if w.Lab.Addresses == nil {
		t.Skip("this cloud routes no addresses to machines: Capabilities.Addresses")
	}
}

// none is that there is neither a load balancer nor an address.
func (w *World) none(t *testing.T) {
	t.Helper()
	if lbs, addrs := w.All(), w.Addresses(); len(lbs)+len(addrs) > 0 {
		t.Errorf("there are %v and %v", lbs, addrs)
	}
}

func (w *World) reservesAndReleases(t *testing.T) {
	w.routesAddresses(t)
	svc := floating("web", corev1.IPv6Protocol, corev1.IPv4Protocol)
	var st *corev1.LoadBalancerStatus
	reads, writes := w.count(func() { st = w.Serve(t, svc, w.Nodes(2)) })
	addrs := w.Addresses()
	if len(addrs) != 2 || len(w.All()) != 0 || writes != 2 || reads > 6 {
		t.Errorf("there are %v and %v after %d reads and %d writes", addrs, w.All(), reads, writes)
	}
	if len(st.Ingress) != 2 || !netip.MustParseAddr(st.Ingress[0].IP).Is6() || *st.Ingress[1].IPMode != corev1.LoadBalancerIPModeProxy {
		t.Errorf("status = %+v, of %v", st, addrs)
	}
	if n := w.Heard(cloud.ReasonReserved); n != 2 {
		t.Errorf("%d Events of two addresses: %v", n, w.Events)
	}
	reads, writes = w.count(func() {
		for range 20 {
			w.Serve(t, svc, w.Nodes(2))
		}
	})
	if writes != 0 || reads > 2 {
		t.Errorf("twenty times what there is: %d reads, %d writes", reads, writes)
	}
	svc.Spec.IPFamilies = svc.Spec.IPFamilies[1:]
	if st = w.Serve(t, svc, w.Nodes(2)); len(st.Ingress) != 1 || len(w.Addresses()) != 1 {
		t.Errorf("of one family there are %v", w.Addresses())
	}
	if err := w.Update(t.Context(), floating("other"), w.Nodes(2)); !cloud.Is(err, cloud.NotFound) {
		t.Errorf("an update of what there is not: %v", err)
	}
	w.End(t, svc)
	w.End(t, svc)
	w.none(t)
}

func (w *World) borrows(t *testing.T) {
	w.routesAddresses(t)
	a := w.AddAddress("mine")
	web, api := floating("web"), floating("api")
	for _, svc := range []*corev1.Service{web, api} {
		svc.Annotations[cloud.Prefix+"address"] = a.Addrs[0].String()
		if st := w.Serve(t, svc, w.Nodes(2)); st.Ingress[0].IP != a.Addrs[0].String() {
			t.Errorf("status = %+v, want %s", st, a.Addrs[0])
		}
	}
	w.mover().settle(t, map[netip.Addr]int{a.Addrs[0]: 1}, 1, 2)
	w.End(t, web)
	w.End(t, api)
	if all := w.Addresses(); len(all) != 1 || all[0].Owner != (cloud.Owner{}) {
		t.Errorf("there are %v", all)
	}
	lost := floating("lost")
	lost.Annotations[cloud.Prefix+"address"] = "198.51.100.200"
	w.Put(lost)
	if _, err := w.Ensure(t.Context(), lost, w.Nodes(2)); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("an address that there is not: %v", err)
	}
	own := floating("own")
	st := w.Serve(t, own, w.Nodes(2))
	lost.Annotations[cloud.Prefix+"address"] = st.Ingress[0].IP
	if _, err := w.Ensure(t.Context(), lost, w.Nodes(2)); !cloud.Is(err, cloud.Conflict) {
		t.Errorf("the address of another Service: %v", err)
	}
}

func (w *World) takesOver(t *testing.T) {
	w.routesAddresses(t)
	if reason := w.Remarks; reason != "" {
		t.Skip(reason)
	}
	for _, policy := range []cloud.Policy{"", cloud.PolicyRetain} {
		was := floating("web")
		if policy != "" {
			was.Annotations[cloud.Prefix+"deletion-policy"] = string(policy)
		}
		had := w.Serve(t, was, w.Nodes(2)).Ingress[0].IP
		if policy == "" {
			w.Remove(was) // it is lost, as with the API server's data
		} else {
			w.End(t, was)
		}
		is := floating("web")
		is.UID += types.UID("-again" + policy)
		if got := w.Serve(t, is, w.Nodes(2)).Ingress[0].IP; got != had || len(w.Addresses()) != 1 {
			t.Errorf("%s: it has %s, and had %s: %v", policy, got, had, w.Addresses())
		}
		w.End(t, is)
		w.none(t)
	}
}

func (w *World) releasesAddresses(t *testing.T) {
	w.routesAddresses(t)
	svc := floating("web")
	svc.Annotations[cloud.Prefix+"deletion-policy"] = string(cloud.PolicyRelease)
	had := w.Serve(t, svc, w.Nodes(2)).Ingress[0].IP
	w.End(t, svc)
	if all := w.Addresses(); len(all) != 1 || all[0].Owner != (cloud.Owner{}) {
		t.Errorf("released there are %v", all)
	}
	delete(svc.Annotations, cloud.Prefix+"deletion-policy")
	if got := w.Serve(t, svc, w.Nodes(2)).Ingress[0].IP; got == had || len(w.Addresses()) != 2 {
		t.Errorf("it has %s, and had %s: %v", got, had, w.Addresses())
	}
	w.End(t, svc)
	svc.Annotations[cloud.Prefix+"address"] = had
	if got := w.Serve(t, svc, w.Nodes(2)).Ingress[0].IP; got != had {
		t.Errorf("it has %s, and names %s", got, had)
	}
	w.End(t, svc)
	if all := w.Addresses(); len(all) != 1 {
		t.Errorf("of what it only names there are %v", all)
	}
}

func (w *World) keepsBalancers(t *testing.T) {
	w.routesAddresses(t)
	svc, later := Service("web", "uid-web-1", 80), Service("later", "uid-later", 80)
	w.Serve(t, svc, w.Nodes(2))
	w.Engine.Config.Defaults.ServeWith = cloud.WithFloatingIP
	w.Restart()
	w.Serve(t, svc, w.Nodes(2))
	w.one(t, svc)
	if len(w.Addresses()) != 0 || w.Floats(svc) || w.Heard(cloud.ReasonRecreate) != 1 {
		t.Errorf("there are %v; Events %v", w.Addresses(), w.Events)
	}
	w.Serve(t, later, w.Nodes(2))
	if len(w.Addresses()) != 1 || !w.Floats(later) {
		t.Errorf("of a new Service there are %v", w.Addresses())
	}
	w.End(t, svc)
	w.End(t, later)
	w.none(t)
}

func (w *World) dryAddresses(t *testing.T) {
	w.routesAddresses(t)
	a := w.AddAddress("mine")
	m := w.mover()
	for _, ref := range []string{"", a.Addrs[0].String()} {
		svc := floating("web" + ref)
		svc.Annotations[cloud.Prefix+"dry-run"] = "true"
		if ref != "" {
			svc.Annotations[cloud.Prefix+"address"] = ref
		}
		w.Put(svc)
		_, writes := w.count(func() {
			if _, err := w.Ensure(t.Context(), svc, w.Nodes(2)); !errors.Is(err, cloud.ErrDryRun) {
				t.Errorf("Ensure() = %v", err)
			}
		})
		if writes != 0 || w.Floats(svc) {
			t.Errorf("%q: %d writes", ref, writes)
		}
	}
	w.Engine.Config.DryRun = true
	_, writes := w.count(func() {
		if _, err := m.Move(t.Context(), w.placements(t, map[netip.Addr]int{a.Addrs[0]: 1}, true, 1)); err != nil {
			t.Error(err)
		}
	})
	if writes != 0 || w.Addresses()[0].Instance.ID != "" {
		t.Errorf("%d writes, and it is at %+v", writes, w.Addresses()[0].Instance)
	}
}

func (w *World) movesWhatItCannotServe(t *testing.T) {
	w.routesAddresses(t)
	svc := floating("web")
	at := map[netip.Addr]int{netip.MustParseAddr(w.Serve(t, svc, w.Nodes(2)).Ingress[0].IP): 1}
	w.mover().settle(t, at, 1, 2)
	svc.Annotations[cloud.Prefix+"typo"] = "yes"
	w.Restart()
	if _, err := w.Ensure(t.Context(), svc, w.Nodes(2)); !cloud.Is(err, cloud.Terminal) {
		t.Errorf("Ensure() = %v", err)
	}
	for addr := range at {
		at[addr] = 2
	}
	w.mover().settle(t, at, 2)
}

func (w *World) changesOver(t *testing.T) {
	w.routesAddresses(t)
	svc := Service("web", "uid-web-1", 80)
	w.Serve(t, svc, w.Nodes(2))
	svc.Annotations[cloud.Prefix+"serve-with"] = string(cloud.WithFloatingIP)
	st := w.Serve(t, svc, w.Nodes(2))
	if lbs, addrs := w.All(), w.Addresses(); len(lbs) != 1 || len(addrs) != 1 || !w.Floats(svc) {
		t.Errorf("before the address is routed there are %v and %v", lbs, addrs)
	}
	w.mover().settle(t, map[netip.Addr]int{netip.MustParseAddr(st.Ingress[0].IP): 1}, 1, 2)
	w.Serve(t, svc, w.Nodes(2))
	if lbs, addrs := w.All(), w.Addresses(); len(lbs) != 0 || len(addrs) != 1 {
		t.Errorf("with an address there are %v and %v", lbs, addrs)
	}
	delete(svc.Annotations, cloud.Prefix+"serve-with")
	time.Sleep(11 * time.Second) // what was listed is old by then
	w.Serve(t, svc, w.Nodes(2))
	if w.Floats(svc) {
		t.Error("nodes go on to steer what a load balancer serves")
	}
	if _, err := Until(t, func() (any, error) {
		return w.Ensure(cloud.WithLane(t.Context(), cloud.Drifting), svc, w.Nodes(2))
	}); err != nil {
		t.Error(err)
	}
	w.one(t, svc)
	if addrs := w.Addresses(); len(addrs) != 0 {
		t.Errorf("with a load balancer there are %v", addrs)
	}
	w.End(t, svc)
	w.none(t)
}

func (w *World) limitsAddresses(t *testing.T) {
	w.routesAddresses(t)
	for name, limits := range map[string]cloud.Limits{
		"maxAddresses": {MaxAddresses: 1}, "maxMonthlyCost": {MaxMonthlyCost: 5}, "allowedNamespaces": {AllowedNamespaces: []string{"bank"}},
	} {
		price, err := w.Lab.Driver.(cloud.AddressDriver).AddressPrice(t.Context(), cloud.AddressSpec{Family: corev1.IPv4Protocol})
		if err != nil {
			t.Fatal(err)
		}
		if limits.MaxMonthlyCost > 0 && price == (cloud.Money{}) {
			continue // it says no prices
		}
		w.Engine.Config.Limits = limits
		first, second := floating("first"), floating("second")
		if name != "allowedNamespaces" {
			w.Serve(t, first, w.Nodes(2))
		}
		w.Put(second)
		_, err = w.Ensure(t.Context(), second, w.Nodes(2))
		if !cloud.Is(err, cloud.Quota) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		w.End(t, first)
		w.End(t, second)
		w.none(t)
	}
}

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
	known, _, err := w.Lab.Driver.Instances(t.Context(), []*corev1.Node{w.Node(i)}, false)
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
	w.routesAddresses(t)
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
	w.routesAddresses(t)
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
	w.routesAddresses(t)
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
	w.routesAddresses(t)
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
