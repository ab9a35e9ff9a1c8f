package controller

import (
	"net/netip"

	"github.com/herald-lb/herald/internal/snapshot"
)

// Conditions that Herald sets. On a Service:
const (
	// AddressAssigned is true while the Service has an address from Herald.
	// It is also the mark by which Herald knows that the addresses in a
	// status are its own.
	AddressAssigned = "herald-lb.io/AddressAssigned"
	// Reassigned is true once a request for another address was served; its
	// message is the text of the annotation that asked.
	Reassigned = "herald-lb.io/Reassigned"
)

// On an AddressPool or an AddressClaim:
const (
	// Ready is true while all of the pool is in use as it is written, and
	// while the claim has all of its addresses.
	Ready = "Ready"
	// Overlap is true while addresses of the pool belong to an older one.
	Overlap = "Overlap"
	// Exhausted is true while the pool has no free address of some family.
	Exhausted = "Exhausted"
)

// Reasons of AddressAssigned beside those of package ipam; docs/reasons.md
// lists all of them.
const (
	Assigned       = "Assigned"       // every address that was asked for
	PartlyAssigned = "PartlyAssigned" // one family has its address, the other not yet
	OutsidePools   = "OutsidePools"   // an assigned address that no pool covers any more; it keeps being served
	InvalidRequest = "InvalidRequest" // an annotation or a field cannot be read
	ForeignAddress = "ForeignAddress" // the status holds an address that is not Herald's
)

// Reasons of Overlap and Exhausted, where these are false, and of Ready.
const (
	ReasonReady   = "Ready"         // all of the pool is in use as written
	NoOverlap     = "NoOverlap"     // no other pool has its addresses
	AddressesFree = "AddressesFree" // of every family that it has
)

// Reasons of Events that are not reasons of a condition.
const (
	AddressReleased = "AddressReleased" // the Service is not Herald's to serve any more
)

// A Statuses is what has to be written. Whoever is not in it has already the
// status it should have.
type Statuses struct {
	Services []ServiceStatus // by Key
	Claims   []ClaimStatus   // by Key
	Pools    []PoolStatus    // by Name
	Peers    []PeerStatus    // by Name
}

// A ClaimStatus is the wanted status of one AddressClaim.
type ClaimStatus struct {
	Key        string // namespace/name
	UID        string
	Version    string // write only over this resourceVersion
	Addrs      []netip.Addr
	Conditions []snapshot.Condition // by Type
	Events     []Event
}

// A ServiceStatus is the wanted status of one Service.
type ServiceStatus struct {
	Key     string // namespace/name
	UID     string
	Version string // write only over this resourceVersion
	Ingress []snapshot.Ingress
	Leave   bool // Ingress is somebody else's: it is not written
	// Conditions are all of Herald's own; none takes Herald's away.
	Conditions []snapshot.Condition
	Events     []Event
}

// A PoolStatus is the wanted status of one AddressPool.
type PoolStatus struct {
	snapshot.PoolStatus
	Events []Event
}

// An Event tells people of a transition, once.
type Event struct {
	Warning bool
	Reason  string
	Message string
}
