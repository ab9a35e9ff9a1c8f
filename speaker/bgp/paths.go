package bgp

import (
	"cmp"
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

// comparePrefixes orders those that have no bits beyond their length, as
// [netip.Prefix.Compare] does, which takes three times as long.
func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// differing returns the routes of each that are not among the other's. Few of
// many change, so only these are looked at more closely: one among 10,000 is told
// as soon as one alone. Both are by prefix; were they not, more would be returned.
func differing(had, want []speaker.Route) (was, now []speaker.Route) {
	for len(had) > 0 && len(want) > 0 {
		if sameRoute(&had[0], &want[0]) {
			had, want = had[1:], want[1:]
			continue
		}
		c := comparePrefixes(had[0].Prefix, want[0].Prefix)
		if c <= 0 {
			was, had = append(was, had[0]), had[1:]
		}
		if c >= 0 {
			now, want = append(now, want[0]), want[1:]
		}
	}
	return append(was, had...), append(now, want...)
}

func sameRoute(a, b *speaker.Route) bool {
	return a.Prefix == b.Prefix && a.Leaving == b.Leaving && slices.Equal(a.Communities, b.Communities) && slices.Equal(a.Large, b.Large) &&
		sameNumber(a.LocalPref, b.LocalPref) && sameNumber(a.MED, b.MED)
}

func sameNumber(a, b *uint32) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// pack makes numbers comparable.
func pack(numbers ...uint32) []byte {
	b := make([]byte, 0, 4*len(numbers))
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return b
}
