package ndp

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/ndp"

	"github.com/herald-lb/herald/speaker/l2"
)

// Where the fields of a solicitation or an advertisement stand in an Ethernet
// frame. Neither has an extension header: fragments are forbidden (RFC 6980),
// and of the others none has a use.
const (
	offEtherType     = 12
	offIP            = 14
	offPayloadLength = 18
	offNextHeader    = 20
	offHopLimit      = 21
	offSource        = 22
	offDestination   = 38
	offICMP          = 54 // type and code
	offChecksum      = 56
	offTarget        = 62
	minLength        = 78 // up to the options
)

const (
	etherType     = 0x86dd
	nextHeader    = 58  // ICMPv6
	hopLimit      = 255 // what has been routed has less (RFC 4861 §11.2)
	solicitation  = 135
	advertisement = 136
)

var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = l2.MAC{0x33, 0x33, 0, 0, 0, 1}
)

// A message is a solicitation or an advertisement, without what is constant.
type message struct {
	advertises  bool   // or else it solicits
	from, to    l2.MAC // of the Ethernet frame
	source      netip.Addr
	destination netip.Addr
	target      netip.Addr
	// mac is where the sender says that he is or, if he does not, from.
	mac l2.MAC
}

var (
	errNotND       = errors.New("neither solicitation nor advertisement over Ethernet")
	errChecksum    = errors.New("wrong checksum")
	errImplausible = errors.New("not as RFC 4861 §7.1 and RFC 4862 §5.4.3 have it")
)

// parse reads a frame as it comes from the wire. A frame with a VLAN tag
// belongs to another link, so it is not for us.
func parse(frame []byte) (message, error) {
	packet, err := checked(frame)
	if err != nil {
		return message{}, err
	}
	m := message{
		to: l2.MAC(frame), from: l2.MAC(frame[6:]),
		source:      netip.AddrFrom16([16]byte(frame[offSource:])),
		destination: netip.AddrFrom16([16]byte(frame[offDestination:])),
	}
	body, err := ndp.ParseMessage(packet)
	if err != nil {
		return message{}, err
	}
	link := ndp.Source // the direction of the option that says where he is
	var options []ndp.Option
	switch b := body.(type) {
	case *ndp.NeighborSolicitation:
		m.target, options = b.TargetAddress, b.Options
	case *ndp.NeighborAdvertisement:
		m.advertises, m.target, options, link = true, b.TargetAddress, b.Options, ndp.Target
		if b.Solicited && m.destination.IsMulticast() {
			return message{}, errImplausible
		}
	}
	m.mac = m.from
	said, ok := linkLayer(options, link)
	if ok {
		m.mac = said
	}
	return m, m.check(ok)
}

// checked returns the ICMPv6 message in a frame, if it is one of ours, whole,
// and has not been routed on its way.
func checked(frame []byte) ([]byte, error) {
	if len(frame) < minLength || binary.BigEndian.Uint16(frame[offEtherType:]) != etherType ||
		frame[offIP]>>4 != 6 || frame[offNextHeader] != nextHeader || frame[offHopLimit] != hopLimit {
		return nil, errNotND
	}
	end := offICMP + int(binary.BigEndian.Uint16(frame[offPayloadLength:]))
	if end < minLength || end > len(frame) { // beyond it is padding
		return nil, errNotND
	}
	if kind := frame[offICMP]; kind != solicitation && kind != advertisement || frame[offICMP+1] != 0 {
		return nil, errNotND
	}
	if checksum(frame[offSource:end]) != 0xffff {
		return nil, errChecksum
	}
	return frame[offICMP:end], nil
}

