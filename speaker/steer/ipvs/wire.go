package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A wire speaks generic netlink with the IPVS of one network namespace, many
// commands in one message to the kernel. moby/ipvs makes a round trip for each;
// its types are the data here too.
//
// A wire belongs to one goroutine. It depends on one promise of the kernel,
// which handles a netlink message before sendmsg returns
// (net/netlink/af_netlink.c, netlink_unicast_kernel): whatever it answers can
// then be read without waiting, and what cannot be read will never come. So a
// wire never blocks, and needs no timeout.
type wire struct {
	batcher
	family uint16 // the number that generic netlink has for IPVS

	dial func() (wireSocket, error) // a fresh socket, for listing
}

// An op is what a command does; its number is the kernel's (linux/ip_vs.h).
type op uint8

// What a command can do. Deleting, and any change of a destination, looks at
// the identity of the service only.
const (
	opNewService op = 1
	opSetService op = 2
	opDelService op = 3
	opNewDest    op = 5
	opSetDest    op = 6
	opDelDest    op = 7
)

// A command changes one service, or one destination of it.
type command struct {
	op   op
	svc  *moby.Service
	dest *moby.Destination // nil unless op is about one
}

// openWire opens a wire into ns, which has to stay open as long as the wire.
// The family is looked up each time: its number changes if the module ip_vs is
// loaded anew.
func openWire(ns netns.NsHandle) (*wire, error) {
	family, err := netlink.GenlFamilyGet("IPVS")
	if err != nil {
		return nil, fmt.Errorf("looking for IPVS: %w", err)
	}
	in := place{ns: ns}
	b, err := openBatcher(in, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, err
	}
	return &wire{
		batcher: b, family: family.ID,
		dial: func() (wireSocket, error) { return openSocket(in, unix.NETLINK_GENERIC, dumps) },
	}, nil
}

// do gives cmds to the kernel in their order and returns what became of each.
func (w *wire) do(ctx context.Context, cmds []command) []error {
	return w.batcher.do(ctx, len(cmds), w.encoder(cmds))
}

func (w *wire) encoder(cmds []command) encoder {
	return func(b []byte, seq uint32, i int) ([]byte, error) {
		if err := check(cmds[i]); err != nil {
			return b, err
		}
		return appendCommand(b, w.family, seq, cmds[i]), nil
	}
}

// keepIdle is for how long the kernel remembers a TCP connection over which
// nothing is sent: it forgets it after 15 minutes unless told otherwise, and
// then refuses what comes next. Programs keep connections alive every two hours
// (tcp_keepalive_time), if at all.
const keepIdle = 24 * time.Hour

// remember makes the kernel remember idle TCP connections for so long.
func (w *wire) remember(ctx context.Context, idle time.Duration) error {
	return errors.Join(w.batcher.do(ctx, 1, func(b []byte, seq uint32, _ int) ([]byte, error) {
		at := len(b)
		b = appendHeader(b, w.family, seq, unix.NLM_F_ACK, cmdSetConfig)
		b = append32(b, attrTCP, uint32(idle/time.Second))
		binary.NativeEndian.PutUint32(b[at:], uint32(len(b)-at))
		return b, nil
	})...)
}
