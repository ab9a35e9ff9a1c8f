package bgp

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
)

// An update is an UPDATE (RFC 4271 §4.3, RFC 4760 §3) that says one thing of some
// prefixes.
type update struct {
	at         placement
	attributes []byte // but for that which has the prefixes
	head       []byte // what stands before the prefixes in that: family, next hop
	prefixes   []byte
}

// A placement is where the prefixes of an UPDATE stand.
type placement uint8

const (
	inWithdrawn placement = iota + 1
	inNLRI
	inReach
	inUnreach
)

// parseUpdate is false for an UPDATE that says more than one thing, or nothing.
// The parts of u are those of the message.
func parseUpdate(m message) (u update, ok bool) {
	gone, b := cut16(m.body())
	attributes, nlri := cut16(b)
	things := 0
	says := func(at placement, head, prefixes []byte) {
		if len(prefixes) > 0 {
			u.at, u.head, u.prefixes = at, head, prefixes
			things++
		}
	}
	says(inWithdrawn, nil, gone)
	says(inNLRI, nil, nlri)
	before, after := attributes, []byte(nil)
	for a := range attributesOf(attributes) {
		at := map[byte]placement{attributeReach: inReach, attributeUnreach: inUnreach}[a.kind]
		if at == 0 {
			continue
		}
		n := 3
		if at == inReach && len(a.value) >= 5 {
			n = 5 + int(a.value[3])
		}
		if n >= len(a.value) {
			return update{}, false
		}
		says(at, a.value[:n], a.value[n:])
		before, after = attributes[:a.from], attributes[a.to:]
	}
	u.attributes = before
	if len(after) > 0 {
		u.attributes = slices.Concat(before, after)
	}
	return u, things == 1
}

// An attribute is one of an UPDATE: what it says, and where it stands.
type attribute struct {
	kind     byte
	value    []byte
	from, to int
}

// attributesOf returns attributes as far as they can be read.
func attributesOf(all []byte) iter.Seq[attribute] {
	return func(yield func(attribute) bool) {
		for b := all; len(b) >= 3; {
			a := attribute{kind: b[1], from: len(all) - len(b)}
			if b[0]&flagExtended != 0 {
				a.value, b = cut16(b[2:])
			} else {
				n := min(int(b[2]), len(b)-3)
				a.value, b = b[3:3+n], b[3+n:]
			}
			a.to = len(all) - len(b)
			if !yield(a) {
				return
			}
		}
	}
}

// like is whether two say the same, of whatever prefixes.
func (u update) like(v update) bool {
	return u.at == v.at && bytes.Equal(u.head, v.head) && bytes.Equal(u.attributes, v.attributes)
}

// size is the length of the message, or a little more.
func (u update) size() int {
	return headerLen + 8 + len(u.attributes) + len(u.head) + len(u.prefixes)
}

// message has the attribute with the prefixes first (RFC 7606 §5.1).
func (u update) message() message {
	var gone, first, nlri []byte
	switch u.at {
	case inWithdrawn:
		gone = u.prefixes
	case inNLRI:
		nlri = u.prefixes
	case inReach, inUnreach:
		kind := map[placement]byte{inReach: attributeReach, inUnreach: attributeUnreach}[u.at]
		first = append(binary.BigEndian.AppendUint16([]byte{flagOptional | flagExtended, kind}, uint16(len(u.head)+len(u.prefixes))), u.head...)
		first = append(first, u.prefixes...)
	}
	return newMessage(typeUpdate, long(gone), gone, long(first, u.attributes), first, u.attributes, nlri)
}

// long is a length in two bytes.
func long(parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	return binary.BigEndian.AppendUint16(nil, uint16(n))
}

// A packer makes one UPDATE of those that follow each other and say the same.
// GoBGP does so only as a session comes up, and never for IPv6: a router would
// have as many messages to read as there are routes.
type packer struct {
	out  []byte // what goes out before last
	last update // may get more prefixes yet; none if at is 0
}

// add takes the next message, which it does not keep.
func (p *packer) add(m message) {
	u, ok := update{}, false
	if m.kind() == typeUpdate {
		u, ok = parseUpdate(m)
	}
	if ok && p.last.like(u) && p.last.size()+len(u.prefixes) <= maxMessage {
		p.last.prefixes = append(p.last.prefixes, u.prefixes...)
		return
	}
	p.settle()
	if !ok {
		p.out = append(p.out, m...)
		return
	}
	p.last = update{u.at, slices.Clone(u.attributes), slices.Clone(u.head), slices.Clone(u.prefixes)}
}

func (p *packer) settle() {
	if p.last.at != 0 {
		p.out = append(p.out, p.last.message()...)
		p.last = update{}
	}
}

// full is whether there is enough for one go.
func (p *packer) full() bool { return len(p.out) >= 4*maxMessage }

// take returns all that was added, until the next add.
func (p *packer) take() []byte {
	p.settle()
	out := p.out
	p.out = p.out[:0]
	return out
}
