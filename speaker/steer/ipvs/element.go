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

// A setName names a pair of sets, one for each family. Their elements are rows,
// or what rows say.
type setName string

// onHost and inSingle are which sets there are.
var (
	onHost   = []setName{addrs, nodes, pods, fronts, direct, limited, allowed, ports}
	inSingle = []setName{snat, locals}
)

// The sets on the host, and those of the single tier.
const (
	addrs   setName = "addrs"   // addresses that this node takes in
	nodes   setName = "nodes"   // addresses that tunnels may come from
	fronts  setName = "fronts"  // servers of the front
	direct  setName = "direct"  // servers of the back that take what comes from outside
	limited setName = "limited" // servers that not everybody may connect to
	allowed setName = "allowed" // … and who may
	ports   setName = "ports"   // servers that stand for node ports
	snat    setName = "snat"    // servers that want SNAT, in the single tier
	pods    setName = "pods"    // prefixes of this node's pods
	locals  setName = "locals"  // the same, in the single tier
)

// setOf returns the set of that name for a family. It is a new one each time:
// nftables numbers those that it makes.
func setOf(name setName, f family) *nftables.Set {
	address, suffix := nftables.TypeIPAddr, "4"
	if f.six() {
		address, suffix = nftables.TypeIP6Addr, "6"
	}
	s := &nftables.Set{Table: table, Name: string(name) + suffix, KeyType: address}
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	switch name {
	case pods, locals:
		s.Interval = true
	case fronts, direct, limited, snat:
		s.KeyType, s.Concatenation = nftables.MustConcatSetType(address, proto, port), true
	case allowed:
		s.KeyType, s.Concatenation, s.Interval = nftables.MustConcatSetType(address, proto, port, address), true, true
	case ports:
		s.KeyType, s.Concatenation = nftables.MustConcatSetType(proto, port), true
	}
	return s
}

// A member is one element of a set, in plain values. Which of them are meant
// depends on the set.
type member struct {
	set     setName
	virtual steer.Virtual // of the zero tier
	addr    netip.Addr
	prefix  netip.Prefix
}

// family tells which set of the pair m is in.
func (m member) family() family {
	switch {
	case m.addr.IsValid():
		return familyOf(m.addr)
	case m.virtual.Addr.IsValid():
		return familyOf(m.virtual.Addr.Addr())
	}
	return familyOf(m.prefix.Addr())
}

// membersOf returns what a server is beside its row in IPVS.
func membersOf(v steer.Virtual, s steer.Server) (members []member) {
	add := func(set setName, prefix netip.Prefix) {
		members = append(members, member{set: set, virtual: steer.Virtual{Addr: v.Addr, Proto: v.Proto}, prefix: prefix})
	}
	var none netip.Prefix
	switch {
	case v.Tier == steer.Front:
		add(fronts, none)
	case v.Tier == steer.Back && s.Direct:
		add(direct, none)
	case v.Tier == steer.Single && v.Addr.Addr().IsUnspecified():
		add(ports, none)
	}
	if s.Sources != "" {
		add(limited, none)
	}
	prefixes, _ := s.Sources.Prefixes() // Check has looked at them
	for _, p := range prefixes {
		add(allowed, p)
	}
	if s.SNAT {
		add(snat, none)
	}
	return members
}

// encode returns m as elements of its set.
func (m member) encode() []nftables.SetElement {
	switch m.set {
	case addrs, nodes:
		return []nftables.SetElement{{Key: m.addr.AsSlice()}}
	case pods, locals:
		return interval(m.prefix)
	case ports:
		return []nftables.SetElement{{Key: portKey(m.virtual)}}
	case allowed:
		first, last := serverKey(m.virtual), serverKey(m.virtual)
		return []nftables.SetElement{{
			Key:    append(first, m.prefix.Masked().Addr().AsSlice()...),
			KeyEnd: append(last, lastOf(m.prefix).AsSlice()...),
		}}
	case snat:
		return []nftables.SetElement{{Key: serverKey(inside(m.virtual))}}
	}
	return []nftables.SetElement{{Key: serverKey(m.virtual)}}
}

