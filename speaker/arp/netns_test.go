//go:build netns

package arp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/internal/snapshot"
)

// patience is how long the kernel may take. Tests wait for what has to come,
// never for a time to pass.
const patience = 10 * time.Second

// pair is a node that runs an Announcer, and a client on the same cable.
type pair struct {
	node, client *nettest.Namespace
	announcer    *Announcer
	ear          *packet.Conn // hears all ARP on the client's eth0
}

func newPair(t *testing.T) *pair {
	t.Helper()
	nettest.Require(t)
	p := &pair{node: nettest.New(t, "node"), client: nettest.New(t, "client")}
	nettest.Cable(t,
		nettest.End{In: p.node, Link: "eth0", Addrs: []string{"192.0.2.2/24"}},
		nettest.End{In: p.client, Link: "eth0", Addrs: []string{"192.0.2.1/24"}})
	p.ear = listenOn(t, p.client, "eth0")

	p.announcer = New(Options{NetNS: &p.node.Handle})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.announcer.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	<-p.announcer.started
	return p
}

// listenOn returns a packet socket that hears ARP without any filter.
func listenOn(t *testing.T, ns *nettest.Namespace, name string) *packet.Conn {
	t.Helper()
	var c *packet.Conn
	err := ns.Do(func() (err error) {
		c, err = packet.Listen(&net.Interface{Index: ns.Index(t, name)}, packet.Raw, unix.ETH_P_ARP, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (p *pair) sync(t *testing.T, lines ...string) {
	t.Helper()
	if err := p.announcer.Sync(t.Context(), want(lines...)); err != nil {
		t.Fatalf("Sync(%v) = %v", lines, err)
	}
}

// macOf returns the hardware address of a link.
func macOf(t *testing.T, ns *nettest.Namespace, name string) mac {
	t.Helper()
	l, err := ns.Link.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return mac(l.Attrs().HardwareAddr)
}

func say(t *testing.T, c *packet.Conn, frame []byte) {
	t.Helper()
	if _, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		t.Fatal(err)
	}
}

// until returns what is heard before the frame last.
func until(t *testing.T, c *packet.Conn, last string) []string {
	t.Helper()
	var heard []string
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, frameSize); ; {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			t.Fatalf("waiting for %s: %v\nheard %q", last, err, heard)
		}
		if got := text(b[:n]); got == last {
			return heard
		} else if !strings.Contains(got, "192.0.2.1 to") { // the client's own kernel
			heard = append(heard, got)
		}
	}
}

// TestKernelKeepsThePromises runs the table of the fake against the kernel.
// A request that is surely answered follows each packet: what is heard before
// its reply is what the packet has brought about.
func TestKernelKeepsThePromises(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	us, them := macOf(t, p.node, "eth0"), macOf(t, p.client, "eth0")
	p.sync(t, "eth0 192.0.2.10 192.0.2.11 192.0.2.99")
	for range 5 { // the greetings of the last address
		until(t, p.ear, greeting("192.0.2.99", us)[1])
	}
	markers := 0
	for _, promise := range promises(us, them) {
		if len(promise.frame) < 42 || promise.frame[6] != them[0] {
			continue // an Ethernet frame is not shorter
		}
		markers++
		from := fmt.Sprintf("198.51.100.%d", markers)
		before := p.announcer.Stats().Conflicts
		say(t, p.ear, promise.frame)
		say(t, p.ear, wire(us, them, 1, them, from, zero, "192.0.2.99"))
		heard := until(t, p.ear, text(wire(them, us, 2, us, "192.0.2.99", them, from)))
		if promise.conflict && promise.reply != "" && len(heard) == 0 {
			// Defending takes another goroutine, so it may come after.
			heard = append(until(t, p.ear, promise.reply), promise.reply)
		}
		if got := strings.Join(heard, "; "); got != promise.reply {
			t.Errorf("%s:\n got %q\nwant %q", promise.name, got, promise.reply)
		}
		if got := p.announcer.Stats().Conflicts > before; got != promise.conflict {
			t.Errorf("%s: conflict %t, want %t", promise.name, got, promise.conflict)
		}
	}
	if markers < 20 {
		t.Errorf("only %d promises were put to the test", markers)
	}
}

// The filter runs in the kernel: packets about other addresses wake nobody.
func TestFilterHoldsBackTheNoise(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	us, them := macOf(t, p.node, "eth0"), macOf(t, p.client, "eth0")
	p.sync(t, "eth0 192.0.2.10")
	for i := range 1000 {
		say(t, p.ear, wire(every, them, 1, them, "192.0.2.1", zero, fmt.Sprintf("198.51.%d.%d", i/250, i%250)))
	}
	say(t, p.ear, wire(every, them, 1, them, "198.51.100.1", zero, "192.0.2.10"))
	until(t, p.ear, text(wire(them, us, 2, us, "192.0.2.10", them, "198.51.100.1")))
	if s := p.announcer.Stats(); s.Requests != 1 || s.Ignored != 0 {
		t.Errorf("counted %+v, want one request and nothing ignored", s)
	}
	p.sync(t, "eth0 192.0.2.11") // and the filter follows the claims
	say(t, p.ear, wire(every, them, 1, them, "198.51.100.1", zero, "192.0.2.10"))
	say(t, p.ear, wire(every, them, 1, them, "198.51.100.1", zero, "192.0.2.11"))
	until(t, p.ear, text(wire(them, us, 2, us, "192.0.2.11", them, "198.51.100.1")))
	if s := p.announcer.Stats(); s.Requests != 2 || s.Ignored != 0 {
		t.Errorf("counted %+v, want two requests and nothing ignored", s)
	}
}

// What is for a link above is not heard on the link below, although the kernel
// shows it there too, and without its VLAN tag; a claim on the link above is
// served there.
func TestLinkAboveIsALinkOfItsOwn(t *testing.T) {
	t.Parallel()
	type above struct {
		name         string
		node, client netlink.Link
	}
	on := func(ns *nettest.Namespace) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: "above", ParentIndex: ns.Index(t, "eth0")}
	}
	kinds := []func(p *pair) above{
		func(p *pair) above {
			return above{"VLAN", &netlink.Vlan{LinkAttrs: on(p.node), VlanId: 7}, &netlink.Vlan{LinkAttrs: on(p.client), VlanId: 7}}
		},
		func(p *pair) above {
			return above{"VLAN that the node has not", nil, &netlink.Vlan{LinkAttrs: on(p.client), VlanId: 8}}
		},
		func(p *pair) above {
			return above{"macvlan", &netlink.Macvlan{LinkAttrs: on(p.node), Mode: netlink.MACVLAN_MODE_BRIDGE}, nil}
		},
	}
	for _, kind := range kinds {
		p := newPair(t)
		k := kind(p)
		if !addAbove(t, p.node, k.node) || !addAbove(t, p.client, k.client) {
			t.Logf("%s: not in this kernel", k.name)
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			us, them := macOf(t, p.node, "eth0"), macOf(t, p.client, "eth0")
			ear, to := p.ear, us
			if k.client != nil {
				ear = listenOn(t, p.client, "above")
			}
			claims := []string{"eth0 192.0.2.10"}
			if k.node != nil {
				claims = append(claims, "above 192.0.2.20")
				to = macOf(t, p.node, "above")
			}
			p.sync(t, claims...)
			say(t, ear, wire(to, them, 1, them, "198.51.100.1", zero, "192.0.2.10"))
			say(t, ear, wire(to, them, 1, them, "192.0.2.10", zero, "192.0.2.10"))
			if k.node != nil {
				say(t, ear, wire(to, them, 1, them, "198.51.100.2", zero, "192.0.2.20"))
				until(t, ear, text(wire(them, to, 2, to, "192.0.2.20", them, "198.51.100.2")))
			}
			say(t, p.ear, wire(us, them, 1, them, "198.51.100.3", zero, "192.0.2.10"))
			until(t, p.ear, text(wire(them, us, 2, us, "192.0.2.10", them, "198.51.100.3")))
			s := p.announcer.Stats()
			if want := uint64(len(claims)); s.Requests != want || s.Conflicts != 0 || s.Ignored != 0 {
				t.Errorf("counted %+v, want %d requests and nothing else", s, want)
			}
		})
	}
}

