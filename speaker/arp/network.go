package arp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// A network is the network namespace that an Announcer speaks for.
type network interface {
	links() ([]link, error)
	// listen opens a socket on a link that has no fault. It receives ARP
	// packets that pass the filter, and sends any frame.
	listen(l link, filter []bpf.Instruction) (conn, error)
	// watch calls ring after any change of links, until ctx ends.
	watch(ctx context.Context, ring func()) error
}

// A conn sends and receives Ethernet frames on one link. Addresses are
// [*packet.Addr].
type conn interface {
	net.PacketConn
	setFilter(filter []bpf.Instruction) error
}

// A link is a network interface. Two readings of the same link differ only
// if its socket has to be opened anew.
type link struct {
	name  string
	index int
	mac   mac
	fault string // why it cannot speak ARP now; "" if it can
}

// kernel is the real network.
type kernel struct{ ns netns.NsHandle }

func (k kernel) links() ([]link, error) {
	h, err := netlink.NewHandleAt(k.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	defer h.Close()
	found, err := linkList(h)
	if err != nil {
		return nil, err
	}
	links := make([]link, 0, len(found))
	for _, f := range found {
		attrs := f.Attrs()
		l := link{name: attrs.Name, index: attrs.Index, fault: fault(attrs)}
		copy(l.mac[:], attrs.HardwareAddr)
		links = append(links, l)
	}
	return links, nil
}

func (k kernel) watch(ctx context.Context, ring func()) error {
	return watch(ctx, k.ns, ring)
}

func (k kernel) listen(l link, filter []bpf.Instruction) (conn, error) {
	raw, err := assemble(l.index, filter)
	if err != nil {
		return nil, err
	}
	var c *packet.Conn
	err = within(k.ns, func() (err error) {
		c, err = packet.Listen(&net.Interface{Index: l.index}, packet.Raw, unix.ETH_P_ARP, &packet.Config{Filter: raw})
		return err
	})
	if err != nil {
		return nil, err
	}
	return socket{c, l.index}, nil
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
	index int
}

func (s socket) setFilter(filter []bpf.Instruction) error {
	raw, err := assemble(s.index, filter)
	if err != nil {
		return err
	}
	return s.SetBPF(raw)
}

func assemble(index int, filter []bpf.Instruction) ([]bpf.RawInstruction, error) {
	raw, err := bpf.Assemble(append(atLink(index), filter...))
	if err != nil {
		return nil, fmt.Errorf("assembling the filter: %w", err)
	}
	return raw, nil
}
