package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// A Range is a closed interval of addresses of one family: First ≤ Last.
type Range struct{ First, Last netip.Addr }

// ParseRange reads a CIDR ("192.0.2.0/24"), a range ("192.0.2.10-192.0.2.20")
// or one address. Every error ends with what to write instead.
//
// Zones and IPv4 addresses inside IPv6 are refused: neither names an address
// that a neighbour could ask for.
func ParseRange(s string) (Range, error) {
	if first, last, ok := strings.Cut(s, "-"); ok {
		return parsePair(s, first, last)
	}
	if strings.Contains(s, "/") {
		return parseCIDR(s)
	}
	addr, err := parseAddr(s)
	return Range{addr, addr}, err
}

func parsePair(s, first, last string) (Range, error) {
	a, err := parseAddr(first)
	if err != nil {
		return Range{}, err
	}
	b, err := parseAddr(last)
	switch {
	case err != nil:
		return Range{}, err
	case a.BitLen() != b.BitLen():
		return Range{}, fmt.Errorf("range %q mixes IPv4 and IPv6: write one range for each", s)
	case b.Less(a):
		return Range{}, fmt.Errorf("range %q ends before it starts: write %s-%s", s, b, a)
	}
	return Range{a, b}, nil
}

func parseCIDR(s string) (Range, error) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return Range{}, fmt.Errorf("%q is not a CIDR: write one like 192.0.2.0/24 or 2001:db8::/64", s)
	case p.Addr().Is4In6():
		return Range{}, fmt.Errorf("%q is IPv4 inside IPv6: write it as an IPv4 CIDR", s)
	case p != p.Masked():
		return Range{}, fmt.Errorf("%q has bits set beyond its prefix length: write %s for the whole subnet, %s for the one address",
			s, p.Masked(), p.Addr())
	}
	return RangeOf(p), nil
}

func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%q is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces", s)
	case addr.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q has a zone: write %s", s, addr.WithZone(""))
	case addr.Is4In6():
		return netip.Addr{}, fmt.Errorf("%q is IPv4 inside IPv6: write %s", s, addr.Unmap())
	}
	return addr, nil
}

// RangeOf returns all addresses of prefix, the first and the last included.
func RangeOf(prefix netip.Prefix) Range {
	b := prefix.Addr().AsSlice()
	for i := prefix.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b) // as long as it was
	return Range{prefix.Masked().Addr(), last}
}

// Contains reports whether addr lies in r.
func (r Range) Contains(addr netip.Addr) bool {
	return r.First.Compare(addr) <= 0 && addr.Compare(r.Last) <= 0
}

// Family returns the family of r's addresses.
func (r Range) Family() Family { return FamilyOf(r.First) }

// Len returns the number of addresses in r, at most [math.MaxInt64].
func (r Range) Len() int64 {
	firstHigh, firstLow := halves(r.First)
	lastHigh, lastLow := halves(r.Last)
	high, low := lastHigh-firstHigh, lastLow-firstLow
	if lastLow < firstLow {
		high--
	}
	if high > 0 || low >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(low) + 1
}

// isEdge reports whether addr is an IPv4 address that ends in .0 or .255.
func isEdge(addr netip.Addr) bool {
	if !addr.Is4() {
		return false
	}
	last := addr.As4()[3]
	return last == 0 || last == 255
}

// edges returns how many addresses of r are edges, without looking at them.
func (r Range) edges() int64 {
	if r.Family() != IPv4 {
		return 0
	}
	_, first := halves(r.First)
	_, last := halves(r.Last)
	first, last = first&math.MaxUint32, last&math.MaxUint32
	// Below n there are (n+255)/256 that end in .0 and n/256 that end in .255.
	below := func(n uint64) int64 { return int64((n+255)/256 + n/256) }
	return below(last+1) - below(first)
}

// halves returns the upper and the lower 64 bits of addr. IPv4 addresses get
// their 4-in-6 form: only differences count.
func halves(addr netip.Addr) (high, low uint64) {
	b := addr.As16()
	for i := range 8 {
		high = high<<8 | uint64(b[i])
		low = low<<8 | uint64(b[8+i])
	}
	return high, low
}

// String returns r in the syntax of ParseRange: one address or a range.
func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	return r.First.String() + "-" + r.Last.String()
}
