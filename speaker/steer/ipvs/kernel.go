package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"

	"github.com/herald-lb/herald/speaker/steer"
)

// What Herald uses unless told otherwise.
const (
	// DefaultMark and DefaultSecondMark are bits that neither kube-proxy
	// (0x4000, 0x8000), the portmap plug-in (0x2000), AWS (0x80), Cilium (0xf00
	// and the upper half) nor Calico (the upper half) uses.
	DefaultMark       = 0x1000
	DefaultSecondMark = 0x40
	// DefaultRouteTable, and the two after it, lead into the namespaces.
	DefaultRouteTable = 7272
)

// Options says where a Kernel works. StateDir is needed, the rest has defaults.
type Options struct {
	// StateDir is a directory that outlives the process: the namespaces are
	// pinned below it. In a pod it is a hostPath volume mounted with
	// Bidirectional propagation, else they die with the pod.
	StateDir string
	// HostNS is the path of the network namespace that traffic arrives in.
	// "" is the namespace of the process.
	HostNS string
	// Tunnels are the addresses of this node, at most one of each family, at
	// which other nodes can send it packets by tunnel (IP in IP, RFC 2003 and
	// RFC 2473). Without one of a family there are no tunnels of that family.
	Tunnels []netip.Addr
	// Mark and SecondMark are the bits of packet and connection marks that
	// Herald may use.
	Mark, SecondMark uint32
	// RouteTable is the first of three routing tables that Herald may use.
	RouteTable int
}

// A Kernel implements [steer.Kernel].
type Kernel struct {
	opts  Options
	marks marks
	host  *place
	// spaces are nil until Prepare has succeeded once.
	spaces [len(tiers)]*space
	// known is nil if the kernel must be listed first.
	known *known

	mended []string // by Prepare, since Mended was asked

	self  atomic.Pointer[steer.Self]
	lacks atomic.Pointer[[]string]
}

// New returns a Kernel that has not touched anything yet.
func New(o Options) *Kernel {
	if o.Mark == 0 {
		o.Mark = DefaultMark
	}
	if o.SecondMark == 0 {
		o.SecondMark = DefaultSecondMark
	}
	if o.RouteTable == 0 {
		o.RouteTable = DefaultRouteTable
	}
	k := &Kernel{opts: o, marks: marks{o.Mark, o.SecondMark}}
	k.self.Store(&steer.Self{Tiers: true})
	k.lacks.Store(&[]string{})
	return k
}

// Name implements [steer.Kernel].
func (k *Kernel) Name() string { return "ipvs" }

// Self implements [steer.Kernel].
func (k *Kernel) Self() steer.Self { return *k.self.Load() }

// Lacks implements [steer.Kernel].
func (k *Kernel) Lacks() []string { return *k.lacks.Load() }

// Mended implements [steer.Kernel].
func (k *Kernel) Mended() []string {
	mended := k.mended
	k.mended = nil
	return mended
}

func (k *Kernel) note(what string) { k.mended = append(k.mended, what) }

func (k *Kernel) pinPath(t *tier) string { return filepath.Join(k.opts.StateDir, "netns", t.file) }

// table is the routing table that leads into a tier.
func (k *Kernel) table(t *tier) int { return k.opts.RouteTable + int(t.of) }

// A step is one part of what the rows stand in: looked at, and mended if it is
// not as it should be.
type step struct {
	doing string
	mend  func(context.Context) error
}

// Prepare implements [steer.Kernel].
func (k *Kernel) Prepare(ctx context.Context) error {
	for _, s := range []step{
		{"looking for IPVS", func(context.Context) error { return Probe() }},
		{"opening the host's namespace", k.openHost},
		{"pinning the namespaces", k.openSpaces},
		{"linking the namespaces", k.link},
		{"taking tunnels", k.tunnels},
		{"routing", k.routes},
		{"setting the rules", k.rules},
		{"opening IPVS", k.openIPVS},
		{"sweeping addresses", k.sweep},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.mend(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.doing, err)
		}
	}
	return nil
}

// ready says whether rows can be listed and changed.
func (k *Kernel) ready() error {
	for _, s := range k.spaces {
		if k.host == nil || s == nil || s.wire == nil {
			return errors.New("ipvs is not prepared")
		}
	}
	return nil
}

func (k *Kernel) openHost(context.Context) (err error) {
	if k.host == nil {
		if k.host, err = openPlace(k.opts.HostNS); err == nil {
			k.host.mended = k.note
		}
	}
	return err
}

func (k *Kernel) openSpaces(context.Context) error {
	if k.opts.StateDir == "" {
		return errors.New("no state directory is given")
	}
	for _, t := range tiers {
		if err := k.openSpace(t); err != nil {
			return err
		}
	}
	return nil
}

// openSpace pins the namespace of t if it is not, and lets go of the handles
// into an older one that somebody has taken away.
func (k *Kernel) openSpace(t *tier) error {
	path := k.pinPath(t)
	if err := pin(path); err != nil {
		return err
	}
	now, err := openPlace(path)
	if err != nil {
		return err
	}
	now.mended = k.note
	have := k.spaces[t.of]
	switch {
	case now.ns.Equal(k.host.ns):
		now.close()
		return fmt.Errorf("%s is the host's own namespace", path)
	case have != nil && have.ns.Equal(now.ns):
		now.close()
		return nil
	case have != nil:
		have.close()
	}
	k.spaces[t.of], k.known = &space{tier: t, place: now}, nil
	return nil
}

func (k *Kernel) openIPVS(ctx context.Context) (err error) {
	for _, s := range k.spaces {
		if s.wire == nil {
			if s.wire, err = openWire(s.ns); err != nil {
				return err
			}
		}
		if err := s.wire.remember(ctx, keepIdle); err != nil {
			return fmt.Errorf("setting the time-out of idle connections in %s: %w", s.file, err)
		}
	}
	return nil
}

// Remove implements [steer.Kernel].
func (k *Kernel) Remove(ctx context.Context) error {
	if err := k.openHost(ctx); err != nil {
		return fmt.Errorf("opening the host's namespace: %w", err)
	}
	k.closeSpaces()
	var errs []error
	for _, s := range []step{ // traffic stops first
		{"removing routes", k.unroute},
		{"removing the rules on the host", func(context.Context) error { return k.host.drop(hostRules(k.hostFacts())) }},
		{"removing the links", k.unlink},
		{"removing the namespaces", k.unpin},
	} {
		if err := s.mend(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.doing, err))
		}
	}
	return errors.Join(errs...)
}

func (k *Kernel) unpin(context.Context) error {
	var errs []error
	for _, t := range tiers {
		errs = append(errs, unpin(k.pinPath(t)))
	}
	return errors.Join(errs...)
}

// Close implements [steer.Kernel].
func (k *Kernel) Close() error {
	k.closeSpaces()
	if k.host != nil {
		k.host.close()
		k.host = nil
	}
	return nil
}

func (k *Kernel) closeSpaces() {
	for i, s := range k.spaces {
		if s != nil {
			s.close()
		}
		k.spaces[i] = nil
	}
	k.known = nil
}

var _ steer.Kernel = (*Kernel)(nil)
