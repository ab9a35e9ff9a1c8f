package mh

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// A key of hsiphash, as hsiphash_key_t on 64-bit kernels.
type key [2]uint64

// The keys of generate_hash_secret in ip_vs_mh.c. The first says where a flow
// looks and where a destination begins, the second how far it strides.
var (
	key1 = key{2654435761, 2654435761}
	key2 = key{2654446892, 2654446892}
)

// hash returns hsiphash of the four bytes of v: SipHash-1-3, of which the low 32
// bits are left (hsiphash_1u32 in lib/siphash.c).
func hash(v uint32, k key) uint32 {
	v0 := 0x736f6d6570736575 ^ k[0]
	v1 := 0x646f72616e646f6d ^ k[1]
	v2 := 0x6c7967656e657261 ^ k[0]
	v3 := 0x7465646279746573 ^ k[1]
	last := 4<<56 | uint64(v) // the length, and what is left of the input: all

	v3 ^= last
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0 ^= last
	v2 ^= 0xff
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	v0, v1, v2, v3 = round(v0, v1, v2, v3)
	return uint32(v0 ^ v1 ^ v2 ^ v3)
}

// round is SIPHASH_PERMUTATION of include/linux/siphash.h.
func round(a, b, c, d uint64) (uint64, uint64, uint64, uint64) {
	a += b
	b = bits.RotateLeft64(b, 13) ^ a
	a = bits.RotateLeft64(a, 32)
	c += d
	d = bits.RotateLeft64(d, 16) ^ c
	a += d
	d = bits.RotateLeft64(d, 21) ^ a
	c += b
	b = bits.RotateLeft64(b, 17) ^ c
	c = bits.RotateLeft64(c, 32)
	return a, b, c, d
}

// fold returns what ip_vs_mh_hashkey makes of an address and a port before it
// hashes them: the address as a number, of IPv6 the exclusive or of its four
// words, plus the port. It wraps around.
func fold(addr netip.Addr, port uint16) uint32 {
	if addr.Is4() {
		b := addr.As4()
		return binary.BigEndian.Uint32(b[:]) + uint32(port)
	}
	b := addr.As16()
	var words uint32
	for i := 0; i < len(b); i += 4 {
		words ^= binary.BigEndian.Uint32(b[i:])
	}
	return words + uint32(port)
}
