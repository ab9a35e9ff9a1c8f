//go:build netns

package ipvs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
)

func TestPodsSeeTheClientWhicheverNodeItEntersBy(t *testing.T) {
	c := newCluster(t, 3)
	c.serve(t, c.service("n1a", "n2a", "n2b", "n3a"))
	for _, n := range c.nodes {
		c.enter(t, n)
		for _, client := range []*nettest.Namespace{c.client, c.far} {
			for _, network := range []string{"tcp", "udp"} {
				for _, vip := range []string{vip4, vip6} {
					seen := map[string]bool{}
					for range 12 {
						r := tell(t, client, network, vip, "80")
						seen[r.Name] = true
						if !slices.Contains(c.addrsOf(client.Name), r.Peer) {
							t.Errorf("by %s, %s to %s: %s saw %s as %s", n.name, network, vip, r.Name, client.Name, r.Peer)
						}
					}
					if len(seen) < 2 {
						t.Errorf("by %s, %s to %s: of four pods only %v answered", n.name, network, vip, seen)
					}
				}
			}
		}
	}
	c.nothingInvalid(t)
}

func TestClientsOnNodesReachEveryEndpoint(t *testing.T) {
	c := newCluster(t, 2)
	local := c.service("n2a")
	local.Key, local.Local = "default/local", true
	local.Ingress = []snapshot.Ingress{{Addr: ip("192.168.50.201")}, {Addr: ip("fd50::201")}}
	c.serve(t, c.service("n1a", "n2a"), local)
	for _, client := range []*nettest.Namespace{c.pods["n1a"], c.pods["n1b"], c.pods["n2a"], c.nodes[0].Namespace, c.nodes[1].Namespace} {
		for _, network := range []string{"tcp", "udp"} {
			for _, vip := range []string{vip4, vip6} {
				seen := map[string]bool{}
				for range 4 {
					seen[tell(t, client, network, vip, "80").Name] = true
				}
				if !seen["n1a"] || !seen["n2a"] {
					t.Errorf("%s, %s to %s: only %v answered", client.Name, network, vip, seen)
				}
			}
			for _, vip := range []string{"192.168.50.201", "fd50::201"} {
				if r := tell(t, client, network, vip, "80"); r.Name != "n2a" {
					t.Errorf("%s, %s to %s of policy Local: %s answered, want n2a", client.Name, network, vip, r.Name)
				}
			}
		}
	}
	c.nothingInvalid(t)
}

func TestPolicyLocalLeadsToThePodsOfTheNode(t *testing.T) {
	c := newCluster(t, 2)
	svc := c.service("n1a", "n1b", "n2a")
	svc.Local = true
	c.serve(t, svc)
	for i, want := range [][]string{{"n1a", "n1b"}, {"n2a"}} {
		c.enter(t, c.nodes[i])
		for _, network := range []string{"tcp", "udp"} {
			for _, vip := range []string{vip4, vip6} {
				for range 4 {
					r := tell(t, c.far, network, vip, "80")
					if !slices.Contains(want, r.Name) || !slices.Contains(c.addrsOf("far"), r.Peer) {
						t.Errorf("by n%d, %s to %s: %s answered and saw %s", i+1, network, vip, r.Name, r.Peer)
					}
				}
			}
		}
	}
	svc.Endpoints = slices.DeleteFunc(svc.Endpoints, func(ep snapshot.Endpoint) bool { return ep.Node == "n2" })
	c.serve(t, svc)
	for _, vip := range []string{vip4, vip6} {
		if r, err := c.client.Get("tcp", net.JoinHostPort(vip, "80")); err == nil {
			t.Errorf("%s of a node without endpoints: %v answered", vip, r)
		}
	}
	c.nothingInvalid(t)
}

// flows opens connections from ports of its own, one after the other, and
// returns which pod each has reached.
func flows(t *testing.T, client *nettest.Namespace, network, from, vip string, n int) []string {
	t.Helper()
	names := make([]string, n)
	for i := range names {
		local := net.JoinHostPort(from, fmt.Sprint(20000+i))
		conn, err := client.DialFrom(network, local, net.JoinHostPort(vip, "80"))
		if err != nil {
			t.Fatalf("flow %d: %v", i, err)
		}
		r, err := conn.Ask()
		if err != nil {
			t.Fatalf("flow %d: %v", i, err)
		}
		names[i] = r.Name
		if err := conn.Reset(); err != nil {
			t.Fatalf("flow %d: %v", i, err)
		}
	}
	return names
}

