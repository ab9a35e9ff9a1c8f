package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// ndLen is the length of an Ethernet header with a solicitation or an
// advertisement that has one option.
const ndLen = 14 + 40 + 24 + 8

// solicit asks for all of addrs by multicast.
func (h *Host) solicit(sock *os.File, addrs []netip.Addr) error {
	self, err := h.ownAddress(unix.AF_INET6)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if _, err := sock.Write(solicitation(h.mac, self, a)); err != nil {
			return fmt.Errorf("asking for %s: %w", a, err)
		}
	}
	return nil
}

// solicitation returns the frame that asks who has target (RFC 4861 §4.3), sent
// to its solicited-node group.
func solicitation(mac net.HardwareAddr, self, target netip.Addr) []byte {
	last := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 0x02, 11: 1, 12: 0xff, 13: last[13], 14: last[14], 15: last[15]})
	message := slices.Concat([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice(), []byte{1, 1}, mac)
	f := slices.Concat([]byte{0x33, 0x33, 0xff, last[13], last[14], last[15]}, mac,
		[]byte{0x86, 0xdd, 0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255},
		self.AsSlice(), group.AsSlice(), message)
	sum := len(message) + unix.IPPROTO_ICMPV6
	for b := f[22:]; len(b) > 0; b = b[2:] {
		sum += int(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(f[56:], ^uint16(sum>>16+sum))
	return f
}

// advertisement reads a frame as an advertisement that mac alone had asked for.
func advertisement(f []byte, mac net.HardwareAddr) (netip.Addr, net.HardwareAddr, bool) {
	const solicited, targetOption = 0x40, 2
	if len(f) < ndLen || !bytes.Equal(f[0:6], mac) || f[20] != unix.IPPROTO_ICMPV6 || f[21] != 255 || f[54] != 136 ||
		f[58]&solicited == 0 || f[78] != targetOption {
		return netip.Addr{}, nil, false
	}
	return netip.AddrFrom16([16]byte(f[62:78])), slices.Clone(net.HardwareAddr(f[80:86])), true
}

// ndVoice reads a frame as an advertisement to us, or as one to all that nobody
// had asked for (RFC 4861 §7.2.6).
func ndVoice(f []byte, us MAC) (addr netip.Addr, mac MAC, greeting, ok bool) {
	if addr, hw, ok := advertisement(f, us[:]); ok {
		return addr, MAC(hw), false, true
	}
	const solicited, targetOption = 0x40, 2
	if len(f) < ndLen || f[0] != 0x33 || f[20] != unix.IPPROTO_ICMPV6 || f[54] != 136 ||
		f[58]&solicited != 0 || f[78] != targetOption {
		return addr, mac, false, false
	}
	return netip.AddrFrom16([16]byte(f[62:78])), MAC(f[80:86]), true, true
}
