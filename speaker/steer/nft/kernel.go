package nft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// DefaultMark is the bit of a packet's mark that asks for masquerading, unless
// Options say otherwise: the same as on the IPVS path, which says who has which.
const DefaultMark = 0x1000

// Options are what a Kernel may be told. The zero value does.
type Options struct {
	// NetNS is a file descriptor of the network namespace to steer in; 0 is
	// the namespace of the process.
	NetNS int
	// Mark is one bit of the packet mark; 0 is DefaultMark.
	Mark uint32
}

// A Kernel holds a steer.Table in the nftables of one network namespace. Only
// one goroutine may use it.
type Kernel struct {
	options Options
	conn    *conn    // nil until it is needed, and again after an error
	have    *listing // nil while it is not known what stands in the kernel

	// stale are udp servers whose connections have still to be looked at:
	// some may be on an endpoint that is gone.
	stale map[steer.Virtual]bool

	mended bool // whether Prepare has changed the table

	maxIdle int // chains
}

var _ steer.Kernel = (*Kernel)(nil)

// New returns a Kernel that has not touched anything yet.
func New(o Options) *Kernel {
	if o.Mark == 0 {
		o.Mark = DefaultMark
	}
	return &Kernel{options: o, stale: map[steer.Virtual]bool{}, maxIdle: maxIdle}
}

// Name implements [steer.Kernel].
func (k *Kernel) Name() string { return "nft" }

// Self implements [steer.Kernel]: there are no tiers.
func (k *Kernel) Self() steer.Self { return steer.Self{} }

// Lacks implements [steer.Kernel].
func (k *Kernel) Lacks() []string {
	return []string{"this kernel steers with nftables: with externalTrafficPolicy Cluster no client's address is kept, and least-connection schedulers choose at random"}
}

// Mended implements [steer.Kernel].
func (k *Kernel) Mended() []string {
	mended := k.mended
	k.mended = false
	if !mended {
		return nil
	}
	return []string{"nftables table " + tableName}
}

// Prepare implements [steer.Kernel]. A table that is right is not written to;
// one whose rules somebody changed keeps its elements; one of another make is
// replaced.
func (k *Kernel) Prepare(ctx context.Context) error {
	c, err := k.connect(ctx)
	if err != nil {
		return err
	}
	found, err := c.inspect(k.options.Mark)
	if err != nil {
		return k.lost(fmt.Errorf("inspecting table inet %s: %w", tableName, err))
	}
	if found.state == sound {
		return nil
	}
	k.mended = true
	k.have = nil
	if found.state == broken {
		err := c.repair(found)
		if err == nil {
			return nil
		}
		k.lost(err)
		// What somebody has added hangs together in a way that only goes
		// away with the table.
		if err := k.Remove(ctx); err != nil {
			return fmt.Errorf("clearing what cannot be repaired: %w", err)
		}
	}
	return k.make(ctx, found.state == foreign)
}

// make makes the table, after deleting the one that is there, if any.
func (k *Kernel) make(ctx context.Context, replace bool) error {
	c, err := k.connect(ctx)
	if err != nil {
		return err
	}
	if replace {
		c.DelTable(c.table)
	}
	if err := c.putAll(staticChains(k.options.Mark)); err != nil {
		return k.lost(err)
	}
	if err := c.Flush(); err != nil {
		return k.lost(fmt.Errorf("making table inet %s: %w", tableName, err))
	}
	return nil
}

// Table implements [steer.Kernel]. A server that somebody has tampered with is
// listed without a scheduler, so that setting it again repairs it.
func (k *Kernel) Table(ctx context.Context) (steer.Table, error) {
	if err := k.list(ctx); err != nil {
		return steer.Table{}, err
	}
	return k.have.table(), nil
}

// Holds implements [steer.Kernel].
func (k *Kernel) Holds(ctx context.Context, want steer.Table) (bool, error) {
	have, err := k.Table(ctx)
	return err == nil && steer.Same(have, want), err
}

// list reads what stands in the kernel.
func (k *Kernel) list(ctx context.Context) error {
	k.have = nil
	c, err := k.connect(ctx)
	if err != nil {
		return err
	}
	have, err := c.list()
	if err != nil {
		return k.lost(fmt.Errorf("listing table inet %s: %w", tableName, err))
	}
	k.have = have
	return nil
}

