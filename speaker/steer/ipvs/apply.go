package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/steer"
)

// Apply implements [steer.Kernel]. Changes are gathered, and sent at the end or
// before the first address is taken in or let go: by then what was to come
// before it has to have come.
func (k *Kernel) Apply(ctx context.Context, changes []steer.Change) error {
	if err := k.ready(); err != nil {
		return err
	}
	if k.known == nil {
		if _, err := k.Table(ctx); err != nil {
			return err
		}
	}
	b := newBatch(k, changes)
	for i := 0; i < len(changes); {
		n := b.addresses(ctx, i)
		if n == 0 {
			b.gather(ctx, i)
			n = 1
		}
		i += n
	}
	b.send(ctx)
	if b.unsure {
		k.known = nil
	}
	for i, c := range changes {
		if b.errs[i] != nil {
			b.errs[i] = fmt.Errorf("%s: %w", c, b.errs[i])
		}
	}
	return errors.Join(b.errs...)
}

// addresses makes the changes of addresses that begin at number i and all do
// the same, and returns how many those are.
func (b *batch) addresses(ctx context.Context, i int) (n int) {
	of := b.changes[i:]
	for n < len(of) && of[n].Kind() == steer.KindAddr && of[n].Verb == of[0].Verb {
		n++
	}
	if n == 0 {
		return 0
	}
	adds := of[0].Verb == steer.Add
	entries := make([]entry, n)
	for j := range entries {
		m := member{set: addrs, addr: of[j].Addr}
		entries[j].addr = m.addr
		if adds { // the element first: no packet comes before the route
			entries[j].touched = !b.wants(m)
			b.touch(i+j, m, true)
		}
	}
	b.send(ctx)
	var err error
	if b.way == nil {
		b.way, err = b.k.way()
	}
	for j := range entries {
		entries[j].err = cmp.Or(b.errs[i+j], ctx.Err(), steer.Check(of[j]), err)
	}
	if err == nil {
		b.routes(ctx, entries, adds)
	}
	for j, e := range entries {
		b.errs[i+j] = e.err
		if !adds {
			b.touch(i+j, member{set: addrs, addr: e.addr}, false)
		}
	}
	return n
}

// routes makes or deletes the routes of entries. An address that comes or goes
// twice does so one after the other.
func (b *batch) routes(ctx context.Context, entries []entry, adds bool) {
	act := b.way.add
	if !adds {
		act = b.way.del
	}
	for len(entries) > 0 {
		seen := map[netip.Addr]bool{}
		n := 0
		for n < len(entries) && !seen[entries[n].addr] {
			seen[entries[n].addr] = true
			n++
		}
		act(ctx, entries[:n])
		entries = entries[n:]
	}
}

// gather notes change number i, or why it cannot be made.
func (b *batch) gather(ctx context.Context, i int) {
	c := b.changes[i]
	if b.errs[i] = cmp.Or(ctx.Err(), steer.Check(c)); b.errs[i] != nil {
		return
	}
	switch c.Kind() {
	case steer.KindPods:
		b.errs[i] = b.pods(i, c)
	case steer.KindNode:
		b.errs[i] = b.node(i, c)
	case steer.KindDest:
		b.dest(i, c)
	default:
		b.errs[i] = b.server(i, c)
	}
}

// server notes the change of a server: of its row and its elements.
func (b *batch) server(i int, c steer.Change) error {
	had, exists := b.k.known.servers[c.Virtual]
	if err := fits(c.Verb, exists); err != nil {
		return err
	}
	if exists {
		for _, m := range membersOf(c.Virtual, had) {
			b.touch(i, m, false)
		}
	}
	if c.Verb == steer.Del {
		delete(b.k.known.servers, c.Virtual)
		b.command(i, opDelService, service(c.Virtual, steer.Server{}), nil)
		return nil
	}
	for _, m := range membersOf(c.Virtual, c.Server) {
		b.touch(i, m, true)
	}
	b.k.known.servers[c.Virtual] = c.Server
	op := opNewService
	if exists {
		op = opSetService
	}
	b.command(i, op, service(c.Virtual, c.Server), nil)
	return nil
}

