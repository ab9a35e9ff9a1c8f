package lab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// arpLen is the length of an Ethernet header with an ARP packet for IPv4.
const arpLen = 14 + 28

// ARP asks who has addr and returns the first answer.
func (h *Host) ARP(addr netip.Addr) (net.HardwareAddr, error) {
	for range 3 {
		answers, err := h.ask(300*time.Millisecond, []netip.Addr{addr}, true)
		if err != nil {
			return nil, err
		}
		if macs := answers[addr]; len(macs) > 0 {
			return macs[0], nil
		}
	}
	return nil, fmt.Errorf("asking for %s by ARP: no answer", addr)
}

// WhoHas asks for all of addrs at once, listens for the whole time, and
// returns every MAC address that answered for each, sorted.
func (h *Host) WhoHas(listen time.Duration, addrs ...netip.Addr) (map[netip.Addr][]net.HardwareAddr, error) {
	return h.ask(listen, addrs, false)
}

func (h *Host) ask(listen time.Duration, addrs []netip.Addr, first bool) (map[netip.Addr][]net.HardwareAddr, error) {
	sock, err := h.arpSocket()
	if err != nil {
		return nil, fmt.Errorf("opening an ARP socket: %w", err)
	}
	defer sock.Close()
	self, err := h.addr4()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if _, err := sock.Write(arpRequest(h.mac, self, a)); err != nil {
			return nil, fmt.Errorf("asking for %s: %w", a, err)
		}
	}
	if err := sock.SetReadDeadline(time.Now().Add(listen)); err != nil {
		return nil, err
	}
	answers, buf := map[netip.Addr][]net.HardwareAddr{}, make([]byte, 2048)
	for {
		n, err := sock.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return answers, nil
		}
		if err != nil {
			return answers, fmt.Errorf("listening for ARP replies: %w", err)
		}
		addr, mac, ok := arpReply(buf[:n], h.mac)
		if !ok || !slices.Contains(addrs, addr) {
			continue
		}
		at, known := slices.BinarySearchFunc(answers[addr], mac, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
		if !known {
			answers[addr] = slices.Insert(answers[addr], at, mac)
		}
		if first {
			return answers, nil
		}
	}
}

// arpSocket opens a packet socket on the host's eth0.
func (h *Host) arpSocket() (sock *os.File, err error) {
	err = h.Do(func() error {
		link, err := h.links.LinkByName("eth0")
		if err != nil {
			return err
		}
		proto := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ARP >> 8, unix.ETH_P_ARP & 0xff})
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto))
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link.Attrs().Index}); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		sock = os.NewFile(uintptr(fd), "arp")
		return nil
	})
	return sock, err
}

func (h *Host) addr4() (netip.Addr, error) {
	link, err := h.links.LinkByName("eth0")
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := h.links.AddrList(link, unix.AF_INET)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("finding the IPv4 address of %s: %w", h.Name, err)
	}
	addr, _ := netip.AddrFromSlice(addrs[0].IP.To4())
	return addr, nil
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
