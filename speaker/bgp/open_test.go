package bgp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

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
		err := eachCapability(m, func(code byte, value []byte) {
			if code == capRestart && !bytes.Equal(value, want) {
				t.Errorf("restarted %t: %x, want %x", restarted, value, want)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}
