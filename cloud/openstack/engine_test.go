package openstack

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
)

// What the engine promises it keeps with this driver, on the real servers.
func TestEngine(t *testing.T) {
	cloudtest.Promises(t, func(t *testing.T, promise func(*testing.T, *cloudtest.World)) {
		newWorld(t).bubble(t, promise)
	})
}

// bubble runs a test in time of its own, with an engine for the world.
func (w *world) bubble(t *testing.T, f func(*testing.T, *cloudtest.World)) {
	t.Helper()
	w.line = newOutside(t)
	w.http, w.Client = &http.Client{Transport: w.line}, &http.Client{Transport: w.line}
	synctest.Test(t, func(t *testing.T) { f(t, cloudtest.NewWorld(w.lab(t))) })
}

// lab is the world as the engine's promises want it. More than one call for an edit
// are those of ADR 22: Octavia has listeners, pools, members and monitors apart.
func (w *world) lab(t *testing.T) *cloudtest.Lab {
	return &cloudtest.Lab{
		Open: func() cloud.Driver {
			w.restart(t)
			return w.Driver
		},
		Edits: map[string]int{
			"a port more":           4, // pool, members, monitor, listener
			"externalTrafficPolicy": 6, // of two ports each: a monitor goes, one comes, members say whom it asks
		},
		Slow:  true,
		Calls: w.count,
		All:   func() []cloud.Found { return w.all(t) },
		Fault: func(f func(string, bool) error) { w.line.fault = f },
		Hide: func(after int) {
			if w.Chaos.Calm(); after >= 0 {
				w.Chaos.Add(chaos.Rule{Method: http.MethodGet, Skip: after, Times: 1, Do: chaos.EmptyList})
			}
		},
		Add:  func(name string) string { return w.addByHand(t, name) },
		Drop: func(id string) { w.drop(t, id) },
		Poke: func(id string) { w.poke(t, id) },
		Node: func(i int) *corev1.Node { return cloudtest.Node(fmt.Sprint("n", i), fmt.Sprint("10.0.0.", 100+i)) },
	}
}

// count is how many calls the driver has made, without those to log in.
func (w *world) count() (reads, writes int) {
	for _, c := range w.Calls() {
		switch {
		case c.Changes():
			writes++
		case c.Service != "keystone":
			reads++
		}
	}
	return reads, writes
}

// all is what there is in the project, as its servers show it.
func (w *world) all(t *testing.T) (all []cloud.Found) {
	t.Helper()
	ips := w.floatingIPs(t)
	for _, lb := range w.balancers(t) {
		m := readTags(texts(lb["tags"]))
		f := cloud.Found{Kind: cloud.LoadBalancer, ID: lb["id"].(string), Name: lb["name"].(string), Owner: m.Owner, Adopted: m.Adopted, Retained: m.Retained, Raw: fmt.Sprint(lb)}
		ips = slices.DeleteFunc(ips, func(ip map[string]any) bool {
			at := ip["port_id"] == lb["vip_port_id"]
			if at {
				f.Addrs = append(f.Addrs, netip.MustParseAddr(ip["floating_ip_address"].(string)))
				f.Raw = fmt.Sprint(f.Raw, ip)
			}
			return at
		})
		all = append(all, f)
	}
	for _, ip := range ips {
		m := readDescription(ip["description"].(string))
		all = append(all, cloud.Found{Kind: cloud.Address, ID: ip["id"].(string), Owner: m.Owner, Retained: m.Retained, Raw: fmt.Sprint(ip)})
	}
	slices.SortFunc(all, func(a, b cloud.Found) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// texts is a list of JSON's.
func texts(list any) (all []string) {
	for _, v := range list.([]any) {
		all = append(all, v.(string))
	}
	return all
}

// addByHand makes a load balancer as people do, and waits for it.
func (w *world) addByHand(t *testing.T, name string) string {
	t.Helper()
	made := w.Octavia(t, "POST", "/loadbalancers", map[string]any{"loadbalancer": map[string]any{"name": name, "vip_subnet_id": w.Subnet}})["loadbalancer"].(map[string]any)
	id := made["id"].(string)
	w.untilIdle(t, id)
	return id
}

// drop deletes a load balancer by hand, or a floating IP.
func (w *world) drop(t *testing.T, id string) {
	t.Helper()
	if slices.ContainsFunc(w.floatingIPs(t), func(ip map[string]any) bool { return ip["id"] == id }) {
		w.Neutron(t, "DELETE", "/floatingips/"+id, nil)
		return
	}
	w.Octavia(t, "DELETE", "/loadbalancers/"+id+"?cascade=true", nil)
	w.untilIdle(t, id)
}

// poke takes the members of a load balancer's pools away.
func (w *world) poke(t *testing.T, id string) {
	t.Helper()
	for _, p := range w.Octavia(t, "GET", "/pools?loadbalancer_id="+id, nil)["pools"].([]any) {
		w.Octavia(t, "PUT", "/pools/"+p.(map[string]any)["id"].(string)+"/members", map[string]any{"members": []any{}})
		w.untilIdle(t, id)
	}
}

// untilIdle waits until nothing is being done to a load balancer, or it is gone.
func (w *world) untilIdle(t *testing.T, id string) {
	t.Helper()
	for range 100 {
		if !slices.ContainsFunc(w.balancers(t), func(lb map[string]any) bool {
			return lb["id"] == id && strings.HasPrefix(lb["provisioning_status"].(string), "PENDING_")
		}) {
			return
		}
	}
	t.Fatalf("load balancer %s: it is never done", id)
}
