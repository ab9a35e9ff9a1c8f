//go:build netns

package mh

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/config"
)

// TestTheKernelMakesTheGoldenChoices holds the golden values to the kernel.
func TestTheKernelMakesTheGoldenChoices(t *testing.T) {
	l := newLab(t)
	for i, tt := range golden {
		t.Run(tt.name, func(t *testing.T) {
			virtual := netip.AddrPortFrom(virtual4, uint16(80+i))
			if tt.dests[0].Addr.Addr().Is6() {
				virtual = netip.AddrPortFrom(virtual6, virtual.Port())
			}
			s := l.serve(t, virtual, unix.IPPROTO_UDP, tt.flags)
			for i, d := range tt.dests {
				s.add(t, d.Addr, d.share())
				s.set(t, i, d.Weight)
			}
			of := func(client netip.AddrPort) flow { return flow{unix.IPPROTO_UDP, client, virtual} }
			var flows []flow
			letters(tt.client, func(client netip.AddrPort) (int, bool) {
				flows = append(flows, of(client))
				return 0, false
			})
			l.send(t, flows)
			conns := l.connections(t)
			got := letters(tt.client, func(client netip.AddrPort) (int, bool) {
				i := slices.IndexFunc(tt.dests, func(d Dest) bool { return d.Addr == conns[of(client)] })
				return i, i >= 0
			})
			if got != tt.want {
				t.Errorf("the kernel chooses %s\nwant              %s", got, tt.want)
			}
		})
	}
}

// TestTheKernelChoosesAlike sends flows to random virtual servers, with and
// without each flag, of both families and protocols, changes their
// destinations, and sends some more.
func TestTheKernelChoosesAlike(t *testing.T) {
	l, r := newLab(t), rand.New(rand.NewPCG(11, 12))
	want := map[flow]netip.AddrPort{} // not valid where no destination takes it
	for i := range 64 {
		virtual, proto := netip.AddrPortFrom(virtual4, uint16(1000+i)), uint16(unix.IPPROTO_TCP)
		if i&1 != 0 {
			virtual = netip.AddrPortFrom(virtual6, virtual.Port())
		}
		if i&2 != 0 {
			proto = unix.IPPROTO_UDP
		}
		s := l.serve(t, virtual, proto, config.SchedulerFlags(i>>2&3))
		for range 3 {
			for range 1 + r.IntN(10) {
				s.change(t, r)
			}
			s.sendSome(t, r, want)
		}
	}
	check(t, want, l.connections(t))
}

// change adds a destination, sets the weight of one or removes one. There are
// 12 addresses, so that one that was removed comes back now and then, with the
// connections it has.
func (s *server) change(t testing.TB, r *rand.Rand) {
	t.Helper()
	addr := pod(r.IntN(12))
	if s.svc.AddressFamily == unix.AF_INET6 {
		addr = pods6(make([]int, 12)...)[r.IntN(12)].Addr
	}
	i := slices.IndexFunc(s.dests, func(d Dest) bool { return d.Addr == addr })
	switch {
	case i < 0:
		if s.count[addr] == 0 && r.IntN(4) == 0 {
			s.limit[addr] = 1 + r.IntN(4)
		}
		s.add(t, addr, r.IntN(6))
	case r.IntN(3) == 0:
		s.remove(t, i)
	case r.IntN(2) == 0:
		s.set(t, i, 0)
	default:
		s.set(t, i, 1+r.IntN(5)*r.IntN(200))
	}
}

// sendSome sends flows that were not sent before and notes in want what each
// should get.
func (s *server) sendSome(t testing.TB, r *rand.Rand, want map[flow]netip.AddrPort) {
	t.Helper()
	addr, _ := netip.AddrFromSlice(s.svc.Address)
	clients := clients4
	if addr.Is6() {
		clients = clients6
	}
	table := build(t, s.dests)
	var flows []flow
	for len(flows) < 20 {
		client := netip.AddrPortFrom(clients[r.IntN(len(clients))], uint16(1024+r.IntN(60000)))
		f := flow{s.svc.Protocol, client, netip.AddrPortFrom(addr, s.svc.Port)}
		if _, sent := want[f]; sent {
			continue
		}
		flows, want[f] = append(flows, f), netip.AddrPort{}
		i, ok := table.Choose(client, s.flags)
		if !ok {
			continue
		}
		d := &s.dests[i]
		want[f] = d.Addr
		if s.count[d.Addr]++; s.full(d.Addr) {
			d.Overloaded = true
			table = build(t, s.dests)
		}
	}
	s.lab.send(t, flows)
}

func check(t testing.TB, want, got map[flow]netip.AddrPort) {
	t.Helper()
	wrong, nowhere := 0, 0
	for f, dest := range want {
		if !dest.IsValid() {
			nowhere++
		}
		if got[f] != dest {
			wrong++
			t.Logf("%v: destination %s, want %s", f, got[f], dest)
		}
	}
	t.Logf("%d flows, %d of them to no destination: %d predictions wrong", len(want), nowhere, wrong)
	if wrong > 0 || len(got) != len(want)-nowhere || nowhere > len(want)/2 {
		t.Errorf("%d of %d predictions are wrong; the kernel has %d connections", wrong, len(want), len(got))
	}
}