func TestEveryNodeChoosesTheSamePod(t *testing.T) {
	c := newCluster(t, 4)
	c.serve(t, c.service("n1a", "n1b", "n2a", "n3a", "n3b", "n4a"))
	for _, tt := range []struct {
		network, from, vip string
		n                  int
	}{{"tcp", "192.168.50.100", vip4, 400}, {"tcp", "fd50::100", vip6, 60}, {"udp", "192.168.50.100", vip4, 60}} {
		var first []string
		for _, n := range c.nodes {
			c.enter(t, n)
			got := flows(t, c.client, tt.network, tt.from, tt.vip, tt.n)
			if first == nil {
				first = got
			}
			wrong := 0
			for i := range got {
				if got[i] != first[i] {
					wrong++
				}
			}
			if wrong > 0 {
				t.Errorf("%s to %s: %d of %d flows reach another pod by %s", tt.network, tt.vip, wrong, tt.n, n.name)
			}
		}
		if kinds := slices.Compact(slices.Sorted(slices.Values(first))); len(kinds) < 6 {
			t.Errorf("%s to %s: of six pods only %v answered", tt.network, tt.vip, kinds)
		}
	}
}

// Connections go on while the address moves, in whatever order.
func TestConnectionsSurviveTheMoveOfTheirAddress(t *testing.T) {
	c := newCluster(t, 3)
	c.serve(t, c.service("n1a", "n2a", "n2b", "n3a"))
	c.enter(t, c.nodes[0])
	var conns []*nettest.Conn
	for _, client := range []*nettest.Namespace{c.client, c.far} {
		for _, vip := range []string{vip4, vip6} {
			for range 6 {
				conn, err := client.Dial("tcp", net.JoinHostPort(vip, "80"))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				conns = append(conns, conn)
			}
		}
	}
	for _, n := range []int{0, 1, 2, 0, 2} {
		c.enter(t, c.nodes[n])
		for _, conn := range conns {
			if _, err := conn.Ask(); err != nil {
				t.Errorf("by n%d, the connection %s -> %s is lost: %v", n+1, conn.LocalAddr(), conn.RemoteAddr(), err)
			}
		}
	}
	c.nothingInvalid(t)
}

// stream is bytes that anybody can make again.
func stream(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// pour makes a pod send all of data to whoever connects to port 9090, and count
// what it gets on port 9091.
func pour(t testing.TB, pod *nettest.Namespace, data []byte, got chan<- []byte) {
	t.Helper()
	for port, serve := range map[string]func(net.Conn){
		":9090": func(c net.Conn) { _, _ = c.Write(data) },
		":9091": func(c net.Conn) {
			all, _ := io.ReadAll(c)
			got <- all
		},
	} {
		var l net.Listener
		if err := pod.Do(func() (err error) { l, err = net.Listen("tcp", port); return err }); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer conn.Close(); serve(conn) }()
			}
		}()
	}
}

