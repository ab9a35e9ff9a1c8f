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

// arpLen is the length of an Ethernet header with an ARP packet for IPv4.
const arpLen = 14 + 28

// askARP asks for all of addrs by broadcast.
func (h *Host) askARP(sock *os.File, addrs []netip.Addr) error {
	self, err := h.ownAddress(unix.AF_INET)
	if err != nil {
		return err
	}
	for _, a := range addrs {
		if _, err := sock.Write(arpRequest(h.mac, self, a)); err != nil {
			return fmt.Errorf("asking for %s: %w", a, err)
		}
	}
	return nil
}

// arpRequest returns the frame that asks, by broadcast, who has target.
func arpRequest(mac net.HardwareAddr, self, target netip.Addr) []byte {
	f := make([]byte, 0, arpLen)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, mac...)
	f = append(f, 0x08, 0x06)             // ARP
	f = append(f, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their lengths, request
	f = append(f, mac...)
	f = append(f, self.AsSlice()...)
	f = append(f, 0, 0, 0, 0, 0, 0)
	return append(f, target.AsSlice()...)
}

// arpReply reads a frame as a reply that was sent to mac alone.
func arpReply(f []byte, mac net.HardwareAddr) (netip.Addr, net.HardwareAddr, bool) {
	const reply = 2
	if len(f) < arpLen || !bytes.Equal(f[0:6], mac) || binary.BigEndian.Uint16(f[20:22]) != reply {
		return netip.Addr{}, nil, false
	}
	return netip.AddrFrom4([4]byte(f[28:32])), slices.Clone(net.HardwareAddr(f[22:28])), true
}

// arpVoice reads a frame as a reply to us, or as an announcement to all
// (RFC 5227 §3).
func arpVoice(f []byte, us MAC) (addr netip.Addr, mac MAC, greeting, ok bool) {
	if len(f) < arpLen || binary.BigEndian.Uint16(f[12:14]) != unix.ETH_P_ARP {
		return addr, mac, false, false
	}
	addr, mac = netip.AddrFrom4([4]byte(f[28:32])), MAC(f[22:28])
	_, _, answer := arpReply(f, us[:])
	greeting = !answer && f[0] == 0xff && bytes.Equal(f[28:32], f[38:42])
	return addr, mac, greeting, answer || greeting
}