// Apply implements [steer.Kernel]. All changes that can be made are made at
// once, in one transaction: no packet sees only some of them.
func (k *Kernel) Apply(ctx context.Context, changes []steer.Change) error {
	if k.have == nil {
		if err := k.list(ctx); err != nil {
			return err
		}
	}
	changes, closed := k.reachable(changes)
	p, errs := k.have.plan(changes)
	if err := k.commit(ctx, p); err != nil {
		// Nothing was done. Either somebody else changed elements, and what
		// we have is no longer so, or the kernel refuses some change.
		if e := k.list(ctx); e != nil {
			return errors.Join(err, e)
		}
		errs = k.search(ctx, changes)
	}
	errs = append(closed, errs...)
	errs = append(errs, k.settle(), k.sweep(ctx))
	return errors.Join(errs...)
}

// maxIdle is how many chains that no server goes to a Kernel keeps: a server
// that exchanges a destination needs the same two over and over.
const maxIdle = 16

// sweep deletes the chains that no server goes to any more, when they are
// many or nothing else is left.
//
// It is a transaction of its own, after that of the elements, for the reason
// that putHelpers has to be one before it.
func (k *Kernel) sweep(ctx context.Context) error {
	idle := k.have.idle()
	if len(idle) == 0 || len(idle) <= k.maxIdle && len(k.have.rows) > 0 {
		return nil
	}
	c, err := k.connect(ctx)
	if err != nil {
		return err
	}
	for _, name := range idle {
		c.DelChain(&nftables.Chain{Name: name, Table: c.table})
	}
	if err := c.Flush(); err != nil {
		return k.lost(fmt.Errorf("deleting chains that are not used: %w", err))
	}
	for _, name := range idle {
		delete(k.have.helpers, name)
	}
	return nil
}

// search makes changes in ever smaller transactions until those that the
// kernel refuses stand alone.
func (k *Kernel) search(ctx context.Context, changes []steer.Change) []error {
	p, errs := k.have.plan(changes)
	err := k.commit(ctx, p)
	switch {
	case err == nil:
		return errs
	case ctx.Err() != nil:
		return append(errs, ctx.Err())
	case len(p.good) == 1:
		return append(errs, fmt.Errorf("%s: %w", p.good[0], err))
	}
	half := len(p.good) / 2
	errs = append(errs, k.search(ctx, p.good[:half])...)
	return append(errs, k.search(ctx, p.good[half:])...)
}

// commit carries out p, all or nothing.
func (k *Kernel) commit(ctx context.Context, p *plan) error {
	if p.empty() {
		return nil
	}
	c, err := k.connect(ctx)
	if err != nil {
		return err
	}
	if err := c.putHelpers(p.make, k.options.Mark); err != nil {
		return k.undone(err)
	}
	for _, name := range p.make {
		k.have.helpers[name] = 0
	}
	if err := c.commit(p); err != nil {
		return k.undone(err)
	}
	k.have.adopt(p)
	k.mark(p)
	return nil
}

// undone is lost where the kernel has left everything as it was.
func (k *Kernel) undone(err error) error {
	have := k.have
	err = k.lost(err)
	k.have = have
	return err
}

// mark notes the udp servers of p, for settle.
func (k *Kernel) mark(p *plan) {
	for v := range p.touched {
		if v.Proto == snapshot.UDP {
			k.stale[v] = true
		}
	}
	if !slices.Contains(slices.Collect(maps.Values(p.addrs)), true) {
		return
	}
	for v := range k.have.rows {
		if v.Proto == snapshot.UDP && p.addrs[v.Addr.Addr()] {
			k.stale[v] = true
		}
	}
}

// Remove implements [steer.Kernel]. It deletes the table and nothing else.
func (k *Kernel) Remove(ctx context.Context) error {
	k.have = nil
	c, err := k.connect(ctx)
	if err != nil {
		return err
	}
	c.AddTable(c.table) // so that there is one to delete
	c.DelTable(c.table)
	if err := c.Flush(); err != nil {
		return k.lost(fmt.Errorf("deleting table inet %s: %w", tableName, err))
	}
	return nil
}

// Close implements [steer.Kernel].
func (k *Kernel) Close() error {
	k.have = nil
	if k.conn == nil {
		return nil
	}
	err := k.conn.CloseLasting()
	k.conn = nil
	return err
}

// connect returns the socket, opening it if need be.
func (k *Kernel) connect(ctx context.Context) (*conn, error) {
	if k.conn == nil {
		c, err := dial(k.options.NetNS)
		if err != nil {
			return nil, err
		}
		k.conn = c
	}
	return k.conn, k.conn.limit(ctx)
}

// lost gives up the socket after err, for answers to what failed may still
// arrive on it, and with it what we believe to be in the kernel.
func (k *Kernel) lost(err error) error {
	k.have = nil
	if k.conn != nil {
		err = errors.Join(err, k.conn.CloseLasting())
		k.conn = nil
	}
	return err
}
