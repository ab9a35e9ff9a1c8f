//go:build netns

package ipvs

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// A client may use one source port towards two Services (its kernel chooses
// ports for each destination anew). If both lead to the same port of the same
// pod, the pod must still see two connections, and each answer must come from
// the address that was asked.
func TestOneSourcePortTowardsTwoServicesOfOnePod(t *testing.T) {
	for _, path := range []struct {
		name    string
		nodes   int
		tunnels bool
		local   bool
	}{
		{"tunnel", 2, true, false}, {"direct, policy Local", 2, true, true}, {"direct, one node", 1, true, false}, {"SNAT", 2, false, false},
	} {
		t.Run(path.name, func(t *testing.T) {
			c := newCluster(t, path.nodes)
			pod, node := "n2a", 1
			if path.nodes == 1 {
				pod, node = "n1a", 0
			}
			one, two := c.service(pod), c.service(pod)
			one.Local, two.Local = path.local, path.local
			two.Key, two.Ingress = "default/two", []snapshot.Ingress{{Addr: ip(other4)}, {Addr: ip(other6)}}
			if path.tunnels {
				c.serve(t, one, two)
			} else {
				c.forgo(t, []ipam.Range{{First: ip(vip4), Last: ip(other4)}, {First: ip(vip6), Last: ip(other6)}}, one, two)
			}
			c.enter(t, c.nodes[0])
			if path.local {
				c.enter(t, c.nodes[node])
			}
			for i, client := range []*nettest.Namespace{c.client, c.far, c.pods["n1b"], c.nodes[0].Namespace} {
				for _, network := range []string{"tcp", "udp"} {
					for j, vips := range [][]string{{vip4, other4}, {vip6, other6}} {
						t.Run(fmt.Sprintf("%s over %s to %s", client.Name, network, vips[0]), func(t *testing.T) {
							samePort(t, client, network, net.JoinHostPort(c.addrsOf(client.Name)[j].String(), fmt.Sprint(21000+i)), vips, pod)
						})
					}
				}
			}
			c.nothingInvalid(t)
		})
	}
}

// samePort asks both addresses from one local port, in turn, then ends one
// connection and goes on with the other, and begins anew.
func samePort(t *testing.T, client *nettest.Namespace, network, local string, vips []string, pod string) {
	t.Helper()
	conns := make([]*nettest.Conn, len(vips))
	ask := func(i int) {
		t.Helper()
		if r, err := conns[i].Ask(); err != nil || r.Name != pod {
			t.Fatalf("the connection to %s: %v, %v", vips[i], r, err)
		}
	}
	dial := func(i int) {
		t.Helper()
		conn, err := client.DialFrom(network, local, net.JoinHostPort(vips[i], "80"))
		if err != nil {
			t.Fatalf("DialFrom(%s) to %s = %v", local, vips[i], err)
		}
		t.Cleanup(func() { conn.Close() })
		conns[i] = conn
	}
	for i := range vips {
		dial(i)
		ask(i)
	}
	for range 3 {
		for i := range vips {
			ask(i)
		}
	}
	for i := range vips { // one ends, the other goes on
		if err := conns[i].Reset(); err != nil {
			t.Fatal(err)
		}
		ask(1 - i)
		dial(i)
		ask(i)
		ask(1 - i)
	}
}

// A connection whose first packet comes to a node that has not taken in the
// address yet, though it lets it in, succeeds with its next one.
func TestAPacketThatComesBeforeItsAddressDoesNoHarm(t *testing.T) {
	for _, path := range []string{"tunnel", "direct"} {
		for family, vip := range []string{vip4, vip6} {
			t.Run(path+" to "+vip, func(t *testing.T) {
				c := newCluster(t, 2)
				svc := c.service("n2a")
				svc.Local = path == "direct"
				c.serve(t, svc)
				c.enter(t, c.nodes[map[bool]int{false: 0, true: 1}[svc.Local]])
				inside := c.nodes[1].inside(back)
				flag := []string{"-4", "-6"}[family]
				inside.Run(t, "ip", flag, "route", "del", "local", vip, "table", "local")
				way := c.nodes[1].Run(t, "ip", flag, "route", "show", vip) // or lb would serve
				c.nodes[1].Run(t, "ip", flag, "route", "del", vip)
				knocked := knock(c.client, vip)
				time.Sleep(300 * time.Millisecond) // the first packet is on its way
				inside.Run(t, "ip", flag, "route", "add", "local", vip, "dev", "lo", "table", "local", "proto", "72")
				c.nodes[1].Run(t, "ip", append([]string{flag, "route", "add"}, strings.Fields(way)...)...)
				if err := knocked(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A node that learns later than another that its endpoint is ready refuses
// nobody meanwhile: a client would not try again.
func TestANodeThatLearnsLateOfItsEndpointRefusesNobody(t *testing.T) {
	c := newCluster(t, 2)
	svc := c.service("n2a")
	for i := range svc.Endpoints {
		svc.Endpoints[i].Ready = false
	}
	c.serve(t, svc)
	c.enter(t, c.nodes[0])
	for i := range svc.Endpoints {
		svc.Endpoints[i].Ready = true
	}
	c.late["n2"] = true
	c.serve(t, svc)
	four, six := knock(c.client, vip4), knock(c.client, vip6)
	time.Sleep(300 * time.Millisecond) // the first packets are on their way
	c.late["n2"] = false
	c.serve(t, svc)
	if err := errors.Join(four(), six()); err != nil {
		t.Error(err)
	}
}

// knock has a client connect and ask. Once the way is clear, opened waits until that is
// done, and fails if a packet is lost from then on. The kernel sends the first one again
// each second, or more seldom; so a busy machine may take its time to clear the way.
func knock(client *nettest.Namespace, vip string) (opened func() error) {
	began := time.Now()
	type outcome struct {
		again int // how often the first packet was sent again
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		o.err = client.Do(func() (err error) {
			o.again, err = dialAndAsk(net.JoinHostPort(vip, "80"))
			return err
		})
		done <- o
	}()
	return func() error {
		clear := time.Since(began)
		o := <-done
		if o.err == nil && time.Duration(o.again-1)*time.Second >= clear {
			o.err = fmt.Errorf("%s: the way was clear after %v, and the first packet was sent %d times more", vip, clear, o.again)
		}
		return o.err
	}
}

func dialAndAsk(addr string) (again int, err error) {
	const long = 30 * time.Second
	conn, err := net.DialTimeout("tcp", addr, long)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var inside error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, inside = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); inside == nil {
			again = int(info.Total_retrans)
		}
	})
	if err := errors.Join(err, inside, conn.SetDeadline(time.Now().Add(long))); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintln(conn, "who?"); err != nil {
		return 0, err
	}
	_, err = bufio.NewReader(conn).ReadString('\n')
	return again, err
}

// inside is the namespace of a tier.
func (n *host) inside(t *tier) *nettest.Namespace {
	return &nettest.Namespace{Name: n.name + " " + t.file, Handle: n.k.spaces[t.of].ns}
}
