package hetzner

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

var _ cloud.AddressDriver = &Driver{}

func (w *world) reserve(family corev1.IPFamily) cloud.FoundAddress {
	w.t.Helper()
	f, err := w.driver.Reserve(w.t.Context(), cloud.AddressSpec{Owner: owner, Title: "front", Family: family})
	if err != nil {
		w.t.Fatal(w.hear(err))
	}
	return f
}

func (w *world) assign(id string, node int) error {
	w.t.Helper()
	p, err := w.driver.Assign(w.t.Context(), cloud.FoundAddress{Found: cloud.Found{ID: id}}, cloud.Instance{ID: fmt.Sprint(w.nodes[node])})
	if err != nil {
		return w.hear(err)
	}
	return w.wait(p)
}

// at is the place of the node that a floating IP is routed to; -1 for none.
func (w *world) at(id string) int {
	w.t.Helper()
	for _, ip := range w.FloatingIPs() {
		if fmt.Sprint(ip.ID) != id || ip.Server == nil {
			continue
		}
		for i, server := range w.nodes {
			if server == *ip.Server {
				return i
			}
		}
	}
	return -1
}

func TestAddress(t *testing.T) {
	for _, unassignFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("unassignFirst=%v", unassignFirst), func(t *testing.T) {
			w := newWorld(t, sim.Options{UnassignFirst: unassignFirst})
			four, six := w.reserve(corev1.IPv4Protocol), w.reserve(corev1.IPv6Protocol)
			if again := w.reserve(corev1.IPv4Protocol); again.ID != four.ID || len(w.FloatingIPs()) != 2 {
				t.Errorf("reserved %s, and then %s", four.ID, again.ID)
			}
			if four.Cost.Milli != 3000 || six.Cost.Milli != 1000 || four.Cost.Currency != "EUR" {
				t.Errorf("they cost %s and %s", four.Cost, six.Cost)
			}
			if !four.Addrs[0].Is4() || four.Prefix != netip.PrefixFrom(four.Addrs[0], 32) || six.Prefix.Bits() != 64 || !six.Prefix.Contains(six.Addrs[0]) {
				t.Errorf("they are %v of %v and %v of %v", four.Addrs, four.Prefix, six.Addrs, six.Prefix)
			}
			if err := w.assign(four.ID, 0); err != nil || w.at(four.ID) != 0 {
				t.Errorf("it is at node %d: %v", w.at(four.ID), err)
			}
			w.ClearJournal()
			if err := w.assign(four.ID, 1); err != nil || w.at(four.ID) != 1 {
				t.Errorf("moved it is at node %d: %v", w.at(four.ID), err)
			}
			if n := len(w.Writes()); n != map[bool]int{false: 1, true: 3}[unassignFirst] {
				t.Errorf("moving it took %q", calls(w.Journal()))
			}
			if err := w.assign(four.ID, 1); err != nil || w.at(four.ID) != 1 {
				t.Errorf("again it is at node %d: %v", w.at(four.ID), err)
			}
			found, err := w.driver.FindAddresses(t.Context(), owner)
			if err != nil || len(found) != 2 || found[0].Instance.ID != fmt.Sprint(w.nodes[1]) || found[1].Instance.ID != "" || !found[0].Owner.Same(owner) {
				t.Errorf("found %+v (%v)", found, err)
			}
			if all, err := w.driver.ListAddresses(t.Context(), "c1"); err != nil || len(all) != 2 {
				t.Errorf("listed %+v (%v)", all, err)
			}
			for _, f := range found {
				for _, ref := range []string{f.ID, f.Name, f.Addrs[0].String()} {
					if got, err := w.driver.LookupAddress(t.Context(), ref); err != nil || got.ID != f.ID {
						t.Errorf("%s is %+v (%v)", ref, got, err)
					}
				}
				plan := w.driver.PlanRemoval(f.Found, cloud.PolicyDelete)
				for range 2 {
					if err := w.do(plan); err != nil {
						t.Error(err)
					}
				}
				if _, err := w.driver.LookupAddress(t.Context(), f.Addrs[0].String()); !cloud.Is(err, cloud.NotFound) {
					t.Errorf("looking for what is gone: %v", w.hear(err))
				}
			}
			if n := len(w.FloatingIPs()); n != 0 || w.MonthlyRate(sim.FloatingIP) != 0 {
				t.Errorf("%d are left", n)
			}
		})
	}
}

