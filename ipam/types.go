package ipam

import "net/netip"

// A World is all that a Plan depends on.
type World struct {
	Pools    []Pool
	Requests []Request
	// Reserved are addresses that nobody is granted, each with whose it is, as
	// in "node n1".
	Reserved map[netip.Addr]string
	Resting  []Rest
	Now      int64 // nanoseconds since 1970: what Rest.Until is compared with
}

// A Pool is a set of addresses that requests may be granted from.
//
// No address may lie in two pools: see [Disjoin].
type Pool struct {
	Name     string
	Priority int32   // higher first, then by Name
	Auto     bool    // false: only for requests that name the pool or an address
	Ranges   []Range // as Normalize leaves them: sorted, disjoint, never adjacent

	SkipFirstLast bool  // IPv4 addresses that end in .0 or .255 are not handed out
	Quota         int32 // addresses that the owners of one namespace may have of it; 0: any number
	// Shrink lets owners whose address no pool covers any more move here.
	Shrink bool
}

// A Rest keeps an address that was freed from all but its last owner.
type Rest struct {
	Addr  netip.Addr
	Owner string // who had it, and may have it again at once
	Until int64  // in the measure of World.Now
}

// A Request asks for the addresses of one owner.
type Request struct {
	Kind      Kind
	Owner     string // "namespace/name", for a claim as ClaimOwner writes it; unique
	Namespace string
	// Age orders owners: the smaller one, the older owner, is served first and
	// keeps an address that two hold. Ties go to the smaller Owner.
	Age int64

	Held     []netip.Addr // what stands in the owner's status
	Families []Family     // one address of each is wanted
	Require  bool         // all of Families or nothing new

	Pools  []string     // names of the pools this owner may take from
	Pool   string       // take from this one only; "" for any that is Auto
	Want   []netip.Addr // exactly these; of each family only the first counts
	Claim  string       // take the addresses of this claim of Namespace; before Pool
	Prefer []netip.Addr // tried first, in this order, if any address will do
	Move   bool         // give up what is held for another address, if one can be had

	// Two owners may be on one address if both have the same key, no port in
	// common, and are of one namespace or each lists the other's.
	Share     string   // the key; "" for an address of its own
	ShareWith []string // other namespaces; "*" for all
	Ports     []Port   // sorted
}

// A Kind says what an owner uses its addresses for.
type Kind uint8

// The kinds of owners.
const (
	Service Kind = iota // traffic
	// Claim keeps addresses for the Services of its namespace that name the
	// claim or one of the addresses. Share does not count.
	Claim
)

// ClaimOwner returns the Owner of the claim called name.
func ClaimOwner(namespace, name string) string { return "claim " + namespace + "/" + name }

// A Port is a port of a transport protocol.
type Port struct {
	Proto  uint8 // IANA number
	Number uint16
}

// A Family is an IP family.
type Family uint8

// The two families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of addr, which must not be 4-in-6.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns the name of the family as people write it.
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}

// index returns the place of f in arrays of both families.
func (f Family) index() int {
	if f == IPv4 {
		return 0
	}
	return 1
}

// A Grant answers one Request.
type Grant struct {
	Owner    string
	Addrs    []Assigned // in the order of Request.Families
	Refusals []Refusal  // in the order of Request.Families; none if all is granted
	Notes    []Note     // in the order of the addresses they are about
}

// Assigned is one granted address. Pool is "" if the address was held and no
// pool covers it any more.
type Assigned struct {
	Addr netip.Addr
	Pool string
}

// A Refusal says why an owner got no address of one family, or why it keeps
// the one it holds although it asks for another.
type Refusal struct {
	Family     Family
	Reason     Reason
	Detail     string       // a sentence for people: object, reason, remedy
	Considered []Considered // every pool that was looked at, in that order; shared, not to be edited
}

// Considered is a pool that was looked at and why it did not serve.
type Considered struct {
	Pool string
	Why  Reason
}

// A Note is what people should know of a Grant although nothing is refused:
// that an address which is kept is ReservedAddress; or, in the Plan that takes
// it only, that one which was held stays with an older owner (AddressTaken,
// ShareRefused).
type Note struct {
	Reason Reason
	Detail string
}

// A Reason says why an address was not granted, by this or that pool.
type Reason string

// The reasons of refusals. They are shown as condition reasons, and documented
// in docs/reasons.md.
const (
	NoPool          Reason = "NoPool"          // there is no pool at all
	NotEligible     Reason = "NotEligible"     // the pool's selectors do not match the owner
	NotAuto         Reason = "NotAuto"         // the pool serves only those who name it
	WrongFamily     Reason = "WrongFamily"     // the pool has none of the family, or the family is not wanted
	PoolFull        Reason = "PoolFull"        // no address of the family is free
	Resting         Reason = "Resting"         // the address asked for, or all that are free, were freed a short time ago
	QuotaExceeded   Reason = "QuotaExceeded"   // the namespace has as many addresses of the pool as it may have
	PoolUnknown     Reason = "PoolUnknown"     // no pool has the name that was asked for
	NotInPool       Reason = "NotInPool"       // the address asked for does not lie in the pool, or in any
	AddressTaken    Reason = "AddressTaken"    // another owner has the address asked for
	ShareRefused    Reason = "ShareRefused"    // another owner has it and cannot share it with this one
	ReservedAddress Reason = "ReservedAddress" // the address belongs to a node
	ClaimUnknown    Reason = "ClaimUnknown"    // the namespace has no claim of the name that was asked for
	ClaimEmpty      Reason = "ClaimEmpty"      // the claim has no address of the family itself
)
