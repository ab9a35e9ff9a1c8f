package ipvs

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// sendBuffer bounds the commands of one batch, in bytes: some 500.
	sendBuffer = 64 << 10
	// receiveBuffer is what a socket asks for, in bytes. The kernel charges
	// some 800 bytes for an acknowledgement of 36.
	receiveBuffer = 2 << 20
	// chargePerAck is more than the kernel charges the receive buffer for any
	// acknowledgement (SKB_TRUESIZE of include/linux/skbuff.h).
	chargePerAck = 2 << 10
)

// A socketShape is what a socket reads with one system call: up to some
// datagrams of up to size bytes. What is longer is cut off.
type socketShape struct{ datagrams, size int }

var (
	// acknowledgements are 36 bytes long. Of the longer ones that kernels
	// before 4.3 send for errors, nothing behind those is of interest.
	acknowledgements = socketShape{128, 64}
	// dumps are as long as the buffer of their reader, up to 32 KiB
	// (net/netlink/af_netlink.c, netlink_recvmsg).
	dumps = socketShape{4, 32 << 10}
)

// A kernelSocket is a netlink socket that never blocks. It is
// connected to the kernel: nobody else can send to it.
type kernelSocket struct {
	fd   int
	slab []byte // all buffers in one
	vec  []unix.Iovec
	msgs []mmsghdr
	got  [][]byte
}

// An mmsghdr is struct mmsghdr of recvmmsg(2), which x/sys/unix lacks.
type mmsghdr struct {
	unix.Msghdr
	len uint32 // of what was received, in bytes
}

// openSocket opens a socket of a netlink protocol and of a shape inside a place.
func openSocket(in place, protocol int, shape socketShape) (*kernelSocket, error) {
	s := newKernelSocket(shape)
	err := in.do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	if err := s.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("setting up netlink: %w", err), s.close())
	}
	return s, nil
}

func newKernelSocket(shape socketShape) *kernelSocket {
	s := &kernelSocket{
		fd:   -1,
		slab: make([]byte, shape.datagrams*shape.size),
		vec:  make([]unix.Iovec, shape.datagrams),
		msgs: make([]mmsghdr, shape.datagrams),
		got:  make([][]byte, 0, shape.datagrams),
	}
	for i := range s.msgs {
		s.vec[i].Base = &s.slab[i*shape.size]
		s.vec[i].SetLen(shape.size)
		s.msgs[i].Iov = &s.vec[i]
		s.msgs[i].SetIovlen(1)
	}
	return s
}

func (s *kernelSocket) setUp() error {
	for _, o := range []struct{ force, plain, size int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer},
		{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 2 * sendBuffer},
	} {
		// Beyond net.core.[rw]mem_max only for root of the first user
		// namespace; others get what there is, see limit.
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o.force, o.size) == nil {
			continue
		}
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, o.plain, o.size); err != nil {
			return err
		}
	}
	// Kernels before 4.3 cannot leave the command out of an error's answer:
	// then it is cut off here.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return unix.Connect(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// limit returns how large a batch may be so that it fits into what the kernel
// has granted, and so that no answer to it is dropped.
func (s *kernelSocket) limit() (wireLimit, error) {
	sndbuf, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	if err != nil {
		return wireLimit{}, fmt.Errorf("asking for the size of the send buffer: %w", err)
	}
	rcvbuf, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if err != nil {
		return wireLimit{}, fmt.Errorf("asking for the size of the receive buffer: %w", err)
	}
	// netlink_sendmsg keeps 32 bytes of the buffer for itself.
	return wireLimit{bytes: min(sendBuffer, sndbuf-32), commands: max(1, rcvbuf/chargePerAck)}, nil
}

func (s *kernelSocket) send(datagram []byte) error {
	_, err := unix.Write(s.fd, datagram)
	return err
}

// receive implements [wireSocket] with recvmmsg(2): one system call for many
// acknowledgements, each of which is a datagram.
func (s *kernelSocket) receive() ([][]byte, error) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(s.fd),
		uintptr(unsafe.Pointer(&s.msgs[0])), uintptr(len(s.msgs)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return nil, errno
	}
	s.got = s.got[:0]
	size := len(s.slab) / len(s.msgs)
	for i := range s.msgs[:n] {
		at := i * size
		s.got = append(s.got, s.slab[at:at+min(size, int(s.msgs[i].len))])
	}
	return s.got, nil
}

func (s *kernelSocket) close() error { return unix.Close(s.fd) }

var _ wireSocket = (*kernelSocket)(nil)
