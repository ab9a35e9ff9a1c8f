package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlSize is room for a TTL and a destination address beside a packet.
const controlSize = 128

// A mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// A batch receives many packets by one system call, into memory that it keeps:
// what golang.org/x/net offers allocates for each packet.
type batch struct {
	headers []mmsghdr
	vectors []unix.Iovec
	names   []unix.RawSockaddrInet6 // large enough for either family
	control [][controlSize]byte
}

// receive fills d with what has come and returns how many there were. zone
// names links by their index.
func (b *batch) receive(fd int, d []Datagram, zone func(uint32) string) (int, error) {
	if len(d) == 0 {
		return 0, nil
	}
	b.aim(d)
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])), uintptr(len(d)), unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errors.Is(errno, unix.EAGAIN), errors.Is(errno, unix.EINTR):
		return 0, nil
	case errno != 0:
		return 0, fmt.Errorf("recvmmsg: %w", errno)
	}
	for i := range int(n) {
		h := &b.headers[i]
		d[i].Len = min(int(h.length), len(d[i].Data))
		d[i].From = source(&b.names[i], zone)
		d[i].To, d[i].TTL = ancillary(b.control[i][:min(int(h.header.Controllen), controlSize)])
	}
	return int(n), nil
}

// aim points the headers at d. The kernel shortens lengths, so they are set
// each time.
func (b *batch) aim(d []Datagram) {
	if len(b.headers) != len(d) {
		b.headers = make([]mmsghdr, len(d))
		b.vectors = make([]unix.Iovec, len(d))
		b.names = make([]unix.RawSockaddrInet6, len(d))
		b.control = make([][controlSize]byte, len(d))
	}
	for i := range d {
		b.vectors[i].Base = &d[i].Data[0]
		b.vectors[i].SetLen(len(d[i].Data))
		h := &b.headers[i].header
		h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
		h.Namelen = unix.SizeofSockaddrInet6
		h.Iov = &b.vectors[i]
		h.SetIovlen(1)
		h.Control = &b.control[i][0]
		h.SetControllen(controlSize)
	}
}

// source returns whom a packet is from; the zero Addr if that is no IP address.
func source(name *unix.RawSockaddrInet6, zone func(uint32) string) netip.Addr {
	switch name.Family {
	case unix.AF_INET:
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr)
	case unix.AF_INET6:
		addr := netip.AddrFrom16(name.Addr)
		if name.Scope_id != 0 {
			addr = addr.WithZone(zone(name.Scope_id))
		}
		return addr
	}
	return netip.Addr{}
}

// ancillary reads control messages (cmsg(3)): where a packet was sent to, and
// what was left of its TTL; -1 if that is not said.
func ancillary(b []byte) (to netip.Addr, ttl int) {
	ttl = -1
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		length := int(h.Len)
		if length < unix.CmsgLen(0) || length > len(b) {
			return to, ttl
		}
		data := b[unix.CmsgLen(0):length]
		switch level, kind := int(h.Level), int(h.Type); {
		case level == unix.IPPROTO_IP && kind == unix.IP_TTL && len(data) >= 4,
			level == unix.IPPROTO_IPV6 && kind == unix.IPV6_HOPLIMIT && len(data) >= 4:
			ttl = int(int32(binary.NativeEndian.Uint32(data)))
		case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			to = netip.AddrFrom4([4]byte(data[8:12])) // ipi_addr, after ipi_ifindex and ipi_spec_dst
		case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			to = netip.AddrFrom16([16]byte(data[:16]))
		}
		b = b[min(unix.CmsgSpace(len(data)), len(b)):]
	}
	return to, ttl
}
