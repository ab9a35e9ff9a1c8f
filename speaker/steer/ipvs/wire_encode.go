package ipvs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// Attributes of the IPVS family (linux/ip_vs.h); moby/ipvs has no names for
// them that others may use.
const (
	attrService = 1 // IPVS_CMD_ATTR_*
	attrDest    = 2
	attrTCP     = 4 // IPVS_CMD_ATTR_TIMEOUT_TCP

	svcAF        = 1 // IPVS_SVC_ATTR_*
	svcProtocol  = 2
	svcAddr      = 3
	svcPort      = 4
	svcFWMark    = 5
	svcScheduler = 6
	svcFlags     = 7
	svcTimeout   = 8
	svcNetmask   = 9
	svcPE        = 11

	destAddr   = 1 // IPVS_DEST_ATTR_*
	destPort   = 2
	destMethod = 3
	destWeight = 4
	destUpper  = 5
	destLower  = 6
	destAF     = 11
)

// Other numbers of generic netlink (linux/netlink.h, linux/genetlink.h).
const (
	cmdGetService = 4  // IPVS_CMD_GET_SERVICE
	cmdGetDest    = 8  // IPVS_CMD_GET_DEST
	cmdSetConfig  = 12 // IPVS_CMD_SET_CONFIG
	genlVersion   = 1  // IPVS_GENL_VERSION
	genlHeader    = 4  // bytes: command, version, two reserved
	attrHeader    = 4  // bytes: length, type

	// maxName is more than the kernel takes for a name. A longer one is
	// refused here, as the kernel does, so that every command fits a batch.
	maxName = 64
)

// check says why c cannot be encoded. It refuses what the kernel would read as
// something else: it takes the first bytes of an address of another family.
func check(c command) error {
	about := c.op == opNewDest || c.op == opSetDest || c.op == opDelDest
	switch {
	case c.op < opNewService || c.op > opDelDest || c.op == cmdGetService:
		return fmt.Errorf("IPVS has no command %d that changes something: %w", c.op, unix.EOPNOTSUPP)
	case c.svc == nil:
		return errors.New("a command names no service")
	case about != (c.dest != nil):
		return errors.New("a command names a destination and is not about one, or the other way round")
	case len(c.svc.SchedName) > maxName || len(c.svc.PEName) > maxName:
		return fmt.Errorf("a name is longer than %d bytes: %w", maxName, unix.ERANGE)
	}
	if c.svc.FWMark == 0 {
		if _, err := rawAddress(c.svc.Address, c.svc.AddressFamily); err != nil {
			return fmt.Errorf("address of the service: %w", err)
		}
	}
	if c.dest == nil {
		return nil
	}
	if _, err := rawAddress(c.dest.Address, destFamily(c)); err != nil {
		return fmt.Errorf("address of the destination: %w", err)
	}
	if c.dest.Weight < 0 || c.dest.Weight > math.MaxInt32 {
		return fmt.Errorf("weight %d: %w", c.dest.Weight, unix.ERANGE)
	}
	return nil
}

// destFamily returns the address family of c's destination, which is its
// service's unless it says otherwise.
func destFamily(c command) uint16 {
	if c.dest.AddressFamily != 0 {
		return c.dest.AddressFamily
	}
	return c.svc.AddressFamily
}

// rawAddress returns ip as the kernel wants an address of a family.
func rawAddress(ip net.IP, family uint16) ([]byte, error) {
	switch {
	case family != unix.AF_INET && family != unix.AF_INET6:
		return nil, fmt.Errorf("IPVS has no address family %d: %w", family, unix.EAFNOSUPPORT)
	case family == unix.AF_INET && ip.To4() != nil:
		return ip.To4(), nil
	case family == unix.AF_INET6 && len(ip) == net.IPv6len:
		return ip, nil
	}
	return nil, fmt.Errorf("%v is none of address family %d: %w", []byte(ip), family, unix.EINVAL)
}

