package bgp

import (
	"bytes"
	"slices"
	"testing"
	"unicode"

	wire "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// Nothing that a router sends makes a parser panic, or believe what cannot be.

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte(newMessage(typeKeepalive)))
	f.Add([]byte(slices.Concat(newMessage(typeUpdate, make([]byte, 10)), newMessage(typeKeepalive))))
	f.Add([]byte(newMessage(typeUpdate, make([]byte, maxMessage))))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, buf := bytes.NewReader(in), make([]byte, maxMessage)
		for {
			at := len(in) - r.Len()
			m, err := readMessage(r, buf)
			if err != nil {
				_, _ = badHeader(err, buf)
				_ = lost(err, true)
				return
			}
			if len(m) < headerLen || !bytes.Equal(m, in[at:at+len(m)]) || !bytes.Equal(m, newMessage(m.kind(), m.body())) {
				t.Errorf("%x at %d of %x", m, at, in)
			}
		}
	})
}

// What GoBGP gets says what the router has said, and GoBGP can read it.
func FuzzParseOpen(f *testing.F) {
	f.Add([]byte(openMessage(65001, 9, ip("192.0.2.1"), capV4, capV6, capAS, capExtended, capGraceful))[headerLen:])
	f.Add([]byte(openMessage(65001, 9, ip("192.0.2.1")))[headerLen:])
	f.Add(slices.Concat([]byte{4, 0xfd, 0xe9, 0, 9, 192, 0, 2, 1, 255, 255, 0, 9, 2, 0, 6}, capV6))
	f.Fuzz(func(t *testing.T, body []byte) {
		m := newMessage(typeOpen, body)
		if len(m) > maxMessage {
			return
		}
		o, err := parseOpen(m)
		preserve(m, true)
		setHold(m, 9)
		if err != nil {
			return
		}
		_, _ = stranger(o, base("a", "192.0.2.1"))
		_ = missing([]family{ipv4, ipv6}, nil, o)
		inner := o.message(o.hold)
		if _, err := wire.ParseBGPMessage(inner); err != nil {
			t.Errorf("GoBGP cannot read %x: %v", inner, err)
		}
		p, err := parseOpen(inner)
		if err != nil || p.asn != o.asn || p.hold != o.hold || p.id != o.id || p.wide != o.wide || p.extended != o.extended || p.graceful != o.graceful ||
			p.families[ipv4] != o.families[ipv4] || p.families[ipv6] != o.families[ipv6] {
			t.Errorf("%+v becomes %+v, %v", o, p, err)
		}
	})
}

func FuzzParseNotification(f *testing.F) {
	f.Add([]byte{6, 2, 200, 'a'})
	f.Add([]byte{6, 4, 3, 'a', '\n', 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, body []byte) {
		m := newMessage(typeNotification, body)
		if len(m) > maxMessage {
			return
		}
		n := parseNotification(m)
		for _, r := range n.words() + n.String() + refusal(n, base("a", "192.0.2.1"), ip("192.0.2.10")).Error() {
			if unicode.IsControl(r) {
				t.Errorf("%q has %U", n, r)
			}
		}
	})
}

func FuzzOffered(f *testing.F) {
	f.Add([]byte{0, 0, 0, 7, 0x90, 14, 0, 3, 0, 2, 1, 200, 1})
	f.Add([]byte{0, 2, 8, 10, 0, 0, 24, 10, 0, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		m := newMessage(typeUpdate, body)
		if len(m) > maxMessage {
			return
		}
		if a, w := offered(m); a < 0 || w < 0 || a+w > len(body) {
			t.Errorf("%d and %d prefixes in %d bytes", a, w, len(body))
		}
	})
}

func FuzzIsAnswer(f *testing.F) {
	f.Add([]byte{129, 0, 0, 0, 0, 7, 0, 0, 'h'}, 7)
	f.Add([]byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 7)
	f.Fuzz(func(t *testing.T, packet []byte, id int) {
		if isAnswer(packet, id) && packet[0] != 129 && packet[0] != 134 {
			t.Errorf("type %d is an answer", packet[0])
		}
	})
}
