package ipvs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	moby "github.com/moby/ipvs"

	"github.com/herald-lb/herald/speaker/steer"
)

// What Herald uses unless told otherwise.
const (
	// DefaultMark is one bit that neither kube-proxy (0x4000, 0x8000), the
	// portmap plug-in (0x2000), AWS (0x80), Cilium (0xf00 and the upper half)
	// nor Calico (the upper half) uses.
	DefaultMark = 0x1000
	// DefaultRouteTable holds the way back into the namespace.
	DefaultRouteTable = 7272
)

// Options says where a Kernel works. StateDir is needed, the rest has defaults.
type Options struct {
	// StateDir is a directory that outlives the process: the namespace is
	// pinned below it. In a pod it is a hostPath volume mounted with
	// Bidirectional propagation, else the namespace dies with the pod.
	StateDir string
	// HostNS is the path of the network namespace that traffic arrives in.
	// "" is the namespace of the process.
	HostNS string
	// Mark is the bit of packet and connection marks that Herald may use.
	Mark uint32
	// RouteTable is the number of the routing table that Herald may use.
	RouteTable int
}

// A Kernel implements [steer.Kernel].
type Kernel struct {
	opts   Options
	host   *place
	inside *place // nil until Prepare has succeeded once
	ipvs   *moby.Handle
}

// New returns a Kernel that has not touched anything yet.
func New(o Options) *Kernel {
	if o.Mark == 0 {
		o.Mark = DefaultMark
	}
	if o.RouteTable == 0 {
		o.RouteTable = DefaultRouteTable
	}
	return &Kernel{opts: o}
}

// Name implements [steer.Kernel].
func (k *Kernel) Name() string { return "ipvs" }

// Self implements [steer.Kernel].
func (k *Kernel) Self() steer.Self { return steer.Self{} }

// Lacks implements [steer.Kernel].
func (k *Kernel) Lacks() []string { return nil }

func (k *Kernel) pinPath() string { return filepath.Join(k.opts.StateDir, "netns", "lb") }

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
		{"pinning the namespace", k.openInside},
		{"linking the namespace", k.link},
		{"routing", k.routes},
		{"setting the rules inside", func(context.Context) error { return k.inside.ensure(insideRules(k.opts.Mark)) }},
		{"setting the rules on the host", func(context.Context) error { return k.host.ensure(hostRules(k.opts.Mark)) }},
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
	if k.host == nil || k.inside == nil || k.ipvs == nil {
		return errors.New("ipvs is not prepared")
	}
	return nil
}

func (k *Kernel) openHost(context.Context) (err error) {
	if k.host == nil {
		k.host, err = openPlace(k.opts.HostNS)
	}
	return err
}

// openInside pins the namespace if it is not, and lets go of the handles into
// an older one that somebody has taken away.
func (k *Kernel) openInside(context.Context) error {
	if k.opts.StateDir == "" {
		return errors.New("no state directory is given")
	}
	if err := pin(k.pinPath()); err != nil {
		return err
	}
	now, err := openPlace(k.pinPath())
	if err != nil {
		return err
	}
	switch {
	case now.ns.Equal(k.host.ns):
		now.close()
		return fmt.Errorf("%s is the host's own namespace", k.pinPath())
	case k.inside != nil && k.inside.ns.Equal(now.ns):
		now.close()
		return nil
	}
	k.closeInside()
	k.inside = now
	return nil
}

func (k *Kernel) openIPVS(context.Context) (err error) {
	if k.ipvs == nil {
		quietMoby()
		k.ipvs, err = moby.New(k.pinPath())
	}
	return err
}

// Remove implements [steer.Kernel].
func (k *Kernel) Remove(ctx context.Context) error {
	if err := k.openHost(ctx); err != nil {
		return fmt.Errorf("opening the host's namespace: %w", err)
	}
	k.closeInside()
	var errs []error
	for _, s := range []step{ // traffic stops first
		{"removing routes", k.unroute},
		{"removing the rules on the host", func(context.Context) error { return k.host.drop(hostRules(k.opts.Mark)) }},
		{"removing the link", k.unlink},
		{"removing the namespace", func(context.Context) error { return unpin(k.pinPath()) }},
	} {
		if err := s.mend(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.doing, err))
		}
	}
	return errors.Join(errs...)
}

// Close implements [steer.Kernel].
func (k *Kernel) Close() error {
	k.closeInside()
	if k.host != nil {
		k.host.close()
		k.host = nil
	}
	return nil
}

func (k *Kernel) closeInside() {
	if k.ipvs != nil {
		k.ipvs.Close()
		k.ipvs = nil
	}
	if k.inside != nil {
		k.inside.close()
		k.inside = nil
	}
}

var _ steer.Kernel = (*Kernel)(nil)
