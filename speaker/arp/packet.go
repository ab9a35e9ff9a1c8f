package arp

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"

	"github.com/herald-lb/herald/speaker/l2"
)

var broadcast = l2.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// A message is an ARP packet for IPv4 on Ethernet, without what is constant.
type message struct {
	op                 arp.Operation
	senderMAC          l2.MAC
	senderIP, targetIP netip.Addr
	destination        l2.MAC // of the Ethernet frame
}

var (
	errNotARP      = errors.New("not ARP for IPv4 on Ethernet")
	errImplausible = errors.New("sender has no hardware address of its own")
)

// parse reads a frame as it comes from the wire. A frame with a VLAN tag
// belongs to another link, so it is not for us either.
func parse(frame []byte) (message, error) {
	var f ethernet.Frame
	if err := f.UnmarshalBinary(frame); err != nil {
		return message{}, err
	}
	if f.EtherType != ethernet.EtherTypeARP || f.VLAN != nil || f.ServiceVLAN != nil {
		return message{}, errNotARP
	}
	// The lengths are checked first: the codec believes any.
	if len(f.Payload) < 28 || f.Payload[4] != 6 || f.Payload[5] != 4 {
		return message{}, errNotARP
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(f.Payload); err != nil {
		return message{}, err
	}
	if p.HardwareType != 1 || p.ProtocolType != uint16(ethernet.EtherTypeIPv4) ||
		(p.Operation != arp.OperationRequest && p.Operation != arp.OperationReply) {
		return message{}, errNotARP
	}
	m := message{p.Operation, l2.MAC(p.SenderHardwareAddr), p.SenderIP, p.TargetIP, l2.MAC(f.Destination)}
	// RFC 1812 §3.3.2: no believing in group addresses. Answering to one
	// would make us shout at the whole segment on behalf of a stranger.
	if !m.senderMAC.Plausible() {
		return message{}, errImplausible
	}
	return m, nil
}

// answer returns the frame that tells whoever sent m that m.targetIP is at
// us. It is addressed to the sender in the packet, as the kernel does
// (net/ipv4/arp.c, arp_process). A probe has no sender IP: then the answer
// has no target IP, which is what RFC 5227 §2.1.1 listens for.
func answer(m message, us l2.MAC) ([]byte, error) {
	return encode(message{arp.OperationReply, us, m.targetIP, m.senderIP, m.senderMAC}, m.senderMAC)
}

// announcement returns the gratuitous request of RFC 5227 §2.3: addr is at us.
func announcement(addr netip.Addr, us l2.MAC) ([]byte, error) {
	return encode(message{arp.OperationRequest, us, addr, addr, broadcast}, l2.MAC{})
}

// probe returns the request of RFC 5227 §2.1: has anybody got addr? Nobody
// learns anything from it.
func probe(addr netip.Addr, us l2.MAC) ([]byte, error) {
	return question(addr, netip.IPv4Unspecified(), us)
}

// question returns the request by which a host at from asks who has addr.
func question(addr, from netip.Addr, us l2.MAC) ([]byte, error) {
	return encode(message{arp.OperationRequest, us, from, addr, broadcast}, l2.MAC{})
}

// gratuitousReply returns the same as an unasked reply, for hosts that take
// no notice of the other form. Its target is as in RFC 5944 §4.6.
func gratuitousReply(addr netip.Addr, us l2.MAC) ([]byte, error) {
	return encode(message{arp.OperationReply, us, addr, addr, broadcast}, us)
}

// encode returns the frame of m, with target as target hardware address.
func encode(m message, target l2.MAC) ([]byte, error) {
	p, err := arp.NewPacket(m.op, m.senderMAC[:], m.senderIP, target[:], m.targetIP)
	if err != nil {
		return nil, err
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, err
	}
	f := ethernet.Frame{
		Destination: m.destination[:],
		Source:      m.senderMAC[:],
		EtherType:   ethernet.EtherTypeARP,
		Payload:     payload,
	}
	return f.MarshalBinary()
}

// number returns an IPv4 address as a number, the way BPF compares it.
func number(addr netip.Addr) uint32 {
	b := addr.As4()
	return binary.BigEndian.Uint32(b[:])
}
