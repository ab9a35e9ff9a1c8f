package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker"
)

// dialTimeout is for how long a router may not answer. SYNs are sent at 0, 1
// and 3 seconds.
const dialTimeout = 5 * time.Second

// dial connects to the router of w, at addr.
func dial(ctx context.Context, w speaker.Session, addr netip.Addr) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	to := netip.AddrPortFrom(addr, w.Port)
	d := net.Dialer{ControlContext: func(_ context.Context, _, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return prepare(fd, w, addr) })
	}}
	// Go would probe an idle connection; BGP has its own keepalives.
	d.KeepAliveConfig.Enable, d.KeepAlive = false, -1
	if w.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.Source, 0))
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, unreached(err, to, w)
	}
	return c.(*net.TCPConn), nil
}

func control(c syscall.RawConn, f func(fd int) error) error {
	var inside error
	err := c.Control(func(fd uintptr) { inside = f(int(fd)) })
	return errors.Join(err, inside)
}

// prepare sets what has to be so before the first packet.
func prepare(fd int, w speaker.Session, addr netip.Addr) error {
	level, ttl, least := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL
	if addr.Is6() {
		level, ttl, least = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MINHOPCOUNT
	}
	var errs []error
	set := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, os.NewSyscallError("setsockopt", err)))
		}
	}
	switch {
	case w.TTLSecurity: // RFC 5082 §3
		set("setting the TTL", unix.SetsockoptInt(fd, level, ttl, 255))
		set("setting the least TTL", unix.SetsockoptInt(fd, level, least, 256-hops(w)))
	case !internal(w):
		set("setting the TTL", unix.SetsockoptInt(fd, level, ttl, hops(w)))
	}
	if w.Interface != "" {
		set("binding to "+w.Interface, unix.BindToDevice(fd, w.Interface))
	}
	if w.Password != "" {
		set("setting the password", unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, signature(addr, w.Password)))
	}
	// Precedence: internetwork control (RFC 4271 appendix E).
	if addr.Is6() {
		set("setting the traffic class", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 0xc0))
	} else {
		set("setting the type of service", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, 0xc0))
	}
	return errors.Join(errs...)
}

// signature is what TCP-MD5 (RFC 2385) takes: struct tcp_md5sig of linux/tcp.h.
func signature(addr netip.Addr, password string) *unix.TCPMD5Sig {
	s := &unix.TCPMD5Sig{Keylen: uint16(copy(make([]byte, unix.TCP_MD5SIG_MAXKEYLEN), password))}
	copy(s.Key[:], password)
	if addr.Is4() {
		s.Addr.Family = unix.AF_INET
		copy(s.Addr.Data[2:], addr.AsSlice()) // after the port
		return s
	}
	s.Addr.Family = unix.AF_INET6
	copy(s.Addr.Data[6:], addr.AsSlice()) // after port and flow
	return s
}

// hops is how far away a router may be.
func hops(w speaker.Session) int { return int(max(w.Hops, 1)) }

// internal is whether the router is known to be of our AS before it says so.
func internal(w speaker.Session) bool {
	return w.Relation == speaker.Internal || w.PeerASN == w.LocalASN
}
