package liveness

import (
	"net/netip"
	"slices"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/bfd"
)

// Multiplier is how many packets in a row have to be missing.
const Multiplier = 3

// Interval returns the interval at which each of so many speakers sends to each
// of the others: 100 ms, and more where one of them would send more than about
// 1,000 packets a second. Steps of 50 ms keep a cluster that grows from changing
// it all the time. Jitter makes BFD send an eighth more often than that.
func Interval(speakers int) time.Duration {
	const least, step = 100 * time.Millisecond, 50 * time.Millisecond
	need := time.Duration(speakers) * time.Millisecond * 8 / 7
	return max(least, (need+step-1)/step*step)
}

// Plan returns the sessions that the speaker of a node keeps with others: those
// that have said that they speak BFD, be they alive or not. Both ends have to
// come to the same pair of addresses.
func Plan(s snapshot.Snapshot, me string) map[string]bfd.Peer {
	nodes := make(map[string]snapshot.Node, len(s.Nodes))
	for _, n := range s.Nodes {
		nodes[n.Name] = n
	}
	var own snapshot.Speaker
	var others []snapshot.Speaker
	for _, sp := range slices.Concat(s.Speakers, s.Lost) {
		switch {
		case sp.Node == me:
			own = sp
		case sp.BFD:
			others = append(others, sp)
		}
	}
	interval := Interval(len(others) + 1)
	plan := make(map[string]bfd.Peer, len(others))
	for _, sp := range others {
		from, to, ok := pair(nodes[me].Internal, nodes[sp.Node].Internal)
		if !ok {
			continue // no such node any more, or no family in common
		}
		neighbours := near(own.Links, to) && near(sp.Links, from)
		plan[sp.Node] = bfd.Peer{
			Addr: to, Local: from, Multihop: !neighbours,
			MinTx: interval, MinRx: interval, Multiplier: Multiplier,
		}
	}
	return plan
}

// keep has sessions that were up go on as they are, one hop long or more. A link
// that has lost its carrier is told of no more, which is no reason for another
// session: that would know nothing of the peer, just when this one is to miss it.
func keep(next, last map[string]bfd.Peer, sessions map[netip.Addr]bfd.Status) {
	for node, p := range next {
		if was, ok := last[node]; ok && was.Addr == p.Addr && was.Local == p.Local && sessions[p.Addr].WasUp {
			p.Multihop = was.Multihop
			next[node] = p
		}
	}
}

// pair returns the first address of each of both nodes in a family that both
// have, IPv4 before IPv6.
func pair(ours, theirs []netip.Addr) (from, to netip.Addr, ok bool) {
	for _, is := range []func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6} {
		i, j := slices.IndexFunc(ours, is), slices.IndexFunc(theirs, is)
		if i >= 0 && j >= 0 {
			return ours[i], theirs[j], true
		}
	}
	return from, to, false
}

// near is whether addr is on one of the links.
func near(links []snapshot.Link, addr netip.Addr) bool {
	return slices.ContainsFunc(links, func(l snapshot.Link) bool {
		return slices.ContainsFunc(l.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
	})
}

// Contacts returns what sessions say of the nodes in plan. last is what they
// said before: who has left is not lost when he goes. Who goes on to say that he is
// down is heard, and does not hear us: if he did he would not stay so (RFC 5880
// §6.8.6).
func Contacts(plan map[string]bfd.Peer, sessions map[netip.Addr]bfd.Status, last map[string]snapshot.Contact) map[string]snapshot.Contact {
	contacts := make(map[string]snapshot.Contact, len(plan))
	for node, peer := range plan {
		switch s, ok := sessions[peer.Addr]; {
		case !ok || !s.WasUp:
			contacts[node] = snapshot.Untried
		case s.State == bfd.Up:
			contacts[node] = snapshot.Reached
		case s.RemoteState == bfd.AdminDown || last[node] == snapshot.Left:
			contacts[node] = snapshot.Left
		case s.RemoteDiscriminator != 0 && s.RemoteState == bfd.Down: // forgotten, once nothing comes
			contacts[node] = snapshot.Deaf
		default:
			contacts[node] = snapshot.Lost
		}
	}
	return contacts
}

// Hears returns the nodes that are heard and do not hear this one, sorted.
func Hears(contacts map[string]snapshot.Contact) (deaf []string) {
	for node, c := range contacts {
		if c == snapshot.Deaf {
			deaf = append(deaf, node)
		}
	}
	slices.Sort(deaf)
	return deaf
}
