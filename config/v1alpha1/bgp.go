package v1alpha1

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/herald-lb/herald/config"
)

// wellKnown are the communities that have names (IANA, "BGP Well-known
// Communities").
var wellKnown = map[Community]uint32{
	"graceful-shutdown":   0xffff0000, // RFC 8326
	"accept-own":          0xffff0001, // RFC 7611
	"blackhole":           0xffff029a, // RFC 7999
	"no-export":           0xffffff01, // RFC 1997
	"no-advertise":        0xffffff02,
	"no-export-subconfed": 0xffffff03,
	"no-peer":             0xffffff04, // RFC 3765
}

func (r *reader) bgp(a *Announce) (out []config.BGP) {
	if a == nil {
		return nil
	}
	for i, o := range a.BGP {
		field := func(name string) string { return fmt.Sprintf("spec.announce.bgp[%d].%s", i, name) }
		b := config.BGP{
			Peers:           slices.Sorted(slices.Values(o.Peers)),
			NodeSelector:    r.labels(field("nodeSelector"), o.NodeSelector),
			ServiceSelector: r.labels(field("serviceSelector"), o.ServiceSelector),
			LengthV4:        int(within(r, field("aggregationLength"), orDefault(o.AggregationLength, 32), 8, 32)),
			LengthV6:        int(within(r, field("aggregationLengthV6"), orDefault(o.AggregationLengthV6, 128), 16, 128)),
			LocalPref:       r.metric(field("localPref"), o.LocalPref),
			MED:             r.metric(field("med"), o.MED),
		}
		for j, c := range o.Communities {
			standard, large, ok := readCommunity(c)
			switch {
			case !ok:
				r.invalid(fmt.Sprintf("%s[%d]", field("communities"), j),
					fmt.Sprintf("%q is no community: write 65000:100, 65000:1:2 for a large one, or one of %s", string(c), wellKnownNames()))
			case large != nil:
				b.Large = append(b.Large, *large)
			default:
				b.Communities = append(b.Communities, standard)
			}
		}
		slices.Sort(b.Communities)
		b.Communities = slices.Compact(b.Communities)
		slices.SortFunc(b.Large, func(a, b [3]uint32) int { return slices.Compare(a[:], b[:]) })
		b.Large = slices.Compact(b.Large)
		out = append(out, b)
	}
	return out
}

func wellKnownNames() string {
	names := make([]string, 0, len(wellKnown))
	for n := range wellKnown {
		names = append(names, string(n))
	}
	slices.SortFunc(names, cmp.Compare)
	return strings.Join(names, ", ")
}

func (r *reader) metric(field string, n *int64) *uint32 {
	if n == nil {
		return nil
	}
	if *n < 0 || *n > 1<<32-1 {
		r.invalid(field, fmt.Sprintf("%d is no number from 0 to 4294967295", *n))
		return nil
	}
	m := uint32(*n)
	return &m
}

// readCommunity reads a community: large is nil unless it is one.
func readCommunity(c Community) (standard uint32, large *[3]uint32, ok bool) {
	if n, known := wellKnown[c]; known {
		return n, nil, true
	}
	parts := strings.Split(string(c), ":")
	bits := map[int]int{2: 16, 3: 32}[len(parts)]
	if bits == 0 {
		return 0, nil, false
	}
	var numbers [3]uint32
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, bits)
		if err != nil {
			return 0, nil, false
		}
		numbers[i] = uint32(n)
	}
	if len(parts) == 2 {
		return numbers[0]<<16 | numbers[1], nil, true
	}
	return 0, &numbers, true
}