// addAbove makes a link and sets it up. It returns false if the kernel does
// not know the kind; one that is built to know them all (REQUIRE_IPVS) must.
func addAbove(t *testing.T, ns *nettest.Namespace, l netlink.Link) bool {
	t.Helper()
	if l == nil {
		return true
	}
	err := ns.Link.LinkAdd(l)
	if errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("REQUIRE_IPVS") == "" {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	ns.Up(t, "above")
	return true
}

func TestLinkIsGreetedAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(t *testing.T, p *pair)
	}{
		{"when its hardware address changes", func(t *testing.T, p *pair) {
			l, err := p.node.Link.LinkByName("eth0")
			if err = errors.Join(err, p.node.Link.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 0x42})); err != nil {
				t.Fatal(err)
			}
		}},
		{"when it has been down", func(t *testing.T, p *pair) {
			p.node.Down(t, "eth0")
			p.node.Up(t, "eth0")
		}},
		{"when it has been without carrier", func(t *testing.T, p *pair) {
			p.client.Down(t, "eth0")
			waitFor(t, "the loss of carrier", func() bool { return p.announcer.Sync(t.Context(), want("eth0 192.0.2.10")) != nil })
			p.client.Up(t, "eth0")
			p.ear = listenOn(t, p.client, "eth0")
		}},
		{"when it has been made anew", func(t *testing.T, p *pair) {
			l, err := p.node.Link.LinkByName("eth0")
			if err = errors.Join(err, p.node.Link.LinkDel(l)); err != nil {
				t.Fatal(err)
			}
			nettest.Cable(t, nettest.End{In: p.client, Link: "eth0"}, nettest.End{In: p.node, Link: "eth0"})
			p.ear = listenOn(t, p.client, "eth0")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.sync(t, "eth0 192.0.2.10")
			for range len(gaps) + 1 { // the first burst is over
				until(t, p.ear, greeting("192.0.2.10", macOf(t, p.node, "eth0"))[1])
			}
			tt.change(t, p)
			us, them := macOf(t, p.node, "eth0"), macOf(t, p.client, "eth0")
			// Of a burst the first may be lost, where the other end is late.
			until(t, p.ear, greeting("192.0.2.10", us)[0])
			until(t, p.ear, greeting("192.0.2.10", us)[1])
			say(t, p.ear, wire(every, them, 1, them, "198.51.100.1", zero, "192.0.2.10"))
			until(t, p.ear, text(wire(them, us, 2, us, "192.0.2.10", them, "198.51.100.1")))
		})
	}
}

