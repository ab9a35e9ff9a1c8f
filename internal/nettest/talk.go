package nettest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a client waits before it takes silence for an answer.
const patience = 2 * time.Second

// A Reply is what a server of Serve answers.
type Reply struct {
	Name string     // of the namespace that answered
	Peer netip.Addr // the client as that server sees it
}

// Serve answers every line (tcp) or datagram (udp) that comes to addr, as in
// ":8080", with the name of n and the address of the client, until t ends.
func (n *Namespace) Serve(t testing.TB, network, addr string) {
	t.Helper()
	if strings.HasPrefix(network, "udp") {
		n.serveUDP(t, network, addr)
		return
	}
	var l net.Listener
	must(t, n.Name, n.Do(func() (err error) {
		l, err = net.Listen(network, addr)
		return err
	}))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.answer(c)
		}
	}()
}

func (n *Namespace) answer(c net.Conn) {
	defer c.Close()
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if _, err := fmt.Fprintf(c, "%s %s\n", n.Name, peer(c.RemoteAddr())); err != nil {
			return
		}
	}
}

func (n *Namespace) serveUDP(t testing.TB, network, addr string) {
	t.Helper()
	var c net.PacketConn
	must(t, n.Name, n.Do(func() (err error) {
		c, err = net.ListenPacket(network, addr)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			// A client that is gone makes the write fail; others stay.
			fmt.Fprintf(to{c, from}, "%s %s\n", n.Name, peer(from))
		}
	}()
}

// to is a PacketConn that writes to one peer.
type to struct {
	net.PacketConn
	peer net.Addr
}

func (w to) Write(b []byte) (int, error) { return w.WriteTo(b, w.peer) }

func peer(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// A Conn is a client's connection to a server of Serve.
type Conn struct {
	net.Conn
	lines *bufio.Reader
}

// Dial connects from inside n. It is the caller who closes.
func (n *Namespace) Dial(network, addr string) (*Conn, error) {
	return n.DialFrom(network, "", addr)
}

// DialFrom is Dial from a source address and port of the caller's choice, which
// may be in use towards another address.
func (n *Namespace) DialFrom(network, local, addr string) (*Conn, error) {
	d := net.Dialer{Timeout: patience}
	if local != "" {
		ap, err := netip.ParseAddrPort(local)
		if err != nil {
			return nil, fmt.Errorf("parsing the local address: %w", err)
		}
		d.Control = reusable
		d.LocalAddr = net.TCPAddrFromAddrPort(ap)
		if strings.HasPrefix(network, "udp") {
			d.LocalAddr = net.UDPAddrFromAddrPort(ap)
		}
	}
	var c net.Conn
	err := n.Do(func() (err error) {
		c, err = d.Dial(network, addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Conn{c, bufio.NewReader(c)}, nil
}

// reusable lets several sockets have one local address.
func reusable(_, _ string, c syscall.RawConn) error {
	var inside error
	err := c.Control(func(fd uintptr) {
		inside = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(err, inside)
}

// Ask sends one line and waits for the answer.
func (c *Conn) Ask() (Reply, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return Reply{}, err
	}
	if _, err := fmt.Fprintln(c, "who?"); err != nil {
		return Reply{}, err
	}
	line, err := c.lines.ReadString('\n')
	if err != nil {
		return Reply{}, err
	}
	name, addr, _ := strings.Cut(strings.TrimSpace(line), " ")
	client, err := netip.ParseAddr(addr)
	return Reply{name, client}, err
}

// Get connects, asks once and closes. Where the port is refused the error is
// syscall.ECONNREFUSED, for udp as for tcp.
func (n *Namespace) Get(network, addr string) (Reply, error) {
	c, err := n.Dial(network, addr)
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	return c.Ask()
}

// Reset closes a tcp connection with a reset, so that its ports are free for
// the next one at once.
func (c *Conn) Reset() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
	}
	return c.Close()
}
