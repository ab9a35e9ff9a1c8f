package speaker

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/ipam"
	"github.com/herald-lb/herald/speaker/steer"
)

// A Node runs the pass of one node.
type Node struct {
	Name string
	// Take returns the cluster as it is now; ok is false until everything
	// that a Snapshot is made of has been read once.
	Take func() (s snapshot.Snapshot, ok bool)
	// Steer is nil on a node whose kernel can neither do IPVS nor nftables:
	// it announces nothing that Herald would have to steer.
	Steer      *steer.Syncer
	Announcers []Announcer
	Router     Router // nil if there is none
	// Followers come at the end of each pass.
	Followers []Follower
	// Rerouted is called when other addresses are told than before; may be nil.
	Rerouted func()
	// Passed is called after each pass that did what it should; may be nil.
	// Followers do not count.
	Passed func()
	// Ring has another pass be run soon. It never blocks; nil: none is needed.
	Ring func()

	planner  steer.Planner
	last     snapshot.Snapshot // of the last pass
	plan     Announcements     // for it
	routing  Routing           // for it
	settled  bool              // whether that pass did all it should
	relieved bool              // as of the last pass: see relieve
	drains   time.Time         // since when the node is drained, as this process has seen it; zero: it is not

	told atomic.Pointer[Routing] // what Router was given last
}

// Known returns the addresses that some router knows, as the sessions of the node
// are. It is safe for concurrent use.
func (n *Node) Known(states []SessionState) []ipam.Range {
	if told := n.told.Load(); told != nil {
		return told.Known(states)
	}
	return nil
}

// A Follower has something to do on a node that neither steers nor announces.
type Follower interface {
	// Follow does what s asks for. Errors name what could not be done; it is
	// tried again by the next Follow.
	Follow(ctx context.Context, s snapshot.Snapshot) error
}

// Pass brings the node in line with the cluster, once.
//
// The order is the point: rows join and are read back before their address is
// announced, and leave after it is withdrawn.
func (n *Node) Pass(ctx context.Context) error {
	s, ok := n.Take()
	if !ok {
		return nil // an empty cache must not look like an empty cluster
	}
	ready, joined := n.join(ctx, s)
	relieved := n.relieve(s, time.Now())
	if joined != nil || !n.settled || !s.SameView(n.last) || relieved != n.relieved {
		n.plan, n.routing = Plan(s, n.Name, ready), PlanRoutes(n.staying(s), n.Name, ready, relieved)
	}
	announced := n.announce(ctx, n.plan)
	told := n.tell(ctx, n.routing)
	left := n.leave(ctx)
	err := errors.Join(joined, announced, told, left)
	n.last, n.relieved, n.settled = s, relieved, err == nil
	if err == nil && n.Passed != nil {
		n.Passed()
	}
	return errors.Join(err, n.follow(ctx, s))
}

// staying is s, in which this speaker does not leave: one that does makes no pass any
// more. What its Lease says of that is of the process before this one, and would have
// routers find other ways, for as long as it takes to write another.
func (n *Node) staying(s snapshot.Snapshot) snapshot.Snapshot {
	i := slices.IndexFunc(s.Speakers, func(sp snapshot.Speaker) bool { return sp.Node == n.Name })
	if i >= 0 && s.Speakers[i].Leaving {
		s.Speakers = slices.Clone(s.Speakers)
		s.Speakers[i].Leaving = false
	}
	return s
}

func (n *Node) join(ctx context.Context, s snapshot.Snapshot) (map[netip.Addr]bool, error) {
	if n.Steer == nil {
		return nil, nil
	}
	self := n.Steer.Kernel.Self()
	self.Node = n.Name
	want, touched := n.planner.Plan(s, self)
	return n.Steer.Join(ctx, time.Now(), want, touched)
}

func (n *Node) leave(ctx context.Context) error {
	if n.Steer == nil {
		return nil
	}
	return n.Steer.Leave(ctx)
}

func (n *Node) announce(ctx context.Context, want Announcements) error {
	var errs []error
	for _, a := range n.Announcers {
		errs = append(errs, a.Sync(ctx, want))
	}
	return errors.Join(errs...)
}

// relief is how long a node that is drained goes on to tell its routes, as the worst
// there are: routers have found the other ways by then.
const relief = 10 * time.Second

// relieve is whether the node is drained, and has been for long enough that
// routers need not know its routes any more.
func (n *Node) relieve(s snapshot.Snapshot, now time.Time) bool {
	draining := slices.ContainsFunc(s.Nodes, func(o snapshot.Node) bool { return o.Name == n.Name && o.Draining })
	switch {
	case !draining:
		n.drains = time.Time{}
		return false
	case n.drains.IsZero():
		n.drains = now
		if n.Ring != nil {
			time.AfterFunc(relief, n.Ring)
		}
	}
	return now.Sub(n.drains) >= relief
}

// Draining is whether the last pass has found the node drained. Only Passed may call it.
func (n *Node) Draining() bool { return !n.drains.IsZero() }

// Yield has routers find other ways than this node, which is about to stop. No pass
// may run any more.
func (n *Node) Yield(ctx context.Context) error { return n.tell(ctx, n.routing.Leaving()) }

func (n *Node) tell(ctx context.Context, want Routing) error {
	if n.Router == nil {
		return nil
	}
	err := n.Router.Sync(ctx, want)
	if was := n.told.Swap(&want); n.Rerouted != nil && (was == nil || !sameTold(*was, want)) {
		n.Rerouted()
	}
	return err
}

func (n *Node) follow(ctx context.Context, s snapshot.Snapshot) error {
	var errs []error
	for _, f := range n.Followers {
		errs = append(errs, f.Follow(ctx, s))
	}
	return errors.Join(errs...)
}
