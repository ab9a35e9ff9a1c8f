package bgp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
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
		{"one too long", newMessage(typeUpdate, make([]byte, maxMessage-headerLen+1)), errLength},
		{"one too short", slices.Concat(good[:16], []byte{0, 18, 4}), errLength},
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
