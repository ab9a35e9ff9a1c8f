package controller

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
)

// Announced is, of a Service, true while all its addresses are announced in every
// way that their pools have, by what speakers report: on layer 2 if a node answers
// for them, by BGP if a router with a session that is established is told them.
const Announced = "herald-lb.io/Announced"

// Reasons of Announced.
const (
	ReasonAnnounced = "Announced"    // all of them
	Contested       = "Contested"    // … and another host says that one is his
	NotAnnounced    = "NotAnnounced" // one was not yet, since it was assigned
	Withdrawn       = "Withdrawn"    // one is not any more
	AddressInUse    = "AddressInUse" // one was not yet, for another host has it
)

// quarantine is for how long an address is given to nobody that a stranger was
// found to have, when it was to be announced for the first time.
const quarantine = 10 * time.Minute

// reports are what speakers say, by address.
type reports struct {
	known     bool // or else nobody has been asked
	answers   map[netip.Addr]answer
	conflicts map[netip.Addr]conflict
	told      []ipam.Range    // by somebody, to a router that has heard it
	sessions  map[string]bool // names of BGPPeers with which one is established
}

type answer struct {
	node string
	snapshot.Answer
}

type conflict struct {
	node string // that has found it
	snapshot.Conflict
}

// sortReports sorts what speakers say. Of several that say that they answer for
// an address the last to take it does: the others have not said yet that they do
// not any more, or cannot.
func sortReports(all []snapshot.Report) reports {
	r := reports{known: all != nil, answers: map[netip.Addr]answer{}, conflicts: map[netip.Addr]conflict{}, sessions: map[string]bool{}}
	lost := lostBy(all)
	for _, one := range all {
		if lost[one.Node] {
			continue
		}
		for _, a := range one.Answers {
			if had, ok := r.answers[a.Addr]; !ok || had.Since.Before(a.Since) {
				r.answers[a.Addr] = answer{one.Node, a}
			}
		}
		for _, c := range one.Conflicts {
			if _, ok := r.conflicts[c.Addr]; !ok && c.Node == "" {
				r.conflicts[c.Addr] = conflict{one.Node, c}
			}
		}
		r.told = append(r.told, one.Told...)
		for _, b := range one.Routers {
			r.sessions[b.Peer] = r.sessions[b.Peer] || b.Up
		}
	}
	r.told = ipam.Normalize(r.told)
	return r
}

// tells is whether some router knows addr.
func (r reports) tells(addr netip.Addr) bool {
	_, ok := slices.BinarySearchFunc(r.told, addr, func(one ipam.Range, addr netip.Addr) int {
		switch {
		case one.Last.Less(addr):
			return -1
		case addr.Less(one.First):
			return 1
		}
		return 0
	})
	return ok
}

// lostBy returns the nodes whose speakers some others miss, and none hears: what
// they have said last is of old. Who is deaf to a speaker does not miss it.
func lostBy(all []snapshot.Report) map[string]bool {
	lost, reached := map[string]bool{}, map[string]bool{}
	deaf := map[[2]string]bool{} // who, and to whom
	for _, one := range all {
		for _, p := range one.Peers {
			deaf[[2]string{p.Node, one.Node}] = p.Deaf
		}
	}
	for _, one := range all {
		for _, p := range one.Peers {
			missed := !p.Up && !deaf[[2]string{one.Node, p.Node}]
			lost[p.Node] = lost[p.Node] || missed
			reached[p.Node] = reached[p.Node] || p.Up || p.Deaf
		}
	}
	maps.DeleteFunc(lost, func(node string, missed bool) bool { return !missed || reached[node] })
	return lost
}

