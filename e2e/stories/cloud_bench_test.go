package stories

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/herald-lb/herald/e2e/lab"
)

// BenchmarkFloatingIPs measures from the death of a node until all of its floating IPs,
// half of 40, are routed to the other, and counts the calls that it takes.
func BenchmarkFloatingIPs(b *testing.B) {
	const many = 40
	l := lab.Start(b, lab.Options{Nodes: 2})
	v := newVendor(b, l)
	f := newFabric(b, l, v)
	l.Cloud(v.config + "classOnly: true\n").Start()
	onePodEach(l, "web")
	var addrs []netip.Addr
	for i := range many {
		l.Apply(service{name: fmt.Sprintf("web-%d", i), app: "web", more: "loadBalancerClass: herald-lb.io/hetzner",
			meta: "annotations: {herald-lb.io/serve-with: floating-ip}"}.String())
	}
	for i := range many {
		addrs = append(addrs, l.WaitAddress(fmt.Sprintf("web-%d", i)))
	}
	at := func(nodes ...string) func() error {
		return func() error {
			for _, a := range addrs {
				if n := f.node(a); n == "" || len(nodes) > 0 && n != nodes[0] {
					return fmt.Errorf("%s is at %q", a, n)
				}
			}
			return nil
		}
	}
	l.Eventually("all are routed", at())
	for b.Loop() {
		v.quiet(l)
		moving := 0
		for _, a := range addrs {
			if f.node(a) == "n1" {
				moving++
			}
		}
		began, calls := time.Now(), len(v.Journal())
		l.Node(1).Kill()
		l.Within(time.Minute, "all are at the other node", at("n2"))
		took := time.Since(began)
		v.quiet(l)
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(float64(moving), "moved")
		b.ReportMetric(float64(len(v.Journal())-calls), "calls")
		b.ReportMetric(0, "ns/op") // says nothing
		l.Node(1).StartSpeaker()
		l.Within(time.Minute, "some are back", func() error {
			if at("n2")() == nil {
				return fmt.Errorf("all are at n2")
			}
			return nil
		})
	}
}