// appendCommand appends c, which check has passed, as one message of a family.
func appendCommand(b []byte, family uint16, seq uint32, c command) []byte {
	at := len(b)
	b = appendHeader(b, family, seq, unix.NLM_F_ACK, uint8(c.op))
	b = appendService(b, c.svc, c.op == opNewService || c.op == opSetService)
	if c.dest != nil {
		b = appendDestination(b, c)
	}
	binary.NativeEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

// appendHeader appends the head of a message; its length is left to be set.
func appendHeader(b []byte, family uint16, seq uint32, flags uint16, cmd uint8) []byte {
	b = append(b, 0, 0, 0, 0)
	b = binary.NativeEndian.AppendUint16(b, family)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST|flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0) // the port: the kernel knows it
	return append(b, cmd, genlVersion, 0, 0)
}

// appendService appends the identity of svc, and if whole is set the rest.
// Everything is in the order of moby/ipvs.
func appendService(b []byte, svc *moby.Service, whole bool) []byte {
	at := len(b)
	b = appendAttr(b, attrService, 0)
	b = append16(b, svcAF, svc.AddressFamily)
	if svc.FWMark != 0 {
		b = append32(b, svcFWMark, svc.FWMark)
	} else {
		b = append16(b, svcProtocol, svc.Protocol)
		b = appendAddress(b, svcAddr, svc.Address, svc.AddressFamily)
		b = appendPort(b, svcPort, svc.Port)
	}
	if whole {
		b = appendName(b, svcScheduler, svc.SchedName)
		if svc.PEName != "" {
			b = appendName(b, svcPE, svc.PEName)
		}
		// struct ip_vs_flags: the flags, and which of them to set. A service
		// that claims to be hashed already would not be hashed, and so never
		// be found, by kernels that believe it.
		b = appendAttr(b, svcFlags, 8)
		b = binary.NativeEndian.AppendUint32(b, svc.Flags&^flagHashed)
		b = binary.NativeEndian.AppendUint32(b, math.MaxUint32)
		b = append32(b, svcTimeout, svc.Timeout)
		b = append32(b, svcNetmask, svc.Netmask)
	}
	return endAttr(b, at)
}

// appendDestination appends the identity of c's destination, and the rest
// unless it is to be deleted. moby/ipvs leaves the address family out, and the
// kernel then takes the service's.
func appendDestination(b []byte, c command) []byte {
	at, d := len(b), c.dest
	b = appendAttr(b, attrDest, 0)
	b = appendAddress(b, destAddr, d.Address, destFamily(c))
	b = appendPort(b, destPort, d.Port)
	if c.op != opDelDest {
		b = append32(b, destMethod, d.ConnectionFlags&moby.ConnectionFlagFwdMask)
		b = append32(b, destWeight, uint32(d.Weight))
		b = append32(b, destUpper, d.UpperThreshold)
		b = append32(b, destLower, d.LowerThreshold)
	}
	b = append16(b, destAF, destFamily(c))
	return endAttr(b, at)
}

// appendAttr appends the head of an attribute with size bytes to come.
func appendAttr(b []byte, kind uint16, size int) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(attrHeader+size))
	return binary.NativeEndian.AppendUint16(b, kind)
}

// endAttr sets the length of the attribute that begins at b[at].
func endAttr(b []byte, at int) []byte {
	binary.NativeEndian.PutUint16(b[at:], uint16(len(b)-at))
	return b
}

func append16(b []byte, kind, v uint16) []byte {
	b = appendAttr(b, kind, 2)
	b = binary.NativeEndian.AppendUint16(b, v)
	return append(b, 0, 0)
}

func append32(b []byte, kind uint16, v uint32) []byte {
	return binary.NativeEndian.AppendUint32(appendAttr(b, kind, 4), v)
}

func appendPort(b []byte, kind, port uint16) []byte {
	b = appendAttr(b, kind, 2)
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, 0, 0)
}

func appendAddress(b []byte, kind uint16, ip net.IP, family uint16) []byte {
	raw, _ := rawAddress(ip, family) // check has seen to it
	return append(appendAttr(b, kind, len(raw)), raw...)
}

// appendName appends a name with the zero byte that ends it.
func appendName(b []byte, kind uint16, name string) []byte {
	b = appendAttr(b, kind, len(name)+1)
	b = append(append(b, name...), 0)
	for len(b)%4 != 0 { // every message begins at a multiple of 4
		b = append(b, 0)
	}
	return b
}
