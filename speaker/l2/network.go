package l2

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A Network is the network namespace that an Announcer speaks for.
type Network interface {
	Links() ([]Link, error)
	// Listen opens a socket on a link that has no fault. It receives packets
	// of the protocol that pass the filter, and sends any frame.
	Listen(l Link, filter []bpf.Instruction) (Conn, error)
	// Watch calls ring after any change of links, until ctx ends.
	Watch(ctx context.Context, ring func()) error
}

// A Conn sends and receives Ethernet frames on one link. Addresses are
// [*packet.Addr].
type Conn interface {
	net.PacketConn
	SetFilter(filter []bpf.Instruction) error
	// SetGroups makes the link listen to these multicast groups, and to no
	// others that it listened to for this Conn. They are sorted. It calls beat
	// again and again while it takes.
	SetGroups(groups []netip.Addr, beat func()) error
}

// A Link is a network interface. Two readings of the same link differ only
// if its socket has to be opened anew.
type Link struct {
	Name  string
	Index int
	MAC   MAC
	Fault string // why the protocol cannot be spoken there now; "" if it can
}

// kernel is the real network.
type kernel struct {
	proto Protocol
	ns    netns.NsHandle
}

func newKernel(p Protocol, ns *netns.NsHandle) kernel {
	if ns == nil {
		return kernel{p, netns.None()}
	}
	return kernel{p, *ns}
}

// Links implements [Network].
func (k kernel) Links() ([]Link, error) {
	h, err := netlink.NewHandleAt(k.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer h.Close()
	found, err := linkList(h)
	if err != nil {
		return nil, err
	}
	links := make([]Link, 0, len(found))
	for _, f := range found {
		attrs := f.Attrs()
		l := Link{Name: attrs.Name, Index: attrs.Index, Fault: fault(attrs)}
		if l.Fault == "" && attrs.MTU < k.proto.MinMTU {
			l.Fault = fmt.Sprintf("its MTU is %d: %s takes %d", attrs.MTU, k.proto.Name, k.proto.MinMTU)
		}
		copy(l.MAC[:], attrs.HardwareAddr)
		links = append(links, l)
	}
	return links, nil
}

// Watch implements [Network].
func (k kernel) Watch(ctx context.Context, ring func()) error {
	return watch(ctx, k.ns, ring)
}

// Listen implements [Network].
func (k kernel) Listen(l Link, filter []bpf.Instruction) (Conn, error) {
	raw, err := assemble(l.Index, filter)
	if err != nil {
		return nil, err
	}
	var c *packet.Conn
	err = within(k.ns, func() (err error) {
		c, err = packet.Listen(&net.Interface{Index: l.Index}, packet.Raw, k.proto.EtherType, &packet.Config{Filter: raw})
		return err
	})
	if err == nil {
		err = makeRoom(c)
	}
	if err != nil {
		return nil, err
	}
	return socket{c, l.Index, &groups{ns: k.ns, index: l.Index, joined: map[netip.Addr]*groupSocket{}}}, nil
}

// room is how much a socket can hold that was not read yet, in bytes of the
// kernel's: thousands of packets, for a thousand addresses may be probed at once.
const room = 4 << 20

func makeRoom(c *packet.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room)
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("making room in a packet socket: %w", err)
	}
	return nil
}

// within runs open in a network namespace: sockets stay where they are made.
func within(ns netns.NsHandle, open func() error) error {
	if !ns.IsOpen() {
		return open()
	}
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("finding this network namespace: %w", err)
	}
	defer home.Close()
	if err := netns.Set(ns); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("entering a network namespace: %w", err)
	}
	opened := open()
	if err := netns.Set(home); err != nil {
		// The thread stays locked: no other goroutine may run on it any more.
		return errors.Join(opened, fmt.Errorf("leaving a network namespace: %w", err))
	}
	runtime.UnlockOSThread()
	return opened
}

// socket is a packet socket that hears its own link only.
type socket struct {
	*packet.Conn
	index  int
	groups *groups
}

// SetFilter implements [Conn].
func (s socket) SetFilter(filter []bpf.Instruction) error {
	raw, err := assemble(s.index, filter)
	if err != nil {
		return err
	}
	return s.SetBPF(raw)
}

// SetGroups implements [Conn].
func (s socket) SetGroups(want []netip.Addr, beat func()) error { return s.groups.set(want, beat) }

// Close closes the socket and leaves its groups.
func (s socket) Close() error { return errors.Join(s.Conn.Close(), s.groups.close()) }

func assemble(index int, filter []bpf.Instruction) ([]bpf.RawInstruction, error) {
	raw, err := bpf.Assemble(append(atLink(index), filter...))
	if err != nil {
		return nil, fmt.Errorf("assembling the filter: %w", err)
	}
	return raw, nil
}
