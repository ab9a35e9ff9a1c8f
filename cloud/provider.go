package cloud

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// A Driver makes load balancers in one cloud. It holds no state but clients and
// what hardly ever changes, such as prices. All methods may be called at once.
//
// Errors are of this package's kinds (see Error), so that the engine knows what
// to do; none holds a token.
type Driver interface {
	// Capabilities is what the cloud can do. It may be asked of the API once.
	Capabilities(ctx context.Context) (Capabilities, error)
	// Find returns all that bears the marks of a Service, in any state and of any
	// Kind, leftovers as well: from the API, never from a cache.
	Find(ctx context.Context, o Owner) ([]Found, error)
	// List returns all that bears the marks of a cluster, all pages of it, or an error.
	List(ctx context.Context, cluster string) ([]Found, error)
	// Lookup returns a resource by its ID, its name or an address that clients use,
	// whosever it is. An error of class NotFound says that there is none.
	Lookup(ctx context.Context, ref string) (Found, error)
	// Plan returns what makes a load balancer what it should be; found is nil if there is
	// none. It calls nobody. A step that would be Destructive stands in the plan, marked;
	// the engine leaves it out where it is not allowed. What cannot be had at all is an
	// error of class Terminal. Found may belong to nobody, or to another Service: then
	// the plan begins with a step of Order Mark.
	Plan(want LBSpec, found *Found) (Plan, error)
	// PlanRemoval returns what removes a resource, or releases it, or marks it to be
	// Retained; nothing if it is. It calls nobody.
	PlanRemoval(f Found, p Policy) Plan
	// Apply does one step: one call that changes something, and those that have to be
	// asked before. It does not wait. A step that was done already is no error.
	Apply(ctx context.Context, s Step) (Pending, error)
	// Poll asks, in as few calls as possible, how far changes are, and returns those that
	// are not finished. One that has failed is an error.
	Poll(ctx context.Context, p []Pending) ([]Pending, error)
	// Instances says which machines nodes are, and at what address want, which may be zero,
	// reaches them; those that it does not reach, or that are none, are in unknown, with the
	// reason. An error means that nothing is known about any.
	Instances(ctx context.Context, nodes []*corev1.Node, want LBSpec) (known []Target, unknown map[string]string, err error)
}

// A TargetLimiter is a Driver whose load balancers have a bounded number of targets.
type TargetLimiter interface {
	// MaxTargets is how many targets want may have, on found or, if that is nil, on a new
	// one; zero for any number. It calls nobody.
	MaxTargets(want LBSpec, found *Found) int
	// Standing returns what tells whether found, which may be nil, sends to a target
	// already. It calls nobody.
	Standing(found *Found) func(Target) bool
}

// An AddressDriver is a Driver whose cloud routes addresses to machines, one at a time,
// if its Capabilities say so. Its Find and List are of load balancers only; PlanRemoval,
// Apply and Poll are for addresses as well. All methods may be called at once, and
// repeated.
type AddressDriver interface {
	// FindAddresses returns all addresses that bear the marks of a Service, from the API.
	FindAddresses(ctx context.Context, o Owner) ([]FoundAddress, error)
	// ListAddresses returns all that bear the marks of a cluster, or an error.
	ListAddresses(ctx context.Context, cluster string) ([]FoundAddress, error)
	// LookupAddress returns an address by its ID, its name or as text, whosever it is. An
	// error of class NotFound says that there is none.
	LookupAddress(ctx context.Context, ref string) (FoundAddress, error)
	// AddressPrice is what an address would cost in a month, net; zero where the cloud has
	// no prices.
	AddressPrice(ctx context.Context, spec AddressSpec) (Money, error)
	// Reserve makes an address, called by its ResourceName, or returns the one that was
	// made before.
	Reserve(ctx context.Context, spec AddressSpec) (FoundAddress, error)
	// Remark gives an address to another Service, with the name that it would have been
	// reserved under. An error of class Terminal says that the cloud cannot.
	Remark(ctx context.Context, a FoundAddress, to Owner) (FoundAddress, error)
	// Routable is whether addresses can be routed to a machine. It calls nobody.
	Routable(Instance) bool
	// Assign has an address routed to a machine, wherever it was before: one call that
	// changes something, if the cloud does not ask for more.
	Assign(ctx context.Context, a FoundAddress, to Instance) (Pending, error)
}
