package hetzner

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hetznercloud/hcloud-go/v2/hcloud"
	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/internal/cloudsim/chaos"
	sim "github.com/herald-lb/herald/internal/cloudsim/hetzner"
)

// Whatever people do by hand and whichever calls go wrong: at the end there is what
// was asked for, once, and what is not ours is as it was.
func TestSoak(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	w := newWorld(t, sim.Options{Latency: 300 * time.Millisecond})
	theirs := w.spec([]int32{80, 443}, 0, 1)
	theirs.Owner = cloud.Owner{Cluster: "c2", UID: owner.UID, Namespace: "shop", Name: "web"}
	if err := w.pass(theirs); err != nil {
		t.Fatal(err)
	}
	before := w.LoadBalancers()[0]
	for round := range 25 {
		s := w.randomSpec(rnd)
		if found := w.find(); len(found) == 1 {
			w.meddle(rnd, found[0])
		}
		if rnd.IntN(2) == 0 {
			w.breakAt(1+rnd.IntN(6), []chaos.When{chaos.Before, chaos.After}[rnd.IntN(2)])
		}
		w.repeat(func() error { return w.pass(s) })
		w.chaos.Calm()
		w.repeat(func() error { return w.pass(s) })
		if n := w.planned(s); n != 0 {
			t.Fatalf("round %d: %d steps are left for %+v", round, n, s)
		}
		all := w.LoadBalancers()
		if len(all) != 2 || len(all[1].Services) != len(s.Listeners) || len(all[1].Targets) != len(s.Targets) {
			t.Fatalf("round %d: there are %+v, want %+v", round, all[1:], s)
		}
	}
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]schema.LoadBalancer{before}, w.LoadBalancers()); diff != "" {
		t.Errorf("what is theirs, - before + after:\n%s", diff)
	}
}

func (w *world) randomSpec(rnd *rand.Rand) cloud.LBSpec {
	var ports []int32
	for _, p := range rnd.Perm(6)[:1+rnd.IntN(4)] {
		ports = append(ports, int32(80+p))
	}
	s := w.spec(ports, rnd.Perm(5)[:1+rnd.IntN(4)]...)
	s.Algorithm = []string{"RoundRobin", "LeastConnections"}[rnd.IntN(2)]
	s.Type = []string{"lb11", "lb21"}[rnd.IntN(2)]
	s.Listeners[0].NodePort = int32(30000 + rnd.IntN(3))
	s.Network, s.UsePrivateIP, s.AllowRecreate = "inside", rnd.IntN(2) == 0, true
	return s
}

// meddle does what people do in the console.
func (w *world) meddle(rnd *rand.Rand, f cloud.Found) {
	id := f.Raw.(*hcloud.LoadBalancer).ID
	switch rnd.IntN(6) {
	case 0:
		w.Remove(sim.LoadBalancer, id)
	case 1:
		w.EditLoadBalancer(id, func(lb *schema.LoadBalancer) { lb.Services = lb.Services[:len(lb.Services)-1] })
	case 2:
		w.EditLoadBalancer(id, func(lb *schema.LoadBalancer) { lb.Targets = lb.Targets[:0] })
	case 3:
		w.EditLoadBalancer(id, func(lb *schema.LoadBalancer) { lb.Services[0].Proxyprotocol = true })
	case 4:
		w.EditLoadBalancer(id, func(lb *schema.LoadBalancer) { delete(lb.Labels, labelPorts); lb.Services = lb.Services[:0] })
	}
}
