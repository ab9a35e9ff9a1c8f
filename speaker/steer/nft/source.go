package nft

import (
	"net/netip"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/speaker/steer"
)

// sourceElement lets clients of a prefix connect to v: the interval from the
// first address to the last, in the last field of a concatenation, where the
// others are the same at both ends.
func sourceElement(v steer.Virtual, clients netip.Prefix) nftables.SetElement {
	return nftables.SetElement{
		Key:    appendAddr(serverKey(v), clients.Addr()),
		KeyEnd: appendAddr(serverKey(v), lastAddr(clients)),
	}
}

// cutSource reads what sourceElement has written. One without an end is one
// address.
func (f family) cutSource(key, end []byte) (steer.Virtual, netip.Prefix, error) {
	if len(end) == 0 {
		end = key
	}
	v, first, err := f.cutServer(key)
	if err != nil || len(first) != f.addrLen() || len(end) != len(key) {
		return v, netip.Prefix{}, errMalformed
	}
	begin, _ := netip.AddrFromSlice(first)
	last, _ := netip.AddrFromSlice(end[len(end)-len(first):])
	p, err := spanning(begin, last)
	if string(end) != string(appendAddr(serverKey(v), last)) {
		err = errMalformed
	}
	return v, p, err
}

// spanning returns the prefix whose first and last address are given.
func spanning(first, last netip.Addr) (netip.Prefix, error) {
	for bits := range first.BitLen() + 1 {
		p := netip.PrefixFrom(first, bits)
		if p.Masked() == p && lastAddr(p) == last {
			return p, nil
		}
	}
	return netip.Prefix{}, errMalformed
}
