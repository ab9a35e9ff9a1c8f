package arp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/vishvananda/netns"

	"github.com/herald-lb/herald/speaker"
)

// Options are what an Announcer is made from.
type Options struct {
	Log *slog.Logger // nil: nothing is logged
	// NetNS is the network namespace whose links are meant; nil for the one
	// of the process.
	NetNS *netns.NsHandle
}

// An Announcer answers ARP on every link of the node that has a claim. It
// implements [speaker.Announcer]. New makes one, Run runs it.
type Announcer struct {
	log     *slog.Logger
	network network

	// live is what we answer for. Only Sync replaces it.
	live atomic.Pointer[claims]
	// own holds the hardware addresses of this host. Only Run replaces it.
	own atomic.Pointer[map[mac]bool]
	// disputes are the open ones, by claim. Only Run replaces it.
	disputes atomic.Pointer[[]Dispute]
	count    counters
	// yielding is whether addresses are given up without a word.
	yielding atomic.Bool

	begun   atomic.Bool
	started chan struct{} // closed once Run takes orders
	stopped chan struct{} // closed once Run has ended
	orders  chan chan<- error
	bell    chan struct{}
	heard   chan sighting
}

var _ speaker.Announcer = (*Announcer)(nil)

// New returns an Announcer that claims nothing. It opens and starts nothing.
func New(o Options) *Announcer {
	ns := netns.None()
	if o.NetNS != nil {
		ns = *o.NetNS
	}
	return newAnnouncer(o.Log, kernel{ns})
}

func newAnnouncer(log *slog.Logger, n network) *Announcer {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Announcer{
		log:     log,
		network: n,
		started: make(chan struct{}),
		stopped: make(chan struct{}),
		orders:  make(chan chan<- error),
		bell:    make(chan struct{}, 1),
		heard:   make(chan sighting, 64),
	}
	a.live.Store(&claims{})
	a.own.Store(&map[mac]bool{})
	a.disputes.Store(&[]Dispute{})
	return a
}

var errStopped = errors.New("the ARP announcer has stopped")

// Sync implements [speaker.Announcer]. When it returns, what want lacks is
// not answered any more; what is new is answered and has been greeted once,
// or is named in the error. Links that come later are served as they come.
//
// Before Run, Sync only notes what is wanted: Run will greet it.
func (a *Announcer) Sync(ctx context.Context, want speaker.Announcements) error {
	a.live.Store(newClaims(want))
	select {
	case <-a.started:
	default:
		return nil
	}
	done := make(chan error, 1)
	select {
	case a.orders <- done:
	case <-a.stopped:
		return errStopped
	case <-ctx.Done():
		return fmt.Errorf("waiting for the ARP announcer: %w", ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-a.stopped:
		return errStopped
	case <-ctx.Done():
		return fmt.Errorf("waiting for the ARP announcer: %w", ctx.Err())
	}
}

// Yield ends the defence of addresses: they are answered for still, but whoever
// else claims one may have it. A speaker that is about to stop yields, so that
// it does not contest the greeting of its successors.
func (a *Announcer) Yield() { a.yielding.Store(true) }

// ring makes Run look at the links again. It never blocks.
func (a *Announcer) ring() {
	select {
	case a.bell <- struct{}{}:
	default:
	}
}

// claims is one immutable plan: the same addresses twice, for the readers to
// look up and for Run to go through.
type claims struct {
	set   map[speaker.Claim]bool
	links map[string][]netip.Addr // sorted, without duplicates
}

// newClaims keeps the IPv4 claims of want.
func newClaims(want speaker.Announcements) *claims {
	c := &claims{map[speaker.Claim]bool{}, map[string][]netip.Addr{}}
	for _, claim := range want.Claims {
		if claim.Addr.Is4() && !c.set[claim] {
			c.set[claim] = true
			c.links[claim.Link] = append(c.links[claim.Link], claim.Addr)
		}
	}
	for _, addrs := range c.links {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	return c
}

// has is whether addr is claimed on link.
func (c *claims) has(addr netip.Addr, link string) bool {
	return c.set[speaker.Claim{Addr: addr, Link: link}]
}
