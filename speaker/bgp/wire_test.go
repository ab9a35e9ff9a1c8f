package bgp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
)

func TestReadMessage(t *testing.T) {
	good := newMessage(typeKeepalive)
	long := newMessage(typeUpdate, make([]byte, maxMessage-headerLen))
	tests := []struct {
		name string
		in   []byte
		err  error
	}{
		{"a keepalive", good, nil},
		{"the longest", long, nil},
		{"one too long", newMessage(typeUpdate, make([]byte, maxMessage-headerLen+1)), errHeader},
		{"one too short", slices.Concat(good[:16], []byte{0, 18, 4}), errHeader},
		{"another marker", slices.Concat([]byte("GET / HTTP/1.1\r\n"), good[16:]), errHeader},
		{"nothing", nil, io.EOF},
		{"half a header", good[:10], io.ErrUnexpectedEOF},
		{"a header alone", long[:headerLen], io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, err := readMessage(bytes.NewReader(tt.in), make([]byte, maxMessage))
			if !errors.Is(err, tt.err) || err == nil && !bytes.Equal(m, tt.in) {
				t.Errorf("readMessage() = %v, %v, want error %v", m, err, tt.err)
			}
		})
	}
}

// openMessage makes an OPEN of capabilities.
func openMessage(asn uint16, hold uint16, id netip.Addr, capabilities ...[]byte) message {
	head := binary.BigEndian.AppendUint16([]byte{4}, asn)
	head = append(binary.BigEndian.AppendUint16(head, hold), id.AsSlice()...)
	all := slices.Concat(capabilities...)
	return newMessage(typeOpen, head, []byte{byte(len(all) + 2), 2, byte(len(all))}, all)
}

var (
	capV4       = []byte{1, 4, 0, 1, 0, 1}
	capV6       = []byte{1, 4, 0, 2, 0, 1}
	capAS       = []byte{65, 4, 0xfa, 0x56, 0xea, 1}
	capExtended = []byte{5, 6, 0, 1, 0, 1, 0, 2}
	capGraceful = []byte{64, 6, 0, 30, 0, 1, 1, 0}
)

func TestParseOpen(t *testing.T) {
	id := ip("192.0.2.1")
	o, err := parseOpen(openMessage(23456, 9, id, capV4, capV6, capAS, capExtended))
	if err != nil || o.asn != 0xfa56ea01 || o.hold != 9 || o.id != id || !o.families[ipv4] || !o.families[ipv6] || !o.extended {
		t.Errorf("parseOpen() = %+v, %v", o, err)
	}
	o, err = parseOpen(openMessage(65001, 9, id))
	if err != nil || o.asn != 65001 || !o.families[ipv4] || o.families[ipv6] || o.extended {
		t.Errorf("without capabilities: %+v, %v", o, err)
	}
	if _, err := parseOpen(newMessage(typeOpen, make([]byte, 9))); err == nil {
		t.Error("one that is cut off is taken")
	}
	// RFC 9072: the length of parameters in two bytes.
	wide := newMessage(typeOpen, []byte{4, 0xfd, 0xe9, 0, 9, 192, 0, 2, 1, 255, 255, 0, 9, 2, 0, 6}, capV6)
	if o, err := parseOpen(wide); err != nil || !o.families[ipv6] {
		t.Errorf("with wide parameters: %+v, %v", o, err)
	}
}

func TestPreserve(t *testing.T) {
	for _, restarted := range []bool{true, false} {
		m := openMessage(65001, 9, ip("192.0.2.1"), capV4, capGraceful)
		preserve(m, restarted)
		want := []byte{0, 30, 0, 1, 1, 0x80}
		if restarted {
			want[0] = 0x80
		}
		for code, value := range capabilities(m) {
			if code == capRestart && !bytes.Equal(value, want) {
				t.Errorf("restarted %t: %x, want %x", restarted, value, want)
			}
		}
	}
}

func TestOffered(t *testing.T) {
	v4 := []byte{24, 10, 0, 0, 32, 10, 0, 1, 1, 0} // 10.0.0.0/24, 10.0.1.1/32, 0.0.0.0/0
	reach := slices.Concat([]byte{0x80, 14, 26, 0, 2, 1, 16}, make([]byte, 16), []byte{0, 24, 0x20, 1, 0xd, 0})
	unreach := []byte{0x90, 15, 0, 5, 0, 2, 1, 8, 0x20}
	update := func(gone, attributes, nlri []byte) message {
		return newMessage(typeUpdate, binary.BigEndian.AppendUint16(nil, uint16(len(gone))), gone,
			binary.BigEndian.AppendUint16(nil, uint16(len(attributes))), attributes, nlri)
	}
	tests := []struct {
		name                 string
		m                    message
		announced, withdrawn int
	}{
		{"End-of-RIB", update(nil, nil, nil), 0, 0},
		{"IPv4", update(v4[:4], nil, v4), 3, 1},
		{"IPv6", update(nil, slices.Concat(reach, unreach), nil), 2, 1},
		{"an empty one", newMessage(typeUpdate), 0, 0},
		{"lengths that lie", newMessage(typeUpdate, []byte{0xff, 0xff, 24, 1, 2, 3}), 0, 1},
	}
	for _, tt := range tests {
		if a, w := offered(tt.m); a != tt.announced || w != tt.withdrawn {
			t.Errorf("%s: %d announced, %d withdrawn, want %d and %d", tt.name, a, w, tt.announced, tt.withdrawn)
		}
	}
}

// Nothing that a router sends makes a parser panic.
func FuzzMessages(f *testing.F) {
	f.Add([]byte(openMessage(65001, 9, ip("192.0.2.1"), capV4, capV6, capAS, capExtended, capGraceful))[headerLen:])
	f.Add([]byte{0, 0, 0, 7, 0x90, 14, 0, 3, 0, 2, 1, 200, 1})
	f.Add([]byte{6, 2, 200, 'a'})
	f.Fuzz(func(t *testing.T, body []byte) {
		m := newMessage(typeOpen, body)
		if len(m) > maxMessage {
			return
		}
		if o, err := parseOpen(m); err == nil {
			_, _ = stranger(o, base("a", "192.0.2.1"))
		}
		a, w := offered(m)
		if a < 0 || w < 0 || a+w > len(m) {
			t.Errorf("%d and %d prefixes in %d bytes", a, w, len(m))
		}
		_ = parseNotification(m).String()
		preserve(m, true)
		setHold(m, 9)
	})
}
