package nft

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/speaker/steer"
)

// A row is one virtual server with its destinations: what the elements say.
type row struct {
	server steer.Server
	exists bool                   // whether the server does, or only destinations
	dests  map[netip.AddrPort]int // weight
}

// A slot is one element of ends4 or ends6.
type slot struct {
	index  uint32
	real   netip.AddrPort
	weight int
}

// elements are all elements in the kernel that make one row. Lists are sorted.
type elements struct {
	chain   string // that servers4 or servers6 goes to; "" if it has no element
	comment string
	slots   []slot // by index
	idle    []netip.AddrPort
	limited bool // whether only sources are let in
	sources []netip.Prefix
	// With affinity only: the ids of the destinations that are not idle, in
	// their order, and by slot.
	live []named
	ids  []slotID
}

// row returns what e says.
func (e elements) row() row {
	r := row{exists: e.chain != "", dests: make(map[netip.AddrPort]int, len(e.slots)+len(e.idle))}
	if r.exists {
		r.server = parseServerComment(e.comment)
		r.server.Sources = e.letsIn()
	}
	for _, real := range e.idle {
		r.dests[real] = 0
	}
	for _, s := range e.slots {
		r.dests[s.real] = s.weight
	}
	return r
}

// letsIn returns who may connect.
func (e elements) letsIn() steer.Sources {
	if len(e.sources) > 0 {
		return steer.SourcesOf(e.sources, e.sources[0].Addr().Is6())
	}
	if e.limited {
		return steer.Nobody
	}
	return ""
}

// reals returns the destinations by slot.
func (e elements) reals() []netip.AddrPort {
	reals := make([]netip.AddrPort, 0, len(e.slots))
	for i, s := range e.slots {
		if s.index != uint32(i) {
			break // a slot is missing: what follows is not where it belongs
		}
		reals = append(reals, s.real)
	}
	return reals
}

// sound is whether e is what Herald would have made for its row. Where it is
// not, somebody has changed some of the elements.
func (e elements) sound(v steer.Virtual) bool {
	return e.equal(elementsFor(v, e.row(), e.reals()))
}

func (e elements) equal(o elements) bool {
	return e.chain == o.chain && e.comment == o.comment &&
		slices.Equal(e.slots, o.slots) && slices.Equal(e.idle, o.idle) && slices.Equal(e.live, o.live) &&
		slices.Equal(e.ids, o.ids) && e.limited == o.limited && slices.Equal(e.sources, o.sources)
}

// empty is whether there is no element.
func (e elements) empty() bool {
	return e.chain == "" && len(e.slots)+len(e.idle)+len(e.live)+len(e.ids)+len(e.sources) == 0 && !e.limited
}

// elementsFor returns the elements that make r of v, where have are the slots
// it has at present.
func elementsFor(v steer.Virtual, r row, have []netip.AddrPort) elements {
	var e elements
	for i, real := range arrange(have, r.dests, drawOf(r.server)) {
		e.slots = append(e.slots, slot{uint32(i), real, r.dests[real]})
	}
	for _, real := range slices.SortedFunc(maps.Keys(r.dests), netip.AddrPort.Compare) {
		if r.dests[real] == 0 {
			e.idle = append(e.idle, real)
		}
	}
	if r.server.Affinity > 0 {
		e.live, e.ids = identify(e.slots, idOf)
	}
	if r.exists {
		e.limited = r.server.Sources != ""
		e.sources, _ = r.server.Sources.Prefixes()

		e.comment, e.chain = serverComment(r.server), refuse
		if n := len(e.slots); n > 0 {
			e.chain = helperFor(v, r.server, n).String()
		}
	}
	return e
}

// An edit turns some elements of one row into others.
type edit struct {
	virtual  steer.Virtual
	old, new elements
}

// comparePrefixes orders as Sources does.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// server is whether the element of the server itself differs.
func (e edit) server() bool {
	return e.old.chain != e.new.chain || e.old.comment != e.new.comment
}

func compareSlots(a, b slot) int {
	return cmp.Or(cmp.Compare(a.index, b.index), a.real.Compare(b.real), cmp.Compare(a.weight, b.weight))
}

// without returns what of a is not in b; both are sorted.
func without[T any](a, b []T, compare func(a, b T) int) []T {
	var rest []T
	for _, x := range a {
		for len(b) > 0 && compare(b[0], x) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || compare(b[0], x) != 0 {
			rest = append(rest, x)
		}
	}
	return rest
}
