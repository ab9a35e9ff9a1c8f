package nft

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/speaker/steer"
)

// list reads all elements of the table.
func (c *conn) list() (*listing, error) {
	l := newListing()
	chains, err := c.chains()
	if err != nil {
		return nil, err
	}
	for name := range chains {
		if _, ok := parseHelper(name); ok {
			l.helpers[name] = 0
		}
	}
	for _, f := range families {
		readers := []struct {
			set  *nftables.Set
			read func(family, nftables.SetElement) error
		}{
			{addrsSet(f), l.readAddr}, {serversSet(f), l.readServer}, {portsSet(f), l.readPort}, {endsSet(f), l.readEnd},
			{idleSet(f), l.readIdle}, {podsSet(f), l.readPods}, {liveSet(f), l.readLive}, {idsSet(f), l.readID},
			{limitedSet(f), l.readLimited}, {sourcesSet(f), l.readSource},
		}
		for _, r := range readers {
			if err := c.read(f, r.set, r.read); err != nil {
				return nil, fmt.Errorf("listing set %s: %w", r.set.Name, err)
			}
		}
	}
	l.tidy()
	return l, nil
}

// read hands every element of a set to a function. One that it cannot read
// was made by somebody else: it stands for no row, and is left alone.
func (c *conn) read(f family, s *nftables.Set, read func(family, nftables.SetElement) error) error {
	elements, err := c.GetSetElements(c.in(s))
	if err != nil {
		return err
	}
	for _, e := range elements {
		_ = read(f, e)
	}
	return nil
}

func (l *listing) readAddr(f family, e nftables.SetElement) error {
	addr, ok := netip.AddrFromSlice(e.Key)
	if !ok || len(e.Key) != f.addrLen() {
		return errMalformed
	}
	l.addrs[addr] = true
	return nil
}

// readPods goes by the comment; the end of a prefix has none.
func (l *listing) readPods(_ family, e nftables.SetElement) error {
	if e.IntervalEnd {
		return nil
	}
	prefix, err := netip.ParsePrefix(e.Comment)
	if err != nil {
		return errMalformed
	}
	l.pods[prefix] = true
	return nil
}

func (l *listing) readServer(f family, e nftables.SetElement) error {
	v, rest, err := f.cutServer(e.Key)
	if err != nil || len(rest) > 0 || v.Addr.Addr().IsUnspecified() {
		return errMalformed
	}
	l.goesTo(v, e)
	return nil
}

// readPort completes the key by the address that stands for the node's.
func (l *listing) readPort(f family, e nftables.SetElement) error {
	v, rest, err := f.cutServer(append(f.unspecified().AsSlice(), e.Key...))
	if err != nil || len(rest) > 0 {
		return errMalformed
	}
	l.goesTo(v, e)
	return nil
}

// goesTo notes where the element of v leads.
func (l *listing) goesTo(v steer.Virtual, e nftables.SetElement) {
	chain, err := verdictChain(e.Val)
	if err != nil {
		// Only somebody else makes a server that goes nowhere. What it goes
		// to instead is no chain's name, so that the next pass sets it.
		chain = "?"
	}
	r := l.rows[v]
	r.chain, r.comment = chain, e.Comment
	l.rows[v] = r
}

func (l *listing) readEnd(f family, e nftables.SetElement) error {
	v, index, err := f.cutSlotKey(e.Key)
	if err != nil {
		return err
	}
	real, rest, err := f.cutTarget(e.Val)
	if err != nil || len(rest) > 0 {
		return errMalformed
	}
	r := l.rows[v]
	r.slots = append(r.slots, slot{index, real, parseWeightComment(e.Comment)})
	l.rows[v] = r
	return nil
}

func (l *listing) readIdle(f family, e nftables.SetElement) error {
	v, rest, err := f.cutServer(e.Key)
	if err != nil {
		return err
	}
	real, rest, err := f.cutTarget(rest)
	if err != nil || len(rest) > 0 {
		return errMalformed
	}
	r := l.rows[v]
	r.idle = append(r.idle, real)
	l.rows[v] = r
	return nil
}

func (l *listing) readLive(f family, e nftables.SetElement) error {
	v, id, err := f.cutSlotKey(e.Key)
	if err != nil {
		return err
	}
	real, rest, err := f.cutTarget(e.Val)
	if err != nil || len(rest) > 0 {
		return errMalformed
	}
	r := l.rows[v]
	r.live = append(r.live, named{id, real})
	l.rows[v] = r
	return nil
}

func (l *listing) readID(f family, e nftables.SetElement) error {
	v, index, err := f.cutSlotKey(e.Key)
	if err != nil {
		return err
	}
	id, err := cutSlot(e.Val)
	if err != nil {
		return err
	}
	r := l.rows[v]
	r.ids = append(r.ids, slotID{index, id})
	l.rows[v] = r
	return nil
}

func (l *listing) readLimited(f family, e nftables.SetElement) error {
	v, rest, err := f.cutServer(e.Key)
	if err != nil || len(rest) > 0 {
		return errMalformed
	}
	r := l.rows[v]
	r.limited = true
	l.rows[v] = r
	return nil
}

func (l *listing) readSource(f family, e nftables.SetElement) error {
	v, clients, err := f.cutSource(e.Key, e.KeyEnd)
	if err != nil {
		return err
	}
	r := l.rows[v]
	r.sources = append(r.sources, clients)
	l.rows[v] = r
	return nil
}

// tidy puts what was read into order. A listing may hold an element twice, if
// the kernel's hash table grew meanwhile (nft_rhash_walk begins anew then).
func (l *listing) tidy() {
	for v, e := range l.rows {
		e.slots = once(e.slots, compareSlots)
		e.idle = once(e.idle, netip.AddrPort.Compare)
		e.live = once(e.live, compareNamed)
		e.ids = once(e.ids, compareSlotIDs)
		e.sources = once(e.sources, comparePrefixes)
		l.rows[v] = e
		l.goTo(e.chain, 1)
	}
}

// once sorts a, and leaves each in it once.
func once[T comparable](a []T, compare func(a, b T) int) []T {
	slices.SortFunc(a, compare)
	return slices.Compact(a)
}
