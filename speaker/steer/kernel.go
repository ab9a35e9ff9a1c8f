package steer

import "context"

// A Kernel holds a Table in the kernel of this node: IPVS, or nftables where
// the kernel has no IPVS. Only one goroutine may use it.
type Kernel interface {
	// Name is "ipvs" or "nft".
	Name() string
	// Prepare sets up what the rows stand in, adopts what an earlier run left
	// there, and repairs what somebody changed. It disturbs nothing that is
	// as it should be, and may be called at any time.
	Prepare(ctx context.Context) error
	// Self returns what a Plan for this node has to know of the kernel, as far
	// as Prepare has found it out; Node is empty. It is safe for concurrent use.
	Self() Self
	// Lacks says what this kernel cannot do that others can, and why: one line
	// for each. It is safe for concurrent use.
	Lacks() []string
	// Mended returns what Prepare has made or put right since it was last asked:
	// a few words for each thing.
	Mended() []string
	// Table lists all rows that are Herald's.
	Table(ctx context.Context) (Table, error)
	// Holds is whether the kernel has exactly the rows of want, which are those
	// that it last listed or acknowledged: Table and a comparison, for less.
	Holds(ctx context.Context, want Table) (bool, error)
	// Apply makes the changes, in order. One that fails does not stop the
	// others: the error joins them all, each wrapped with its Change. Add
	// fails with os.ErrExist for what is there, Set and Del with
	// os.ErrNotExist for what is not.
	Apply(ctx context.Context, changes []Change) error
	// Remove takes away all that Prepare and Apply have made. Removing what
	// is not there is no error.
	Remove(ctx context.Context) error
	// Close lets go of sockets. Everything stays in the kernel and steers on.
	Close() error
}
