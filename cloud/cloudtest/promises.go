package cloudtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/herald-lb/herald/cloud"
)

// Promises are what an engine keeps with every driver.
func Promises(t *testing.T, run Run) {
	keep(t, run, []promise{
		{"one load balancer for a Service, and none without", (*World).createsAndDeletes},
		{"what is as it should be is not written to (A1, C2)", (*World).writesNothing},
		{"edits change what differs only (C3, P2)", (*World).edits},
		{"nodes come and go, and there is always a target (T1)", (*World).nodes},
		{"no node, no bill; no answer about nodes, no change (T1)", (*World).keepsTargets},
		{"what is nobody's is adopted, and kept (O3, O5)", (*World).adopts},
		{"what is another's is left alone (O2)", (*World).leavesOthers},
		{"a Service made anew under its name has its address again (O3)", (*World).readopts},
		{"policies of deletion (O5)", (*World).policies},
		{"deleted by hand, and deleted twice (C4)", (*World).deletedByHand},
		{"a list that is wrongly empty makes nothing twice, and ends no deletion (I1, I2)", (*World).believesNoEmptyList},
		{"changed by hand, and changed back (F2)", (*World).repairs},
		{"a Service that is being deleted is made nothing for (A6, F17)", (*World).refusesTheDying},
		{"an update makes nothing (A6)", (*World).updateMakesNothing},
		{"a dry run calls nothing that changes anything (O10, C10)", (*World).dryRun},
		{"killed before or after any call, and exactly one (O7)", (*World).crashes},
	})
}

// AddressPromises are those of an engine whose cloud routes addresses to machines.
func AddressPromises(t *testing.T, run Run) {
	keep(t, run, []promise{
		{"an address of each family, and none without (C12)", (*World).reservesAndReleases},
		{"an address that somebody else has reserved is used, and kept (O6)", (*World).borrows},
		{"a Service made anew under its name has its address again (O3, addresses)", (*World).takesOver},
		{"an address that was released can be had no more, and another one can (O5)", (*World).releasesAddresses},
		{"a default takes nobody's load balancer (O11)", (*World).keepsBalancers},
		{"a dry run neither reserves nor routes (O10, C10)", (*World).dryAddresses},
		{"after a restart addresses move of Services that cannot be served", (*World).movesWhatItCannotServe},
		{"from a load balancer to addresses, and back", (*World).changesOver},
		{"no more addresses than the limits allow (O9)", (*World).limitsAddresses},
		{"addresses go where they are served, by one call each (C12)", (*World).failsOver},
		{"an address moved by hand is moved back", (*World).movesBack},
		{"an address is tried again that could not be moved", (*World).triesAgain},
		{"killed before or after any call of an address, and exactly one (O7)", (*World).addressCrashes},
	})
}

// A Run gives a promise a lab of its own, and time that goes by at once where it can.
type Run func(t *testing.T, promise func(*testing.T, *World))

type promise struct {
	name string
	hold func(*World, *testing.T)
}

func keep(t *testing.T, run Run, promises []promise) {
	for _, p := range promises {
		t.Run(p.name, func(t *testing.T) { run(t, func(t *testing.T, w *World) { p.hold(w, t) }) })
	}
}

// count returns how many calls changed something while f ran.
func (w *World) count(f func()) (reads, writes int) {
	r, n := w.Calls()
	f()
	r2, n2 := w.Calls()
	return r2 - r, n2 - n
}

func (w *World) one(t *testing.T, svc *corev1.Service) cloud.Found {
	t.Helper()
	lbs := balancers(w.Owned(svc))
	if len(lbs) != 1 {
		t.Fatalf("Service %s has %v, not one load balancer", svc.Name, lbs)
	}
	return lbs[0]
}

func balancers(all []cloud.Found) []cloud.Found {
	return slices.DeleteFunc(all, func(f cloud.Found) bool { return f.Kind != cloud.LoadBalancer })
}

func (w *World) can(t *testing.T) cloud.Capabilities {
	t.Helper()
	can, err := w.Lab.Driver.Capabilities(t.Context())
	if err != nil {
		t.Fatalf("Capabilities() = %v", err)
	}
	return can
}

func (w *World) createsAndDeletes(t *testing.T) {
	svc := Service("web", "uid-web-1", 80, 443)
	st := w.Serve(t, svc, w.Nodes(3))
	f := w.one(t, svc)
	if len(st.Ingress) != 1 || st.Ingress[0].IP != f.Addrs[0].String() || *st.Ingress[0].IPMode != corev1.LoadBalancerIPModeProxy {
		t.Errorf("status = %+v, of %v", st, f)
	}
	if n := w.Heard(cloud.ReasonCreated); n != 1 {
		t.Errorf("%d Events of its creation: %v", n, w.Events)
	}
	w.End(t, svc)
	if all := w.All(); len(all) != 0 {
		t.Errorf("left behind: %v", all)
	}
}

