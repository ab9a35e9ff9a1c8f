package arp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker"
)

// fakeNetwork is a host whose links a test changes as it likes. Like the
// kernel it refuses sockets on links that are not there, filters what comes
// in, and fails what is open on a link that goes.
type fakeNetwork struct {
	mu     sync.Mutex
	have   []link
	socket map[string]*fakeConn // the last one opened on each link
	opened int
	err    error // of listing links
	ring   func()
}

func (f *fakeNetwork) links() ([]link, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.have), f.err
}

func (f *fakeNetwork) listen(l link, filter []bpf.Instruction) (conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.have, l) {
		return nil, syscall.ENODEV
	}
	c := &fakeConn{in: make(chan []byte), closed: make(chan struct{}), failed: make(chan error, 1)}
	if err := c.setFilter(filter); err != nil {
		return nil, err
	}
	f.socket[l.name] = c
	f.opened++
	return c, nil
}

func (f *fakeNetwork) watch(ctx context.Context, ring func()) error {
	f.mu.Lock()
	f.ring = ring
	f.mu.Unlock()
	ring()
	<-ctx.Done()
	return nil
}

// set replaces the links, says so, and waits until everything has settled.
func (f *fakeNetwork) set(links ...link) {
	f.mu.Lock()
	f.have = links
	ring := f.ring
	f.mu.Unlock()
	if ring != nil {
		ring()
	}
	synctest.Wait()
}

// on returns the socket that is open on a link, or nil.
func (f *fakeNetwork) on(name string) *fakeConn {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.socket[name]
	if c == nil || c.isClosed() {
		return nil
	}
	return c
}

// A sent frame and when it was sent.
type sent struct {
	at    time.Time
	frame string
}

// fakeConn is a packet socket.
type fakeConn struct {
	in     chan []byte
	failed chan error
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	filter *bpf.VM
	refuse error // what sending fails with
	sent   []sent
}

func (c *fakeConn) setFilter(filter []bpf.Instruction) error {
	if _, err := bpf.Assemble(filter); err != nil {
		return err
	}
	vm, err := bpf.NewVM(filter)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filter = vm
	return err
}

// passes is whether the filter lets a frame through.
func (c *fakeConn) passes(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.filter.Run(frame)
	return err == nil && n > 0
}

func (c *fakeConn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// hear delivers a frame and returns what is sent because of it.
func (c *fakeConn) hear(frame []byte) []string {
	before := len(c.said())
	if c.passes(frame) {
		select {
		case c.in <- frame:
		case <-c.closed:
		}
	}
	synctest.Wait()
	return c.frames()[before:]
}

func (c *fakeConn) said() []sent {
	if c == nil {
		return nil // no socket says nothing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sent)
}

func (c *fakeConn) frames() []string {
	var frames []string
	for _, s := range c.said() {
		frames = append(frames, s.frame)
	}
	return frames
}

func (c *fakeConn) refuseWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = err
}

func (c *fakeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case frame := <-c.in:
		return copy(b, frame), nil, nil
	case err := <-c.failed:
		return 0, nil, err
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *fakeConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.isClosed():
		return 0, net.ErrClosed
	case c.refuse != nil:
		return 0, c.refuse
	case to.String() != net.HardwareAddr(b[:6]).String():
		return 0, errors.New("socket address and destination of the frame differ")
	}
	c.sent = append(c.sent, sent{time.Now(), text(b)})
	return len(b), nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *fakeConn) LocalAddr() net.Addr                { return nil }
func (c *fakeConn) SetDeadline(time.Time) error        { return nil }
func (c *fakeConn) SetReadDeadline(time.Time) error    { return nil }
func (c *fakeConn) SetWriteDeadline(t time.Time) error { return nil }

// wire returns a frame, built by hand from RFC 826 so that the codec in use
// is not its own judge.
func wire(to, from mac, op uint16, sender mac, senderIP string, target mac, targetIP string) []byte {
	b := slices.Concat(to[:], from[:], []byte{0x08, 0x06, 0, 1, 0x08, 0, 6, 4})
	b = binary.BigEndian.AppendUint16(b, op)
	b = slices.Concat(b, sender[:], ip(senderIP).AsSlice(), target[:], ip(targetIP).AsSlice())
	return append(b, make([]byte, 60-len(b))...)
}

// text prints a frame the way the tests of this package write it down:
//
//	02:…:01>ff:…:ff reply 02:…:01 192.0.2.1 to 02:…:02 192.0.2.2
func text(b []byte) string {
	if len(b) != 60 || binary.BigEndian.Uint16(b[12:]) != 0x0806 || !slices.Equal(b[14:20], []byte{0, 1, 8, 0, 6, 4}) {
		return fmt.Sprintf("% x", b)
	}
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i:])) }
	op := map[uint16]string{1: "request", 2: "reply"}[binary.BigEndian.Uint16(b[20:])]
	return fmt.Sprintf("%s>%s %s %s %s to %s %s", mac(b[6:]), mac(b), op, mac(b[22:]), addr(28), mac(b[32:]), addr(38))
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// want returns Announcements: "eth0 192.0.2.1 192.0.2.2" is two claims.
func want(lines ...string) speaker.Announcements {
	var w speaker.Announcements
	for _, l := range lines {
		fields := strings.Fields(l)
		for _, addr := range fields[1:] {
			w.Claims = append(w.Claims, speaker.Claim{Addr: ip(addr), Link: fields[0]})
		}
	}
	return w
}

var (
	us    = mac{2, 0, 0, 0, 0, 1}
	also  = mac{2, 0, 0, 0, 0, 2} // our second link
	them  = mac{2, 0, 0, 0, 0, 9}
	zero  = mac{}
	every = broadcast

	eth0 = link{name: "eth0", index: 2, mac: us}
	eth1 = link{name: "eth1", index: 3, mac: also}
)

// greeting is what is said once for an address, in both forms.
func greeting(addr string, m mac) []string {
	return []string{
		text(wire(every, m, 1, m, addr, zero, addr)),
		text(wire(every, m, 2, m, addr, m, addr)),
	}
}

// start runs an Announcer on links, in a bubble of fake time, until the test
// in it ends. The log holds the messages only.
func start(t *testing.T, links ...link) (*Announcer, *fakeNetwork, *diary) {
	t.Helper()
	f := &fakeNetwork{have: links, socket: map[string]*fakeConn{}}
	log := &diary{}
	a := newAnnouncer(slog.New(log), f)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	synctest.Wait()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return a, f, log
}

// mustSync makes a Sync that has to succeed.
func mustSync(t *testing.T, a *Announcer, lines ...string) {
	t.Helper()
	if err := a.Sync(t.Context(), want(lines...)); err != nil {
		t.Fatalf("Sync(%v) = %v", lines, err)
	}
	synctest.Wait()
}

// diary is a log handler that keeps the messages.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) Enabled(context.Context, slog.Level) bool { return true }
func (d *diary) WithAttrs([]slog.Attr) slog.Handler       { return d }
func (d *diary) WithGroup(string) slog.Handler            { return d }
func (d *diary) Handle(_ context.Context, r slog.Record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, r.Message)
	return nil
}
func (d *diary) messages() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.lines)
}
