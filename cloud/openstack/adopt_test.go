package openstack

import (
	"net/http"
	"strings"
	"testing"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

func TestMaker(t *testing.T) {
	m := makerOf(settings{}, owner("web"))
	long := makerOf(settings{OtherCluster: strings.Repeat("x", 300)}, owner("web"))
	for name, want := range map[string]bool{
		"listener_0_kube_service_kubernetes_shop_web":    true,
		"pool_12_kube_service_kubernetes_shop_web":       true,
		"pool_12_kube_service_kubernetes_shop_web2":      false,
		"pool_x_kube_service_kubernetes_shop_web":        false,
		"pool__kube_service_kubernetes_shop_web":         false,
		"monitor_0_kube_service_kubernetes_shop_web":     false,
		"listener_0_kube_service_other_shop_web":         false,
		"kube_service_kubernetes_shop_web":               false,
		"herald-tcp-80":                                  false,
		cut("pool_0_kube_service_" + long.cluster + "_"): false,
	} {
		if got := m.inside(name); got != want {
			t.Errorf("inside(%q) = %t", name, got)
		}
	}
	if !long.inside(cut("pool_0_" + long.balancer())) {
		t.Error("names are cut")
	}
	for _, tt := range []struct {
		b    balancer
		want bool
	}{
		{balancer{Name: m.balancer(), Tags: []string{m.balancer(), "team=web"}}, true},
		{balancer{Name: m.balancer()}, true}, // from before there were tags
		{balancer{Name: m.balancer(), Tags: []string{m.balancer(), "kube_service_kubernetes_shop_other"}}, false},
		{balancer{Name: "kube_service_other_shop_web", Tags: []string{"kube_service_other_shop_web"}}, false},
	} {
		if got := m.made(&tt.b); got != tt.want {
			t.Errorf("made(%+v) = %t", tt.b, got)
		}
	}
}

// What OpenStack's own controller has made is taken over in place, and is as if it
// had been made here. What it has made for another cluster is left alone.
func TestAdoptFromOpenStack(t *testing.T) {
	w := newWorld(t)
	w.bubble(t, func(t *testing.T, host *cloudtest.World) {
		id, addr := w.byOther(t, "kubernetes")
		w.byOther(t, "another")
		svc := cloudtest.Service("web", "uid-web-1", 80, 443)
		svc.Annotations[cloud.Prefix+"adopt-from"] = occm
		host.Put(svc)
		w.Reset()
		st := host.Serve(t, svc, host.Nodes(2))
		var writes []string
		for _, c := range w.Calls() {
			if c.Changes() {
				writes = append(writes, c.Method+" "+c.Path)
			}
			if c.Changes() && c.Method != http.MethodPut {
				t.Errorf("not in place: %s", c)
			}
		}
		t.Logf("%d changes: %v", len(writes), writes)
		if owned := host.Owned(svc); len(owned) != 1 || owned[0].ID != id || owned[0].Adopted || owned[0].Name != "k8s-11111111-uid-web-1" {
			t.Errorf("has %v, not %s", owned, id)
		}
		if st.Ingress[0].IP != addr {
			t.Errorf("is at %s, was at %s", st.Ingress[0].IP, addr)
		}
		delete(svc.Annotations, cloud.Prefix+"adopt-from")
		host.Restart()
		w.Reset()
		host.Serve(t, svc, host.Nodes(2))
		if _, writes := w.count(); writes != 0 {
			t.Errorf("%d writes when it should be settled: %v", writes, w.Calls())
		}
		host.End(t, svc)
		if all := host.All(); len(all) != 1 || all[0].Name != "kube_service_another_shop_web" || len(all[0].Addrs) != 1 {
			t.Errorf("left: %v", all)
		}
	})
}

// byOther makes a load balancer as OpenStack's own controller does for Service shop/web
// of a cluster, and returns its ID and address.
func (w *world) byOther(t *testing.T, cluster string) (id, addr string) {
	t.Helper()
	type object = map[string]any
	name := "kube_service_" + cluster + "_shop_web"
	listener := func(place string, port int) object {
		return object{"name": "listener_" + place + "_" + name, "protocol": "TCP", "protocol_port": port, "tags": []string{name}, "default_pool": object{
			"name": "pool_" + place + "_" + name, "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN",
			"members":       []object{{"name": "n1", "address": "10.0.0.101", "protocol_port": 30000 + port}, {"name": "n2", "address": "10.0.0.102", "protocol_port": 30000 + port}},
			"healthmonitor": object{"name": "monitor_" + place + "_" + name, "type": "TCP", "delay": 5, "timeout": 3, "max_retries": 1},
		}}
	}
	made := w.Octavia(t, "POST", "/loadbalancers", object{"loadbalancer": object{
		"name": name, "description": "Kubernetes external service shop/web from cluster " + cluster, "vip_subnet_id": w.Subnet, "tags": []string{name},
		"listeners": []object{listener("0", 80), listener("1", 443)},
	}})["loadbalancer"].(object)
	id = made["id"].(string)
	w.untilIdle(t, id)
	ip := w.Neutron(t, "POST", "/floatingips", object{"floatingip": object{"floating_network_id": w.Public, "port_id": made["vip_port_id"],
		"description": "Floating IP for Kubernetes external service shop/web from cluster " + cluster}})["floatingip"].(object)
	return id, ip["floating_ip_address"].(string)
}
