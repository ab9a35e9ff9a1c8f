//go:build netns

package ipvs

import (
	"io"
	"net"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
)

// BenchmarkPath compares the ways to a pod of node n2 that enter by n1, or by
// n2 itself, with the direct one: a round trip, 16 MB up, 16 MB down. The client
// has routes to the pods here.
func BenchmarkPath(b *testing.B) {
	c := newCluster(b, 2)
	for _, f := range []struct{ prefix, via string }{{"10.244.2.0/24", "192.168.50.12"}, {"fd10:244:2::/64", "fd50::12"}} {
		c.client.Route(b, f.prefix, f.via)
	}
	const size = 16 << 20
	data, got := stream(size), make(chan []byte, 1)
	pour(b, c.pods["n2a"], data, got)
	svc := c.service("n2a")
	svc.Ports, svc.Endpoints = nil, svc.Endpoints[:1]
	svc.Endpoints[0].Ports = nil
	for name, port := range map[string]uint16{"ask": 8080, "down": 9090, "up": 9091} {
		svc.Ports = append(svc.Ports, snapshot.Port{Name: name, Proto: snapshot.TCP, Number: port})
		svc.Endpoints[0].Ports = append(svc.Endpoints[0].Ports, snapshot.Target{Name: name, Proto: snapshot.TCP, Number: port})
	}
	kept, local := svc, svc
	local.Local = true
	for _, way := range []struct {
		name    string
		addr    string
		prepare func()
	}{
		{"direct", "10.244.2.10", func() {}},
		{"Local", vip4, func() { c.serve(b, local); c.enter(b, c.nodes[1]) }},
		{"Cluster by tunnel", vip4, func() { c.serve(b, kept); c.enter(b, c.nodes[0]) }},
		{"Cluster by SNAT", vip4, func() { c.withoutTunnels(b, kept); c.enter(b, c.nodes[0]) }},
	} {
		way.prepare()
		b.Run(way.name+"/round trip", func(b *testing.B) {
			conn := dial(b, c.client, way.addr, "8080")
			for b.Loop() {
				if _, err := conn.Ask(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(way.name+"/connection", func(b *testing.B) {
			for b.Loop() {
				if _, err := c.client.Get("tcp", net.JoinHostPort(way.addr, "8080")); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(way.name+"/down", func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				if _, err := io.CopyN(io.Discard, dial(b, c.client, way.addr, "9090").Conn, size); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(way.name+"/up", func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				conn := dial(b, c.client, way.addr, "9091")
				if _, err := conn.Write(data); err != nil {
					b.Fatal(err)
				}
				conn.Close()
				if all := <-got; len(all) != size {
					b.Fatalf("%d bytes arrived", len(all))
				}
			}
		})
	}
}

func dial(b *testing.B, client *nettest.Namespace, addr, port string) *nettest.Conn {
	b.Helper()
	conn, err := client.Dial("tcp", net.JoinHostPort(addr, port))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	return conn
}
