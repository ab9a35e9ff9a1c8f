package ipvs

import (
	"net/netip"

	"github.com/herald-lb/herald/speaker/steer"
)

// insideLink is the end of a veth pair in each of Herald's namespaces.
const insideLink = "herald1"

// A tier is where the virtual servers of one steer.Tier stand: a namespace of
// its own, with a veth pair to the host. The addresses of the pair are seen by
// this host only: 169.254.0.0/16 is not forwarded (RFC 3927), and the IPv6
// prefixes are unique local ones that spell "Herald" (RFC 4193).
type tier struct {
	of   steer.Tier
	file string // what the namespace is pinned as
	veth string // the host's end of the pair
	// The addresses of the pair, by family: on the host and inside.
	host4, inside4, host6, inside6 netip.Prefix
	settings, settings6            []sysctl // inside
}

var tiers = [...]*tier{
	steer.Single: {
		of: steer.Single, file: "lb", veth: "herald0",
		host4: netip.MustParsePrefix("169.254.77.1/30"), inside4: netip.MustParsePrefix("169.254.77.2/30"),
		host6: netip.MustParsePrefix("fd48:6572:616c:64::1/64"), inside6: netip.MustParsePrefix("fd48:6572:616c:64::2/64"),
		settings: trackedSysctls, settings6: insideSysctls6,
	},
	steer.Front: {
		of: steer.Front, file: "front", veth: "herald-front",
		host4: netip.MustParsePrefix("169.254.77.5/30"), inside4: netip.MustParsePrefix("169.254.77.6/30"),
		host6: netip.MustParsePrefix("fd48:6572:616c:65::1/64"), inside6: netip.MustParsePrefix("fd48:6572:616c:65::2/64"),
		settings: frontSysctls, settings6: insideSysctls6,
	},
	steer.Back: {
		of: steer.Back, file: "back", veth: "herald-back",
		host4: netip.MustParsePrefix("169.254.77.9/30"), inside4: netip.MustParsePrefix("169.254.77.10/30"),
		host6: netip.MustParsePrefix("fd48:6572:616c:66::1/64"), inside6: netip.MustParsePrefix("fd48:6572:616c:66::2/64"),
		settings: backSysctls, settings6: backSysctls6,
	},
}

// single, front and back are the tiers by name.
var single, front, back = tiers[steer.Single], tiers[steer.Front], tiers[steer.Back]

// inside returns the address of t's end of the pair.
func (t *tier) inside(f family) netip.Addr {
	if f.six() {
		return t.inside6.Addr()
	}
	return t.inside4.Addr()
}

// host returns the address of the host's end.
func (t *tier) host(f family) netip.Addr {
	if f.six() {
		return t.host6.Addr()
	}
	return t.host4.Addr()
}

// A space is a tier that stands, with the means to work in it.
type space struct {
	*tier
	*place
	wire *wire // nil until Prepare has come that far
}

func (s *space) close() {
	if s.wire != nil {
		s.wire.close() // a socket that owes nobody an answer
	}
	s.place.close()
}
