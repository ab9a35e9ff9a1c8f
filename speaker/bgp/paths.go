package bgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/herald-lb/herald/speaker"
)

// A saying is what is said of one prefix, to be compared by ==.
type saying struct {
	hop                netip.Addr
	communities, large string // in network order
	localPref, med     int64  // -1 for none
}

// A table is what a router knows of this node.
type table map[netip.Prefix]saying

// tableOf returns what routes say to a router that is told the given next hops.
// What has none is not said.
func tableOf(routes []speaker.Route, hops nextHops, internal bool) table {
	t := make(table, len(routes))
	for _, r := range routes {
		hop := hops[familyOf(r.Prefix.Addr())]
		if !hop.IsValid() {
			continue
		}
		s := saying{hop: hop, localPref: -1, med: -1}
		if r.LocalPref != nil && internal {
			s.localPref = int64(*r.LocalPref)
		}
		if r.MED != nil {
			s.med = int64(*r.MED)
		}
		s.communities = string(pack(r.Communities...))
		for _, l := range r.Large {
			s.large += string(pack(l[:]...))
		}
		t[r.Prefix] = s
	}
	return t
}

// A change is one that the router has to be told of.
type change struct {
	prefix netip.Prefix
	saying saying
	gone   bool
}

func (c change) String() string {
	if c.gone {
		return fmt.Sprintf("withdraw %s", c.prefix)
	}
	return fmt.Sprintf("announce %s by %s", c.prefix, c.saying.hop)
}

// diff returns the changes that turn have into want, by prefix. What is new
// comes before what goes.
func diff(have, want table) []change {
	var come, leave []change
	for p, said := range want {
		if was, ok := have[p]; !ok || was != said {
			come = append(come, change{prefix: p, saying: said})
		}
	}
	for p, said := range have {
		if _, ok := want[p]; !ok {
			leave = append(leave, change{prefix: p, saying: said, gone: true})
		}
	}
	byPrefix := func(a, b change) int { return comparePrefixes(a.prefix, b.prefix) }
	slices.SortFunc(come, byPrefix)
	slices.SortFunc(leave, byPrefix)
	return append(come, leave...)
}

// pack makes numbers comparable.
func pack(numbers ...uint32) []byte {
	b := make([]byte, 0, 4*len(numbers))
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}
