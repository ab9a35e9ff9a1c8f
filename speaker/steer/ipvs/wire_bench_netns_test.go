//go:build netns

package ipvs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
)

// What the benchmarks below make: services, and destinations of each.
const benchServices, benchDests = 10_000, 3

// benchCommands make services with destinations, all different.
func benchCommands(services, dests int) []command {
	cmds := make([]command, 0, services*(1+dests))
	for i := range services {
		hi, lo := byte(i/250), byte(1+i%250)
		svc := &moby.Service{Address: []byte{192, 0, hi, lo}, Protocol: 6, Port: 80, SchedName: "rr",
			Netmask: netmask4, AddressFamily: unix.AF_INET}
		cmds = append(cmds, command{opNewService, svc, nil})
		for d := range dests {
			cmds = append(cmds, command{opNewDest, svc, &moby.Destination{
				Address: []byte{10, byte(d), hi, lo}, Port: 8080, Weight: 1, AddressFamily: unix.AF_INET}})
		}
	}
	return cmds
}

// asSaved writes commands as ipvsadm -S does.
func asSaved(cmds []command) string {
	var b strings.Builder
	for _, c := range cmds {
		if c.dest == nil {
			fmt.Fprintf(&b, "-A -t %s:%d -s %s\n", c.svc.Address, c.svc.Port, c.svc.SchedName)
			continue
		}
		fmt.Fprintf(&b, "-a -t %s:%d -r %s:%d -m -w %d\n", c.svc.Address, c.svc.Port, c.dest.Address, c.dest.Port, c.dest.Weight)
	}
	return b.String()
}

// BenchmarkFill makes everything in an empty namespace, a fresh one each time:
// a destination that was deleted stays in the kernel's trash for two minutes
// and makes adding slow.
func BenchmarkFill(b *testing.B) {
	nettest.RequireIPVS(b)
	cmds := benchCommands(benchServices, benchDests)
	saved := filepath.Join(b.TempDir(), "saved")
	if err := os.WriteFile(saved, []byte(asSaved(cmds)), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, way := range []struct {
		name string
		open func(*nettest.Namespace) (fill func() error)
	}{
		{"moby", func(n *nettest.Namespace) func() error {
			h := newMoby(b, n)
			return func() error {
				for _, c := range cmds {
					if err := throughMoby(h, c); err != nil {
						return err
					}
				}
				return nil
			}
		}},
		{"ipvsadm", func(n *nettest.Namespace) func() error {
			return func() error { n.Run(b, "sh", "-c", "ipvsadm -R <"+saved); return nil }
		}},
		{"wire", func(n *nettest.Namespace) func() error {
			w := newWire(b, n)
			return func() error { return errors.Join(w.do(context.Background(), cmds)...) }
		}},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				fill := way.open(nettest.New(b, "node"))
				b.StartTimer()
				if err := fill(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(cmds)*b.N)/b.Elapsed().Seconds(), "ops/s")
		})
	}
}

func BenchmarkList(b *testing.B) {
	nettest.RequireIPVS(b)
	node := nettest.New(b, "node")
	h, w := newMoby(b, node), newWire(b, node)
	if err := errors.Join(w.do(context.Background(), benchCommands(benchServices, benchDests))...); err != nil {
		b.Fatal(err)
	}
	b.Run("moby", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if all := listMoby(b, h); len(all) != benchServices || len(all[0].dests) != benchDests {
				b.Fatalf("%d services are listed", len(all))
			}
		}
	})
	b.Run("wire", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			all, err := w.list(context.Background())
			if err != nil || len(all) != benchServices || len(all[0].dests) != benchDests {
				b.Fatalf("%d services are listed, %v", len(all), err)
			}
		}
	})
}
