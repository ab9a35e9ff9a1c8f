package nft

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/herald-lb/herald/speaker/steer"
)

// A batch is what a plan takes out of each set of one family, and puts in.
type batch struct {
	addrs, servers, ends, idle, pods difference
}

type difference struct {
	set      *nftables.Set
	del, add []nftables.SetElement
}

// sets returns the differences in the order in which they are made.
func (b *batch) sets() []*difference {
	return []*difference{&b.pods, &b.ends, &b.idle, &b.servers, &b.addrs}
}

// batch turns p into elements.
func (p *plan) batch(f family) *batch {
	b := &batch{
		addrs:   difference{set: addrsSet(f)},
		servers: difference{set: serversSet(f)},
		ends:    difference{set: endsSet(f)},
		idle:    difference{set: idleSet(f)},
		pods:    difference{set: podsSet(f)},
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
		if e.old.chain != "" {
			b.servers.change(false, nftables.SetElement{Key: serverKey(e.virtual)})
		}
		if e.new.chain != "" {
			b.servers.change(true, serverElement(e.virtual, e.new))
		}
	}
	del, add := e.slots()
	for _, s := range del {
		b.ends.change(false, nftables.SetElement{Key: slotKey(e.virtual, s.index)})
	}
	for _, s := range add {
		b.ends.change(true, nftables.SetElement{
			Key: slotKey(e.virtual, s.index), Val: target(s.real), Comment: weightComment(s.weight)})
	}
	gone, come := e.idle()
	for _, real := range gone {
		b.idle.change(false, nftables.SetElement{Key: idleKey(e.virtual, real)})
	}
	for _, real := range come {
		b.idle.change(true, nftables.SetElement{Key: idleKey(e.virtual, real)})
	}
}

func serverElement(v steer.Virtual, e elements) nftables.SetElement {
	return nftables.SetElement{Key: serverKey(v), Comment: e.comment,
		VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: e.chain}}
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