// decode is the reverse of encode, for all elements of a set.
func decode(name setName, f family, elements []nftables.SetElement) ([]member, error) {
	var members []member
	if name == pods || name == locals {
		for _, p := range parseIntervals(elements) {
			members = append(members, member{set: name, prefix: p})
		}
		return members, nil
	}
	for _, e := range elements {
		m, err := decodeOne(name, f, e)
		if err != nil {
			return nil, fmt.Errorf("reading an element of %s: %w", setOf(name, f).Name, err)
		}
		members = append(members, m)
	}
	return members, nil
}

func decodeOne(name setName, f family, e nftables.SetElement) (m member, err error) {
	m.set = name
	width := int(f.size())
	switch name {
	case addrs, nodes:
		if len(e.Key) != width {
			return m, fmt.Errorf("a key of %d bytes is no %s address", len(e.Key), f)
		}
		m.addr, _ = netip.AddrFromSlice(e.Key)
		return m, nil
	case ports:
		m.virtual, err = parsePortKey(f, e.Key)
		return m, err
	case allowed:
		if len(e.Key) < width || len(e.KeyEnd) != len(e.Key) {
			return m, fmt.Errorf("a key of %d bytes that ends after %d is none of a client", len(e.Key), len(e.KeyEnd))
		}
		cut := len(e.Key) - width
		if m.prefix, err = between(e.Key[cut:], e.KeyEnd[cut:]); err != nil {
			return m, err
		}
		m.virtual, err = parseServerKey(f, e.Key[:cut])
		return m, err
	}
	m.virtual, err = parseServerKey(f, e.Key)
	if name == snat {
		m.virtual = outside(m.virtual)
	}
	return m, err
}

// inside returns v as it stands in the single tier: what is sent to a node port
// arrives at the address of the namespace.
func inside(v steer.Virtual) steer.Virtual {
	if a := v.Addr.Addr(); a.IsUnspecified() {
		v.Addr = netip.AddrPortFrom(single.inside(familyOf(a)), v.Addr.Port())
	}
	return v
}

// outside is the reverse of inside.
func outside(v steer.Virtual) steer.Virtual {
	f := familyOf(v.Addr.Addr())
	if v.Tier == steer.Single && v.Addr.Addr() == single.inside(f) {
		v.Addr = netip.AddrPortFrom(f.everything().Addr(), v.Addr.Port())
	}
	return v
}

// serverKey encodes a server: each part fills up to 4 bytes.
func serverKey(v steer.Virtual) []byte {
	return append(v.Addr.Addr().AsSlice(), portKey(v)...)
}

// portKey encodes protocol and port.
func portKey(v steer.Virtual) []byte {
	key := []byte{byte(v.Proto), 0, 0, 0}
	key = binary.BigEndian.AppendUint16(key, v.Addr.Port())
	return append(key, 0, 0)
}

// parseServerKey is the reverse of serverKey.
func parseServerKey(f family, key []byte) (steer.Virtual, error) {
	if len(key) != int(f.size())+8 {
		return steer.Virtual{}, fmt.Errorf("a key of %d bytes is none of a server", len(key))
	}
	addr, _ := netip.AddrFromSlice(key[:f.size()])
	v, err := parsePortKey(f, key[f.size():])
	v.Addr = netip.AddrPortFrom(addr, v.Addr.Port())
	return v, err
}

// parsePortKey is the reverse of portKey, for a server of node ports.
func parsePortKey(f family, key []byte) (steer.Virtual, error) {
	if len(key) != 8 {
		return steer.Virtual{}, fmt.Errorf("a key of %d bytes is none of a port", len(key))
	}
	port := binary.BigEndian.Uint16(key[4:])
	return steer.Virtual{Addr: netip.AddrPortFrom(f.everything().Addr(), port), Proto: snapshot.Proto(key[0])}, nil
}

// between returns the prefix of all addresses from first to last.
func between(first, last []byte) (netip.Prefix, error) {
	a, ok := netip.AddrFromSlice(first)
	b, fits := netip.AddrFromSlice(last)
	if ok && fits {
		for bits := range a.BitLen() + 1 {
			if p := netip.PrefixFrom(a, bits); p.Masked() == p && lastOf(p) == b {
				return p, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("%v to %v is no prefix", first, last)
}

// lastOf returns the last address of p.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
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
