//go:build netns

package liveness

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/bfd"
)

func TestMain(m *testing.M) { nettest.Main(m, map[string]nettest.Role{"speaker": playSpeaker}) }

// member returns the name and the address, with its subnet, of one of a crowd.
func member(i int) (string, netip.Prefix) {
	return fmt.Sprintf("n%d", i), netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)}), 16)
}

// crowd is a cluster of so many nodes on one segment, from n1 on.
func crowd(size int) (s snapshot.Snapshot) {
	for i := 1; i <= size; i++ {
		name, prefix := member(i)
		s.Nodes = append(s.Nodes, snapshot.Node{Name: name, Internal: []netip.Addr{prefix.Addr()}})
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: name, BFD: true, Links: []snapshot.Link{
			{Name: "eth0", Prefixes: []netip.Prefix{prefix}},
		}})
	}
	return s
}

// A count is what the speaker of n1 says of its sessions.
type count struct {
	bfd.Stats
	Up, Losses int
}

// playSpeaker is the speaker of n1, in a crowd of as many as arg says.
func playSpeaker(arg string) (func() any, error) {
	size, err := strconv.Atoi(arg)
	if err != nil {
		return nil, err
	}
	w := New("n1", func(map[string]snapshot.Contact) {}, slog.New(slog.DiscardHandler))
	go func() {
		if err := w.Run(context.Background()); err != nil {
			panic(err)
		}
	}()
	return func() any {
		c := count{Stats: w.server.Stats()}
		for _, s := range w.Sessions() {
			c.Losses += s.Losses
			if s.State == bfd.Up {
				c.Up++
			}
		}
		return c
	}, w.Follow(context.Background(), crowd(size))
}

// gather builds a segment on which n1 is alone still, and has all others watch
// n1, each in a namespace of its own. They do not watch each other, which would
// tell nothing of n1.
func gather(b *testing.B, size int) (n1 *nettest.Namespace) {
	b.Helper()
	hub, cluster := nettest.New(b, "hub"), crowd(size)
	hub.Bridge(b, "br0")
	for i := 1; i <= size; i++ {
		name, prefix := member(i)
		n := nettest.New(b, name)
		port := nettest.End{In: hub, Link: "p" + name}
		nettest.Cable(b, nettest.End{In: n, Link: "eth0", Addrs: []string{prefix.String()}}, port)
		hub.Enslave(b, "br0", port.Link)
		if i == 1 {
			n1 = n
			continue
		}
		s := bfd.New(bfd.Options{})
		if err := s.Sync([]bfd.Peer{Plan(cluster, name)["n1"]}); err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- n.Do(func() error { return s.Run(ctx) }) }()
		b.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				b.Errorf("%s: Run() = %v", name, err)
			}
		})
	}
	return n1
}

// BenchmarkCrowd measures what it costs one speaker to watch all others, on real
// links: packets, and its process in percent of one CPU. With that goes what the
// kernel does for it and, links being cables to namespaces, what it does to hand
// each packet to the process of the peers; for what these send it is the other
// way round.
func BenchmarkCrowd(b *testing.B) {
	nettest.Require(b)
	const window = 5 * time.Second
	for _, size := range []int{3, 50, 250} {
		b.Run(fmt.Sprintf("speakers=%d", size), func(b *testing.B) {
			n1 := gather(b, size).Spawn(b, "speaker", strconv.Itoa(size))
			var before, after count
			for end := time.Now().Add(time.Minute); before.Up < size-1; time.Sleep(100 * time.Millisecond) {
				if n1.Ask(b, &before); time.Now().After(end) {
					b.Fatalf("of %d speakers only %d are reached", size-1, before.Up)
				}
			}
			time.Sleep(time.Second) // the last ones agree on their timers
			for b.Loop() {
				used, began := n1.Ask(b, &before), time.Now()
				time.Sleep(window)
				used = n1.Ask(b, &after) - used
				took := time.Since(began).Seconds()
				b.ReportMetric(float64(after.Sent-before.Sent)/took, "sent/s")
				b.ReportMetric(float64(after.Received-before.Received)/took, "received/s")
				b.ReportMetric(100*used.Seconds()/took, "CPU-%")
				b.ReportMetric(float64(after.Losses-before.Losses), "lost")
				b.ReportMetric(0, "ns/op") // says nothing
			}
		})
	}
}
