package speaker

import (
	"context"
	"net/netip"
	"time"
)

// A Claim is one address that this node answers for on one of its links.
type Claim struct {
	Addr netip.Addr
	Link string // interface name
}

// Announcements is everything that this node announces, and what it has to
// know of others for it.
type Announcements struct {
	Node   string  // this node
	Claims []Claim // those that it is elected for; by Addr, Link
	// Others are those that it could serve, but another is elected for. Where it
	// announces one already, it goes on until the other has said that he does:
	// so nobody is left without an answer on the way.
	Others []Claim // by Addr, Link
	// Terms are those of claims that have other than the zero ones.
	Terms map[Claim]Terms
	// Peers are the other speakers that share a segment with this one.
	Peers []Peer // by Node
}

// Terms are how an address is announced.
type Terms struct {
	// Failback is for how long another speaker that has the address, and can go
	// on, is left alone; 0 for not at all.
	Failback time.Duration
	// Refresh is how often it is greeted though nothing has changed; 0 for never.
	Refresh time.Duration
}

// A Peer is the speaker of another node, as it shows on the wire.
type Peer struct {
	Node string
	MACs [][6]byte // of its links
	// Alive is whether it is well, as far as is known here. What one that is
	// not answers for on the wire is not taken from it.
	Alive bool
	// Leaving is whether it wants to be relieved of what it announces.
	Leaving bool
	// Deaf is whether it does not hear this node, as far as that knows: what it
	// takes, it has asked for without hearing the answer.
	Deaf bool
}

// An Announcer tells the network what a node announces.
type Announcer interface {
	// Sync makes the network believe want, and nothing else. It may be
	// called again with what is already announced: that sends nothing.
	// What is not wanted any more is not answered for when it returns; what is
	// new may have to be asked for first. Errors name the claim; one that fails
	// does not stop the others, and is tried again by the next Sync.
	Sync(ctx context.Context, want Announcements) error
}