func (w *World) writesNothing(t *testing.T) {
	svc := Service("web", "uid-web-1", 80, 443)
	w.Serve(t, svc, w.Nodes(3))
	reads, writes := w.count(func() {
		for range 10 {
			if err := w.Update(t.Context(), svc, w.Nodes(3)); err != nil {
				t.Error(err)
			}
			w.Serve(t, svc, w.Nodes(3))
		}
	})
	if writes != 0 || reads > 2 {
		t.Errorf("twenty times what there is: %d reads, %d writes", reads, writes)
	}
	w.Restart()
	if _, writes := w.count(func() { w.Serve(t, svc, w.Nodes(3)) }); writes != 0 {
		t.Errorf("after a restart: %d writes", writes)
	}
}

func (w *World) edits(t *testing.T) {
	svc := Service("web", "uid-web-1", 80, 443)
	w.Serve(t, svc, w.Nodes(3))
	before := w.one(t, svc)
	for _, edit := range []struct {
		name string
		most int // writes
		edit func()
	}{
		{"a nodePort", 1, func() { svc.Spec.Ports[0].NodePort = 31000 }},
		{"a port more", 2, func() {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Protocol: corev1.ProtocolTCP, Port: 8080, NodePort: 31001})
		}},
		{"a port less", 2, func() { svc.Spec.Ports = svc.Spec.Ports[1:] }},
		{"externalTrafficPolicy", 2, func() {
			svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
		}},
		{"an annotation", 2, func() { svc.Annotations[cloud.Prefix+"health-check-interval"] = "20s" }},
	} {
		edit.edit()
		most := cmp.Or(w.Edits[edit.name], edit.most)
		if _, writes := w.count(func() { w.Serve(t, svc, w.Nodes(3)) }); writes == 0 || writes > most {
			t.Errorf("%s: %d writes, not 1 to %d", edit.name, writes, most)
		}
	}
	if after := w.one(t, svc); after.ID != before.ID {
		t.Errorf("edits have replaced %s by %s", before.ID, after.ID)
	}
}

func (w *World) nodes(t *testing.T) {
	svc := Service("web", "uid-web-1", 80)
	all := w.Nodes(5)
	for _, nodes := range [][]*corev1.Node{all[:3], all[2:], all[:1], all} {
		w.Serve(t, svc, nodes)
		if _, writes := w.count(func() { w.Serve(t, svc, nodes) }); writes != 0 {
			t.Errorf("%d nodes: %d writes when it should be settled", len(nodes), writes)
		}
	}
}

func (w *World) keepsTargets(t *testing.T) {
	svc := Service("web", "uid-web-1", 80)
	if _, err := w.Ensure(t.Context(), svc, nil); err == nil || len(w.All()) != 0 {
		t.Errorf("without nodes: %v, and %v", err, w.All())
	}
	w.Serve(t, svc, w.Nodes(2))
	_, writes := w.count(func() {
		_ = w.Update(t.Context(), svc, nil)
		_ = w.Update(t.Context(), svc, []*corev1.Node{{}})
	})
	if writes != 0 {
		t.Errorf("%d writes for nodes of which nothing is known", writes)
	}
}

func (w *World) adopts(t *testing.T) {
	id := w.Lab.Add("by-hand")
	svc := Service("web", "uid-web-1", 80)
	svc.Annotations[cloud.Prefix+"adopt"] = "by-hand"
	w.Serve(t, svc, w.Nodes(2))
	if f := w.one(t, svc); f.ID != id || !f.Adopted {
		t.Errorf("adopted %v, not %s", f, id)
	}
	if w.Heard(cloud.ReasonAdopted) != 1 || len(w.All()) != 1 {
		t.Errorf("Events %v, load balancers %v", w.Events, w.All())
	}
	w.End(t, svc)
	if all := w.All(); len(all) != 1 || all[0].Owner != (cloud.Owner{}) {
		t.Errorf("after the Service is gone: %v", all)
	}
}

