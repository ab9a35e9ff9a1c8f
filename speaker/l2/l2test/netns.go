//go:build netns

package l2test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/l2"
)

// RunKernel makes a protocol keep its promises on the links of the kernel.
func RunKernel(t *testing.T, l Language) {
	tests := []struct {
		name string
		test func(Language, *testing.T)
	}{
		{"kernel keeps the promises", Language.kernelKeepsThePromises},
		{"filter holds back the noise", Language.filterHoldsBackTheNoise},
		{"link above is a link of its own", Language.linkAbove},
		{"link is greeted again", Language.linkIsGreetedAgain},
		{"what is taken by who does not hear us is kept", Language.keptFromTheDeaf},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(l, t) })
	}
}

// patience is how long the kernel may take. Tests wait for what has to come,
// never for a time to pass.
const patience = 30 * time.Second

// A Pair is a node that runs an Announcer, and a client on the same cable.
type Pair struct {
	Node, Client *nettest.Namespace
	Announcer    *l2.Announcer
	Ear          *packet.Conn // hears all of the protocol on the client's eth0
	l            Language
}

// NewPair builds the network and runs an Announcer on the node.
func (l Language) NewPair(t *testing.T) *Pair {
	t.Helper()
	nettest.Require(t)
	p := &Pair{l: l}
	p.Node, p.Client = l.cable(t)
	p.Ear = l.listen(t, p.Client, "eth0")

	// On a busy machine this process may not be there for a while. What it then does
	// is put to the test without the kernel.
	p.Announcer = l.New(l2.Options{NetNS: &p.Node.Handle, Absent: patience})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Announcer.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	<-p.Announcer.Started()
	return p
}

