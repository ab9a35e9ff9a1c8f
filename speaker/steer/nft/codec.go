package nft

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// errMalformed is a listed element that Herald cannot have made.
var errMalformed = errors.New("malformed element")

// A key of several fields pads each to a register of four bytes; what is
// loaded from a packet is in network order (nft_payload.c).

func appendAddr(b []byte, a netip.Addr) []byte { return append(b, a.AsSlice()...) }

func appendPort(b []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(b, port), 0, 0)
}

// serverKey is the key of v in servers4 or servers6.
func serverKey(v steer.Virtual) []byte {
	b := make([]byte, 0, 48)
	b = appendAddr(b, v.Addr.Addr())
	b = append(b, byte(v.Proto), 0, 0, 0)
	return appendPort(b, v.Addr.Port())
}

// slotKey is the key of one slot of v in ends4 or ends6, and of an id in live4
// or live6. The slot is a number that numgen and hash leave in a register, hence
// in the order of the host.
func slotKey(v steer.Virtual, slot uint32) []byte {
	return binary.NativeEndian.AppendUint32(serverKey(v), slot)
}

// target is a destination as a value in ends4 or ends6.
func target(real netip.AddrPort) []byte {
	return appendPort(appendAddr(make([]byte, 0, 20), real.Addr()), real.Port())
}

// idleKey is the key of a destination of weight 0 in idle4 or idle6.
func idleKey(v steer.Virtual, real netip.AddrPort) []byte {
	return append(serverKey(v), target(real)...)
}

// cutTarget reads what target has written, and returns what follows.
func (f family) cutTarget(b []byte) (netip.AddrPort, []byte, error) {
	n := f.addrLen()
	if len(b) < n+4 {
		return netip.AddrPort{}, nil, errMalformed
	}
	addr, _ := netip.AddrFromSlice(b[:n])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[n:])), b[n+4:], nil
}

// cutServer reads what serverKey has written, and returns what follows.
func (f family) cutServer(b []byte) (steer.Virtual, []byte, error) {
	n := f.addrLen()
	if len(b) < n+8 {
		return steer.Virtual{}, nil, errMalformed
	}
	addr, _ := netip.AddrFromSlice(b[:n])
	port := binary.BigEndian.Uint16(b[n+4:])
	v := steer.Virtual{Addr: netip.AddrPortFrom(addr, port), Proto: snapshot.Proto(b[n])}
	return v, b[n+8:], nil
}

// cutSlotKey reads what slotKey has written.
func (f family) cutSlotKey(b []byte) (steer.Virtual, uint32, error) {
	v, rest, err := f.cutServer(b)
	if err != nil {
		return v, 0, err
	}
	n, err := cutSlot(rest)
	return v, n, err
}

// cutSlot reads the end of what slotKey has written.
func cutSlot(b []byte) (uint32, error) {
	if len(b) != 4 {
		return 0, errMalformed
	}
	return binary.NativeEndian.Uint32(b), nil
}

// verdictChain reads the chain out of a listed verdict: the attributes of
// NFTA_DATA_VERDICT, which google/nftables hands on as they are.
func verdictChain(b []byte) (string, error) {
	for len(b) >= unix.NLA_HDRLEN {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.NLA_HDRLEN || size > len(b) {
			return "", errMalformed
		}
		if binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED == unix.NFTA_VERDICT_CHAIN {
			return strings.TrimRight(string(b[unix.NLA_HDRLEN:size]), "\x00"), nil
		}
		b = b[min(len(b), (size+3)&^3):] // attributes are aligned to four bytes
	}
	return "", errMalformed
}