// announced returns the condition Announced that svc should have with these
// addresses; none if none of them is announced in any way.
func announced(svc snapshot.Service, ingress []snapshot.Ingress, c config.Config, r reports) []snapshot.Condition {
	was, had := said(svc, Announced)
	if !r.known {
		if !had {
			return nil
		}
		return []snapshot.Condition{was}
	}
	var h hearsay
	for _, in := range ingress {
		pool := c.PoolOf(in.Addr)
		if pool.Layer2.Enabled {
			h.segment(in.Addr, r)
		}
		// Where the pool tells routers of some Services only, layer 2 may be all
		// that is wanted for the others.
		if entries := svc.Told[pool.Name]; len(pool.BGP) > 0 && (len(entries) > 0 || !pool.Layer2.Enabled) {
			h.routers(in.Addr, entries, pool, c, r)
		}
	}
	message := strings.Join(slices.Concat(h.words, h.missing), "; ")
	next := snapshot.Condition{Type: Announced, Reason: NotAnnounced, Message: message}
	switch {
	case message == "":
		return nil
	case len(h.missing) == 0 && h.contested:
		next.Status, next.Reason = true, Contested
	case len(h.missing) == 0:
		next.Status, next.Reason = true, ReasonAnnounced
	case !firstTime(svc, ingress):
		next.Reason = Withdrawn
	case h.inUse:
		next.Reason = AddressInUse
	}
	return []snapshot.Condition{next}
}

// hearsay is what speakers say of the addresses of a Service.
type hearsay struct {
	words, missing   []string // of those that are announced, and of those that are not
	contested, inUse bool     // another host says that one is his; he has it
}

// segment adds what is said of an address on layer 2.
func (h *hearsay) segment(addr netip.Addr, r reports) {
	a, answered := r.answers[addr]
	other, claimed := r.conflicts[addr]
	switch {
	case answered && !(claimed && !other.Answered && other.node == a.node):
		h.words = append(h.words, fmt.Sprintf("%s by %s on %s", addr, a.node, a.Link))
		if claimed {
			h.contested = true
			h.words = append(h.words, fmt.Sprintf("the host %s says that it is his", other.MAC))
		}
	case claimed:
		h.inUse = true
		h.missing = append(h.missing, fmt.Sprintf("%s: the host %s has it, which is no speaker (found by %s): take it from him, or exclude it from its pool", addr, other.MAC, other.node))
	default:
		h.missing = append(h.missing, fmt.Sprintf("%s: no node announces it: none that may has a link into its subnet and a usable endpoint within reach, or none has said so yet", addr))
	}
}

// routers adds what is said of an address that is told by BGP, by these entries of
// its pool. Which nodes tell it to whom is left out: thousands of Services would say
// so anew with each speaker that restarts.
func (h *hearsay) routers(addr netip.Addr, entries []int, pool config.Pool, c config.Config, r reports) {
	if r.tells(addr) {
		h.words = append(h.words, addr.String()+" by BGP")
		return
	}
	peers, up := peersOf(entries, pool, c, r)
	why := "no node tells it to a router: none that may has a usable endpoint within reach, or none has said so yet; herald explain service says of each why"
	switch {
	case len(entries) == 0:
		why = fmt.Sprintf("no serviceSelector in spec.announce.bgp of AddressPool %s selects the Service", pool.Name)
	case peers == 0:
		why = fmt.Sprintf("there is no BGPPeer to tell it to that spec.announce.bgp of AddressPool %s allows: create one", pool.Name)
	case !up:
		why = "no session with a router that it is to be told to is established: see kubectl get bgppeers"
	}
	h.missing = append(h.missing, fmt.Sprintf("%s: %s", addr, why))
}

// peersOf counts the peers that entries of a pool tell, and is up if a session with
// one of them is.
func peersOf(entries []int, pool config.Pool, c config.Config, r reports) (count int, up bool) {
	for _, p := range c.Peers {
		named := func(i int) bool {
			return i < len(pool.BGP) && (len(pool.BGP[i].Peers) == 0 || slices.Contains(pool.BGP[i].Peers, p.Name))
		}
		if slices.ContainsFunc(entries, named) {
			count++
			up = up || r.sessions[p.Name]
		}
	}
	return count, up
}

