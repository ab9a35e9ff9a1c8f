package speaker

import (
	"encoding/binary"
	"net/netip"
)

// Elect returns the node that answers for addr, or "" if nodes is empty.
//
// It is rendezvous hashing (Thaler and Ravishankar, 1998): each node scores
// (addr, node) alike, so speakers agree without talking, and a node that
// leaves gives up only its own addresses. Who is a candidate is decided
// elsewhere; see candidates.
func Elect(addr netip.Addr, nodes []string) string {
	var winner string
	var best uint64
	key := addr.As16()
	seed := mix(binary.BigEndian.Uint64(key[:8])) ^ binary.BigEndian.Uint64(key[8:])
	for _, node := range nodes {
		score := mix(hash(node) ^ mix(seed))
		if winner == "" || score > best || score == best && node < winner {
			winner, best = node, score
		}
	}
	return winner
}

// hash is 64-bit FNV-1a. All speakers of a cluster must agree on it for ever.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// mix spreads every bit of x over all others: the finalizer of SplitMix64.
// Without it FNV scores of like names and addresses are alike.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
