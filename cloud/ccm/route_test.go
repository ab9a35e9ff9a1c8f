package ccm

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
	"github.com/herald-lb/herald/speaker"
)

var (
	four = netip.MustParseAddr("203.0.113.7")
	six  = netip.MustParseAddr("2001:db8::7")
)

func TestRouted(t *testing.T) {
	svc := cloudtest.Service("web", "uid-web", 80)
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: four.String()}, {IP: six.String()}}
	nodes := map[string]string{"i-1": "n1", "i-2": "n2"}
	both := speaker.Holding{Node: "n1", Able: []string{"n1", "n2"}}
	at := func(a, b string) map[netip.Addr]cloud.Instance {
		return map[netip.Addr]cloud.Instance{four: {ID: a}, six: {ID: b}}
	}
	for name, c := range map[string]struct {
		at      map[netip.Addr]cloud.Instance
		holders map[netip.Addr]speaker.Holding
		want    string
	}{
		"where they should be":         {at("i-1", "i-1"), map[netip.Addr]speaker.Holding{four: both, six: both}, "True Routed 203.0.113.7 is routed to node n1; 2001:db8::7 is routed to node n1"},
		"where they could be":          {at("i-1", "i-2"), map[netip.Addr]speaker.Holding{four: both, six: both}, "True Routed 203.0.113.7 is routed to node n1; 2001:db8::7 is routed to node n2"},
		"one is nowhere yet":           {at("i-1", ""), map[netip.Addr]speaker.Holding{four: both, six: both}, "False Pending 203.0.113.7 is routed to node n1; 2001:db8::7 is on its way to node n1"},
		"one is where nobody serves":   {at("i-1", "i-3"), map[netip.Addr]speaker.Holding{four: both, six: both}, "False Pending 203.0.113.7 is routed to node n1; 2001:db8::7 is on its way to node n1"},
		"no node can serve one":        {at("i-1", ""), map[netip.Addr]speaker.Holding{four: both}, "False NoNode 203.0.113.7 is routed to node n1; 2001:db8::7: no node can serve it"},
		"no node, and one on its way":  {at("", ""), map[netip.Addr]speaker.Holding{six: both}, "False NoNode 203.0.113.7: no node can serve it"},
		"nothing stands in the status": {map[netip.Addr]cloud.Instance{}, nil, "unknown"},
		"one is not known":             {map[netip.Addr]cloud.Instance{four: {ID: "i-1"}}, nil, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := svc.DeepCopy()
			if len(c.at) == 0 {
				svc.Status.LoadBalancer.Ingress = nil
			}
			cond, known := routed(svc, c.at, nodes, c.holders)
			got := "unknown"
			if known {
				got = string(cond.Status) + " " + cond.Reason + " " + cond.Message
			}
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("routed() = %q, want %q", got, c.want)
			}
		})
	}
}

// An address goes to a node that could serve it better once that has been so for a while;
// whoever else comes meanwhile begins anew.
func TestPlacementsSettle(t *testing.T) {
	r := &router{machines: map[string]cloud.Target{"n1": {Node: "n1", Instance: cloud.Instance{ID: "i-1"}}, "n2": {Node: "n2", Instance: cloud.Instance{ID: "i-2"}}}}
	start := time.Now()
	for _, step := range []struct {
		at      time.Duration
		node    string
		steady  bool
		settles time.Duration
	}{
		{0, "n1", false, steady}, {4 * time.Second, "n1", false, steady - 4*time.Second}, {steady, "n1", true, 0},
		{steady + time.Second, "n2", false, steady}, {steady + 2*time.Second, "n1", false, steady}, {2*steady + 2*time.Second, "n1", true, 0},
	} {
		want, settles := r.placements(map[netip.Addr]speaker.Holding{four: {Node: step.node, Able: []string{"n1", "n2"}}}, start.Add(step.at))
		p := want[four]
		if p.Steady != step.steady || settles != step.settles || p.To.Node != step.node || !p.Able["i-1"] || !p.Able["i-2"] {
			t.Errorf("after %s: %+v, settles in %s; want %+v", step.at, p, settles, step)
		}
	}
	if _, settles := r.placements(nil, start); settles != 0 || len(r.chosen) != 0 {
		t.Errorf("nothing is wanted: %v, in %s", r.chosen, settles)
	}
}
