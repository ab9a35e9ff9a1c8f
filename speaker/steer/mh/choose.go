package mh

import (
	"net/netip"

	"github.com/herald-lb/herald/config"
)

// Choose returns the index of the destination that a new flow of client gets,
// or !ok if it gets none: the scheduler says "no destination available" then,
// although there may be others. It is ip_vs_mh_schedule.
//
// The port counts with [config.SchedulerPort] only, and only for TCP, UDP and
// SCTP. With [config.SchedulerFallback] a flow whose slot belongs to a
// destination that takes none goes on to other slots.
func (t *Table) Choose(client netip.AddrPort, flags config.SchedulerFlags) (dest int, ok bool) {
	dest, ok = t.Owner(client, flags)
	if !ok || t.takes[dest] {
		return dest, ok
	}
	if flags&config.SchedulerFallback == 0 {
		return 0, false
	}
	return t.fallback(value(client, flags))
}

// Owner returns the index of the destination that holds the slot of client,
// whether or not it takes new flows; !ok if no destination has slots, or client
// is of the other family. Where that is not what Choose returns, the owner is
// drained or overloaded.
func (t *Table) Owner(client netip.AddrPort, flags config.SchedulerFlags) (dest int, ok bool) {
	if len(t.slots) == 0 || client.Addr().Unmap().Is4() != t.is4 {
		return 0, false
	}
	return t.holder(value(client, flags)), true
}

// fallback looks for a destination that takes new flows, as
// ip_vs_mh_get_fallback does: it does not go from slot to slot, but hashes the
// client again with every offset, beginning with the number of its own slot.
func (t *Table) fallback(v uint32) (dest int, ok bool) {
	size := uint32(len(t.slots))
	first := hash(v, key1) % size
	for i := range size {
		if dest = t.holder(v + (first+i)%size); t.takes[dest] {
			return dest, true
		}
	}
	return 0, false
}

// holder returns the destination whose slot v hashes to.
func (t *Table) holder(v uint32) int {
	return int(t.slots[hash(v, key1)%uint32(len(t.slots))])
}

// value is what of client is hashed.
func value(client netip.AddrPort, flags config.SchedulerFlags) uint32 {
	if flags&config.SchedulerPort == 0 {
		return fold(client.Addr().Unmap(), 0)
	}
	return fold(client.Addr().Unmap(), client.Port())
}
