package cloudtest

import (
	"errors"
	"net/netip"
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

// none is that there is neither a load balancer nor an address.
func (w *World) none(t *testing.T) {
	t.Helper()
	if lbs, addrs := w.All(), w.Addresses(); len(lbs)+len(addrs) > 0 {
		t.Errorf("there are %v and %v", lbs, addrs)
	}
}

func (w *World) reservesAndReleases(t *testing.T) {
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
