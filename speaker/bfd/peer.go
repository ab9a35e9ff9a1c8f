package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// What intervals may be. Below, a process in user space, garbage collected, on
// a machine that does other things as well cannot keep what it promises.
const (
	shortest = 10 * time.Millisecond
	longest  = time.Minute
)

// A Peer is whom to keep a session with, and how. There is one session with
// each address.
type Peer struct {
	// Addr is the peer's. A link-local one has the name of a link of this host
	// as its zone.
	Addr netip.Addr
	// Local is the source address; it must be set if Multihop is. Otherwise
	// the zero Addr lets the kernel choose, each time.
	Local netip.Addr
	// Multihop sessions go over routers, to UDP port 4784; others to a
	// neighbour, to port 3784.
	Multihop bool
	// MinTx is the shortest interval to send at, MinRx the shortest that the
	// peer may send at: 10 ms to 1 min.
	MinTx, MinRx time.Duration
	// Multiplier is how many packets have to fail to come in a row before the
	// peer takes us for dead: 1 or more.
	Multiplier uint8
	// Passive sessions send nothing before the peer does. One of both has to
	// be active.
	Passive bool
	// Lasting sessions are not ended by Leave: whoever is told by other means when
	// this end goes, or that it only restarts, is to miss nothing before.
	Lasting bool
}

// port is where packets of p come in.
func (p Peer) port() Port { return Port{Multihop: p.Multihop, IPv6: p.Addr.Is6()} }

func (p Peer) settings() settings {
	return settings{minTx: p.MinTx, minRx: p.MinRx, multiplier: p.Multiplier, passive: p.Passive}
}

// same is whether p can go on with the session of q.
func (p Peer) same(q Peer) bool { return p.Local == q.Local && p.Multihop == q.Multihop }

// check returns what is wrong with p: a field, and what to do about it. Both
// are empty if nothing is.
func (p Peer) check() (field, remedy string) {
	linkLocal := p.Addr.IsLinkLocalUnicast() && p.Addr.Is6()
	switch {
	case !p.Addr.IsValid() || p.Addr.IsUnspecified() || p.Addr.IsMulticast():
		return "Addr", "write the unicast address of one host"
	case p.Addr.Is4In6():
		return "Addr", fmt.Sprintf("write it as IPv4, %s", p.Addr.Unmap())
	case linkLocal && p.Addr.Zone() == "":
		return "Addr", fmt.Sprintf("name the link that it is on, as in %s%%eth0", p.Addr)
	case p.Addr.Zone() != "" && !linkLocal:
		return "Addr", fmt.Sprintf("write it without a zone, %s: it is not link-local", p.Addr.WithZone(""))
	case linkLocal && p.Multihop:
		return "Multihop", "leave it out: a link-local address is one hop away"
	case p.Multihop && !p.Local.IsValid():
		return "Local", "write the address of this host to send from, which Multihop needs"
	case p.Local.IsValid() && (p.Local.Is4() != p.Addr.Is4() || p.Local.Is4In6() || p.Local.IsUnspecified() || p.Local.IsMulticast()):
		return "Local", fmt.Sprintf("%s: write a unicast address of the family of the peer", p.Local)
	case p.Local.Zone() != "" && p.Local.Zone() != p.Addr.Zone():
		return "Local", fmt.Sprintf("%s: write it without a zone: it is on the link of the peer", p.Local)
	case p.MinTx < shortest || p.MinTx > longest:
		return "MinTx", fmt.Sprintf("%s: write %s to %s", p.MinTx, shortest, longest)
	case p.MinRx < shortest || p.MinRx > longest:
		return "MinRx", fmt.Sprintf("%s: write %s to %s", p.MinRx, shortest, longest)
	case p.Multiplier == 0:
		return "Multiplier", "write 1 or more"
	}
	return "", ""
}

// A plan is what Sync was last told, checked. It is replaced whole, never
// edited.
type plan struct {
	peers []Peer
	// bad are those that cannot be served, and why. Whoever has a session
	// keeps it as it is.
	bad map[netip.Addr]error
}

// newPlan checks want. Of two peers with one address the first counts.
func newPlan(want []Peer) (*plan, error) {
	p := &plan{bad: map[netip.Addr]error{}}
	seen := make(map[netip.Addr]bool, len(want))
	var errs []error
	for _, peer := range want {
		if seen[peer.Addr] {
			errs = append(errs, fmt.Errorf("BFD peer %s: Addr: there is a peer with this address already: leave one out", peer.Addr))
			continue
		}
		seen[peer.Addr] = true
		if field, remedy := peer.check(); field != "" {
			err := fmt.Errorf("BFD peer %s: %s: %s", peer.Addr, field, remedy)
			p.bad[peer.Addr] = err
			errs = append(errs, err)
			continue
		}
		p.peers = append(p.peers, peer)
	}
	return p, errors.Join(errs...)
}
