package ipvs

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/speaker/steer"
)

// A batch is one Apply. It gathers what that wants of the sets inside: of
// several wishes for one element the last counts.
type batch struct {
	k    *Kernel
	errs []error // of the changes, by their number
	way  *way    // nil until a change is about an address

	snat map[steer.Virtual]wish
	// had are the prefixes that the sets hold, pods those that they will; nil
	// until a change is about one. wants is how they differ.
	had, pods map[netip.Prefix]bool
	wants     map[netip.Prefix]wish
}

// A wish is whether an element has to be in its set, and by which change.
type wish struct {
	in bool
	by int
}

func (b *batch) wantSNAT(i int, v steer.Virtual, want bool) {
	if b.snat == nil {
		b.snat = map[steer.Virtual]wish{}
	}
	b.snat[v] = wish{want, i}
}

// pod notes change c of a prefix, if it can be made.
func (b *batch) pod(i int, c steer.Change) error {
	if b.pods == nil {
		t := steer.NewTable()
		if err := b.k.inside.nft(func(conn *nftables.Conn) error { return listElements(conn, t) }); err != nil {
			return err
		}
		b.had, b.pods, b.wants = t.Pods, maps.Clone(t.Pods), map[netip.Prefix]wish{}
	}
	switch {
	case c.Verb == steer.Add && b.pods[c.Pods]:
		return os.ErrExist
	case c.Verb == steer.Del && !b.pods[c.Pods]:
		return os.ErrNotExist
	case c.Verb == steer.Del:
		delete(b.pods, c.Pods)
	default:
		for p := range b.pods { // intervals of a set must not overlap
			if p.Overlaps(c.Pods) {
				return fmt.Errorf("overlaps %s, which is there", p)
			}
		}
		b.pods[c.Pods] = true
	}
	if b.pods[c.Pods] == b.had[c.Pods] {
		delete(b.wants, c.Pods) // as it was before an earlier change
	} else {
		b.wants[c.Pods] = wish{b.pods[c.Pods], i}
	}
	return nil
}

// send makes all wishes come true in one transaction. If the kernel refuses it,
// each wish is tried alone, so that one does not stop the others.
func (b *batch) send() {
	snat, pods := b.snat, b.wants
	b.snat, b.wants, b.had, b.pods = nil, nil, nil, nil
	if len(snat)+len(pods) == 0 || b.try(snat, pods) == nil {
		return
	}
	for _, v := range sortedBy(snat) {
		if err := b.try(map[steer.Virtual]wish{v: snat[v]}, nil); err != nil {
			b.errs[snat[v].by] = errors.Join(b.errs[snat[v].by], err)
		}
	}
	for _, p := range sortedBy(pods) {
		if err := b.try(nil, map[netip.Prefix]wish{p: pods[p]}); err != nil {
			b.errs[pods[p].by] = errors.Join(b.errs[pods[p].by], err)
		}
	}
}

// sortedBy returns the keys of wishes in the order of their changes.
func sortedBy[K comparable](wishes map[K]wish) []K {
	return slices.SortedFunc(maps.Keys(wishes), func(a, b K) int {
		return cmp.Compare(wishes[a].by, wishes[b].by)
	})
}

func (b *batch) try(snat map[steer.Virtual]wish, pods map[netip.Prefix]wish) error {
	adds, dels := elements(snat, pods)
	return b.k.inside.nft(func(conn *nftables.Conn) error {
		// Prefixes leave first, for one that comes may overlap them. Servers
		// leave last, see elements.
		for _, part := range []struct {
			set  *nftables.Set
			from map[string][]nftables.SetElement
			send func(*nftables.Set, []nftables.SetElement) error
		}{
			{pods4, dels, conn.SetDeleteElements}, {pods6, dels, conn.SetDeleteElements},
			{pods4, adds, conn.SetAddElements}, {pods6, adds, conn.SetAddElements},
			{snat4, adds, conn.SetAddElements}, {snat6, adds, conn.SetAddElements},
			{snat4, dels, conn.SetDeleteElements}, {snat6, dels, conn.SetDeleteElements},
		} {
			for some := range slices.Chunk(part.from[part.set.Name], chunk) {
				if err := part.send(part.set, some); err != nil {
					return fmt.Errorf("changing set %s: %w", part.set.Name, err)
				}
			}
		}
		if err := conn.Flush(); err != nil {
			return fmt.Errorf("changing sets: %w", err)
		}
		return nil
	})
}

// elements returns what to add to and what to delete from each set, by name.
//
// Whether the element of a server is there is not known. Adding what is there
// does nothing, so that deleting it afterwards cannot fail.
func elements(snat map[steer.Virtual]wish, pods map[netip.Prefix]wish) (adds, dels map[string][]nftables.SetElement) {
	adds, dels = map[string][]nftables.SetElement{}, map[string][]nftables.SetElement{}
	for _, v := range sortedBy(snat) {
		set, element := snatSet(v).Name, nftables.SetElement{Key: snatKey(v)}
		adds[set] = append(adds[set], element)
		if !snat[v].in {
			dels[set] = append(dels[set], element)
		}
	}
	for _, p := range sortedBy(pods) {
		to := adds
		if !pods[p].in {
			to = dels
		}
		set := podSet(p).Name
		to[set] = append(to[set], interval(p)...)
	}
	return adds, dels
}
