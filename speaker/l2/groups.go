package l2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// groupsPerSocket keeps clear of what the kernel lets the options of one socket
// take (net.core.optmem_max, which has been as little as 20 KB).
const groupsPerSocket = 100

// groups are the multicast groups that a link listens to for us. A packet
// socket can only make the link itself take such frames in. That switches send
// them here is up to the kernel's IPv6 (MLD, RFC 3810), which listens on behalf
// of sockets: these, which receive nothing.
type groups struct {
	ns      netns.NsHandle
	index   int // of the link
	sockets []*groupSocket
	joined  map[netip.Addr]*groupSocket
}

type groupSocket struct{ fd, joined int }

// set joins want, which is sorted, and leaves all others. What fails does not stop the rest, and
// is tried again by the next set. It beats at each.
func (g *groups) set(want []netip.Addr, beat func()) error {
	var errs []error
	for group := range g.joined {
		beat()
		if _, stays := slices.BinarySearchFunc(want, group, netip.Addr.Compare); !stays {
			errs = append(errs, g.leave(group))
		}
	}
	for _, group := range want {
		beat()
		if g.joined[group] == nil {
			errs = append(errs, g.join(group))
		}
	}
	return errors.Join(errs...)
}

func (g *groups) join(group netip.Addr) error {
	s, err := g.room()
	if err != nil {
		return fmt.Errorf("opening a socket for multicast groups: %w", err)
	}
	if err := g.option(s, unix.IPV6_JOIN_GROUP, group); err != nil {
		return errors.Join(fmt.Errorf("joining multicast group %s: %w", group, err), g.drop(s))
	}
	s.joined++
	g.joined[group] = s
	return nil
}

func (g *groups) leave(group netip.Addr) error {
	s := g.joined[group]
	err := g.option(s, unix.IPV6_LEAVE_GROUP, group)
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) { // the kernel has left it already
		return fmt.Errorf("leaving multicast group %s: %w", group, err)
	}
	delete(g.joined, group)
	s.joined--
	return g.drop(s)
}

func (g *groups) option(s *groupSocket, option int, group netip.Addr) error {
	return unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, option, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.index)})
}

// room returns a socket that may join one more group.
func (g *groups) room() (*groupSocket, error) {
	if i := slices.IndexFunc(g.sockets, func(s *groupSocket) bool { return s.joined < groupsPerSocket }); i >= 0 {
		return g.sockets[i], nil
	}
	s := &groupSocket{}
	err := within(g.ns, func() (err error) {
		s.fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	g.sockets = append(g.sockets, s)
	return s, nil
}

// drop closes a socket that has nothing more to do.
func (g *groups) drop(s *groupSocket) error {
	if s.joined > 0 {
		return nil
	}
	g.sockets = slices.DeleteFunc(g.sockets, func(o *groupSocket) bool { return o == s })
	return unix.Close(s.fd)
}

// close leaves all groups.
func (g *groups) close() error {
	var errs []error
	for _, s := range g.sockets {
		errs = append(errs, unix.Close(s.fd))
	}
	g.sockets, g.joined = nil, nil
	return errors.Join(errs...)
}
