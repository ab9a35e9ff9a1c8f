package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/speaker/steer"
)

// A batch is one Apply. It gathers commands for IPVS and elements of sets: of
// several wishes for one element the last counts.
type batch struct {
	k       *Kernel
	changes []steer.Change
	errs    []error // of the changes, by their number
	way     *way    // nil until a change is about an address

	commands [len(tiers)][]command
	by       [len(tiers)][]int // the number of the change that each is of
	drains   map[int]command   // what follows the command of a change
	touched  map[member]touch
	unsure   bool // whether something was refused that should not have been
}

// A touch is whether an element has to be in its set, and by which change.
type touch struct {
	want bool
	by   int
}

func newBatch(k *Kernel, changes []steer.Change) *batch {
	return &batch{k: k, changes: changes, errs: make([]error, len(changes)), drains: map[int]command{}, touched: map[member]touch{}}
}

func (b *batch) touch(i int, m member, want bool) { b.touched[m] = touch{want, i} }

// wants is whether m will be in its set after what was gathered.
func (b *batch) wants(m member) bool {
	if t, ok := b.touched[m]; ok {
		return t.want
	}
	return b.k.known.members[m]
}

// send makes everything that was gathered come true: elements that have to
// come before their servers, or go before them; the servers; the rest.
func (b *batch) send(ctx context.Context) {
	early, late := b.split()
	b.elements(early)
	for _, t := range []*tier{back, single, front} {
		b.ipvs(ctx, t)
	}
	b.elements(late)
	b.touched = map[member]touch{}
}

// split returns the members that change, by when. What restricts and hides
// comes before what it is for and goes after it; what leads packets to a server
// the other way round. Sources that are exchanged are so at one time, for two
// that overlap cannot stand in a set.
func (b *batch) split() (early, late []member) {
	for m, t := range b.touched {
		if t.want == b.k.known.members[m] {
			continue
		}
		leads := m.set == fronts || m.set == direct || m.set == ports
		exchanged := m.set == allowed && b.wants(member{set: limited, virtual: m.virtual})
		if t.want != leads || exchanged {
			early = append(early, m)
		} else {
			late = append(late, m)
		}
	}
	return early, late
}

// elements makes members be in their sets or not, in one transaction for each
// namespace. If the kernel refuses it, each change is tried alone, so that one
// does not stop the others.
func (b *batch) elements(members []member) {
	members = slices.DeleteFunc(members, func(m member) bool { return b.errs[b.touched[m].by] != nil })
	if len(members) == 0 || b.try(members) == nil {
		return
	}
	groups := map[int][]member{}
	for _, m := range members {
		groups[b.touched[m].by] = append(groups[b.touched[m].by], m)
	}
	for i := range b.changes {
		if len(groups[i]) == 0 {
			continue
		}
		if err := b.try(groups[i]); err != nil {
			b.errs[i], b.unsure = err, true
		}
	}
}

// try makes members be in their sets or not.
func (b *batch) try(members []member) error {
	for _, in := range []struct {
		at   *place
		sets []setName
	}{{b.k.host, onHost}, {b.k.spaces[single.of].place, inSingle}} {
		var add, del []member
		for _, m := range members {
			switch {
			case !slices.Contains(in.sets, m.set):
			case b.touched[m].want:
				add = append(add, m)
			default:
				del = append(del, m)
			}
		}
		if err := in.at.change(add, del); err != nil {
			return err
		}
	}
	for _, m := range members {
		if b.touched[m].want {
			b.k.known.members[m] = true
		} else {
			delete(b.k.known.members, m)
		}
	}
	return nil
}

// chunk is how many elements one message carries: its attribute must stay
// below 64 KiB.
const chunk = 500

// change puts elements into the sets of p and takes others out, in one
// transaction. What goes goes first, for what comes may overlap it.
func (p *place) change(add, del []member) error {
	if len(add)+len(del) == 0 {
		return nil
	}
	return p.nft(func(conn *nftables.Conn) error {
		if err := each(del, conn.SetDeleteElements); err != nil {
			return err
		}
		if err := each(add, conn.SetAddElements); err != nil {
			return err
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("changing sets: %w", err)
		}
		return nil
	})
}

// each sends the elements of members, set by set.
func each(members []member, send func(*nftables.Set, []nftables.SetElement) error) error {
	type key struct {
		name setName
		f    family
	}
	elements := map[key][]nftables.SetElement{}
	for _, m := range members {
		at := key{m.set, m.family()}
		elements[at] = append(elements[at], m.encode()...)
	}
	for at, all := range elements {
		for some := range slices.Chunk(all, chunk) {
			if err := send(setOf(at.name, at.f), some); err != nil {
				return fmt.Errorf("changing set %s: %w", setOf(at.name, at.f).Name, err)
			}
		}
	}
	return nil
}

// ipvs sends the commands for one tier, but for those of changes that have
// failed already, and then what follows those that succeeded.
func (b *batch) ipvs(ctx context.Context, t *tier) {
	by := b.by[t.of]
	b.tell(ctx, t, b.commands[t.of], by)
	b.commands[t.of], b.by[t.of] = nil, nil
	var follow []command
	var of []int
	for _, i := range by {
		if c, ok := b.drains[i]; ok && b.errs[i] == nil {
			follow, of = append(follow, c), append(of, i)
		}
		delete(b.drains, i)
	}
	b.tell(ctx, t, follow, of)
}

// tell sends commands, each by a change, and notes what becomes of them.
func (b *batch) tell(ctx context.Context, t *tier, commands []command, by []int) {
	var good []command
	var of []int
	for j, i := range by {
		if b.errs[i] == nil {
			good, of = append(good, commands[j]), append(of, i)
		}
	}
	if len(good) == 0 {
		return
	}
	for j, err := range b.k.spaces[t.of].wire.do(ctx, good) {
		if err == nil {
			continue
		}
		i := of[j]
		c := b.changes[i]
		b.errs[i] = cmp.Or(b.errs[i], refused(c, err))
		// Servers were looked up before: somebody else has changed them.
		b.unsure = b.unsure || c.Kind() == steer.KindServer || errors.Is(err, errLost)
	}
}
