package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
)

// Types of messages (RFC 4271 §4.1, RFC 2918).
const (
	typeOpen = iota + 1
	typeUpdate
	typeNotification
	typeKeepalive
	typeRefresh
)

const (
	headerLen  = 19
	maxMessage = 4096 // longer ones take a capability (RFC 8654) that we do not have
)

// A message is one of BGP, with its header.
type message []byte

func (m message) kind() byte   { return m[18] }
func (m message) body() []byte { return m[headerLen:] }

// newMessage returns one without a body if there are no parts.
func newMessage(kind byte, parts ...[]byte) message {
	body := slices.Concat(parts...)
	m := append(make(message, 0, headerLen+len(body)), make([]byte, headerLen)...)
	for i := range 16 {
		m[i] = 0xff
	}
	binary.BigEndian.PutUint16(m[16:], uint16(headerLen+len(body)))
	m[18] = kind
	return append(m, body...)
}

var errHeader = errors.New("what came is not BGP")

// readMessage reads the next message into buf, of maxMessage bytes.
func readMessage(r io.Reader, buf []byte) (message, error) {
	if _, err := io.ReadFull(r, buf[:headerLen]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(buf[16:]))
	if n < headerLen || n > maxMessage || slices.ContainsFunc(buf[:16], func(b byte) bool { return b != 0xff }) {
		return nil, errHeader
	}
	if _, err := io.ReadFull(r, buf[headerLen:n]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return message(buf[:n]), nil
}

// A family is an address family, unicast (RFC 4760).
type family uint16

const (
	ipv4 family = 1
	ipv6 family = 2
)

func (f family) String() string { return map[family]string{ipv4: "IPv4", ipv6: "IPv6"}[f] }

func familyOf(a netip.Addr) family {
	if a.Unmap().Is4() {
		return ipv4
	}
	return ipv6
}

// An open is what an OPEN says (RFC 4271 §4.2).
type open struct {
	asn      uint32
	hold     uint16 // seconds
	id       netip.Addr
	families map[family]bool
	// extended is whether IPv4 routes may have an IPv6 next hop (RFC 8950).
	extended bool
}

const (
	capMultiprotocol = 1
	capExtendedHop   = 5
	capRestart       = 64
	capASN           = 65
	unicast          = 1
)

func parseOpen(m message) (open, error) {
	b := m.body()
	if len(b) < 10 {
		return open{}, errors.New("OPEN is cut off")
	}
	o := open{
		asn: uint32(binary.BigEndian.Uint16(b[1:])), hold: binary.BigEndian.Uint16(b[3:]),
		id: netip.AddrFrom4([4]byte(b[5:9])), families: map[family]bool{},
	}
	for code, value := range capabilities(m) {
		o.learn(code, value)
	}
	if len(o.families) == 0 { // RFC 4760 §8: without the capability it is IPv4
		o.families[ipv4] = true
	}
	return o, nil
}

func (o *open) learn(code byte, value []byte) {
	switch {
	case code == capMultiprotocol && len(value) == 4 && value[3] == unicast:
		o.families[family(binary.BigEndian.Uint16(value))] = true
	case code == capASN && len(value) == 4:
		o.asn = binary.BigEndian.Uint32(value)
	case code == capExtendedHop:
		for t := range slices.Chunk(value, 6) {
			o.extended = o.extended || len(t) == 6 && t[1] == byte(ipv4) && t[3] == unicast && t[5] == byte(ipv6)
		}
	}
}

// capabilities returns those of an OPEN (RFC 5492), as far as it can be read.
// The values are parts of the message.
func capabilities(m message) func(yield func(byte, []byte) bool) {
	return func(yield func(byte, []byte) bool) {
		options, wide := options(m.body())
		for len(options) >= 2+wide {
			kind, n := options[0], int(options[1])
			if wide == 1 {
				n = int(binary.BigEndian.Uint16(options[1:]))
			}
			options = options[2+wide:]
			if n > len(options) {
				return
			}
			value := options[:n]
			options = options[n:]
			for kind == 2 && len(value) >= 2 && int(value[1]) <= len(value)-2 {
				if !yield(value[0], value[2:2+int(value[1])]) {
					return
				}
				value = value[2+int(value[1]):]
			}
		}
	}
}

// options returns the optional parameters of an OPEN, and how many more bytes
// than one the length of each takes (RFC 9072).
func options(b []byte) ([]byte, int) {
	if len(b) < 10 {
		return nil, 0
	}
	if n := len(b); b[9] == 255 && n >= 13 && b[10] == 255 {
		return b[13:min(n, 13+int(binary.BigEndian.Uint16(b[11:])))], 1
	}
	return b[10:min(len(b), 10+int(b[9]))], 0
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
	for code, value := range capabilities(m) {
		if code != capRestart || len(value) < 2 {
			continue
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
	}
}

// offered returns how many prefixes an UPDATE announces and withdraws. One that
// is malformed counts as far as it can be read.
func offered(m message) (announced, withdrawn int) {
	gone, b := cut16(m.body())
	attributes, nlri := cut16(b)
	announced, withdrawn = prefixes(nlri), prefixes(gone)
	for a := range attributesOf(attributes) {
		switch {
		case a.kind == attributeReach && len(a.value) >= 5:
			if at := 5 + int(a.value[3]); at <= len(a.value) {
				announced += prefixes(a.value[at:])
			}
		case a.kind == attributeUnreach && len(a.value) >= 3:
			withdrawn += prefixes(a.value[3:])
		}
	}
	return announced, withdrawn
}

// cut16 takes what a length of two bytes says, at most what there is.
func cut16(b []byte) (value, rest []byte) {
	if len(b) < 2 {
		return nil, nil
	}
	n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
	return b[2 : 2+n], b[2+n:]
}

func prefixes(b []byte) (n int) {
	for ; len(b) > 0; n++ {
		b = b[min(len(b), 1+(int(b[0])+7)/8):]
	}
	return n
}

// A notification is why a session ends (RFC 4271 §4.5).
type notification struct {
	code, subcode byte
	data          []byte
}

func parseNotification(m message) notification {
	b := m.body()
	if len(b) < 2 {
		return notification{}
	}
	return notification{b[0], b[1], slices.Clone(b[2:])}
}

func (n notification) message() message {
	return newMessage(typeNotification, []byte{n.code, n.subcode}, n.data)
}

// cease is a Cease with words (RFC 9003).
func cease(subcode byte, words string) notification {
	data := []byte(nil)
	if words != "" {
		data = append([]byte{byte(len(words))}, words...)
	}
	return notification{codeCease, subcode, data}
}

func (n notification) String() string {
	text := fmt.Sprintf("code %d, subcode %d", n.code, n.subcode)
	if name := notificationNames[[2]byte{n.code, n.subcode}]; name != "" {
		text = name
	} else if name := notificationNames[[2]byte{n.code, 0}]; name != "" {
		text = fmt.Sprintf("%s, subcode %d", name, n.subcode)
	}
	if words := n.words(); words != "" {
		text += fmt.Sprintf(": %q", words)
	}
	return text
}
