package ipam

import "net/netip"

// A Pool is a set of addresses that requests may be granted from.
//
// No address may lie in two pools: see [Disjoin].
type Pool struct {
	Name     string
	Priority int32   // higher first, then by Name
	Auto     bool    // false: only for requests that name the pool or an address
	Ranges   []Range // as Normalize leaves them: sorted, disjoint, never adjacent
}

// A Request asks for the addresses of one owner.
type Request struct {
	Owner string // "namespace/name"; unique
	// Age orders owners: the smaller one, the older owner, is served first and
	// keeps an address that two hold. Ties go to the smaller Owner.
	Age int64

	Held     []netip.Addr // what stands in the owner's status
	Families []Family     // one address of each is wanted
	Require  bool         // all of Families or nothing new

	Pools []string     // names of the pools this owner may take from
	Pool  string       // take from this one only; "" for any that is Auto
	Want  []netip.Addr // exactly these; of each family only the first counts
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

// A Grant answers one Request.
type Grant struct {
	Owner    string
	Addrs    []Assigned // in the order of Request.Families
	Refusals []Refusal  // in the order of Request.Families; none if all is granted
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

// A Reason says why an address was not granted, by this or that pool.
type Reason string

// The reasons of refusals. They are shown as condition reasons, and documented
// in docs/reasons.md.
const (
	NoPool       Reason = "NoPool"       // there is no pool at all
	NotEligible  Reason = "NotEligible"  // the pool's selectors do not match the owner
	NotAuto      Reason = "NotAuto"      // the pool serves only those who name it
	WrongFamily  Reason = "WrongFamily"  // the pool has none of the family, or the family is not wanted
	PoolFull     Reason = "PoolFull"     // no address of the family is free
	PoolUnknown  Reason = "PoolUnknown"  // no pool has the name that was asked for
	NotInPool    Reason = "NotInPool"    // the address asked for does not lie in the pool, or in any
	AddressTaken Reason = "AddressTaken" // another owner has the address asked for
)