// waitFor polls what gives no sign of its own.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting for %s in vain", what)
		}
	}
}

// Others' implementations: iputils' arping asks, probes as DHCP clients do
// (-D), and the client's kernel resolves and takes notice of a greeting.
func TestStrangersUnderstand(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.sync(t, "eth0 192.0.2.10")
	us := macOf(t, p.node, "eth0")
	shown := strings.ToUpper(us.String())
	tests := []struct {
		name  string
		args  []string
		taken bool // exit status 0, or 1 with -D
	}{
		{"arping hears a claimed address", []string{"-c", "1", "-w", "2", "-I", "eth0", "192.0.2.10"}, true},
		{"arping hears no other address", []string{"-c", "1", "-w", "1", "-I", "eth0", "192.0.2.12"}, false},
		{"arping -D finds a claimed address taken", []string{"-D", "-c", "1", "-w", "2", "-I", "eth0", "192.0.2.10"}, true},
		{"arping -D finds another free", []string{"-D", "-c", "1", "-w", "1", "-I", "eth0", "192.0.2.12"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out []byte
			err := p.client.Do(func() (err error) {
				out, err = exec.Command("arping", tt.args...).CombinedOutput()
				return err
			})
			var status *exec.ExitError
			if err != nil && !errors.As(err, &status) {
				t.Fatal(err)
			}
			if got := strings.Contains(strings.ToUpper(string(out)), shown); got != tt.taken {
				t.Errorf("taken: %t, want %t\n%s", got, tt.taken, out)
			}
		})
	}

	index := p.client.Index(t, "eth0")
	stale := &netlink.Neigh{LinkIndex: index, IP: net.ParseIP("192.0.2.11"), State: netlink.NUD_REACHABLE, HardwareAddr: net.HardwareAddr(them[:])}
	if err := p.client.Link.NeighSet(stale); err != nil {
		t.Fatal(err)
	}
	p.sync(t, "eth0 192.0.2.10 192.0.2.11")
	waitFor(t, "the greeting to correct the client's neighbour table", func() bool {
		neighs, err := p.client.Link.NeighList(index, netlink.FAMILY_V4)
		return err == nil && slices.ContainsFunc(neighs, func(n netlink.Neigh) bool {
			return n.IP.Equal(stale.IP) && mac(n.HardwareAddr) == us
		})
	})
}

