package bfd

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Kernel is the real network. Its sockets belong to the network namespace of
// the thread that opens them.
type Kernel struct{}

// What packets carry: a TTL that no router has touched (RFC 5881 §5), and the
// class of routing protocols, CS6 (RFC 4594 §3.2).
const (
	maxTTL      = 255
	trafficCS6  = 48 << 2
	socketClass = 6 // of SO_PRIORITY, TC_PRIO_INTERACTIVE: goes first in the queue of the link
)

// receiveBuffer holds what comes while the process does not get the CPU: about
// 4,000 packets, a second of 250 peers at 50 ms.
const receiveBuffer = 4 << 20

// Listen implements [Network]. It does not share the port (SO_REUSEADDR): of
// two daemons that do, one gets all packets and the other never knows why it
// hears nothing. Nor does a restart take it, for UDP has no TIME_WAIT.
func (Kernel) Listen(p Port) (Listener, error) {
	network, host := "udp4", "0.0.0.0"
	if p.IPv6 {
		network, host = "udp6", "::"
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if inside := c.Control(func(fd uintptr) { err = hearing(int(fd), p.IPv6) }); inside != nil {
			return inside
		}
		return err
	}}
	conn, err := config.ListenPacket(context.Background(), network, net.JoinHostPort(host, strconv.Itoa(int(p.Number()))))
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.UDPConn).SyscallConn()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	l := &listener{conn: conn, raw: raw, zones: map[uint32]string{}}
	l.receive = func(fd uintptr) { l.n, l.err = l.batch.receive(int(fd), l.into, l.name) }
	l.name = l.zone
	return l, nil
}

// hearing has the kernel say how far each packet has come, and to which
// address.
func hearing(fd int, ipv6 bool) error {
	// Beyond the limit of the host if we may, up to it otherwise.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
			return fmt.Errorf("setting the receive buffer: %w", err)
		}
	}
	if ipv6 {
		return options(fd, unix.IPPROTO_IPV6, option{unix.IPV6_RECVHOPLIMIT, 1}, option{unix.IPV6_RECVPKTINFO, 1})
	}
	return options(fd, unix.IPPROTO_IP, option{unix.IP_RECVTTL, 1}, option{unix.IP_PKTINFO, 1})
}

type option struct{ name, value int }

func options(fd, level int, all ...option) error {
	for _, o := range all {
		if err := unix.SetsockoptInt(fd, level, o.name, o.value); err != nil {
			return fmt.Errorf("setting socket option %d of level %d: %w", o.name, level, err)
		}
	}
	return nil
}

// A listener reads without waiting in one goroutine while another waits
// without reading.
type listener struct {
	conn  net.PacketConn
	raw   syscall.RawConn
	batch batch
	zones map[uint32]string // names of links, by index

	// Arguments and results of receive: a closure for each call would be
	// allocated for each.
	receive func(fd uintptr)
	name    func(uint32) string
	into    []Datagram
	n       int
	err     error
}

// Await implements [Listener]. Go's poller is edge-triggered: it wakes us for
// every packet that comes, whether the last was read or not.
func (l *listener) Await(ring func()) {
	_ = l.raw.Read(func(uintptr) bool { // its only error is that l is closed
		ring()
		return false
	})
}

// Read implements [Listener].
func (l *listener) Read(d []Datagram) (int, error) {
	l.into = d
	if err := l.raw.Control(l.receive); err != nil {
		return 0, err
	}
	return l.n, l.err
}

// Close implements [Listener].
func (l *listener) Close() error { return l.conn.Close() }

// zone returns the name of a link, by which peers are configured.
func (l *listener) zone(index uint32) string {
	name, known := l.zones[index]
	if !known {
		if link, err := net.InterfaceByIndex(int(index)); err == nil {
			name = link.Name
		}
		l.zones[index] = name
	}
	return name
}

// Dial implements [Network].
func (Kernel) Dial(p Peer, from uint16) (Sender, error) {
	domain, send := unix.AF_INET, sending4
	if p.Addr.Is6() {
		domain, send = unix.AF_INET6, sending6
	}
	to, err := sockaddr(p.Addr, p.port().Number(), p.Addr.Zone())
	if err != nil {
		return nil, err
	}
	local := p.Local
	if !local.IsValid() && p.Addr.Is6() {
		local = netip.IPv6Unspecified()
	} else if !local.IsValid() {
		local = netip.IPv4Unspecified()
	}
	bound, err := sockaddr(local, from, p.Addr.Zone())
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a socket: %w", err)
	}
	if err := send(fd); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	if err := unix.Bind(fd, bound); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("binding to %s: %w", netip.AddrPortFrom(local, from), err)
	}
	return &sender{fd: fd, peer: p, to: to}, nil
}

// With RECVERR the kernel says if the peer's host refuses packets or cannot be
// reached (ip(7)).
func sending4(fd int) error {
	return speaking(fd, unix.IPPROTO_IP,
		option{unix.IP_TTL, maxTTL}, option{unix.IP_TOS, trafficCS6}, option{unix.IP_RECVERR, 1})
}

func sending6(fd int) error {
	return speaking(fd, unix.IPPROTO_IPV6, option{unix.IPV6_V6ONLY, 1},
		option{unix.IPV6_UNICAST_HOPS, maxTTL}, option{unix.IPV6_TCLASS, trafficCS6}, option{unix.IPV6_RECVERR, 1})
}

// speaking sets the options of a socket that only sends: it keeps almost
// nothing of what comes to it. The priority goes last: the class sets it, too.
func speaking(fd, level int, all ...option) error {
	if err := options(fd, level, all...); err != nil {
		return err
	}
	return options(fd, unix.SOL_SOCKET, option{unix.SO_RCVBUF, 0}, option{unix.SO_PRIORITY, socketClass})
}

// sockaddr translates an address. A link-local one takes the index that its
// link has now.
func sockaddr(a netip.Addr, port uint16, zone string) (unix.Sockaddr, error) {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: int(port)}, nil
	}
	to := &unix.SockaddrInet6{Addr: a.As16(), Port: int(port)}
	if a.IsLinkLocalUnicast() {
		link, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, fmt.Errorf("link %s of %s: %w", zone, a, err)
		}
		to.ZoneId = uint32(link.Index)
	}
	return to, nil
}

type sender struct {
	fd   int
	peer Peer
	to   unix.Sockaddr
}

// Send implements [Sender]. An error that an earlier packet has met is what
// the next one gets instead of being sent, so that is tried again, once.
func (s *sender) Send(b []byte) error {
	err := unix.Sendto(s.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, s.to)
	if err == nil {
		return nil
	}
	if s.peer.Addr.Zone() != "" { // the link may be another of that name by now
		if to, err := sockaddr(s.peer.Addr, s.peer.port().Number(), s.peer.Addr.Zone()); err == nil {
			s.to = to
		}
	}
	if again := unix.Sendto(s.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, s.to); again != nil {
		err = again
	}
	return fmt.Errorf("sending to %s: %w", s.peer.Addr, err)
}

// Close implements [Sender].
func (s *sender) Close() error { return unix.Close(s.fd) }
