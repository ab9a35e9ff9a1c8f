package mh

import (
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"
)

// DefaultTabIndex is the table index of a kernel whose configuration does not
// say otherwise: 4093 slots.
const DefaultTabIndex = 12

// primes are the numbers of slots that a table can have, for table indices
// from minTabIndex on.
var primes = []int{251, 509, 1021, 2039, 4093, 8191, 16381, 32749, 65521, 131071}

const minTabIndex = 8

// A Dest is a destination of a virtual server.
type Dest struct {
	Addr   netip.AddrPort
	Weight int // as it is now, from 0
	// Last is the last weight above zero that a destination of weight 0 had
	// since it was added: it keeps the slots that this is worth. It is 0 if there
	// was none, and means nothing while Weight is above zero.
	Last int
	// Overloaded is whether the destination has had as many connections as its
	// upper threshold allows, and has not since lost enough (IP_VS_DEST_F_OVERLOAD).
	Overloaded bool
}

// share is the weight that counts for slots: last_weight in the kernel.
func (d Dest) share() int {
	if d.Weight > 0 {
		return d.Weight
	}
	return d.Last
}

// A Table says which destination holds which slot. It does not change once
// built, and may be read by many at once.
type Table struct {
	slots []int32 // indices of destinations; none if nobody has a share
	takes []bool  // whether a destination takes new flows, by its index
	is4   bool
}

// Build returns the table of a virtual server with these destinations, in the
// order in which they were added to it.
//
// The order matters, for of two destinations that want a slot the first to ask
// gets it, and the kernel asks the newest first: it adds at the head of its
// list. Netlink and /proc/net/ip_vs show that list, so what they list has to be
// reversed; ipvsadm sorts unless told --nosort. To set a weight does not change
// the order. To remove a destination and add it again makes it the newest.
//
// All destinations are of the family of the virtual server. The table index is
// the kernel's CONFIG_IP_VS_MH_TAB_INDEX, 8 to 17. A kernel given more
// destinations than it has slots goes on with the table it had, which nobody
// can know: that is an error.
func Build(dests []Dest, tabIndex int) (*Table, error) {
	if tabIndex < minTabIndex || tabIndex >= minTabIndex+len(primes) {
		return nil, fmt.Errorf("building a table of index %d: want %d to %d", tabIndex, minTabIndex, minTabIndex+len(primes)-1)
	}
	size := primes[tabIndex-minTabIndex]
	if len(dests) > size {
		return nil, fmt.Errorf("building a table of %d slots: %d destinations are too many", size, len(dests))
	}
	t := &Table{takes: make([]bool, len(dests))}
	for i, d := range dests {
		if err := d.check(dests[0]); err != nil {
			return nil, fmt.Errorf("building a table: destination %s: %w", d.Addr, err)
		}
		t.is4 = d.Addr.Addr().Is4()
		t.takes[i] = d.Weight > 0 && !d.Overloaded
	}
	t.populate(wishes(dests, size, tabIndex/2), size)
	return t, nil
}

// check says why d cannot be a destination beside first, or nil.
func (d Dest) check(first Dest) error {
	switch {
	case !d.Addr.IsValid():
		return fmt.Errorf("not an address")
	case d.Addr.Addr().Is4() != first.Addr.Addr().Is4():
		return fmt.Errorf("%s is of the other family", first.Addr)
	case d.Weight < 0 || d.Weight > math.MaxInt32 || d.Last < 0 || d.Last > math.MaxInt32:
		return fmt.Errorf("weight %d, last %d: want 0 to %d", d.Weight, d.Last, math.MaxInt32)
	}
	return nil
}

// A wish is how a destination asks for slots: struct ip_vs_mh_dest_setup.
type wish struct {
	dest  int32
	next  int // the slot it asks for next
	skip  int // how far it goes on from a slot that is taken
	turns int // how many slots it takes before the next destination's turn
}

// wishes returns the destinations that get slots, in the order of the kernel's
// list (ip_vs_mh_permutate). turnBits bounds the turns: below 2 to its power.
func wishes(dests []Dest, size, turnBits int) []wish {
	divisor, heaviest := 0, 0
	for _, d := range dests {
		divisor = gcd(divisor, d.share())
		heaviest = max(heaviest, d.share())
	}
	if heaviest == 0 {
		return nil
	}
	shift := max(0, bits.Len(uint(heaviest/divisor))-turnBits)
	all := make([]wish, 0, len(dests))
	for i, d := range slices.Backward(dests) {
		if d.share() == 0 {
			continue
		}
		v := fold(d.Addr.Addr(), d.Addr.Port())
		all = append(all, wish{
			dest:  int32(i),
			next:  int(hash(v, key1) % uint32(size)),
			skip:  int(hash(v, key2)%uint32(size-1)) + 1,
			turns: max(1, d.share()/divisor>>shift),
		})
	}
	return all
}

// free stands in a slot that nobody has got yet.
const free = -1

// populate gives out the slots (ip_vs_mh_populate). It ends, for a stride comes
// by every slot where their number is a prime.
func (t *Table) populate(all []wish, size int) {
	if len(all) == 0 {
		return
	}
	t.slots = make([]int32, size)
	for i := range t.slots {
		t.slots[i] = free
	}
	for taken := 0; ; {
		for i := range all {
			w := &all[i]
			for range w.turns {
				for t.slots[w.next] != free {
					if w.next += w.skip; w.next >= size {
						w.next -= size
					}
				}
				t.slots[w.next] = w.dest
				if taken++; taken == size {
					return
				}
			}
		}
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