// Whichever write is lost, or its answer, repeating heals it, with one address.
func TestAddressLinesBreak(t *testing.T) {
	for _, unassignFirst := range []bool{false, true} {
		for at := range 8 {
			w := newWorld(t, sim.Options{UnassignFirst: unassignFirst})
			w.breakAt(at/2+1, []chaos.When{chaos.Before, chaos.After}[at%2])
			var f cloud.FoundAddress
			w.repeat(func() (err error) {
				f, err = w.driver.Reserve(t.Context(), cloud.AddressSpec{Owner: owner, Family: corev1.IPv4Protocol})
				return w.hear(err)
			})
			for _, node := range []int{0, 1} {
				w.repeat(func() error { return w.assign(f.ID, node) })
				w.clock.Advance(time.Second)
				if n := w.at(f.ID); n != node {
					t.Errorf("broken at %d: it is at node %d, want %d", at, n, node)
				}
			}
			if n := len(w.FloatingIPs()); n != 1 {
				t.Errorf("broken at %d: there are %d", at, n)
			}
			w.repeat(func() error { return w.do(w.driver.PlanRemoval(f.Found, cloud.PolicyDelete)) })
			if n := len(w.FloatingIPs()); n != 0 {
				t.Errorf("broken at %d: %d are left", at, n)
			}
		}
	}
}

func TestAddressOfOthers(t *testing.T) {
	w := newWorld(t, sim.Options{})
	f := w.reserve(corev1.IPv4Protocol)
	var id int64
	_, _ = fmt.Sscan(f.ID, &id)
	w.EditFloatingIP(id, func(ip *schema.FloatingIP) { ip.Labels = map[string]string{"mine": "yes"} })
	_, err := w.driver.Reserve(t.Context(), cloud.AddressSpec{Owner: owner, Family: corev1.IPv4Protocol})
	if !cloud.Is(w.hear(err), cloud.Conflict) {
		t.Errorf("it says %v", err)
	}
	if _, err := w.driver.Assign(t.Context(), f, cloud.Instance{ID: "hrobot://5"}); !cloud.Is(w.hear(err), cloud.Terminal) {
		t.Errorf("it says %v", err)
	}
	if w.driver.Routable(cloud.Instance{ID: "hrobot://5"}) || !w.driver.Routable(cloud.Instance{ID: fmt.Sprint(w.nodes[0])}) {
		t.Error("addresses are routed to cloud servers, and to nothing else")
	}
	if _, err := w.driver.Assign(t.Context(), cloud.FoundAddress{Found: cloud.Found{ID: "4711"}}, cloud.Instance{ID: fmt.Sprint(w.nodes[0])}); !cloud.Is(w.hear(err), cloud.NotFound) {
		t.Errorf("it says %v", err)
	}
}

// What is removed by plans is unassigned first, and what is released keeps what
// others have written on it.
func TestAddressRemovalByPlan(t *testing.T) {
	w := newWorld(t, sim.Options{})
	f := w.reserve(corev1.IPv4Protocol)
	if err := w.assign(f.ID, 0); err != nil {
		t.Fatal(err)
	}
	var id int64
	_, _ = fmt.Sscan(f.ID, &id)
	w.EditFloatingIP(id, func(ip *schema.FloatingIP) { ip.Labels["team"] = "web" })
	found, err := w.driver.FindAddresses(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.do(w.driver.PlanRemoval(found[0].Found, cloud.PolicyRelease)); err != nil {
		t.Fatal(err)
	}
	if labels := w.FloatingIPs()[0].Labels; len(labels) != 1 || labels["team"] != "web" {
		t.Errorf("released it has labels %v", labels)
	}
	plan := w.driver.PlanRemoval(found[0].Found, cloud.PolicyDelete)
	for range 2 {
		if err := w.do(plan); err != nil {
			t.Error(err)
		}
	}
	if n := len(w.FloatingIPs()); n != 0 {
		t.Errorf("%d are left", n)
	}
}
