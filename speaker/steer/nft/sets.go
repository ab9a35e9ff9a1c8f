package nft

import (
	"net/netip"

	"github.com/google/nftables"
)

// tableName is the table that is Herald's.
const tableName = "herald"

// The types of the fields of a key.
var (
	protoType = nftables.TypeInetProto
	portType  = nftables.TypeInetService
	slotType  = nftables.TypeMark // any type of four bytes in the order of the host
)

func (f family) addrType() nftables.SetDatatype {
	if f == v4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

// A set is made where it is used: it is nothing but a name and types. Its ID
// tells it from others in one transaction, and must not be 0, for then
// google/nftables counts one up, in a global variable that nobody guards.
func newSet(f family, id uint32, name string, key ...nftables.SetDatatype) *nftables.Set {
	s := &nftables.Set{Name: name + f.String()[1:], ID: id*10 + uint32(f), KeyType: key[0]}
	if len(key) > 1 {
		s.KeyType, s.Concatenation = nftables.MustConcatSetType(key...), true
	}
	return s
}

func addrsSet(f family) *nftables.Set { return newSet(f, 1, "addrs", f.addrType()) }

func serversSet(f family) *nftables.Set {
	s := newSet(f, 2, "servers", f.addrType(), protoType, portType)
	s.IsMap, s.DataType = true, nftables.TypeVerdict
	return s
}

// portsSet has the servers of node ports. They are not in serversSet, whose
// elements the kernel goes through, with each change, once for each rule that
// looks them up (nft_lookup_validate).
func portsSet(f family) *nftables.Set {
	s := newSet(f, 11, "ports", protoType, portType)
	s.IsMap, s.DataType = true, nftables.TypeVerdict
	return s
}

func endsSet(f family) *nftables.Set {
	s := newSet(f, 3, "ends", f.addrType(), protoType, portType, slotType)
	s.IsMap, s.DataType = true, nftables.MustConcatSetType(f.addrType(), portType)
	return s
}

func idleSet(f family) *nftables.Set {
	return newSet(f, 4, "idle", f.addrType(), protoType, portType, f.addrType(), portType)
}

func podsSet(f family) *nftables.Set {
	s := newSet(f, 5, "pods", f.addrType())
	s.Interval = true
	return s
}

// liveSet has the targets that a client may be kept on: those of some weight,
// of servers with affinity, by an id that a target keeps.
func liveSet(f family) *nftables.Set {
	s := newSet(f, 6, "live", f.addrType(), protoType, portType, slotType)
	s.IsMap, s.DataType = true, nftables.MustConcatSetType(f.addrType(), portType)
	return s
}

// idsSet has the id of the target of a slot.
func idsSet(f family) *nftables.Set {
	s := newSet(f, 10, "ids", f.addrType(), protoType, portType, slotType)
	s.IsMap, s.DataType = true, slotType
	return s
}

// affinitySet is where the rules remember to which target they sent a client,
// by its id. Its elements come and go by themselves and are no rows.
func affinitySet(f family) *nftables.Set {
	s := newSet(f, 7, "affinity", f.addrType(), f.addrType(), protoType, portType)
	s.IsMap, s.DataType = true, slotType
	s.Dynamic, s.HasTimeout, s.Size = true, true, maxClients
	return s
}

// maxClients is how many clients of servers with affinity are remembered for
// each family, some 150 bytes each. Others are sent anywhere each time.
const maxClients = 1 << 18

// limitedSet has the servers that do not let everybody in, sourcesSet whom
// they do. Concatenations of intervals take kernel 5.6 (nft_set_pipapo.c).
func limitedSet(f family) *nftables.Set {
	return newSet(f, 8, "limited", f.addrType(), protoType, portType)
}

func sourcesSet(f family) *nftables.Set {
	s := newSet(f, 9, "sources", f.addrType(), protoType, portType, f.addrType())
	s.Interval = true
	return s
}

// allSets are the sets that are there as long as the table is.
func allSets() []*nftables.Set {
	var sets []*nftables.Set
	for _, f := range families {
		sets = append(sets, addrsSet(f), serversSet(f), portsSet(f), endsSet(f), idleSet(f), podsSet(f),
			liveSet(f), idsSet(f), affinitySet(f), limitedSet(f), sourcesSet(f))
	}
	return sets
}

// interval returns the elements that make prefix: where it begins, and where
// what follows it does. Nothing follows the last address that there is.
func interval(prefix netip.Prefix) []nftables.SetElement {
	elements := []nftables.SetElement{{Key: prefix.Addr().AsSlice(), Comment: prefix.String()}}
	if end := lastAddr(prefix).Next(); end.IsValid() {
		elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
	}
	return elements
}

// lastAddr returns the last address of prefix.
func lastAddr(prefix netip.Prefix) netip.Addr {
	b := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}
