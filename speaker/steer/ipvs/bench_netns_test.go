//go:build netns

package ipvs

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// many is a cluster of n Services with an endpoint on each of three nodes.
func many(n int) snapshot.Snapshot {
	var s snapshot.Snapshot
	for i := 1; i <= 3; i++ {
		node := fmt.Sprintf("n%d", i)
		end := []netip.Addr{netip.AddrFrom4([4]byte{192, 168, 50, byte(10 + i)})}
		s.Nodes = append(s.Nodes, snapshot.Node{Name: node, Internal: end, Addrs: end, Ready: true})
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: node, Tunnels: end})
	}
	for i := range n {
		svc := snapshot.Service{Key: fmt.Sprintf("ns/s%05d", i), Served: true, Ours: true, Revision: 1,
			Ingress: []snapshot.Ingress{{Addr: netip.AddrFrom4([4]byte{100, 64, byte(i >> 8), byte(i)})}},
			Ports:   []snapshot.Port{{Name: "web", Proto: snapshot.TCP, Number: 80}}}
		for j := range 3 {
			svc.Endpoints = append(svc.Endpoints, snapshot.Endpoint{
				Addr: netip.AddrFrom4([4]byte{10, byte(1 + j), byte(i >> 8), byte(i)}), Node: fmt.Sprintf("n%d", j+1), Ready: true,
				Ports: []snapshot.Target{{Name: "web", Proto: snapshot.TCP, Number: 8080}}})
		}
		s.Services = append(s.Services, svc)
	}
	return s
}

// life is a node in the middle of 10,000 Services.
type life struct {
	s    snapshot.Snapshot
	plan steer.Planner
	sync *steer.Syncer
	now  int64
}

func newLife(b *testing.B, k *Kernel, s snapshot.Snapshot) *life {
	return &life{s: s, sync: &steer.Syncer{Kernel: k, Audit: time.Hour, Log: slog.New(slog.DiscardHandler)}}
}

// pass does what a speaker does in one pass, but for announcing.
func (l *life) pass(b *testing.B) {
	self := l.sync.Kernel.Self()
	self.Node = "n1"
	want, touched := l.plan.Plan(l.s, self)
	l.now++
	if _, err := l.sync.Join(b.Context(), time.Unix(l.now, 0), want, touched); err != nil {
		b.Fatal(err)
	}
	if err := l.sync.Leave(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNode lives through what a node of a cluster of 10,000 Services with
// three endpoints each lives through, in three tiers.
func BenchmarkNode(b *testing.B) {
	nettest.RequireIPVS(b)
	s := many(10000)
	var k *Kernel
	fresh := func() *life {
		if k != nil { // the kernel finds servers of all namespaces in one table
			if err := k.Remove(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		k = newKernel(b, nettest.New(b, "node"))
		k.opts.Tunnels = s.Speakers[0].Tunnels
		if err := k.Prepare(b.Context()); err != nil {
			b.Fatal(err)
		}
		return newLife(b, k, s)
	}
	var l *life
	b.Run("from empty", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			l = fresh()
			before := kernelMemory(b)
			b.StartTimer()
			l.pass(b)
			b.StopTimer()
			b.ReportMetric(float64(kernelMemory(b)-before)/1e6, "MB-kernel")
			b.StartTimer()
		}
	})
	if b.Failed() {
		return
	}
	b.Run("restart", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			opts := k.opts
			if err := k.Close(); err != nil {
				b.Fatal(err)
			}
			*k = *New(opts)
			b.StartTimer()
			if err := k.Prepare(b.Context()); err != nil {
				b.Fatal(err)
			}
			l = newLife(b, k, s)
			l.pass(b)
		}
	})
	b.Run("nothing changes", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.pass(b)
		}
	})
	b.Run("one endpoint changes", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			l.s.Services = slices.Clone(l.s.Services)
			svc := &l.s.Services[5000]
			svc.Revision++
			svc.Endpoints = slices.Clone(svc.Endpoints)
			svc.Endpoints[1].Ready = !svc.Endpoints[1].Ready
			b.StartTimer()
			l.pass(b)
		}
	})
	b.Run("audit", func(b *testing.B) {
		for b.Loop() {
			l.now += int64(2 * time.Hour / time.Second)
			l.pass(b)
		}
	})
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.Logf("heap of one speaker's tables: %d MB", m.HeapAlloc>>20)
}

// kernelMemory is what the kernel has allocated for itself, in bytes.
func kernelMemory(b *testing.B) int64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	var kb int64
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] == "Slab:" || f[0] == "VmallocUsed:" || f[0] == "Percpu:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			kb += n
		}
	}
	return kb << 10
}