func (w *World) leavesOthers(t *testing.T) {
	w.Lab.Add("by-hand")
	first := Service("web", "uid-web-1", 80)
	w.Serve(t, first, w.Nodes(2))
	thief := Service("thief", "uid-thief-1", 80)
	thief.Annotations[cloud.Prefix+"adopt"] = w.one(t, first).ID
	before := fmt.Sprint(w.All())
	_, writes := w.count(func() {
		if _, err := w.Ensure(t.Context(), thief, w.Nodes(2)); !cloud.Is(err, cloud.Conflict) {
			t.Errorf("Ensure of what another has = %v", err)
		}
		w.End(t, thief)
	})
	if after := fmt.Sprint(w.All()); writes != 0 || after != before || w.Heard(cloud.ReasonConflict) != 1 {
		t.Errorf("%d writes, Events %v\nbefore %s\nafter  %s", writes, w.Events, before, after)
	}
}

func (w *World) readopts(t *testing.T) {
	old := Service("web", "uid-web-1", 80)
	st := w.Serve(t, old, w.Nodes(2))
	w.Remove(old) // with its finalizer, as a backup that is restored has it
	w.Restart()
	svc := Service("web", "uid-web-2", 80)
	again := w.Serve(t, svc, w.Nodes(2))
	if again.Ingress[0].IP != st.Ingress[0].IP || len(w.All()) != 1 {
		t.Errorf("had %s, has %s; there are %v", st.Ingress[0].IP, again.Ingress[0].IP, w.All())
	}
	if _, writes := w.count(func() { w.Serve(t, svc, w.Nodes(2)) }); writes != 0 {
		t.Errorf("%d writes when it should be settled", writes)
	}
	w.End(t, svc)
	if all := w.All(); len(all) != 0 {
		t.Errorf("what was made here is left: %v", all)
	}
}

func (w *World) policies(t *testing.T) {
	for policy, left := range map[cloud.Policy]int{cloud.PolicyDelete: 0, cloud.PolicyRelease: 1, cloud.PolicyRetain: 1} {
		name := strings.ToLower(string(policy))
		svc := Service(name, types.UID("uid-"+name), 80)
		svc.Annotations[cloud.Prefix+"deletion-policy"] = string(policy)
		w.Serve(t, svc, w.Nodes(2))
		if policy == cloud.PolicyRetain && !w.can(t).Retains {
			if err := w.Delete(t.Context(), svc); !cloud.Is(err, cloud.Terminal) || len(w.All()) != 1 {
				t.Errorf("a mark that this cloud does not have: %v, and there are %v", err, w.All())
			}
			svc.Annotations[cloud.Prefix+"deletion-policy"] = string(cloud.PolicyDelete)
			left = 0
		}
		w.End(t, svc)
		all := w.All()
		if len(all) != left {
			t.Errorf("%s leaves %v", policy, all)
		}
		for _, f := range all {
			if mine := f.Owner.UID == svc.UID; mine != (policy == cloud.PolicyRetain) || mine != f.Retained {
				t.Errorf("%s leaves %+v", policy, f)
			}
		}
		for len(all) > 0 { // and what it leaves
			w.Drop(all[0].ID)
			all = w.All()
		}
	}
	svc := Service("web", "uid-web-1", 80)
	w.Serve(t, svc, w.Nodes(2))
	svc.Annotations[cloud.Prefix+"deletion-policy"] = "Keep"
	if err := w.Delete(t.Context(), svc); !cloud.Is(err, cloud.Terminal) || len(w.All()) != 1 {
		t.Errorf("a policy that there is not: %v, and there are %v", err, w.All())
	}
}

func (w *World) deletedByHand(t *testing.T) {
	svc := Service("web", "uid-web-1", 80)
	w.Serve(t, svc, w.Nodes(2))
	w.Drop(w.one(t, svc).ID)
	w.End(t, svc)
	w.End(t, svc)
	if _, exists, err := w.Exists(t.Context(), svc); exists || err != nil {
		t.Errorf("Exists() = %t, %v", exists, err)
	}
	svc.Annotations[cloud.Prefix+"name"] = strings.Repeat("x", 300) // which is no name anywhere
	w.End(t, svc)
}

// One after the other, each read of a sync shows nothing, and then each of a deletion; of
// a slow cloud the first ones.
func (w *World) believesNoEmptyList(t *testing.T) {
	w.hidesReads(t, false, func(name string) *corev1.Service { return Service(name, types.UID("uid-"+name), 80) })
	if !w.Slow {
		w.hidesReads(t, false, func(name string) *corev1.Service {
			old := Service(name, types.UID("uid-old-"+name), 80) // whose name a load balancer may keep
			w.Serve(t, old, w.Nodes(2))
			w.Remove(old)
			return Service(name, types.UID("uid-"+name), 80)
		})
	}
	if w.Addresses != nil {
		for _, unsaid := range []bool{false, true} {
			w.hidesReads(t, unsaid, func(name string) *corev1.Service {
				return floating("floating-"+name, corev1.IPv4Protocol, corev1.IPv6Protocol)
			})
		}
	}
}

