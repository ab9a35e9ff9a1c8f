//go:build netns

package ipvs

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
)

func TestEveryClientReachesTheEndpoints(t *testing.T) {
	l := newLab(t)
	l.one.Serve(t, "tcp", ":9090")
	l.one.Serve(t, "udp", ":9090")
	l.settle(t, rows())
	pods := map[string][]string{
		kept: {"a", "b"}, snatted: {"a", "c"}, hostKept: {"one"}, hostSNAT: {"one"},
	}
	tests := []struct {
		name   string
		client *nettest.Namespace
		kept   bool // whether its address can be kept
	}{
		{"a client on the segment", l.client, true},
		{"a client behind the router", l.far, true},
		{"another node", l.two, true},
		{"a pod of another node", l.c, true},
		{"the node itself", l.one, false},
		{"a pod of the node", l.b, false},
		{"a pod that is an endpoint itself", l.a, false},
	}
	for _, tt := range tests {
		for port, servers := range pods {
			for _, network := range []string{"tcp", "udp"} {
				for _, vip := range []string{vip4, vip6} {
					addr := net.JoinHostPort(vip, port)
					t.Run(strings.Join([]string{tt.name, network, addr}, " "), func(t *testing.T) {
						wantKept := tt.kept && (port == kept || port == hostKept)
						if tt.client == l.a || tt.client == l.b { // not led to another pod of the node
							wantKept = port == hostKept && network == "tcp"
						}
						ask(t, tt.client, network, addr, servers, wantKept)
					})
				}
			}
		}
	}
	if out := l.one.Run(t, "nft", "list", "chain", "inet", "proxy", "forward"); !strings.Contains(out, "packets 0 ") {
		t.Errorf("conntrack of the node calls packets invalid:\n%s", out)
	}
}

// ask sends a few requests: each server has to answer some, and to see the
// client's address or one of the node, as promised.
func ask(t *testing.T, client *nettest.Namespace, network, addr string, servers []string, kept bool) {
	t.Helper()
	seen := map[string]bool{}
	for range 2 * len(servers) {
		r, err := client.Get(network, addr)
		if err != nil {
			t.Fatalf("Get() = %v", err)
		}
		seen[r.Name] = true
		from := addressOf["one"]
		if kept {
			from = addressOf[client.Name]
		}
		if !slices.Contains(from, r.Peer) {
			t.Errorf("%s saw the client as %s, want one of %s", r.Name, r.Peer, from)
		}
	}
	for _, s := range servers {
		if !seen[s] {
			t.Errorf("%s never answered, only %v did", s, seen)
		}
	}
}

func TestWhatIsNotServedIsRefused(t *testing.T) {
	l := newLab(t)
	l.settle(t, rows())
	for name, port := range map[string]string{
		"a server without endpoints": noBackend, "a port without a server": "99",
	} {
		for _, network := range []string{"tcp", "udp"} {
			for _, vip := range []string{vip4, vip6} {
				addr := net.JoinHostPort(vip, port)
				t.Run(strings.Join([]string{name, network, addr}, " "), func(t *testing.T) {
					if r, err := l.client.Get(network, addr); !errors.Is(err, syscall.ECONNREFUSED) {
						t.Errorf("Get() = %v, %v, want connection refused", r, err)
					}
				})
			}
		}
	}
}

func TestAnAddressAnswersPing(t *testing.T) {
	if _, err := exec.LookPath("ping"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	l := newLab(t)
	l.settle(t, rows())
	for _, vip := range []string{vip4, vip6} {
		if out := l.client.Run(t, "ping", "-c1", "-W2", vip); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("ping %s:\n%s", vip, out)
		}
	}
}

// The address is only routed by the node: who asks for it on the segment must
// hear nothing but a speaker, so that the speakers alone decide.
func TestTheKernelAnswersNoARPForAnAddress(t *testing.T) {
	l := newLab(t)
	l.settle(t, rows())
	stranger := l.client
	stranger.Run(t, "ip", "route", "del", vip4+"/32")
	stranger.Run(t, "ip", "-6", "route", "del", vip6+"/128")
	for _, key := range []string{"net/ipv4/neigh/eth0/retrans_time_ms", "net/ipv6/neigh/eth0/retrans_time_ms"} {
		stranger.Sysctl(t, key, "50")
	}
	for _, vip := range []string{vip4, vip6} {
		r, err := stranger.Get("tcp", net.JoinHostPort(vip, kept))
		if !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("Get() from who asks for %s on the segment = %v, %v, want no route to host", vip, r, err)
		}
	}
	if r, err := stranger.Get("tcp", "192.168.50.11:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Get() of the node's own address = %v, %v: the segment does not work", r, err)
	}
}

// A backend that leaves gets weight 0 first: what it serves goes on, what is
// new goes elsewhere. Once its row is gone, clients of UDP that keep their
// port move on too.
func TestABackendDrainsAndLeaves(t *testing.T) {
	l := newLab(t)
	want := rows()
	l.settle(t, want)
	stillThere := l.open(t)
	for _, tt := range []struct{ vip, pod string }{
		{vip4, "10.244.1.10:8080"}, {vip6, "[fd10:244:1::10]:8080"},
	} {
		for d := range want.Dests {
			if d.Real.String() == tt.pod {
				want.Dests[d] = 0
			}
		}
		l.settle(t, want)
		for _, network := range []string{"tcp", "udp"} {
			ask(t, l.client, network, net.JoinHostPort(tt.vip, kept), []string{"b"}, true)
		}
		stillThere(t)
	}
}

func TestAUDPClientMovesWhenItsBackendIsGone(t *testing.T) {
	l := newLab(t)
	want := rows()
	l.settle(t, want)
	c, err := l.client.DialFrom("udp", "192.168.50.100:5353", net.JoinHostPort(vip4, kept))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first, err := c.Ask()
	if err != nil {
		t.Fatal(err)
	}
	gone := map[string]string{"a": "10.244.1.10:8080", "b": "10.244.1.11:8080"}[first.Name]
	for d := range want.Dests {
		if d.Real.String() == gone {
			delete(want.Dests, d)
		}
	}
	l.settle(t, want)
	var r nettest.Reply
	for range 3 { // the kernel may drop the packet by which it notices
		if r, err = c.Ask(); err == nil {
			break
		}
	}
	if err != nil || r.Name == first.Name {
		t.Errorf("Ask() after %s is gone = %v, %v, want another", first.Name, r, err)
	}
}

// The node's own programs may bind any address of the node; the reply has to
// find back to it through the namespace all the same.
func TestTheNodeAsClientMayChooseItsAddress(t *testing.T) {
	l := newLab(t)
	l.settle(t, rows())
	for vip, local := range map[string]string{vip4: "192.168.50.11:4321", vip6: "[fd50::11]:4321"} {
		for _, network := range []string{"tcp", "udp"} {
			c, err := l.one.DialFrom(network, local, net.JoinHostPort(vip, kept))
			if err != nil {
				t.Errorf("DialFrom(%s) by %s = %v", local, network, err)
				continue
			}
			if r, err := c.Ask(); err != nil || !slices.Contains(addressOf["one"], r.Peer) {
				t.Errorf("Ask() from %s by %s = %v, %v", local, network, r, err)
			}
			c.Close()
		}
	}
}
