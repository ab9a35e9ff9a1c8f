package stories

import (
	"fmt"
	"testing"

	"github.com/herald-lb/herald/e2e/lab"
)

// The API promises: "traffic sent to an External IP or LoadBalancer IP from
// within the cluster will always get "Cluster" semantics"
// (Service.spec.externalTrafficPolicy).
func TestTrafficPolicyLocalRefusesNobodyInTheCluster(t *testing.T) {
	l := lab.Start(t, lab.Options{})
	l.Pod(2, "web", lab.PodSpec{Labels: lab.App("web")})
	l.Apply(pool("lan", addrs))
	l.Apply(service{name: "web", more: "externalTrafficPolicy: Local"}.String())
	addr := l.WaitAddress("web")
	waitAnswer(t, l, l.Client, url(addr))
	for i, n := range l.Nodes() {
		pod := l.Pod(i+1, fmt.Sprintf("asker-%d", i+1), lab.PodSpec{})
		for name, from := range map[string]*lab.Host{n.Name: n.Host, pod.Name: pod.Host()} {
			if body, err := from.Get(url(addr)); err != nil || lab.PodOf(body) != "web" {
				t.Errorf("%s asks %s: %q, %v", name, addr, body, err)
			}
		}
	}
}
