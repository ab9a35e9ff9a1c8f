package ipvs

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"strings"
	"syscall"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// answers yields the sequence number and the error of each acknowledgement in
// a datagram; the error is 0 for success. Whatever else there is, or is wrong,
// is passed over: who then misses an acknowledgement says so.
func answers(datagram []byte) iter.Seq2[uint32, syscall.Errno] {
	return func(yield func(uint32, syscall.Errno) bool) {
		for b := datagram; len(b) >= unix.SizeofNlMsghdr+4; {
			size := binary.NativeEndian.Uint32(b)
			kind := binary.NativeEndian.Uint16(b[4:])
			seq := binary.NativeEndian.Uint32(b[8:])
			code := int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:]))
			if size < unix.SizeofNlMsghdr {
				return
			}
			if kind == unix.NLMSG_ERROR && size >= unix.SizeofNlMsghdr+4 && code <= 0 {
				if !yield(seq, syscall.Errno(-int64(code))) {
					return
				}
			}
			// The last may be cut off: it repeats the command it answers.
			b = b[min(align(uint64(size)), uint64(len(b))):]
		}
	}
}

// align rounds a length up to where the next message or attribute begins.
func align(n uint64) uint64 { return (n + 3) &^ 3 }

// A message is one netlink message.
type message struct {
	kind uint16
	seq  uint32
	body []byte
}

// nextMessage returns the first message of b and what follows it.
func nextMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < unix.SizeofNlMsghdr {
		return message{}, nil, fmt.Errorf("%d bytes are no message", len(b))
	}
	size := uint64(binary.NativeEndian.Uint32(b))
	if size < unix.SizeofNlMsghdr || size > uint64(len(b)) {
		return message{}, nil, fmt.Errorf("a message of %d bytes is said to have %d", len(b), size)
	}
	m = message{
		kind: binary.NativeEndian.Uint16(b[4:]),
		seq:  binary.NativeEndian.Uint32(b[8:]),
		body: b[unix.SizeofNlMsghdr:size],
	}
	return m, b[min(align(size), uint64(len(b))):], nil
}

// status returns the error that an NLMSG_ERROR or NLMSG_DONE carries.
func (m message) status() error {
	if len(m.body) < 4 {
		return fmt.Errorf("%d bytes are no status", len(m.body))
	}
	if code := int32(binary.NativeEndian.Uint32(m.body)); code < 0 {
		return syscall.Errno(-int64(code))
	}
	return nil
}

// nextAttr returns the first attribute of b and what follows it.
func nextAttr(b []byte) (kind uint16, value, rest []byte, err error) {
	if len(b) < attrHeader {
		return 0, nil, nil, fmt.Errorf("%d bytes are no attribute", len(b))
	}
	size := uint64(binary.NativeEndian.Uint16(b))
	kind = binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	if size < attrHeader || size > uint64(len(b)) {
		return 0, nil, nil, fmt.Errorf("attribute %d of %d bytes is said to have %d", kind, len(b), size)
	}
	return kind, b[attrHeader:size], b[min(align(size), uint64(len(b))):], nil
}

// decodeService decodes the body of an answer to IPVS_CMD_GET_SERVICE, with
// everything but the statistics.
func decodeService(body []byte) (moby.Service, error) {
	var svc moby.Service
	var addr []byte
	err := attributes(body, attrService, func(kind uint16, value []byte) error {
		if kind == svcAddr {
			addr = value // of a length that the family says
			return nil
		}
		return setService(&svc, kind, value)
	})
	if err != nil {
		return moby.Service{}, fmt.Errorf("reading a service: %w", err)
	}
	return svc, setAddress(&svc, addr)
}

// attributes calls each with every attribute of the one that is nested in a body.
func attributes(body []byte, nest uint16, each func(kind uint16, value []byte) error) error {
	if len(body) < genlHeader {
		return fmt.Errorf("%d bytes are too few", len(body))
	}
	kind, attrs, _, err := nextAttr(body[genlHeader:])
	if err != nil {
		return err
	}
	if kind != nest {
		return fmt.Errorf("attribute %d is another thing", kind)
	}
	for len(attrs) > 0 {
		var value []byte
		if kind, value, attrs, err = nextAttr(attrs); err != nil {
			return err
		}
		if err := each(kind, value); err != nil {
			return err
		}
	}
	return nil
}