// A long transfer is complete to the byte although its address moves three
// times meanwhile: down, where replies go directly to the client, and up, where
// every segment has to fit into a tunnel.
func TestATransferIsCompleteThoughItsAddressMoves(t *testing.T) {
	c := newCluster(t, 3)
	svc := c.service("n3a")
	svc.Ports = []snapshot.Port{{Name: "down", Proto: snapshot.TCP, Number: 90}, {Name: "up", Proto: snapshot.TCP, Number: 91}}
	for i := range svc.Endpoints {
		svc.Endpoints[i].Ports = []snapshot.Target{{Name: "down", Proto: snapshot.TCP, Number: 9090}, {Name: "up", Proto: snapshot.TCP, Number: 9091}}
	}
	c.serve(t, svc)
	data, got := stream(8<<20), make(chan []byte, 1)
	pour(t, c.pods["n3a"], data, got)
	for _, vip := range []string{vip4, vip6} {
		for _, client := range []*nettest.Namespace{c.client, c.far} {
			c.enter(t, c.nodes[0])
			down, err := client.Dial("tcp", net.JoinHostPort(vip, "90"))
			if err != nil {
				t.Fatal(err)
			}
			up, err := client.Dial("tcp", net.JoinHostPort(vip, "91"))
			if err != nil {
				t.Fatal(err)
			}
			var read []byte
			part := len(data) / 4
			for i := range 4 {
				c.enter(t, c.nodes[i%3])
				for _, conn := range []*nettest.Conn{down, up} {
					if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := up.Write(data[i*part : (i+1)*part]); err != nil {
					t.Fatalf("%s to %s, upload, part %d: %v", client.Name, vip, i, err)
				}
				some := make([]byte, part)
				if _, err := io.ReadFull(down.Conn, some); err != nil {
					t.Fatalf("%s from %s, download, part %d: %v", client.Name, vip, i, err)
				}
				read = append(read, some...)
			}
			if err := errors.Join(down.Close(), up.Close()); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(read, data) {
				t.Errorf("%s from %s: the download differs", client.Name, vip)
			}
			if all := <-got; !bytes.Equal(all, data) {
				t.Errorf("%s to %s: of the upload %d of %d bytes arrived, or others", client.Name, vip, len(all), len(data))
			}
		}
	}
}

// What does not fit into a tunnel is answered by the front, so that clients
// learn it: datagrams know no segments.
func TestClientsLearnWhatFitsIntoATunnel(t *testing.T) {
	c := newCluster(t, 2)
	c.serve(t, c.service("n2a"))
	c.enter(t, c.nodes[0])
	for _, tt := range []struct {
		vip string
		mtu int
	}{{vip4, 1480}, {vip6, 1460}} {
		conn, err := c.client.Dial("udp", net.JoinHostPort(tt.vip, "80"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(make([]byte, 1440)); err != nil {
			t.Fatal(err)
		}
		family := "-4"
		if strings.Contains(tt.vip, ":") {
			family = "-6"
		}
		nettest.Await(t, fmt.Sprintf("the client of %s to learn of mtu %d", tt.vip, tt.mtu), func() bool {
			_, _ = conn.Write(make([]byte, 1470)) // an error says that the client knows
			return strings.Contains(c.client.Run(t, "ip", family, "route", "get", tt.vip), fmt.Sprintf("mtu %d", tt.mtu))
		})
		conn.Close()
	}
}

func TestABackendDrainsOnAnotherNode(t *testing.T) {
	c := newCluster(t, 2)
	svc := c.service("n1a", "n2a")
	c.serve(t, svc)
	c.enter(t, c.nodes[0])
	var conns []*nettest.Conn
	for range 16 {
		conn, err := c.client.Dial("tcp", net.JoinHostPort(vip4, "80"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	for i := range svc.Endpoints {
		if svc.Endpoints[i].Node == "n2" {
			svc.Endpoints[i].Ready, svc.Endpoints[i].Draining = false, true
		}
	}
	c.serve(t, svc)
	for _, conn := range conns {
		if _, err := conn.Ask(); err != nil {
			t.Errorf("a connection is lost while its endpoint drains: %v", err)
		}
	}
	for range 12 {
		if r := tell(t, c.client, "tcp", vip4, "80"); r.Name != "n1a" {
			t.Errorf("a new connection reaches %s, which drains", r.Name)
		}
	}
}

func TestNewConnectionsAvoidALostNode(t *testing.T) {
	c := newCluster(t, 3)
	c.serve(t, c.service("n1a", "n2a", "n3a"))
	c.lost["n3"] = true
	c.serve(t, c.services...)
	c.enter(t, c.nodes[0])
	for _, client := range []*nettest.Namespace{c.client, c.pods["n2b"], c.nodes[1].Namespace} {
		for range 12 {
			if r := tell(t, client, "tcp", vip4, "80"); r.Name == "n3a" {
				t.Errorf("a new connection of %s reaches %s on a lost node", client.Name, r.Name)
			}
		}
	}
}

// A speaker that is started anew without tunnels prepares first, and plans when
// it knows the cluster. A client that is refused meanwhile would not try again.
func TestGivingUpTunnelsRefusesNobody(t *testing.T) {
	c := newCluster(t, 2)
	c.serve(t, c.service("n1a", "n1b", "n2a"))
	c.enter(t, c.nodes[0])
	k := c.nodes[0].k
	k.opts.Tunnels = nil
	if err := k.Prepare(context.Background()); err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	for i := range 12 {
		clients.Go(func() {
			vip := []string{vip4, vip6}[i%2]
			if r, err := c.client.Get("tcp", net.JoinHostPort(vip, "80")); errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v, %v; want an answer or none", vip, r, err)
			}
		})
	}
	clients.Wait()
}

func TestSourceRangesHoldForEverybody(t *testing.T) {
	c := newCluster(t, 2)
	svc := c.service("n1a", "n2a")
	svc.Sources = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("fd99::/64"), netip.MustParsePrefix("10.244.2.0/24")}
	for _, local := range []bool{false, true} {
		svc.Local = local
		c.serve(t, svc)
		c.enter(t, c.nodes[0])
		for _, vip := range []string{vip4, vip6} {
			for _, network := range []string{"tcp", "udp"} {
				tell(t, c.far, network, vip, "80")
				for _, shut := range []*nettest.Namespace{c.client, c.pods["n1b"]} {
					if r, err := shut.Get(network, net.JoinHostPort(vip, "80")); err == nil {
						t.Errorf("Local %t, %s to %s: %s is let in and answered by %s", local, network, vip, shut.Name, r.Name)
					}
				}
			}
		}
		tell(t, c.pods["n2b"], "tcp", vip4, "80")
	}
	svc.Sources = nil
	c.serve(t, svc)
	tell(t, c.client, "tcp", vip4, "80")
}

func TestAffinityKeepsAClientOnItsPod(t *testing.T) {
	c := newCluster(t, 3)
	svc := c.service("n1a", "n1b", "n2a", "n3a")
	svc.Affinity = time.Minute
	c.serve(t, svc)
	first := map[string]string{}
	for _, n := range c.nodes {
		c.enter(t, n)
		for _, client := range []*nettest.Namespace{c.client, c.far, c.pods["n2b"]} {
			for _, vip := range []string{vip4, vip6} {
				for range 6 {
					who := client.Name + " " + vip
					r := tell(t, client, "tcp", vip, "80")
					if first[who] == "" {
						first[who] = r.Name
					}
					if r.Name != first[who] {
						t.Errorf("%s, by %s: %s answered, before it was %s", who, n.name, r.Name, first[who])
					}
				}
			}
		}
	}
}

func TestAPoolMayForgoTheClientsAddress(t *testing.T) {
	c := newCluster(t, 2)
	c.withoutTunnels(t, c.service("n2a"))
	c.enter(t, c.nodes[0])
	if r := tell(t, c.client, "tcp", vip4, "80"); !slices.Contains(c.addrsOf("n1"), r.Peer) {
		t.Errorf("%s saw the client as %s, want an address of n1", r.Name, r.Peer)
	}
	if r := tell(t, c.client, "tcp", vip6, "80"); !slices.Contains(c.addrsOf("client"), r.Peer) {
		t.Errorf("%s saw the client as %s, want its own address: no pool has %s", r.Name, r.Peer, vip6)
	}
}

func TestClusterIPsAndNodePortsInPlaceOfKubeProxy(t *testing.T) {
	c := newCluster(t, 2)
	svc := c.service("n1a", "n2a")
	svc.Served, svc.Ours, svc.Ingress = false, false, nil
	svc.Proxied, svc.ClusterIPs = true, []netip.Addr{ip("10.96.0.10"), ip("fd96::10")}
	c.serve(t, svc)
	both := []string{"n1a", "n2a"}
	tests := []struct {
		name   string
		client *nettest.Namespace
		vips   []string
		port   string
		kept   map[string]bool // who sees the client's own address
	}{
		{"a pod asks a cluster IP", c.pods["n1b"], []string{"10.96.0.10", "fd96::10"}, "80", map[string]bool{"n2a": true}},
		{"an endpoint asks its own cluster IP", c.pods["n1a"], []string{"10.96.0.10", "fd96::10"}, "80", map[string]bool{"n2a": true}},
		{"a node asks a cluster IP", c.nodes[0].Namespace, []string{"10.96.0.10", "fd96::10"}, "80", nil},
		{"a client asks a node port", c.client, []string{"192.168.50.11", "fd50::11"}, "30080", nil},
		{"a client behind the router asks a node port", c.far, []string{"192.168.50.12", "fd50::12"}, "30080", nil},
		{"a pod asks the node port of its node", c.pods["n1b"], []string{"192.168.50.11", "fd50::11"}, "30080", nil},
		{"a pod asks the node port of another node", c.pods["n1b"], []string{"192.168.50.12", "fd50::12"}, "30080", nil},
		{"a node asks its own node port", c.nodes[0].Namespace, []string{"192.168.50.11", "fd50::11"}, "30080", nil},
	}
	for _, tt := range tests {
		for _, network := range []string{"tcp", "udp"} {
			for _, vip := range tt.vips {
				seen := map[string]bool{}
				for range 2 * len(both) {
					r := tell(t, tt.client, network, vip, tt.port)
					seen[r.Name] = true
					if own := slices.Contains(c.addrsOf(tt.client.Name), r.Peer); tt.kept[r.Name] && !own {
						t.Errorf("%s, %s to %s: %s saw %s", tt.name, network, vip, r.Name, r.Peer)
					}
				}
				if !seen["n1a"] || !seen["n2a"] {
					t.Errorf("%s, %s to %s: only %v answered", tt.name, network, vip, seen)
				}
			}
		}
	}
	// Whatever else the nodes serve is none of Herald's business.
	c.nodes[0].Serve(t, "tcp", ":9999")
	if r := tell(t, c.client, "tcp", "192.168.50.11", "9999"); r.Name != "n1" {
		t.Errorf("another port of the node is answered by %v", r)
	}
	c.nothingInvalid(t)

	svc.InternalLocal, svc.Local = true, true
	c.serve(t, svc)
	for range 4 {
		if r := tell(t, c.pods["n2b"], "tcp", "10.96.0.10", "80"); r.Name != "n2a" {
			t.Errorf("internalTrafficPolicy Local: %s answered a pod of n2", r.Name)
		}
		if r := tell(t, c.client, "tcp", "192.168.50.12", "30080"); r.Name != "n2a" || !slices.Contains(c.addrsOf("client"), r.Peer) {
			t.Errorf("externalTrafficPolicy Local: %s answered at the node port of n2, and saw %s", r.Name, r.Peer)
		}
	}
}