func TestLinks(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	nettest.Cable(t, nettest.End{In: p.node, Link: "port", Addrs: []string{"10.2.0.1/16"}}, nettest.End{In: p.client, Link: "eth1"})
	p.node.Bridge(t, "br0", "port")
	p.node.Addr(t, "br0", "10.1.0.1/16", "2001:db8::1/64")
	p.node.Addr(t, "lo", "10.5.0.1/32")
	for name, addrs := range map[string][]string{
		"pod": nil, "herald0": {"10.3.0.1/16"}, "two": {"10.4.0.1/16", "10.4.0.9/32"}, "down": {"10.6.0.1/16"}, "kube-ipvs0": {"10.7.0.1/32"},
	} {
		nettest.Cable(t, nettest.End{In: p.node, Link: name, Addrs: addrs}, nettest.End{In: p.client, Link: name})
	}
	p.node.Down(t, "down")
	silent, err := p.node.Link.LinkByName("kube-ipvs0")
	if err = errors.Join(err, p.node.Link.LinkSetARPOff(silent)); err != nil {
		t.Fatal(err)
	}

	wanted := []snapshot.Link{
		{Name: "br0", Prefixes: prefixes("10.1.0.1/16", "2001:db8::1/64")},
		{Name: "eth0", Prefixes: prefixes("192.0.2.2/24")},
		{Name: "two", Prefixes: prefixes("10.4.0.1/16", "10.4.0.9/32")},
	}
	byValue := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	var got []snapshot.Link
	waitFor(t, "the bridge to come up", func() bool {
		if got, err = Links(p.node.Link); err != nil {
			t.Fatal(err)
		}
		return len(got) >= len(wanted)
	})
	if diff := cmp.Diff(wanted, got, byValue); diff != "" {
		t.Errorf("Links() (-want +got):\n%s", diff)
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestWatchRings(t *testing.T) {
	t.Parallel()
	nettest.Require(t)
	node, other := nettest.New(t, "node"), nettest.New(t, "other")
	rings := make(chan bool, 1000)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watch(ctx, node.Handle, func() { rings <- true }) }()
	<-rings // it has begun
	changes := []struct {
		name string
		do   func()
	}{
		{"a link comes", func() { nettest.Cable(t, nettest.End{In: node, Link: "eth0"}, nettest.End{In: other, Link: "eth0"}) }},
		{"an address comes", func() { node.Addr(t, "eth0", "192.0.2.1/24") }},
		{"a link goes down", func() { node.Down(t, "eth0") }},
	}
	for _, c := range changes {
		for len(rings) > 0 {
			<-rings
		}
		c.do()
		select {
		case <-rings:
		case <-time.After(patience):
			t.Errorf("%s, and nobody rings", c.name)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("watch() = %v", err)
	}
}
