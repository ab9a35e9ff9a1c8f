package nft

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// A batch is what a plan takes out of each set of one family, and puts in.
type batch struct {
	addrs, servers, ports, ends, idle, pods, live, ids, limited, sources difference
}

type difference struct {
	set      *nftables.Set
	del, add []nftables.SetElement
}

// sets returns the differences in the order in which they are made.
func (b *batch) sets() []*difference {
	return []*difference{&b.pods, &b.ends, &b.idle, &b.ids, &b.live, &b.sources, &b.limited, &b.servers, &b.ports, &b.addrs}
}

// batch turns p into elements.
func (p *plan) batch(f family) *batch {
	b := &batch{
		addrs:   difference{set: addrsSet(f)},
		servers: difference{set: serversSet(f)},
		ports:   difference{set: portsSet(f)},
		ends:    difference{set: endsSet(f)},
		idle:    difference{set: idleSet(f)},
		pods:    difference{set: podsSet(f)},
		live:    difference{set: liveSet(f)},
		ids:     difference{set: idsSet(f)},
		limited: difference{set: limitedSet(f)},
		sources: difference{set: sourcesSet(f)},
	}
	for _, a := range slices.SortedFunc(maps.Keys(p.addrs), netip.Addr.Compare) {
		if familyOf(a) == f {
			b.addrs.change(p.addrs[a], nftables.SetElement{Key: a.AsSlice()})
		}
	}
	for _, prefix := range slices.SortedFunc(maps.Keys(p.pods), netip.Prefix.Compare) {
		if familyOf(prefix.Addr()) == f {
			b.pods.change(p.pods[prefix], interval(prefix)...)
		}
	}
	for _, e := range p.edits {
		if familyOf(e.virtual.Addr.Addr()) == f {
			b.edit(e)
		}
	}
	return b
}

// change puts in or takes out.
func (d *difference) change(in bool, elements ...nftables.SetElement) {
	if in {
		d.add = append(d.add, elements...)
		return
	}
	d.del = append(d.del, elements...)
}

func (b *batch) edit(e edit) {
	if e.server() {
		b.server(e)
	}
	v := e.virtual
	exchange(&b.ends, e.old.slots, e.new.slots, compareSlots, func(s slot) nftables.SetElement {
		return nftables.SetElement{Key: slotKey(v, s.index), Val: target(s.real), Comment: weightComment(s.weight)}
	})
	exchange(&b.idle, e.old.idle, e.new.idle, netip.AddrPort.Compare, func(real netip.AddrPort) nftables.SetElement {
		return nftables.SetElement{Key: idleKey(v, real)}
	})
	exchange(&b.live, e.old.live, e.new.live, compareNamed, func(n named) nftables.SetElement {
		return nftables.SetElement{Key: slotKey(v, n.id), Val: target(n.real)}
	})
	exchange(&b.ids, e.old.ids, e.new.ids, compareSlotIDs, func(s slotID) nftables.SetElement {
		return nftables.SetElement{Key: slotKey(v, s.index), Val: binary.NativeEndian.AppendUint32(nil, s.id)}
	})
	if e.old.limited != e.new.limited {
		b.limited.change(e.new.limited, nftables.SetElement{Key: serverKey(v)})
	}
	exchange(&b.sources, e.old.sources, e.new.sources, comparePrefixes, func(p netip.Prefix) nftables.SetElement {
		return sourceElement(v, p)
	})
}

// exchange takes out what is old only and puts in what is new only. One that
// differs is both: an element is not changed but replaced, in one transaction.
func exchange[T any](d *difference, old, new []T, compare func(a, b T) int, element func(T) nftables.SetElement) {
	for _, x := range without(old, new, compare) {
		e := element(x)
		d.change(false, nftables.SetElement{Key: e.Key, KeyEnd: e.KeyEnd})
	}
	for _, x := range without(new, old, compare) {
		d.change(true, element(x))
	}
}

// server exchanges the element of the server itself.
func (b *batch) server(e edit) {
	d, key := &b.servers, serverKey(e.virtual)
	if e.virtual.Addr.Addr().IsUnspecified() {
		d, key = &b.ports, key[e.virtual.Addr.Addr().BitLen()/8:]
	}
	if e.old.chain != "" {
		d.change(false, nftables.SetElement{Key: key})
	}
	if e.new.chain != "" {
		d.change(true, nftables.SetElement{Key: key, Comment: e.new.comment,
			VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.new.chain}})
	}
}

// putHelpers makes chains that no element goes to yet.
//
// It is a transaction of its own, before that of the elements: a packet that
// is under way while the kernel switches sees the new elements but the rules
// of before (nft_do_chain reads the generation once, a lookup each time), and
// a chain that is new has none: the packet would pass as if nobody had served it.
func (c *conn) putHelpers(names []string, mark uint32) error {
	var made []chain
	for _, name := range names {
		h, _ := parseHelper(name)
		made = append(made, h.chain(mark))
		c.putChain(made[len(made)-1])
	}
	c.putRules(made)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("making chains %s: %w", strings.Join(names, ", "), err)
	}
	return nil
}

// commit carries out a plan, whose chains are there, in one transaction.
func (c *conn) commit(p *plan) error {
	for _, f := range families {
		b := p.batch(f)
		for _, s := range b.sets() {
			if err := c.take(s.set, s.del); err != nil {
				return err
			}
		}
		for _, s := range b.sets() {
			if err := c.put(s.set, s.add); err != nil {
				return err
			}
		}
	}
	return c.Flush()
}
