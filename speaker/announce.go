package speaker

import (
	"context"
	"net/netip"
)

// A Claim is one address that this node answers for on one of its links.
type Claim struct {
	Addr netip.Addr
	Link string // interface name
}

// Announcements is everything that this node announces.
type Announcements struct {
	Claims []Claim // by Addr, Link
}

// An Announcer tells the network what a node announces.
type Announcer interface {
	// Sync makes the network believe want, and nothing else. It may be
	// called again with what is already announced: that sends nothing.
	// Errors name the claim; one that fails does not stop the others, and is
	// tried again by the next Sync.
	Sync(ctx context.Context, want Announcements) error
}
