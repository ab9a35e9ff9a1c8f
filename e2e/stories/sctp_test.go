package stories

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/e2e/lab"
)

func TestAnSCTPAssociationIsSteered(t *testing.T) {
	switch fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP); {
	case err == nil:
		_ = unix.Close(fd)
	case lab.InGuest():
		t.Fatalf("the guest's kernel has no sockets of SCTP: %v", err)
	default:
		t.Skipf("this kernel has no sockets of SCTP: %v", err)
	}
	l := lab.Start(t, lab.Options{})
	pod := l.Pod(2, "web", lab.PodSpec{Labels: lab.App("web")})
	for _, a := range []netip.Addr{pod.Addr4, pod.Addr6} {
		echo(t, pod.Host(), netip.AddrPortFrom(a, 8080))
	}
	l.Apply(pool("lan", addrs, "fd50::f0-fd50::ff"))
	l.Apply(service{name: "web", ports: "{port: 80, protocol: SCTP, targetPort: 8080}",
		more: "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6]"}.String())
	l.WaitAddress("web")
	for _, addr := range lab.Addresses(l.Service("web")) {
		from := netip.MustParseAddrPort("192.168.50.100:0")
		if addr.Is6() {
			from = netip.MustParseAddrPort("[fd50::100]:0")
		}
		l.Eventually("an association with "+addr.String(), func() error {
			fd := associable(t, l.Client, from)
			defer unix.Close(fd)
			if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(addr, 80))); err != nil {
				return fmt.Errorf("connecting: %w", err)
			}
			said := []byte("over SCTP")
			if _, err := unix.Write(fd, said); err != nil {
				return fmt.Errorf("writing: %w", err)
			}
			n, err := unix.Read(fd, said)
			if string(said[:max(n, 0)]) != "over SCTP" {
				err = errors.Join(err, fmt.Errorf("answered by %q", said))
			}
			return err
		})
	}
}

// associable returns a socket of SCTP at one address of the host, which waits a
// second at most. With more than one address SCTP would tell its peer of all of
// them, and no NAT knows of that.
func associable(t *testing.T, h *lab.Host, at netip.AddrPort) (fd int) {
	t.Helper()
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	err := h.Do(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	second := unix.Timeval{Sec: 1}
	if err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &second),
		unix.Bind(fd, sockaddr(at)),
	); err != nil {
		t.Fatal(err)
	}
	return fd
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// echo answers whoever asks the host with the same, until t ends.
func echo(t *testing.T, h *lab.Host, at netip.AddrPort) {
	t.Helper()
	fd := associable(t, h, at)
	if err := unix.Listen(fd, 8); err != nil {
		t.Fatal(err)
	}
	ended, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(ended)
		<-done
	})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		for {
			select {
			case <-ended:
				return
			default:
			}
			conn, _, err := unix.Accept(fd)
			if err != nil { // nobody has come within a second
				continue
			}
			buf := make([]byte, 64)
			if n, err := unix.Read(conn, buf); err == nil {
				_, _ = unix.Write(conn, buf[:n])
			}
			_ = unix.Close(conn)
		}
	}()
}