// destSizes are the lengths of the attributes that have one, in bytes.
var destSizes = [...]int{destPort: 2, destMethod: 4, destWeight: 4, destUpper: 4, destLower: 4, destAF: 2}

// decodeDestination decodes the body of an answer to IPVS_CMD_GET_DEST, with
// everything but the statistics. Kernels before 3.18 do not say its address
// family: it is that of its service.
func decodeDestination(body []byte, family uint16) (moby.Destination, error) {
	d := moby.Destination{AddressFamily: family}
	var addr []byte
	err := attributes(body, attrDest, func(kind uint16, value []byte) error {
		if int(kind) < len(destSizes) && destSizes[kind] != 0 && len(value) != destSizes[kind] {
			return fmt.Errorf("attribute %d has %d bytes, not %d", kind, len(value), destSizes[kind])
		}
		switch kind {
		case destAddr:
			addr = value
		case destPort:
			d.Port = binary.BigEndian.Uint16(value)
		case destMethod:
			d.ConnectionFlags = binary.NativeEndian.Uint32(value) & moby.ConnectionFlagFwdMask
		case destWeight:
			d.Weight = int(binary.NativeEndian.Uint32(value))
		case destUpper:
			d.UpperThreshold = binary.NativeEndian.Uint32(value)
		case destLower:
			d.LowerThreshold = binary.NativeEndian.Uint32(value)
		case destAF:
			d.AddressFamily = binary.NativeEndian.Uint16(value)
		}
		return nil
	})
	if err != nil {
		return moby.Destination{}, fmt.Errorf("reading a destination: %w", err)
	}
	d.Address, err = rawAddr(d.AddressFamily, addr)
	return d, err
}

// svcSizes are the lengths of the attributes that have one, in bytes.
var svcSizes = [...]int{svcAF: 2, svcProtocol: 2, svcPort: 2, svcFWMark: 4, svcFlags: 8, svcTimeout: 4, svcNetmask: 4}

// setService sets what one attribute says. Those that it does not know are
// statistics, or newer than it.
func setService(svc *moby.Service, kind uint16, value []byte) error {
	if int(kind) < len(svcSizes) && svcSizes[kind] != 0 && len(value) != svcSizes[kind] {
		return fmt.Errorf("attribute %d of a service has %d bytes, not %d", kind, len(value), svcSizes[kind])
	}
	switch kind {
	case svcAF:
		svc.AddressFamily = binary.NativeEndian.Uint16(value)
	case svcProtocol:
		svc.Protocol = binary.NativeEndian.Uint16(value)
	case svcPort:
		svc.Port = binary.BigEndian.Uint16(value)
	case svcFWMark:
		svc.FWMark = binary.NativeEndian.Uint32(value)
	case svcFlags: // struct ip_vs_flags: the flags, and a mask
		svc.Flags = binary.NativeEndian.Uint32(value)
	case svcTimeout:
		svc.Timeout = binary.NativeEndian.Uint32(value)
	case svcNetmask:
		svc.Netmask = binary.NativeEndian.Uint32(value)
	case svcScheduler:
		svc.SchedName = strings.TrimRight(string(value), "\x00")
	case svcPE:
		svc.PEName = strings.TrimRight(string(value), "\x00")
	}
	return nil
}

// setAddress sets the address of a service that is not one of a firewall mark.
func setAddress(svc *moby.Service, addr []byte) error {
	if svc.FWMark != 0 && (svc.AddressFamily == unix.AF_INET || svc.AddressFamily == unix.AF_INET6) {
		return nil
	}
	ip, err := rawAddr(svc.AddressFamily, addr)
	svc.Address = ip
	return err
}

// rawAddr returns an address of a family. The kernel sends the 16 bytes of
// union nf_inet_addr for either.
func rawAddr(family uint16, addr []byte) (net.IP, error) {
	want := 0
	switch family {
	case unix.AF_INET:
		want = 4
	case unix.AF_INET6:
		want = 16
	default:
		return nil, fmt.Errorf("reading an address: address family %d is unknown", family)
	}
	if len(addr) < want {
		return nil, fmt.Errorf("reading an address: it has %d bytes, not %d", len(addr), want)
	}
	a, _ := netip.AddrFromSlice(addr[:want])
	return a.AsSlice(), nil
}
