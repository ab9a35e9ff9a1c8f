package mh

import (
	"net/netip"
	"testing"
)

// The kernel tests itself with this key and input (lib/siphash_kunit.c).
func TestHashIsTheKernels(t *testing.T) {
	got := hash(0x03020100, key{0x0706050403020100, 0x0f0e0d0c0b0a0908})
	if want := uint32(0x88d38328); got != want {
		t.Errorf("hash() = %#x, want %#x", got, want)
	}
}

func TestFold(t *testing.T) {
	tests := []struct {
		name, addr string
		port       uint16
		want       uint32
	}{
		{"IPv4 is a number", "192.0.2.1", 0, 0xc0000201},
		{"the port is added as a number too", "192.0.2.1", 80, 0xc0000251},
		{"the sum wraps around", "255.255.255.255", 2, 1},
		{"IPv6 is the exclusive or of its words", "2001:db8:1:2:3:4:5:6", 0, 0x20010db8 ^ 0x00010002 ^ 0x00030004 ^ 0x00050006},
		{"IPv6 has a port as well", "::1", 65535, 0x10000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fold(netip.MustParseAddr(tt.addr), tt.port); got != tt.want {
				t.Errorf("fold(%s, %d) = %#x, want %#x", tt.addr, tt.port, got, tt.want)
			}
		})
	}
}
