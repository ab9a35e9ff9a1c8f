package l2test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker/l2"
)

// fakeNetwork is a host whose links a test changes as it likes. Like the
// kernel it refuses sockets on links that are not there, filters what comes
// in, and fails what is open on a link that goes.
type fakeNetwork struct {
	text  func([]byte) string
	probe func(string) bool
	// wire takes in every frame that is sent; nil if nobody else is there.
	wire func(from *fakeConn, frame []byte)
	slow time.Duration // what it takes to send a frame

	mu     sync.Mutex
	have   []l2.Link
	socket map[string]*fakeConn // the last one opened on each link
	opened int
	err    error // of listing links
	ring   func()
	stall  time.Duration // how long the next listing of links takes
}

func (f *fakeNetwork) Links() ([]l2.Link, error) {
	f.mu.Lock()
	stall := f.stall
	f.stall = 0
	f.mu.Unlock()
	time.Sleep(stall)
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.have), f.err
}

func (f *fakeNetwork) Listen(l l2.Link, filter []bpf.Instruction) (l2.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.have, l) {
		return nil, syscall.ENODEV
	}
	c := &fakeConn{text: f.text, probe: f.probe, wire: f.wire, in: make(chan []byte), closed: make(chan struct{}), failed: make(chan error, 1), slow: f.slow}
	if err := c.SetFilter(filter); err != nil {
		return nil, err
	}
	f.socket[l.Name] = c
	f.opened++
	return c, nil
}

func (f *fakeNetwork) Watch(ctx context.Context, ring func()) error {
	f.mu.Lock()
	f.ring = ring
	f.mu.Unlock()
	ring()
	<-ctx.Done()
	return nil
}

// set replaces the links, says so, and waits until everything has settled.
func (f *fakeNetwork) set(links ...l2.Link) {
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

var allNodes = netip.MustParseAddr("ff02::1")

// fakeConn is a packet socket.
type fakeConn struct {
	text   func([]byte) string
	probe  func(string) bool
	wire   func(from *fakeConn, frame []byte)
	in     chan []byte
	failed chan error
	closed chan struct{}
	once   sync.Once
	slow   time.Duration // what it takes to send a frame

	mu     sync.Mutex
	filter *bpf.VM
	groups []netip.Addr
	refuse error         // what sending fails with
	hang   time.Duration // for how long the next frame finds no room
	sent   []sent
	asked  []sent // probes
}

func (c *fakeConn) SetFilter(filter []bpf.Instruction) error {
	if _, err := bpf.Assemble(filter); err != nil {
		return err
	}
	vm, err := bpf.NewVM(filter)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.filter = vm
	return err
}

func (c *fakeConn) SetGroups(groups []netip.Addr, _ func()) error {
	if !slices.IsSortedFunc(groups, netip.Addr.Compare) || slices.ContainsFunc(groups, func(g netip.Addr) bool { return !g.IsMulticast() }) {
		return syscall.EINVAL
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.groups = groups
	return nil
}

func (c *fakeConn) listensTo() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.groups
}

// passes is whether link and filter let a frame through. Of IPv6's multicast a
// link takes in what is for all nodes, and the groups it listens to.
func (c *fakeConn) passes(frame []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	heard := func(g netip.Addr) bool { return bytes.Equal(g.AsSlice()[12:], frame[2:6]) }
	if bytes.HasPrefix(frame, []byte{0x33, 0x33}) && !heard(allNodes) && !slices.ContainsFunc(c.groups, heard) {
		return false
	}
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
	c.deliver(frame)
	synctest.Wait()
	return c.frames()[before:]
}

// deliver hands a frame to whoever reads.
func (c *fakeConn) deliver(frame []byte) {
	if !c.passes(frame) {
		return
	}
	select {
	case c.in <- frame:
	case <-c.closed:
	}
}

// said is what was sent, but for probes.
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

// probes is what was asked.
func (c *fakeConn) probes() []sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked)
}

func (c *fakeConn) hangFor(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hang = d
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
	hang := c.hang
	c.hang = 0
	c.mu.Unlock()
	time.Sleep(hang + c.slow)
	if err := c.note(b, to); err != nil {
		return 0, err
	}
	if c.wire != nil {
		c.wire(c, slices.Clone(b))
	}
	return len(b), nil
}

// note writes down what is sent, if it can be.
func (c *fakeConn) note(b []byte, to net.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.isClosed():
		return net.ErrClosed
	case c.refuse != nil:
		return c.refuse
	case to.String() != net.HardwareAddr(b[:6]).String():
		return errors.New("socket address and destination of the frame differ")
	}
	s := sent{time.Now(), c.text(b)}
	if c.probe(s.frame) {
		c.asked = append(c.asked, s)
	} else {
		c.sent = append(c.sent, s)
	}
	return nil
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *fakeConn) LocalAddr() net.Addr                { return nil }
func (c *fakeConn) SetDeadline(time.Time) error        { return nil }
func (c *fakeConn) SetReadDeadline(time.Time) error    { return nil }
func (c *fakeConn) SetWriteDeadline(t time.Time) error { return nil }

var (
	us   = l2.MAC{2, 0, 0, 0, 0, 1}
	also = l2.MAC{2, 0, 0, 0, 0, 2} // our second link
	them = l2.MAC{2, 0, 0, 0, 0, 9}

	eth0 = l2.Link{Name: "eth0", Index: 2, MAC: us}
	eth1 = l2.Link{Name: "eth1", Index: 3, MAC: also}
)

// start runs an Announcer on links, in a bubble of fake time, until the test
// in it ends. The log holds the messages only.
func (l Language) start(t *testing.T, links ...l2.Link) (*l2.Announcer, *fakeNetwork, *diary) {
	t.Helper()
	f := l.host(links...)
	a, log := l.runOn(t, f)
	return a, f, log
}

// runOn runs an Announcer on a host.
func (l Language) runOn(t *testing.T, f *fakeNetwork) (*l2.Announcer, *diary) {
	t.Helper()
	log := &diary{}
	a := l.New(l2.Options{Log: slog.New(log), Network: f})
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
	return a, log
}

func (l Language) host(links ...l2.Link) *fakeNetwork {
	return &fakeNetwork{text: l.Text, probe: l.IsProbe, have: links, socket: map[string]*fakeConn{}}
}

// checked is after what time a claim is known to be nobody else's.
const checked = 100 * time.Millisecond

// mustSync makes a Sync that has to succeed, and waits until it was asked for
// what is new.
func (l Language) mustSync(t *testing.T, a *l2.Announcer, lines ...string) {
	t.Helper()
	if err := a.Sync(t.Context(), l.want(lines...)); err != nil {
		t.Fatalf("Sync(%v) = %v", lines, err)
	}
	settle()
}

// settle waits until what is new is answered for.
func settle() {
	time.Sleep(checked)
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