// fits says why verb cannot be done to what is there, or not.
func fits(verb steer.Verb, exists bool) error {
	switch {
	case verb == steer.Add && exists:
		return os.ErrExist
	case verb != steer.Add && !exists:
		return os.ErrNotExist
	}
	return nil
}

// dest notes the change of a destination.
//
// The scheduler mh keeps the place of one that is set to weight 0 by the last
// weight it had (net/netfilter/ipvs/ip_vs_mh.c), and so do nodes that have seen
// it drain. One that is added at 0 would have no place, and one of the front
// whose endpoints drained one by one another place than where they drained at
// once: both get weight 1 first, so that all nodes choose alike.
func (b *batch) dest(i int, c steer.Change) {
	svc := service(c.Virtual, steer.Server{})
	to := func(op op, weight int) { b.command(i, op, svc, destinationOf(c.Virtual, c.Real, weight)) }
	drains := c.Weight == 0 && c.Verb != steer.Del && (c.Verb == steer.Add || c.Virtual.Tier == steer.Front)
	weight := c.Weight
	if drains {
		weight = 1
	}
	switch c.Verb {
	case steer.Del:
		to(opDelDest, 0)
	case steer.Add:
		to(opNewDest, weight)
	default:
		to(opSetDest, weight)
	}
	if drains {
		b.drain(i, svc, destinationOf(c.Virtual, c.Real, 0))
	}
}

// pods notes the change of a prefix, which stands in two sets.
func (b *batch) pods(i int, c steer.Change) error {
	here, there := member{set: pods, prefix: c.Pods}, member{set: locals, prefix: c.Pods}
	if err := fits(c.Verb, b.wants(here) && b.wants(there)); err != nil {
		return err
	}
	if c.Verb == steer.Add {
		if other, ok := b.overlaps(c.Pods); ok {
			return fmt.Errorf("overlaps %s, which is there", other)
		}
	}
	b.touch(i, here, c.Verb == steer.Add)
	b.touch(i, there, c.Verb == steer.Add)
	return nil
}

// overlaps returns another prefix of pods that overlaps p: intervals of a set
// must not.
func (b *batch) overlaps(p netip.Prefix) (netip.Prefix, bool) {
	clash := func(m member) bool {
		return (m.set == pods || m.set == locals) && m.prefix != p && m.prefix.Overlaps(p) && b.wants(m)
	}
	for m := range b.k.known.members {
		if clash(m) {
			return m.prefix, true
		}
	}
	for m := range b.touched {
		if clash(m) {
			return m.prefix, true
		}
	}
	return netip.Prefix{}, false
}

// node notes the change of an address that tunnels may come from.
func (b *batch) node(i int, c steer.Change) error {
	m := member{set: nodes, addr: c.Node}
	if err := fits(c.Verb, b.wants(m)); err != nil {
		return err
	}
	b.touch(i, m, c.Verb == steer.Add)
	return nil
}

// refused makes the error of IPVS for change c be what a Kernel promises. A
// server that is not there is ESRCH, a destination ENOENT, and so is a
// scheduler (net/netfilter/ipvs/ip_vs_ctl.c).
func refused(c steer.Change, err error) error {
	switch {
	case errors.Is(err, unix.ESRCH):
		return fmt.Errorf("no such virtual server: %w", os.ErrNotExist)
	case errors.Is(err, unix.ENOENT) && c.Kind() == steer.KindServer:
		return fmt.Errorf("this kernel has no scheduler %q; load the module ip_vs_%[1]s on the node", c.Server.Scheduler)
	}
	return err
}

// command notes one command of change number i.
func (b *batch) command(i int, op op, svc *moby.Service, dest *moby.Destination) {
	t := b.changes[i].Virtual.Tier
	b.commands[t] = append(b.commands[t], command{op, svc, dest})
	b.by[t] = append(b.by[t], i)
}

// drain sets weight 0 after the command of change number i, if that succeeds.
func (b *batch) drain(i int, svc *moby.Service, dest *moby.Destination) {
	b.drains[i] = command{opSetDest, svc, dest}
}
