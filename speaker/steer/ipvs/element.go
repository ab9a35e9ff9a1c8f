package ipvs

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// chunk is how many elements one message carries: its attribute must stay
// below 64 KiB.
const chunk = 500

// snatSet returns the set that says whether v wants SNAT.
func snatSet(v steer.Virtual) *nftables.Set {
	if v.Addr.Addr().Is4() {
		return snat4
	}
	return snat6
}

// snatKey encodes v as a key of its snatSet: each part fills up to 4 bytes.
func snatKey(v steer.Virtual) []byte {
	key := append(v.Addr.Addr().AsSlice(), byte(v.Proto), 0, 0, 0)
	key = binary.BigEndian.AppendUint16(key, v.Addr.Port())
	return append(key, 0, 0)
}

// parseSNATKey is the reverse of snatKey.
func parseSNATKey(key []byte) (steer.Virtual, error) {
	if len(key) != 12 && len(key) != 24 {
		return steer.Virtual{}, fmt.Errorf("a key of %d bytes is none of a server", len(key))
	}
	rest := key[len(key)-8:]
	addr, _ := netip.AddrFromSlice(key[:len(key)-8])
	port := binary.BigEndian.Uint16(rest[4:])
	return steer.Virtual{Addr: netip.AddrPortFrom(addr, port), Proto: snapshot.Proto(rest[0])}, nil
}

// podSet returns the set that p is kept in.
func podSet(p netip.Prefix) *nftables.Set {
	if p.Addr().Is4() {
		return pods4
	}
	return pods6
}

// interval encodes p as elements: where it begins, and where it has ended. The
// last prefix of all addresses has no end.
func interval(p netip.Prefix) []nftables.SetElement {
	elements := []nftables.SetElement{{Key: p.Addr().AsSlice()}}
	if end, ok := prefixEnd(p); ok {
		elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
	}
	return elements
}

// parseIntervals returns the prefixes that elements are the intervals of, in
// whatever order the kernel lists them. An interval that is no prefix is left
// out: Herald has not put it there.
func parseIntervals(elements []nftables.SetElement) []netip.Prefix {
	var begins, ends []netip.Addr
	for _, e := range elements {
		a, ok := netip.AddrFromSlice(e.Key)
		switch {
		case !ok:
		case e.IntervalEnd:
			ends = append(ends, a)
		default:
			begins = append(begins, a)
		}
	}
	slices.SortFunc(begins, netip.Addr.Compare)
	slices.SortFunc(ends, netip.Addr.Compare)
	var prefixes []netip.Prefix
	for _, b := range begins {
		i, at := slices.BinarySearchFunc(ends, b, netip.Addr.Compare)
		if at { // the end of the one before
			i++
		}
		end := netip.Addr{}
		if i < len(ends) {
			end = ends[i]
		}
		if p, ok := spanning(b, end); ok {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes
}

// spanning returns the prefix from begin up to, not including, end; the zero
// Addr is the end of all addresses.
func spanning(begin, end netip.Addr) (netip.Prefix, bool) {
	for bits := range begin.BitLen() + 1 {
		p := netip.PrefixFrom(begin, bits)
		if p.Masked() != p {
			continue
		}
		if last, _ := prefixEnd(p); last == end {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// prefixEnd returns the address after the last one of p; ok is false if p ends
// where the addresses end.
func prefixEnd(p netip.Prefix) (end netip.Addr, ok bool) {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits() - 1; i >= 0; i-- { // add one at the last bit of the network
		b[i/8] ^= 0x80 >> (i % 8)
		if b[i/8]&(0x80>>(i%8)) != 0 {
			end, _ = netip.AddrFromSlice(b)
			return end, true
		}
	}
	return netip.Addr{}, false
}
