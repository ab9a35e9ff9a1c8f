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

// Find asks the segment who has addr, by ARP or Neighbor Discovery, and returns
// the first answer. It asks again for as long as hosts are patient.
func (h *Host) Find(addr netip.Addr) (net.HardwareAddr, error) {
	const once = 300 * time.Millisecond
	for range patience / once {
		answers, err := h.ask(once, []netip.Addr{addr}, true)
		if err != nil {
			return nil, err
		}
		if macs := answers[addr]; len(macs) > 0 {
			return macs[0], nil
		}
	}
	return nil, fmt.Errorf("asking for %s: no answer", addr)
}

// WhoHas asks for all of addrs at once, listens for the whole time, and
// returns every MAC address that answered for each, sorted.
func (h *Host) WhoHas(listen time.Duration, addrs ...netip.Addr) (map[netip.Addr][]net.HardwareAddr, error) {
	return h.ask(listen, addrs, false)
}

// An asking is one of the two protocols by which neighbours are found.
type asking struct {
	etherType uint16
	ask       func(sock *os.File, addrs []netip.Addr) error
	// read reads a frame as an answer to the host that has this MAC address.
	read func(frame []byte, mac net.HardwareAddr) (netip.Addr, net.HardwareAddr, bool)
}

func (h *Host) ask(listen time.Duration, addrs []netip.Addr, first bool) (map[netip.Addr][]net.HardwareAddr, error) {
	var four, six []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	answers, end := map[netip.Addr][]net.HardwareAddr{}, time.Now().Add(listen)
	var errs []error
	if len(four) > 0 {
		errs = append(errs, h.askBy(asking{unix.ETH_P_ARP, h.askARP, arpReply}, answers, end, four, first))
	}
	if len(six) > 0 {
		if len(four) > 0 { // one after the other: each listens as long
			end = time.Now().Add(listen)
		}
		errs = append(errs, h.askBy(asking{unix.ETH_P_IPV6, h.solicit, advertisement}, answers, end, six, first))
	}
	return answers, errors.Join(errs...)
}

func (h *Host) askBy(by asking, answers map[netip.Addr][]net.HardwareAddr, end time.Time, addrs []netip.Addr, first bool) error {
	sock, err := h.packetSocket(by.etherType)
	if err != nil {
		return fmt.Errorf("opening a packet socket: %w", err)
	}
	defer sock.Close()
	if err := by.ask(sock, addrs); err != nil {
		return err
	}
	if err := sock.SetReadDeadline(end); err != nil {
		return err
	}
	for buf := make([]byte, 2048); ; {
		n, err := sock.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listening for answers: %w", err)
		}
		addr, mac, ok := by.read(buf[:n], h.mac)
		if !ok || !slices.Contains(addrs, addr) {
			continue
		}
		at, known := slices.BinarySearchFunc(answers[addr], mac, func(a, b net.HardwareAddr) int { return bytes.Compare(a, b) })
		if !known {
			answers[addr] = slices.Insert(answers[addr], at, mac)
		}
		if first {
			return nil
		}
	}
}

// ownAddress returns what the host has on eth0 of a family, link-local ones aside.
func (h *Host) ownAddress(family int) (netip.Addr, error) {
	link, err := h.links.LinkByName("eth0")
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := h.links.AddrList(link, family)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if addr, ok := netip.AddrFromSlice(a.IP); ok && addr.Unmap().IsGlobalUnicast() {
			return addr.Unmap(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("finding an address of %s: there is none", h.Name)
}

// packetSocket opens a packet socket on the host's eth0.
func (h *Host) packetSocket(etherType uint16) (sock *os.File, err error) {
	err = h.Do(func() error {
		link, err := h.links.LinkByName("eth0")
		if err != nil {
			return err
		}
		proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, etherType))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto))
		if err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: link.Attrs().Index}); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		sock = os.NewFile(uintptr(fd), "packet socket")
		return nil
	})
	return sock, err
}
