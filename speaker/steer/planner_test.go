package steer

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// A town is a cluster in which anything may happen to Services and nodes.
type town struct {
	rnd      *rand.Rand
	snapshot snapshot.Snapshot
	revision uint64
}

// happen changes one thing, as a new snapshot: nothing of the old is edited.
func (w *town) happen() {
	s := &w.snapshot
	switch n := w.rnd.IntN(12); {
	case n == 0:
		s.Speakers = slices.Clone(s.Speakers)
		if len(s.Speakers) > 1 && w.rnd.IntN(2) == 0 {
			i := w.rnd.IntN(len(s.Speakers))
			gone := s.Speakers[i]
			gone.Dead, gone.Stale = w.rnd.IntN(2) == 0, w.rnd.IntN(2) == 0
			s.Lost, s.Speakers = append(slices.Clone(s.Lost), gone), slices.Delete(s.Speakers, i, i+1)
		} else {
			s.Speakers, s.Lost = three().Speakers, nil
		}
	case n == 1:
		s.Config = lan(func(p *config.Pool) {
			p.KeepClientIP = w.rnd.IntN(3) > 0
			p.Scheduler = []string{"", "", "lc"}[w.rnd.IntN(3)]
		})
	case n < 4 && len(s.Services) > 0:
		i := w.rnd.IntN(len(s.Services))
		s.Services = slices.Delete(slices.Clone(s.Services), i, i+1)
	default:
		w.put(w.service())
	}
}

func (w *town) put(svc snapshot.Service) {
	w.revision++
	svc.Revision = w.revision
	s := &w.snapshot
	s.Services = slices.Clone(s.Services)
	i, there := slices.BinarySearchFunc(s.Services, svc.Key, func(s snapshot.Service, key string) int { return strings.Compare(s.Key, key) })
	if there {
		s.Services[i] = svc
		return
	}
	s.Services = slices.Insert(s.Services, i, svc)
}

// service draws from so few names, addresses and ports that they often meet.
func (w *town) service() snapshot.Service {
	one := svc(fmt.Sprintf("ns/%c", 'a'+w.rnd.IntN(6)), func(s *snapshot.Service) {
		s.Created = at(int64(w.rnd.IntN(4)))
		s.Ingress = []snapshot.Ingress{{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(w.rnd.IntN(3))})}}
		s.Ports = s.Ports[:w.rnd.IntN(2)]
		for range 1 + w.rnd.IntN(2) {
			s.Ports = append(s.Ports, snapshot.Port{Name: "web", Proto: snapshot.TCP, Number: uint16(80 + w.rnd.IntN(3)), Node: uint16(w.rnd.IntN(2) * 30080)})
		}
		s.Local, s.Served = w.rnd.IntN(4) == 0, w.rnd.IntN(6) > 0
		s.Proxied = w.rnd.IntN(4) == 0
		s.ClusterIPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(w.rnd.IntN(3))})}
	})
	for i := range w.rnd.IntN(4) {
		node := 1 + w.rnd.IntN(3)
		ep := ready(fmt.Sprintf("10.244.%d.%d", node, 10+i), fmt.Sprintf("n%d", node))
		ep.Ready = w.rnd.IntN(3) > 0
		ep.Draining = !ep.Ready && w.rnd.IntN(2) == 0
		one.Endpoints = append(one.Endpoints, ep)
	}
	return one
}

// Whatever happens, a Planner that has seen it all comes to the plan of one that
// sees only the end, and touches every row that differs from its last plan; and
// a kernel that is kept in step by what was touched has what is wanted.
func TestAPlannerPlansAsIfItSawEverythingForTheFirstTime(t *testing.T) {
	for seed := range uint64(15) {
		w := &town{rnd: rand.New(rand.NewPCG(seed, 1)), snapshot: three()}
		f := NewFake()
		sync := &Syncer{Kernel: f, Audit: time.Hour, Log: slog.New(slog.DiscardHandler)}
		var planner Planner
		now := int64(0)
		for round := range 60 {
			if w.rnd.IntN(4) == 0 {
				now += 3600 // for an audit, which finds everything as it was left
			}
			for range w.rnd.IntN(3) {
				w.happen()
			}
			got, touched := planner.Plan(w.snapshot, onN1)
			want := Plan(w.snapshot, onN1)
			if diff := cmp.Diff(listing(want), listing(got)); diff != "" {
				t.Fatalf("seed %d, round %d: (-first sight +step by step):\n%s", seed, round, diff)
			}
			f.Fail = half(w.rnd)
			if w.rnd.IntN(8) == 0 {
				f.Broken = errors.New("no such namespace")
			}
			_, joined := sync.Join(t.Context(), at(now), got, touched)
			left := sync.Leave(t.Context())
			f.Fail, f.Broken = nil, nil
			if joined != nil || left != nil {
				again, touched := planner.Plan(w.snapshot, onN1)
				if _, err := sync.Join(t.Context(), at(now), again, touched); err != nil {
					t.Fatalf("seed %d, round %d: %v", seed, round, err)
				}
				if err := sync.Leave(t.Context()); err != nil {
					t.Fatalf("seed %d, round %d: %v", seed, round, err)
				}
			}
			if diff := cmp.Diff(listing(want), listing(f.rows)); diff != "" {
				t.Fatalf("seed %d, round %d: the kernel differs (-want +got):\n%s", seed, round, diff)
			}
			if sync.Repaired > 0 {
				t.Fatalf("seed %d, round %d: %d rows count as changed by somebody else", seed, round, sync.Repaired)
			}
			if ready := standing(f.rows, want); cmp.Diff(ready, sync.stand, byAddr) != "" {
				t.Fatalf("seed %d, round %d: may be announced %v, want %v", seed, round, sync.stand, ready)
			}
		}
	}
}

var byAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// half fails some changes of some rounds.
func half(rnd *rand.Rand) func(Change) error {
	if rnd.IntN(4) > 0 {
		return nil
	}
	return func(Change) error {
		if rnd.IntN(2) == 0 {
			return fmt.Errorf("no buffer space available")
		}
		return nil
	}
}

func TestAPlannerLooksAnewOnlyAtWhatHasChanged(t *testing.T) {
	w := &town{rnd: rand.New(rand.NewPCG(1, 1)), snapshot: three()}
	for i := range 20 {
		one := svc(fmt.Sprintf("ns/%02d", i), nil, ready("10.244.1.10", "n1"))
		one.Ingress[0].Addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		w.put(one)
	}
	var planner Planner
	if _, touched := planner.Plan(w.snapshot, onN1); touched != nil {
		t.Errorf("the first plan has touched %v, want all rows", touched)
	}
	if _, touched := planner.Plan(w.snapshot, onN1); touched == nil || len(touched.Servers)+len(touched.Dests)+len(touched.Addrs) > 0 {
		t.Errorf("a plan of the same snapshot has touched %v, want nothing", touched)
	}
	changed := w.snapshot.Services[7]
	changed.Endpoints = []snapshot.Endpoint{ready("10.244.1.11", "n1")}
	w.put(changed)
	_, touched := planner.Plan(w.snapshot, onN1)
	for v := range touched.Servers {
		if v.Addr.Addr() != ip("192.0.2.7") {
			t.Errorf("a change of 192.0.2.7 has touched %s", v)
		}
	}
	if len(touched.Servers) != 3 || len(touched.Addrs) != 1 {
		t.Errorf("a change of one Service has touched %v", touched)
	}
	w.snapshot.Nodes = slices.Clone(w.snapshot.Nodes)
	if _, touched := planner.Plan(w.snapshot, onN1); touched != nil {
		t.Error("other nodes have touched only some rows")
	}
}

// Every node that can send by tunnel has the same front, whoever it is.
func TestEveryNodeHasTheSameFront(t *testing.T) {
	for seed := range uint64(40) {
		w := &town{rnd: rand.New(rand.NewPCG(seed, 2)), snapshot: three()}
		for range 30 {
			w.happen()
		}
		front := func(node string, end netip.Addr) []string {
			return slices.DeleteFunc(listing(Plan(w.snapshot, Self{Node: node, Tiers: true, Tunnels: []netip.Addr{end}})), func(row string) bool {
				return !strings.HasPrefix(row, "add front ")
			})
		}
		// A node takes its own speaker for alive, whatever others think of it.
		s := &w.snapshot
		s.Speakers, s.Lost = append(slices.Clone(s.Speakers), s.Lost...), nil
		want := front("n1", ip("192.168.0.11"))
		for _, n := range []string{"2", "3"} {
			if diff := cmp.Diff(want, front("n"+n, ip("192.168.0.1"+n))); diff != "" {
				t.Fatalf("seed %d: (-n1 +n%s):\n%s", seed, n, diff)
			}
		}
	}
}

// An audit that fails leaves the kernel as it was, and the next one counts
// nothing of what the plan has edited since.
func TestAfterAnAuditThatFailsNothingCountsAsRepaired(t *testing.T) {
	w := &town{rnd: rand.New(rand.NewPCG(1, 3)), snapshot: three()}
	one := svc("ns/a", nil, ready("10.244.1.10", "n1"))
	w.put(one)
	f := NewFake()
	sync := &Syncer{Kernel: f, Audit: time.Minute, Log: slog.New(slog.DiscardHandler)}
	var planner Planner
	pass := func(now int64) error {
		want, touched := planner.Plan(w.snapshot, onN1)
		_, err := sync.Join(t.Context(), at(now), want, touched)
		return errors.Join(err, sync.Leave(t.Context()))
	}
	if err := pass(0); err != nil {
		t.Fatal(err)
	}
	f.Broken = errors.New("no such namespace")
	if err := pass(100); err == nil {
		t.Fatal("the audit does not fail")
	}
	f.Broken = nil
	one.Endpoints = append(one.Endpoints, ready("10.244.1.11", "n1"))
	w.put(one)
	if err := pass(101); err != nil || sync.Repaired > 0 {
		t.Errorf("%d rows count as changed by somebody else, %v", sync.Repaired, err)
	}
}