// checksum returns the sum of RFC 8200 §8.1 over an ICMPv6 message that follows
// both its addresses, with which the pseudo-header begins, too. It is 0xffff if
// the message bears the right one.
func checksum(b []byte) uint16 {
	sum := uint32(len(b)-(offICMP-offSource)) + nextHeader // the rest of the pseudo-header
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 > 0 {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// linkLayer returns the hardware address among options.
func linkLayer(options []ndp.Option, d ndp.Direction) (l2.MAC, bool) {
	for _, o := range options {
		if a, ok := o.(*ndp.LinkLayerAddress); ok && a.Direction == d {
			return l2.MAC(a.Addr), true // the codec takes six bytes only
		}
	}
	return l2.MAC{}, false
}

// check says whether m may be believed. says is whether its sender says in an
// option where he is.
func (m message) check(says bool) error {
	probes := !m.advertises && m.source.IsUnspecified()
	switch {
	case m.target.IsMulticast(), m.target.IsUnspecified(), m.source.IsMulticast():
	case !m.from.Plausible(), !m.mac.Plausible():
		// Answering to a group would make us shout at the whole segment on
		// behalf of a stranger.
	case probes && (says || m.destination != solicitedNode(m.target)):
	default:
		return nil
	}
	return errImplausible
}

// solicitedNode returns the group that solicitations for addr are sent to (RFC
// 4291 §2.7.1): it shares it with all that end in the same 24 bits.
func solicitedNode(addr netip.Addr) netip.Addr {
	group, a := [16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff}, addr.As16()
	copy(group[13:], a[13:])
	return netip.AddrFrom16(group)
}

// answer returns the frame that tells whoever sent m that m.target is at us. A
// probe has no source: then everybody is told (RFC 4861 §7.2.4).
func answer(m message, us l2.MAC) ([]byte, error) {
	if m.source.IsUnspecified() {
		return announcement(m.target, us)
	}
	return inform(us, m.mac, m.source, ndp.NeighborAdvertisement{Solicited: true, Override: true, TargetAddress: m.target})
}

// announcement returns the unsolicited advertisement of RFC 4861 §7.2.6. With
// Override it replaces what neighbours believed.
func announcement(addr netip.Addr, us l2.MAC) ([]byte, error) {
	return inform(us, allNodesMAC, allNodes, ndp.NeighborAdvertisement{Override: true, TargetAddress: addr})
}

// probe returns the solicitation of RFC 4862 §5.4.2: has anybody got addr? It
// comes from nobody, so that nobody learns anything from it.
func probe(addr netip.Addr, us l2.MAC) ([]byte, error) {
	group := solicitedNode(addr)
	return encode(frame{us, multicastMAC(group), netip.IPv6Unspecified(), group}, &ndp.NeighborSolicitation{TargetAddress: addr})
}

// question returns the solicitation by which a host at from asks who has addr.
func question(addr, from netip.Addr, us l2.MAC) ([]byte, error) {
	group := solicitedNode(addr)
	return encode(frame{us, multicastMAC(group), from, group}, &ndp.NeighborSolicitation{
		TargetAddress: addr, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: us[:]}},
	})
}

// inform returns the frame of an advertisement. Its source is the address
// that it is about, as it is where that is bound to a link (net/ipv6/ndisc.c,
// ndisc_send_na).
func inform(us, to l2.MAC, destination netip.Addr, na ndp.NeighborAdvertisement) ([]byte, error) {
	na.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: us[:]}}
	return encode(frame{us, to, na.TargetAddress, destination}, &na)
}

// A frame says from where to where a message goes.
type frame struct {
	us, to              l2.MAC
	source, destination netip.Addr
}

// multicastMAC is where the packets of a multicast group go to (RFC 2464 §7).
func multicastMAC(group netip.Addr) l2.MAC {
	a := group.As16()
	return l2.MAC{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// encode returns the frame of a message.
func encode(h frame, m ndp.Message) ([]byte, error) {
	message, err := ndp.MarshalMessage(m)
	if err != nil {
		return nil, err
	}
	f := make([]byte, offICMP+len(message))
	copy(f, h.to[:])
	copy(f[6:], h.us[:])
	binary.BigEndian.PutUint16(f[offEtherType:], etherType)
	f[offIP] = 6 << 4
	binary.BigEndian.PutUint16(f[offPayloadLength:], uint16(len(message)))
	f[offNextHeader], f[offHopLimit] = nextHeader, hopLimit
	source, dest := h.source.As16(), h.destination.As16()
	copy(f[offSource:], source[:])
	copy(f[offDestination:], dest[:])
	copy(f[offICMP:], message)
	binary.BigEndian.PutUint16(f[offChecksum:], ^checksum(f[offSource:]))
	return f, nil
}
