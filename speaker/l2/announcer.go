package l2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netns"

	"github.com/herald-lb/herald/speaker"
)

// Options are what an Announcer is made from.
type Options struct {
	Log *slog.Logger // nil: nothing is logged
	// NetNS is the network namespace whose links are meant; nil for the one
	// of the process.
	NetNS *netns.NsHandle
	// Changed is called by the goroutine of Run after what Answers or the lists
	// in Stats return has changed; nil if nobody wants to know. It must not
	// block.
	Changed func()
	// Network stands in for the kernel in tests; nil for the kernel.
	Network Network
	// Absent is after what time without a sign of life Run has to ask anew whether
	// anybody else has what it answers for; 0 for less than others need to find that
	// this node is lost. Tests that are not about that take long, for they may run on
	// a busy machine.
	Absent time.Duration
}

// An Announcer answers for the claims of one protocol on every link of the node
// that has one. It implements [speaker.Announcer]. New makes one, Run runs it.
type Announcer struct {
	proto   Protocol
	log     *slog.Logger
	network Network
	changed func()

	// live is what we answer for. Only Sync replaces it.
	live atomic.Pointer[claims]
	// own holds the hardware addresses of this host. Only Run replaces it.
	own atomic.Pointer[map[MAC]bool]
	// disputes and waits are the open ones, by claim. Only Run replaces them.
	disputes atomic.Pointer[[]Dispute]
	waits    atomic.Pointer[[]Wait]
	count    counters
	// pulse is when Run was last seen to be awake, since base.
	pulse  atomic.Int64
	base   time.Time
	absent time.Duration
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
func New(p Protocol, o Options) *Announcer {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	network := o.Network
	if network == nil {
		network = newKernel(p, o.NetNS)
	}
	a := &Announcer{
		proto:   p,
		log:     log,
		network: network,
		changed: o.Changed,
		started: make(chan struct{}),
		stopped: make(chan struct{}),
		orders:  make(chan chan<- error),
		bell:    make(chan struct{}, 1),
		heard:   make(chan sighting, 1024),
		base:    time.Now(),
		absent:  cmp.Or(o.Absent, absent),
	}
	if a.changed == nil {
		a.changed = func() {}
	}
	a.live.Store(&claims{})
	a.own.Store(&map[MAC]bool{})
	a.disputes.Store(&[]Dispute{})
	a.waits.Store(&[]Wait{})
	return a
}

// ErrStopped is what Sync returns once Run has ended.
var ErrStopped = errors.New("the announcer has stopped")

// Sync implements [speaker.Announcer]. When it returns, what want lacks is
// not answered any more; of what is new it is being asked who has it, or it is
// named in the error. Links that come later are served as they come.
//
// Before Run, Sync only notes what is wanted: Run will serve it. It must not be
// called twice at a time.
func (a *Announcer) Sync(ctx context.Context, want speaker.Announcements) error {
	a.live.Store(newClaims(a.proto, want, a.live.Load()))
	select {
	case <-a.started:
	default:
		return nil
	}
	done := make(chan error, 1)
	select {
	case a.orders <- done:
	case <-a.stopped:
		return fmt.Errorf("announcing by %s: %w", a.proto.Name, ErrStopped)
	case <-ctx.Done():
		return fmt.Errorf("waiting for the %s announcer: %w", a.proto.Name, ctx.Err())
	}
	select {
	case err := <-done:
		return err
	case <-a.stopped:
		return fmt.Errorf("announcing by %s: %w", a.proto.Name, ErrStopped)
	case <-ctx.Done():
		return fmt.Errorf("waiting for the %s announcer: %w", a.proto.Name, ctx.Err())
	}
}

// Yield ends the defence of addresses: they are answered for still, but whoever
// else claims one may have it. A speaker that is about to stop yields, so that
// it does not contest the greeting of its successors.
func (a *Announcer) Yield() { a.yielding.Store(true) }

// Protocol returns the name of what it speaks, as people call it.
func (a *Announcer) Protocol() string { return a.proto.Name }

// Started is closed once Run serves: a Sync from then on waits for it.
func (a *Announcer) Started() <-chan struct{} { return a.started }

// An Answer is a claim that is answered for.
type Answer struct {
	speaker.Claim
	Since time.Time
}

// Answers returns what is answered for now, by Claim.
func (a *Announcer) Answers() []Answer {
	var all []Answer
	for claim, at := range a.live.Load().set {
		if at.seat.answers.Load() {
			all = append(all, Answer{claim, time.Unix(0, at.seat.since.Load())})
		}
	}
	slices.SortFunc(all, func(x, y Answer) int { return compareClaims(x.Claim, y.Claim) })
	return all
}

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
	node  string
	set   map[speaker.Claim]place
	links map[string][]netip.Addr // sorted, without duplicates
	peers map[MAC]peer
}

// A place is what the plan says of a claim, and how far we are with it.
type place struct {
	seat    *seat
	elected bool // or else it is another's, who has not taken it yet
	terms   speaker.Terms
}

// A seat outlasts the plans that have its claim.
type seat struct {
	answers atomic.Bool  // whether we answer for it; only Run sets it
	since   atomic.Int64 // when that began, in nanoseconds since 1970
}

// A peer is another speaker.
type peer struct {
	node           string
	alive, leaving bool
	deaf           bool // to us
}

// newClaims keeps the claims of want that p speaks for, and the seats of last.
// Of what others are elected for it keeps what we answer for.
func newClaims(p Protocol, want speaker.Announcements, last *claims) *claims {
	c := &claims{want.Node, make(map[speaker.Claim]place, len(want.Claims)), map[string][]netip.Addr{}, map[MAC]peer{}}
	for _, claim := range want.Claims {
		if !p.Speaks(claim.Addr) || c.set[claim].seat != nil {
			continue
		}
		s := last.set[claim].seat
		if s == nil {
			s = &seat{}
		}
		c.add(claim, place{s, true, want.Terms[claim]})
	}
	for _, claim := range want.Others {
		s := last.set[claim].seat
		if s != nil && s.answers.Load() && c.set[claim].seat == nil {
			c.add(claim, place{seat: s})
		}
	}
	for _, addrs := range c.links {
		slices.SortFunc(addrs, netip.Addr.Compare)
	}
	c.meet(want.Peers, last)
	return c
}

// meet takes note of the other speakers. One whose link has lost its carrier tells
// of it no more, and is heard there again before he has told: it is known still.
func (c *claims) meet(others []speaker.Peer, last *claims) {
	now := make(map[string]peer, len(others))
	for _, other := range others {
		now[other.Node] = peer{other.Node, other.Alive, other.Leaving, other.Deaf}
	}
	for mac, was := range last.peers {
		if p, ok := now[was.node]; ok {
			c.peers[mac] = p
		}
	}
	for _, other := range others {
		for _, mac := range other.MACs {
			c.peers[mac] = now[other.Node]
		}
	}
}

func (c *claims) add(claim speaker.Claim, at place) {
	c.set[claim] = at
	c.links[claim.Link] = append(c.links[claim.Link], claim.Addr)
}

// at returns the place of a claim; its seat is nil if there is none.
func (c *claims) at(addr netip.Addr, link string) place {
	return c.set[speaker.Claim{Addr: addr, Link: link}]
}