// firstTime is whether svc with these addresses was never announced: they are
// new, or it says so. An address that it had before Herald knew of it, or
// before Herald said so, may have been in use for long.
func firstTime(svc snapshot.Service, ingress []snapshot.Ingress) bool {
	if !sameAddrs(svc.Ingress, ingress) {
		return true
	}
	was, ok := said(svc, Announced)
	return ok && !was.Status && was.Reason != Withdrawn
}

// said returns the condition of svc of this type.
func said(svc snapshot.Service, kind string) (snapshot.Condition, bool) {
	i := slices.IndexFunc(svc.Conditions, func(c snapshot.Condition) bool { return c.Type == kind })
	if i < 0 {
		return snapshot.Condition{}, false
	}
	return svc.Conditions[i], true
}

// announcedEvents tells of a new reason, or of another node.
func announcedEvents(svc snapshot.Service, want ServiceStatus) []Event {
	i := slices.IndexFunc(want.Conditions, func(c snapshot.Condition) bool { return c.Type == Announced })
	if i < 0 {
		return nil
	}
	now := want.Conditions[i]
	was, _ := said(svc, Announced)
	if now == was || now.Reason == NotAnnounced {
		return nil
	}
	return []Event{{Warning: now.Reason != ReasonAnnounced, Reason: now.Reason, Message: now.Message}}
}

// quarantines returns the addresses that nobody is to be given, by Addr: those
// that a stranger was found to have who was there before they were announced.
func quarantines(s snapshot.Snapshot, m Memory, r reports) []snapshot.Quarantine {
	all := map[netip.Addr]snapshot.Quarantine{}
	for _, list := range [][]snapshot.Quarantine{m.quarantined, inPools(s.Pools)} {
		for _, q := range list {
			if last := s.Now.Add(quarantine); q.Until.After(last) { // the clock was put back
				q.Until = last
			}
			if had, ok := all[q.Addr]; q.Until.After(s.Now) && (!ok || had.Until.Before(q.Until)) {
				all[q.Addr] = q
			}
		}
	}
	for addr, c := range r.conflicts {
		// It is made longer when half of it is over, so that it is not written
		// all the time.
		if had, ok := all[addr]; !c.Answered && (!ok || had.MAC != c.MAC || had.Until.Before(s.Now.Add(quarantine/2))) {
			all[addr] = snapshot.Quarantine{Addr: addr, MAC: c.MAC, Node: c.node, Until: s.Now.Add(quarantine)}
		}
	}
	out := make([]snapshot.Quarantine, 0, len(all))
	for _, q := range all {
		out = append(out, q)
	}
	slices.SortFunc(out, func(a, b snapshot.Quarantine) int { return a.Addr.Compare(b.Addr) })
	return out
}

func inPools(pools []snapshot.PoolStatus) (all []snapshot.Quarantine) {
	for _, p := range pools {
		all = append(all, p.Conflicts...)
	}
	return all
}

// MaxConflicts is how many quarantined addresses the status of a pool has room
// for.
const MaxConflicts = 256

// conflictsIn returns those that lie in the pool called name: of too many the
// longest.
func conflictsIn(name string, c config.Config, all []snapshot.Quarantine) []snapshot.Quarantine {
	var in []snapshot.Quarantine
	for _, q := range all {
		if c.PoolOf(q.Addr).Name == name {
			in = append(in, q)
		}
	}
	if len(in) > MaxConflicts {
		slices.SortStableFunc(in, func(a, b snapshot.Quarantine) int { return b.Until.Compare(a.Until) })
		in = in[:MaxConflicts]
		slices.SortFunc(in, func(a, b snapshot.Quarantine) int { return a.Addr.Compare(b.Addr) })
	}
	return in
}

// sameQuarantine compares times as the API keeps them, in seconds.
func sameQuarantine(a, b snapshot.Quarantine) bool {
	return a.Addr == b.Addr && a.MAC == b.MAC && a.Node == b.Node && a.Until.Unix() == b.Until.Unix()
}