// listen returns a packet socket that hears the protocol without any filter.
func (l Language) listen(t testing.TB, ns *nettest.Namespace, name string) *packet.Conn {
	t.Helper()
	var c *packet.Conn
	err := ns.Do(func() (err error) {
		c, err = packet.Listen(&net.Interface{Index: ns.Index(t, name)}, packet.Raw, l.EtherType, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Sync makes a Sync that has to succeed, and waits until everything that it
// wants is answered for.
func (p *Pair) Sync(t *testing.T, lines ...string) {
	t.Helper()
	want := p.l.want(lines...)
	if err := p.Announcer.Sync(t.Context(), want); err != nil {
		t.Fatalf("Sync(%v) = %v", lines, err)
	}
	WaitFor(t, "all to be answered for", func() bool { return p.Announcer.Stats().Answered == len(want.Claims) })
}

// MACOf returns the hardware address of a link.
func MACOf(t testing.TB, ns *nettest.Namespace, name string) l2.MAC {
	t.Helper()
	l, err := ns.Link.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return l2.MAC(l.Attrs().HardwareAddr)
}

func say(t testing.TB, c *packet.Conn, frame []byte) {
	t.Helper()
	if _, err := c.WriteTo(frame, &packet.Addr{HardwareAddr: frame[:6]}); err != nil {
		t.Fatal(err)
	}
}

// until returns what is heard before the frame last.
func (l Language) until(t testing.TB, c *packet.Conn, last string) []string {
	t.Helper()
	var heard []string
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, l2.FrameSize); ; {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			t.Fatalf("waiting for %s: %v\nheard %q", last, err, heard)
		}
		if got := l.Text(b[:n]); got == last {
			return heard
		} else if !l.Noise(got) && !l.IsProbe(got) { // of the kernels themselves, or before
			heard = append(heard, got)
		}
	}
}

// greeted waits for one greeting of an address.
func (l Language) greeted(t *testing.T, c *packet.Conn, us l2.MAC, n int) {
	t.Helper()
	for _, frame := range l.Greeting(us, l.Addr(n)) {
		l.until(t, c, frame)
	}
}

// toward sends a frame to one host instead.
func toward(to l2.MAC, frame []byte) []byte {
	copy(frame, to[:])
	return frame
}

// kernelKeepsThePromises runs the table of the fake against the kernel.
// A request that is surely answered follows each packet: what is heard before
// its reply is what the packet has brought about.
func (l Language) kernelKeepsThePromises(t *testing.T) {
	t.Parallel()
	p := l.NewPair(t)
	us, them := MACOf(t, p.Node, "eth0"), MACOf(t, p.Client, "eth0")
	p.Sync(t, "eth0 10 11 99")
	for range 5 { // the greetings of the last address
		l.greeted(t, p.Ear, us, 99)
	}
	markers := 0
	for _, promise := range l.Promises(us, them) {
		if len(promise.Frame) < 42 || l2.MAC(promise.Frame[6:]) != them {
			continue // an Ethernet frame is not shorter
		}
		markers++
		from := l.Asker(markers)
		before := p.Announcer.Stats().Conflicts
		say(t, p.Ear, promise.Frame)
		say(t, p.Ear, toward(us, l.Ask(them, from, l.Addr(99))))
		heard := l.until(t, p.Ear, l.Answer(us, them, l.Addr(99), from))
		if promise.conflict() && promise.Reply != "" && len(heard) == 0 {
			// Defending takes another goroutine, so it may come after.
			heard = append(l.until(t, p.Ear, promise.Reply), promise.Reply)
		}
		if got := strings.Join(heard, "; "); got != promise.Reply {
			t.Errorf("%s:\n got %q\nwant %q", promise.Name, got, promise.Reply)
		}
		if got := p.Announcer.Stats().Conflicts > before; got != promise.conflict() {
			t.Errorf("%s: conflict %t, want %t", promise.Name, got, promise.conflict())
		}
	}
	if markers < 20 {
		t.Errorf("only %d promises were put to the test", markers)
	}
}

// Who does not hear us answer has not heard that there is an owner. The owner stays,
// and says so again.
func (l Language) keptFromTheDeaf(t *testing.T) {
	t.Parallel()
	p := l.NewPair(t)
	us, them := MACOf(t, p.Node, "eth0"), MACOf(t, p.Client, "eth0")
	p.Sync(t, "eth0 10")
	for range 5 {
		l.greeted(t, p.Ear, us, 10)
	}
	want := l.besides(speaker.Peer{Alive: true, Deaf: true}, "eth0 10")
	want.Peers[0].MACs = [][6]byte{them}
	if err := p.Announcer.Sync(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		say(t, p.Ear, l.Claim(them, l.Addr(10)))
		l.greeted(t, p.Ear, us, 10)
		say(t, p.Ear, toward(us, l.Ask(them, l.Asker(1), l.Addr(10))))
		l.until(t, p.Ear, l.Answer(us, them, l.Addr(10), l.Asker(1)))
	}
}

// The filter runs in the kernel: packets about other addresses wake nobody.
func (l Language) filterHoldsBackTheNoise(t *testing.T) {
	t.Parallel()
	p := l.NewPair(t)
	us, them := MACOf(t, p.Node, "eth0"), MACOf(t, p.Client, "eth0")
	p.Sync(t, "eth0 10 12 14 16 18 20")
	h := newHose(t, p.Client, "eth0")
	for kind, frames := range l.foreign(them) {
		if err := h.pour(frames, 20_000); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
	}
	say(t, p.Ear, l.Ask(them, l.Asker(1), l.Addr(10)))
	l.until(t, p.Ear, l.Answer(us, them, l.Addr(10), l.Asker(1)))
	if s := p.Announcer.Stats(); s.Requests != 1 || s.Ignored != 0 {
		t.Errorf("counted %+v, want one request and nothing ignored", s)
	}
	p.Sync(t, "eth0 11") // and the filter follows the claims
	say(t, p.Ear, l.Ask(them, l.Asker(1), l.Addr(10)))
	say(t, p.Ear, l.Ask(them, l.Asker(1), l.Addr(11)))
	l.until(t, p.Ear, l.Answer(us, them, l.Addr(11), l.Asker(1)))
	if s := p.Announcer.Stats(); s.Requests != 2 || s.Ignored != 0 {
		t.Errorf("counted %+v, want two requests and nothing ignored", s)
	}
}

// What is for a link above is not heard on the link below, although the kernel
// shows it there too, and without its VLAN tag; a claim on the link above is
// served there.
func (l Language) linkAbove(t *testing.T) {
	t.Parallel()
	type above struct {
		name         string
		node, client netlink.Link
	}
	on := func(ns *nettest.Namespace) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: "above", ParentIndex: ns.Index(t, "eth0")}
	}
	kinds := []func(p *Pair) above{
		func(p *Pair) above {
			return above{"VLAN", &netlink.Vlan{LinkAttrs: on(p.Node), VlanId: 7}, &netlink.Vlan{LinkAttrs: on(p.Client), VlanId: 7}}
		},
		func(p *Pair) above {
			return above{"VLAN that the node has not", nil, &netlink.Vlan{LinkAttrs: on(p.Client), VlanId: 8}}
		},
		func(p *Pair) above {
			return above{"macvlan", &netlink.Macvlan{LinkAttrs: on(p.Node), Mode: netlink.MACVLAN_MODE_BRIDGE}, nil}
		},
	}
	for _, kind := range kinds {
		p := l.NewPair(t)
		k := kind(p)
		if !addAbove(t, p.Node, k.node) || !addAbove(t, p.Client, k.client) {
			t.Logf("%s: not in this kernel", k.name)
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			us, them := MACOf(t, p.Node, "eth0"), MACOf(t, p.Client, "eth0")
			ear, to := p.Ear, us
			if k.client != nil {
				ear = l.listen(t, p.Client, "above")
			}
			claims := []string{"eth0 10"}
			if k.node != nil {
				claims = append(claims, "above 20")
				to = MACOf(t, p.Node, "above")
			}
			p.Sync(t, claims...)
			say(t, ear, toward(to, l.Ask(them, l.Asker(1), l.Addr(10))))
			say(t, ear, toward(to, l.Claim(them, l.Addr(10))))
			if k.node != nil {
				say(t, ear, toward(to, l.Ask(them, l.Asker(2), l.Addr(20))))
				l.until(t, ear, l.Answer(to, them, l.Addr(20), l.Asker(2)))
			}
			say(t, p.Ear, toward(us, l.Ask(them, l.Asker(3), l.Addr(10))))
			l.until(t, p.Ear, l.Answer(us, them, l.Addr(10), l.Asker(3)))
			s := p.Announcer.Stats()
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

func (l Language) linkIsGreetedAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(t *testing.T, p *Pair)
	}{
		{"when its hardware address changes", func(t *testing.T, p *Pair) {
			l, err := p.Node.Link.LinkByName("eth0")
			if err = errors.Join(err, p.Node.Link.LinkSetHardwareAddr(l, net.HardwareAddr{2, 0, 0, 0, 0, 0x42})); err != nil {
				t.Fatal(err)
			}
		}},
		{"when it has been down", func(t *testing.T, p *Pair) {
			p.Node.Down(t, "eth0")
			p.Node.Up(t, "eth0")
		}},
		{"when it has been without carrier", func(t *testing.T, p *Pair) {
			p.Client.Down(t, "eth0")
			WaitFor(t, "the loss of carrier", func() bool { return p.Announcer.Sync(t.Context(), l.want("eth0 10")) != nil })
			p.Client.Up(t, "eth0")
			p.Ear = l.listen(t, p.Client, "eth0")
		}},
		{"when it has been made anew", func(t *testing.T, p *Pair) {
			link, err := p.Node.Link.LinkByName("eth0")
			if err = errors.Join(err, p.Node.Link.LinkDel(link)); err != nil {
				t.Fatal(err)
			}
			nettest.Cable(t, nettest.End{In: p.Client, Link: "eth0"}, nettest.End{In: p.Node, Link: "eth0"})
			p.Ear = l.listen(t, p.Client, "eth0")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := l.NewPair(t)
			p.Sync(t, "eth0 10")
			for range 5 { // the first burst is over
				l.greeted(t, p.Ear, MACOf(t, p.Node, "eth0"), 10)
			}
			tt.change(t, p)
			us, them := MACOf(t, p.Node, "eth0"), MACOf(t, p.Client, "eth0")
			// Of a burst the first may be lost, where the other end is late.
			l.greeted(t, p.Ear, us, 10)
			say(t, p.Ear, l.Ask(them, l.Asker(1), l.Addr(10)))
			l.until(t, p.Ear, l.Answer(us, them, l.Addr(10), l.Asker(1)))
		})
	}
}

// WaitFor polls what gives no sign of its own.
func WaitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting for %s in vain", what)
		}
	}
}
