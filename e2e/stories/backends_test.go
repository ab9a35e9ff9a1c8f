package stories

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// Herald leads to node ports and ClusterIPs, from where kube-proxy leads on. It
// answers for health until there is a kube-proxy that does.
func TestHeraldLeadsToWhatKubeProxyServes(t *testing.T) {
	l := lab.Start(t, lab.Options{Nodes: 2})
	pods := onePodEach(l, "web")
	for i, backends := range []string{"NodePort", "ClusterIP", "Pod"} {
		l.Apply(poolSpec(strings.ToLower(backends), fmt.Sprintf("addresses: [192.168.50.%d/31], backends: %s", 200+2*i, backends)))
	}
	from := func(pool string) string { return "annotations: {herald-lb.io/pool: " + pool + "}" }
	const local = "externalTrafficPolicy: Local"
	l.Apply(objects(
		service{name: "ports", app: "web", meta: from("nodeport")},
		service{name: "local", app: "web", meta: from("nodeport"), more: local},
		service{name: "cluster", app: "web", meta: from("clusterip")},
		service{name: "health", app: "one", meta: from("pod"), more: local},
	))
	l.Pod(2, "one", lab.PodSpec{Labels: lab.App("one")})
	ports, cluster := l.WaitAddress("ports"), l.WaitAddress("cluster")
	health := int(l.Service("health").Spec.HealthCheckNodePort)
	l.WaitAddress("health")
	healthy(t, l, health)
	answering := func(n *lab.Node) int {
		return n.Speaker.Said(fmt.Sprintf("answering on health check node port\" node=%s port=%d", n.Name, health))
	}
	if body, err := l.Client.GetWithin(url(ports), patience); err == nil {
		t.Errorf("node ports are kube-proxy's, and without one they answer: %q", body)
	}
	for _, n := range l.Nodes() {
		l.Eventually("the speaker of "+n.Name+" says so", func() error {
			if answering(n) != 1 {
				return fmt.Errorf("it does not say that it answers on port %d", health)
			}
			return nil
		})
		n.StartKubeProxy("nftables")
	}

	nodes := []string{"192.168.50.11", "192.168.50.12", "10.244.1.1", "10.244.2.1"}
	addrs := []netip.Addr{ports}
	if l.Node(1).DataPath() == "ipvs" { // else what this node's kube-proxy serves is out of reach
		addrs = append(addrs, cluster)
		addr := l.WaitAddress("local")
		waitAnswer(t, l, l.Far, url(addr))
		sees(t, l.Far, url(addr), "198.51.100.7")
	}
	for _, addr := range addrs {
		waitAnswer(t, l, l.Client, url(addr))
		for _, from := range []*lab.Host{l.Client, l.Far, l.Node(1).Host} {
			askAll(t, from, url(addr), pods...)
			sees(t, from, url(addr), nodes...)
		}
	}

	for _, n := range l.Nodes() {
		l.Eventually("the speaker of "+n.Name+" has let go", func() error {
			if n.Speaker.Said(fmt.Sprintf("letting go of health check node port\" node=%s port=%d", n.Name, health)) == 0 {
				return fmt.Errorf("it has port %d still", health)
			}
			return nil
		})
	}
	// kube-proxy has found the ports taken, and tries again when it next has
	// something to do; by itself after half a minute.
	l.Apply(service{name: "more", kind: "ClusterIP"}.String())
	healthy(t, l, health)
	l.Node(1).StopKubeProxy()
	l.Eventually("the speaker answers in its place", func() error {
		if answering(l.Node(1)) != 2 {
			return fmt.Errorf("it does not have port %d", health)
		}
		return nil
	})
	healthy(t, l, health)
}

// healthy waits until node 2 of 2, and not the first, says that it has an
// endpoint.
func healthy(t *testing.T, l *lab.Lab, port int) {
	t.Helper()
	for i, want := range []string{"503", `"localEndpoints":1`} {
		at := fmt.Sprintf("http://192.168.50.%d:%d", 11+i, port)
		l.Eventually(at+" says "+want, func() error {
			body, err := l.Client.Get(at)
			said := strings.NewReplacer(" ", "", "\t", "", "\n", "").Replace(fmt.Sprint(body, err))
			if !strings.Contains(said, want) {
				return fmt.Errorf("it says %q, %v", body, err)
			}
			return nil
		})
	}
}
