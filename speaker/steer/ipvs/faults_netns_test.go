//go:build netns

package ipvs

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// A faulty socket fails now and then as the kernel's may: it is interrupted, it
// overruns and loses answers, it has no buffer to send from.
type faulty struct {
	wireSocket
	rnd    *rand.Rand
	broken bool
	hurt   int // how often it has failed
}

func (f *faulty) send(datagram []byte) error {
	if f.broken && f.rnd.IntN(6) == 0 {
		f.hurt++
		return []error{unix.EINTR, unix.ENOBUFS}[f.rnd.IntN(2)]
	}
	return f.wireSocket.send(datagram)
}

func (f *faulty) receive() ([][]byte, error) {
	if !f.broken {
		return f.wireSocket.receive()
	}
	switch f.rnd.IntN(6) {
	case 0:
		f.hurt++
		return nil, unix.EINTR
	case 1:
		f.hurt++
		_, _ = f.wireSocket.receive() // these answers are lost
		return nil, unix.ENOBUFS
	}
	return f.wireSocket.receive()
}

// From any table, through lost answers, interruptions, full buffers and a
// colleague who deletes and adds rows, a few passes reach any other table.
func TestAWalkThroughFaultsEndsInTheWantedTable(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx, rnd := context.Background(), rand.New(rand.NewPCG(3, 4))
	k := newKernel(t, nettest.New(t, "node"))
	colleague := New(k.opts)
	t.Cleanup(func() { colleague.Close() })
	if err := k.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	if err := colleague.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	var faults []*faulty
	for _, s := range k.spaces {
		f := &faulty{wireSocket: s.wire.sock, rnd: rnd}
		s.wire.sock = f
		faults = append(faults, f)
	}
	sync := &steer.Syncer{Kernel: k, Audit: time.Hour, Log: slog.New(slog.DiscardHandler)}
	pass := func(at int, want steer.Table) error {
		if _, err := sync.Join(ctx, time.Unix(int64(at), 0), want, nil); err != nil {
			_ = sync.Leave(ctx)
			return err
		}
		return sync.Leave(ctx)
	}
	for round := range 60 {
		want := anyTable(rnd)
		if have, err := colleague.Table(ctx); err != nil {
			t.Fatal(err)
		} else if rnd.IntN(2) == 0 { // who wants something else, and gets part of it
			join, leave := steer.Diff(have, anyTable(rnd))
			_ = colleague.Apply(ctx, append(leave, join...)[:rnd.IntN(1+len(join)+len(leave))])
		}
		for _, f := range faults {
			f.broken = true
		}
		_ = pass(10*round, want) // fails, as it may
		for _, f := range faults {
			f.broken = false
		}
		const audit = 2 * 3600
		if err := pass(audit*(round+1), want); err != nil {
			if err := pass(audit*(round+1)+1, want); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		have, err := k.Table(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if join, leave := steer.Diff(have, want); len(join)+len(leave) > 0 {
			t.Fatalf("round %d: the kernel still lacks %v, and has %v", round, join, leave)
		}
	}
	for i, f := range faults {
		if f.hurt == 0 {
			t.Errorf("tier %s never failed", tiers[i].file)
		}
	}
	t.Logf("failures of the three sockets: %d, %d, %d", faults[0].hurt, faults[1].hurt, faults[2].hurt)
}

// anyTable draws from a world so small that tables have much in common.
func anyTable(rnd *rand.Rand) steer.Table {
	t := steer.NewTable()
	for range rnd.IntN(10) {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + rnd.IntN(3))})
		v := steer.Virtual{Addr: netip.AddrPortFrom(addr, uint16(80+rnd.IntN(2))), Proto: snapshot.TCP, Tier: steer.Tier(rnd.IntN(3))}
		s := steer.Server{Scheduler: []string{"rr", "mh"}[rnd.IntN(2)]}
		switch v.Tier {
		case steer.Single:
			s.SNAT = rnd.IntN(2) == 0
			s.Sources = []steer.Sources{"", "10.0.0.0/8", "10.0.0.0/9 192.0.2.0/24"}[rnd.IntN(3)]
		case steer.Back:
			s.Direct = rnd.IntN(2) == 0
		}
		t.Servers[v], t.Addrs[addr] = s, true
		for range rnd.IntN(4) {
			real := netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", 1+rnd.IntN(5)))
			t.Dests[steer.Dest{Virtual: v, Real: real}] = rnd.IntN(3)
		}
	}
	if rnd.IntN(2) == 0 {
		t.Nodes[ip("192.168.0.11")] = true
		t.Pods[netip.MustParsePrefix("10.244.1.0/24")] = true
	}
	return t
}
