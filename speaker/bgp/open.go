package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/speaker"
)

// An open is what an OPEN says (RFC 4271 §4.2), as far as it matters here.
type open struct {
	version  byte
	asn      uint32
	hold     uint16 // seconds
	id       netip.Addr
	families map[family]bool
	wide     bool // it knows numbers of four bytes (RFC 6793)
	extended bool // IPv4 routes may have an IPv6 next hop (RFC 8950)
	graceful bool // it waits for the End-of-RIB marker (RFC 4724)
}

const (
	capMultiprotocol = 1
	capRefresh       = 2
	capExtendedHop   = 5
	capRestart       = 64
	capASN           = 65
	unicast          = 1

	optionCapabilities = 2
	transition         = 23456 // stands for a number that takes four bytes
)

var errOpen = errors.New("the router's OPEN message is malformed")

func parseOpen(m message) (open, error) {
	b := m.body()
	if len(b) < 10 {
		return open{}, errOpen
	}
	o := open{
		version: b[0], asn: uint32(binary.BigEndian.Uint16(b[1:])), hold: binary.BigEndian.Uint16(b[3:]),
		id: netip.AddrFrom4([4]byte(b[5:9])), families: map[family]bool{},
	}
	multi := false
	err := eachCapability(m, func(code byte, value []byte) {
		multi = multi || code == capMultiprotocol
		o.learn(code, value)
	})
	if !multi { // RFC 4760 §8: without the capability it is IPv4
		o.families[ipv4] = true
	}
	return o, err
}

func (o *open) learn(code byte, value []byte) {
	switch {
	case code == capMultiprotocol && len(value) == 4 && value[3] == unicast:
		o.families[family(binary.BigEndian.Uint16(value))] = true
	case code == capASN && len(value) == 4:
		o.asn, o.wide = binary.BigEndian.Uint32(value), true
	case code == capExtendedHop:
		for t := range slices.Chunk(value, 6) {
			o.extended = o.extended || len(t) == 6 && t[1] == byte(ipv4) && t[3] == unicast && t[5] == byte(ipv6)
		}
	case code == capRestart:
		o.graceful = true
	}
}

// eachCapability calls do for those of an OPEN (RFC 5492), up to the first whose
// length does not fit. The values are parts of the message.
func eachCapability(m message, do func(code byte, value []byte)) error {
	options, wide, ok := options(m.body())
	if !ok {
		return errOpen
	}
	for len(options) > 0 {
		if len(options) < 2+wide {
			return errOpen
		}
		kind, n := options[0], int(options[1])
		if wide == 1 {
			n = int(binary.BigEndian.Uint16(options[1:]))
		}
		options = options[2+wide:]
		if n > len(options) {
			return errOpen
		}
		value := options[:n]
		options = options[n:]
		for kind == optionCapabilities && len(value) > 0 {
			if len(value) < 2 || int(value[1]) > len(value)-2 {
				return errOpen
			}
			n := 2 + int(value[1])
			do(value[0], value[2:n])
			value = value[n:]
		}
	}
	return nil
}

// options returns the optional parameters of an OPEN, and how many more bytes
// than one the length of each takes (RFC 9072). It is false if they are not all
// of what follows.
func options(b []byte) (parameters []byte, wide int, ok bool) {
	switch {
	case len(b) < 10:
		return nil, 0, false
	case b[9] == 255 && len(b) >= 13 && b[10] == 255:
		return b[13:], 1, len(b) == 13+int(binary.BigEndian.Uint16(b[11:]))
	}
	return b[10:], 0, len(b) == 10+int(b[9])
}

// message is what GoBGP gets in place of what the router has sent: nothing of
// that ever meets its decoder.
func (o open) message(hold uint16) message {
	var caps []byte
	add := func(code byte, value ...byte) { caps = append(append(caps, code, byte(len(value))), value...) }
	for _, f := range []family{ipv4, ipv6} {
		if o.families[f] {
			add(capMultiprotocol, 0, byte(f), 0, unicast)
		}
	}
	if len(caps) == 0 {
		add(capMultiprotocol, 0, 0, 0, 0) // none of ours, where none at all were IPv4
	}
	add(capRefresh)
	if o.extended {
		add(capExtendedHop, 0, byte(ipv4), 0, unicast, 0, byte(ipv6))
	}
	if o.graceful {
		add(capRestart, 0, 0)
	}
	as := uint16(min(o.asn, 1<<16-1))
	if o.wide {
		add(capASN, binary.BigEndian.AppendUint32(nil, o.asn)...)
	}
	if o.asn >= 1<<16 {
		as = transition
	}
	head := binary.BigEndian.AppendUint16([]byte{4}, as)
	head = append(binary.BigEndian.AppendUint16(head, hold), o.id.AsSlice()...)
	return newMessage(typeOpen, head, []byte{byte(len(caps) + 2), optionCapabilities, byte(len(caps))}, caps)
}

// stranger says so if a router is not who it has to be, and what it is told.
func stranger(o open, w speaker.Session) (notification, error) {
	bad := func(subcode byte, data []byte, text string, args ...any) (notification, error) {
		return notification{codeOpen, subcode, data}, fmt.Errorf(text, args...)
	}
	switch {
	case o.version != 4:
		return bad(openBadVersion, []byte{0, 4}, "the router speaks version %d of BGP, not 4", o.version)
	case o.asn == 0: // RFC 7607 §2
		return bad(openBadPeerAS, nil, "the router says it is AS 0, which nobody is")
	case w.PeerASN != 0 && o.asn != w.PeerASN:
		return bad(openBadPeerAS, nil, "the router says it is AS %d, and spec.peerASN is %d", o.asn, w.PeerASN)
	case w.Relation == speaker.Internal && o.asn != w.LocalASN:
		return bad(openBadPeerAS, nil, "the router says it is AS %d, and spec.peerASN is internal: it has to be ours, %d", o.asn, w.LocalASN)
	case w.Relation == speaker.External && o.asn == w.LocalASN:
		return bad(openBadPeerAS, nil, "the router says it is AS %d as we are, and spec.peerASN is external", o.asn)
	case o.id.IsUnspecified():
		return bad(openBadID, nil, "the router says its router ID is 0.0.0.0")
	case o.asn == w.LocalASN && o.id == w.RouterID: // RFC 6286 §2.2
		return bad(openBadID, nil, "the router has the router ID %s, as this node: set spec.routerID", o.id)
	case o.hold == 1 || o.hold == 2: // RFC 4271 §6.2
		return bad(openBadHold, nil, "the router wants a hold time of %d s: it has to be 0, or 3 at least", o.hold)
	}
	return notification{}, nil
}

// setHold changes the hold time of an OPEN.
func setHold(m message, seconds uint16) {
	if len(m.body()) >= 10 {
		binary.BigEndian.PutUint16(m.body()[3:], seconds)
	}
}

// preserve says in our OPEN that what was forwarded still is, which is so: the
// kernel does it, whoever lives. With restarted it also says that we are back
// from a restart (RFC 4724 §3).
func preserve(m message, restarted bool) {
	_ = eachCapability(m, func(code byte, value []byte) { // GoBGP's are well-formed
		if code != capRestart || len(value) < 2 {
			return
		}
		value[0] &^= 0x80
		if restarted {
			value[0] |= 0x80
		}
		for t := range slices.Chunk(value[2:], 4) {
			if len(t) == 4 {
				t[3] |= 0x80
			}
		}
	})
}