// hidesReads is for Services of which the status says what they have or, unsaid, does not
// say so yet.
func (w *World) hidesReads(t *testing.T, unsaid bool, service func(name string) *corev1.Service) {
	for n, reads := 0, 1; n/2 < reads && (n < 4 || !w.Slow); n++ {
		after, asks := n/2, n%2 == 0 // asks whether there is anything, as the service controller does
		svc := service(fmt.Sprintf("web-%d", n))
		w.Serve(t, svc, w.Nodes(2))
		before := len(w.everything())
		w.Restart()
		w.Hide(after)
		w.Serve(t, svc, w.Nodes(2))
		w.Hide(-1)
		if all := w.everything(); len(all) != before {
			t.Fatalf("%s, when read %d has shown nothing: there are %v", svc.Name, after+1, all)
		}
		if unsaid {
			svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		}
		w.Restart()
		w.Hide(after)
		calls, _ := w.count(func() {
			_, err := Until(t, func() (any, error) {
				if asks {
					if _, exists, err := w.Exists(t.Context(), svc); err != nil || !exists {
						return nil, err
					}
				}
				return nil, w.Delete(t.Context(), svc)
			})
			if err != nil {
				t.Errorf("%s, when read %d has shown nothing: %v", svc.Name, after+1, err)
			}
		})
		w.Hide(-1)
		w.Remove(svc)
		if all := w.everything(); len(all) > 0 {
			t.Fatalf("%s, when read %d of %d has shown nothing: there are %v", svc.Name, after+1, calls, all)
		}
		reads = max(reads, calls)
	}
}

// everything is what there is, of any kind.
func (w *World) everything() []cloud.Found {
	all := w.All()
	if w.Addresses != nil {
		for _, a := range w.Addresses() {
			all = append(all, a.Found)
		}
	}
	return all
}

func (w *World) repairs(t *testing.T) {
	svc := Service("web", "uid-web-1", 80, 443)
	w.Serve(t, svc, w.Nodes(2))
	drift := func() {
		time.Sleep(11 * time.Second) // what was listed is old by then
		if _, err := Until(t, func() (any, error) { return w.Ensure(cloud.WithLane(t.Context(), cloud.Drifting), svc, w.Nodes(2)) }); err != nil {
			t.Error(err)
		}
	}
	w.Poke(w.one(t, svc).ID)
	if _, writes := w.count(drift); writes == 0 || w.Heard(cloud.ReasonDriftRepaired) != 1 {
		t.Errorf("%d writes to repair it, Events %v", writes, w.Events)
	}
	if _, writes := w.count(drift); writes != 0 {
		t.Errorf("%d writes when it is repaired", writes)
	}
	w.Drop(w.one(t, svc).ID)
	drift()
	w.one(t, svc)
}

func (w *World) refusesTheDying(t *testing.T) {
	gone := Service("web", "uid-web-1", 80) // an old copy of one
	another := Service("web", "uid-web-2", 80)
	w.Put(another)
	for _, svc := range []*corev1.Service{gone, Service("never", "uid-never", 80)} {
		if _, err := w.Ensure(t.Context(), svc, w.Nodes(2)); !cloud.Is(err, cloud.Terminal) || len(w.All()) != 0 {
			t.Errorf("of a Service that is gone: Ensure() = %v, and there are %v", err, w.All())
		}
	}
	svc := Service("web", "uid-web-1", 80)
	now := metav1.Now()
	svc.DeletionTimestamp = &now
	if _, err := w.Ensure(t.Context(), svc, w.Nodes(2)); !cloud.Is(err, cloud.Terminal) || len(w.All()) != 0 {
		t.Errorf("Ensure() = %v, and there are %v", err, w.All())
	}
}

func (w *World) updateMakesNothing(t *testing.T) {
	svc := Service("web", "uid-web-1", 80)
	if err := w.Update(t.Context(), svc, w.Nodes(2)); !cloud.Is(err, cloud.NotFound) || len(w.All()) != 0 {
		t.Errorf("Update() = %v, and there are %v", err, w.All())
	}
}

func (w *World) dryRun(t *testing.T) {
	w.Engine.Config.DryRun = true
	svc := Service("web", "uid-web-1", 80)
	_, writes := w.count(func() {
		for range 3 {
			if _, err := w.Ensure(t.Context(), svc, w.Nodes(2)); !errors.Is(err, cloud.ErrDryRun) {
				t.Errorf("Ensure() = %v", err)
			}
		}
	})
	if writes != 0 || w.Heard(cloud.ReasonDryRun) != 1 {
		t.Errorf("%d writes, Events %v", writes, w.Events)
	}
}
