//go:build netns

package nettest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m, map[string]Role{"host": host, "spin": Spin}) }

// host shows the links of the namespace that it is in.
func host(arg string) (func() any, error) {
	return func() any {
		links, err := net.Interfaces()
		return fmt.Sprintf("%s: %d links, %v", arg, len(links), err)
	}, nil
}

func TestProcessPlaysItsRoleInside(t *testing.T) {
	client, _ := pair(t)
	p := client.Spawn(t, "host", "a client")
	for range 2 {
		var got string
		if used := p.Ask(t, &got); got != "a client: 2 links, <nil>" || used <= 0 {
			t.Errorf("it has used %v and says %q", used, got)
		}
	}
}

func TestCPUIsThatOfTheProcess(t *testing.T) {
	client, _ := pair(t)
	busy, idle := client.Spawn(t, "spin", ""), client.Spawn(t, "host", "")
	began := idle.Ask(t, new(any))
	for end := time.Now().Add(Long); ; time.Sleep(10 * time.Millisecond) {
		switch used := busy.Ask(t, new(any)); {
		case used > 300*time.Millisecond:
			if got := idle.Ask(t, new(any)) - began; got > used/2 {
				t.Errorf("who is idle has used %v, who is busy %v", got, used)
			}
			return
		case time.Now().After(end):
			t.Fatalf("who is busy has used %v in %v", used, Long)
		}
	}
}

// pair is a client and a server on one cable.
func pair(t *testing.T) (client, server *Namespace) {
	t.Helper()
	Require(t)
	client, server = New(t, "client"), New(t, "server")
	Cable(t,
		End{client, "eth0", []string{"192.0.2.1/24", "2001:db8::1/64"}},
		End{server, "eth0", []string{"192.0.2.2/24", "2001:db8::2/64"}})
	return client, server
}

func TestServerAnswersWithItsNameAndTheClient(t *testing.T) {
	client, server := pair(t)
	server.Serve(t, "tcp", ":8080")
	server.Serve(t, "udp", ":8080")
	tests := []struct {
		network, addr, peer string
	}{
		{"tcp", "192.0.2.2:8080", "192.0.2.1"},
		{"udp", "192.0.2.2:8080", "192.0.2.1"},
		{"tcp", "[2001:db8::2]:8080", "2001:db8::1"},
		{"udp", "[2001:db8::2]:8080", "2001:db8::1"},
	}
	for _, tt := range tests {
		t.Run(tt.network+" "+tt.addr, func(t *testing.T) {
			got, err := client.Get(tt.network, tt.addr)
			want := Reply{"server", netip.MustParseAddr(tt.peer)}
			if err != nil || got != want {
				t.Errorf("Get() = %v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestClosedPortIsRefused(t *testing.T) {
	client, _ := pair(t)
	for _, network := range []string{"tcp", "udp"} {
		if _, err := client.Get(network, "192.0.2.2:9"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("Get(%s) = %v, want connection refused", network, err)
		}
	}
}

func TestConnectionLivesOn(t *testing.T) {
	client, server := pair(t)
	server.Serve(t, "tcp", ":8080")
	c, err := client.DialFrom("tcp", "192.0.2.1:4321", "192.0.2.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		if r, err := c.Ask(); err != nil || r.Name != "server" {
			t.Fatalf("Ask() = %v, %v", r, err)
		}
	}
}

func TestProgramsRunInside(t *testing.T) {
	client, _ := pair(t)
	if out := client.Run(t, "ip", "-o", "addr"); !strings.Contains(out, "192.0.2.1/24") {
		t.Errorf("ip addr inside shows\n%s", out)
	}
}

func TestBridgeJoinsItsPorts(t *testing.T) {
	Require(t)
	left, middle, right := New(t, "left"), New(t, "middle"), New(t, "right")
	Cable(t, End{left, "eth0", []string{"192.0.2.1/24"}}, End{In: middle, Link: "p1"})
	Cable(t, End{right, "eth0", []string{"192.0.2.2/24"}}, End{In: middle, Link: "p2"})
	middle.Bridge(t, "br0", "p1", "p2")
	right.Serve(t, "tcp", ":80")
	if r, err := left.Get("tcp", "192.0.2.2:80"); err != nil || r.Name != "right" {
		t.Errorf("Get() across the bridge = %v, %v", r, err)
	}
}
