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

var (
	errHeader = errors.New("what came is not BGP")
	errLength = errors.New("what came is longer or shorter than BGP allows")
)

// readMessage reads the next message into buf, of maxMessage bytes. The header is
// there if that is what is wrong.
func readMessage(r io.Reader, buf []byte) (message, error) {
	if _, err := io.ReadFull(r, buf[:headerLen]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(buf[16:]))
	switch {
	case slices.ContainsFunc(buf[:16], func(b byte) bool { return b != 0xff }):
		return nil, errHeader
	case n < headerLen || n > maxMessage:
		return nil, errLength
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
