package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/net/icmp"
	"golang.org/x/sys/unix"
)

// ThroughTunnels sends echo requests for an address of a Service to nodes as
// the front does with what arrives for it: from self, each in a tunnel of its
// own (RFC 2003, RFC 2473 without options). A node that takes the tunnel answers
// from that address past its own tunnel. It returns which of to have answered
// within the time, all of one family; one that is missing has not got the
// tunnel, does not serve the address, or its answer is lost.
//
// It takes root, in the network namespace of the calling thread.
func ThroughTunnels(ctx context.Context, self, virtual netip.Addr, to []netip.Addr, within time.Duration) (map[netip.Addr]bool, error) {
	f := family4
	if self.Is6() {
		f = family6
	}
	out, err := net.ListenPacket(f.tunnel, self.String())
	if err != nil {
		return nil, fmt.Errorf("opening a socket for tunnels: %w", err)
	}
	defer out.Close()
	id := uint16(rand.IntN(1 << 16))
	in, err := f.overhear(id)
	if err != nil {
		return nil, err
	}
	defer unix.Close(in) // of a socket that was only read
	answered := map[netip.Addr]bool{}
	deadline := time.Now().Add(within)
	for next := time.Now(); time.Now().Before(deadline) && len(answered) < len(to) && ctx.Err() == nil; {
		if !time.Now().Before(next) { // again, for a packet may be lost
			next = time.Now().Add(within / 4)
			for i, node := range to {
				packet, err := f.request(self, virtual, id, uint16(i))
				if err != nil {
					return nil, err
				}
				// A node that cannot be sent to does not answer.
				_, _ = out.WriteTo(packet, &net.IPAddr{IP: node.AsSlice()})
			}
		}
		if err := f.hear(in, virtual, id, 50*time.Millisecond, func(seq uint16) {
			if int(seq) < len(to) {
				answered[to[seq]] = true
			}
		}); err != nil {
			return nil, err
		}
	}
	return answered, ctx.Err()
}

// request returns an IP packet with an echo request.
func (f family) request(from, to netip.Addr, id, seq uint16) ([]byte, error) {
	var pseudo []byte
	if to.Is6() {
		pseudo = icmp.IPv6PseudoHeader(from.AsSlice(), to.AsSlice())
	}
	echo, err := (&icmp.Message{Type: f.echo, Body: &icmp.Echo{ID: int(id), Seq: int(seq), Data: []byte("herald")}}).Marshal(pseudo)
	if err != nil {
		return nil, fmt.Errorf("encoding a ping: %w", err)
	}
	const hops = 64
	if to.Is6() { // RFC 8200 §3
		h := make([]byte, header6, header6+len(echo))
		h[0], h[6], h[7] = 6<<4, byte(f.proto), hops
		binary.BigEndian.PutUint16(h[4:], uint16(len(echo)))
		copy(h[8:], from.AsSlice())
		copy(h[24:], to.AsSlice())
		return append(h, echo...), nil
	}
	h := make([]byte, header4, header4+len(echo)) // RFC 791 §3.1
	h[0], h[8], h[9] = 4<<4|header4/4, hops, byte(f.proto)
	binary.BigEndian.PutUint16(h[2:], uint16(header4+len(echo)))
	copy(h[12:], from.AsSlice())
	copy(h[16:], to.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, echo...), nil
}

// Lengths of headers without options, in bytes.
const (
	header4 = 20
	header6 = 40
)

// checksum is that of an IPv4 header whose own field is zero (RFC 1071).
func checksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// overhear opens a packet socket that gets echo replies with this id from every
// link. An ordinary one would not: reverse path filters drop what comes from
// an address that the node itself leads elsewhere.
func (f family) overhear(id uint16) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("opening a packet socket: %w", err)
	}
	filter, err := f.filter(id)
	if err == nil {
		err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, filter)
	}
	if err == nil { // only now may packets come
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, f.ethertype))})
	}
	if err != nil {
		return -1, errors.Join(fmt.Errorf("setting up a packet socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// program lets in echo replies with this id.
func (f family) program(id uint16) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: f.protoOffset, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(f.proto), SkipTrue: 5},
		f.toTransport,
		bpf.LoadIndirect{Off: f.header, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(f.replyType), SkipTrue: 2},
		bpf.LoadIndirect{Off: f.header + 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(id), SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1 << 16},
	}
}

func (f family) filter(id uint16) (*unix.SockFprog, error) {
	raw, err := bpf.Assemble(f.program(id))
	if err != nil {
		return nil, err
	}
	filters := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filters[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return &unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}, nil
}

// hear reads for a while, and calls each with what an answer from virtual
// answers.
func (f family) hear(fd int, virtual netip.Addr, id uint16, wait time.Duration, each func(seq uint16)) error {
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(wait.Milliseconds())); err != nil && err != unix.EINTR {
		return fmt.Errorf("waiting for an answer: %w", err)
	}
	buf := make([]byte, 1500)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case err == unix.EAGAIN || err == unix.EINTR:
			return nil
		case err == unix.ENETDOWN: // some link
			continue
		case err != nil:
			return fmt.Errorf("reading an answer: %w", err)
		}
		if seq, ok := f.answer(buf[:n], virtual, id); ok {
			each(seq)
		}
	}
}

// answer returns which request a packet answers. It may be anything.
func (f family) answer(packet []byte, from netip.Addr, id uint16) (seq uint16, ok bool) {
	header, source := header6, 8
	if !from.Is6() {
		source = 12
		if len(packet) < header4 {
			return 0, false
		}
		header = int(packet[0]&0xf) * 4
	}
	if len(packet) < header || header < source+from.BitLen()/8 || packet[f.protoOffset] != byte(f.proto) {
		return 0, false
	}
	if a, _ := netip.AddrFromSlice(packet[source : source+from.BitLen()/8]); a != from {
		return 0, false
	}
	m, err := icmp.ParseMessage(f.proto, packet[header:])
	if err != nil || m.Type != f.reply {
		return 0, false
	}
	echo, ok := m.Body.(*icmp.Echo)
	if !ok || echo.ID != int(id) {
		return 0, false
	}
	return uint16(echo.Seq), true
}
