package metallb

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/config/v1alpha1"
	"github.com/herald-lb/herald/ipam"
)

// What announce.bgp of a pool has room for.
const (
	maxEntries     = 16
	maxPeers       = 64
	maxCommunities = 64
)

// The lengths of prefixes: the shortest that Herald takes, and that of one address.
const (
	leastV4, allV4 = 8, 32
	leastV6, allV6 = 16, 128
)

// ownBGP are the advertisements of a pool that has its own. Without any it is told
// as if by an empty one.
func ownBGP(o origin, ads []oldBGPAdvertisement) []advertisement[bgpAdvertisementSpec] {
	if len(ads) == 0 {
		return []advertisement[bgpAdvertisementSpec]{{origin: o}}
	}
	var out []advertisement[bgpAdvertisementSpec]
	for i, ad := range ads {
		at := origin{object: o.object, field: func(path string) string {
			path = fmt.Sprintf("spec.bgpAdvertisements[%d]", i) + strings.TrimPrefix(path, "spec")
			if o.field != nil {
				path = o.field(path)
			}
			return path
		}}
		out = append(out, advertisement[bgpAdvertisementSpec]{origin: at, spec: bgpAdvertisementSpec{
			AggregationLength: ad.AggregationLength, AggregationLengthV6: ad.AggregationLengthV6,
			LocalPref: ad.LocalPref, Communities: ad.Communities,
		}})
	}
	return out
}

// told returns how p is told to routers: the entries of all ads, each once.
func (in *input) told(p pool, ads []advertisement[bgpAdvertisementSpec]) []v1alpha1.BGPAnnouncement {
	var out []v1alpha1.BGPAnnouncement
	for _, ad := range ads {
		for _, e := range in.entries(ad.spec) {
			if !slices.ContainsFunc(out, func(is v1alpha1.BGPAnnouncement) bool { return reflect.DeepEqual(is, e) }) {
				out = append(out, e)
			}
		}
	}
	if len(out) > maxEntries {
		in.add(Missing, p.origin, "", "no equivalent: its advertisements come to %d entries of announce.bgp, and there is room for %d; the others are left out: "+
			"put one label on all nodes, and on all Services, that are meant and select that, or split the pool", len(out), maxEntries)
		out = out[:maxEntries]
	}
	in.noteRivals(p, out)
	return out
}

// entries returns s as Herald writes it. Of several selectors one has to match, and
// so has one of several entries: there is one for each. Entries that come to one
// prefix are one route, so that more peers than fit stand in another entry, too.
func (in *input) entries(s bgpAdvertisementSpec) []v1alpha1.BGPAnnouncement {
	e, ok := in.route(s)
	if !ok {
		return nil
	}
	peers := slices.Collect(slices.Chunk(slices.Compact(slices.Sorted(slices.Values(s.Peers))), maxPeers))
	if len(peers) == 0 {
		peers = [][]string{nil}
	}
	var out []v1alpha1.BGPAnnouncement
	for _, nodes := range unionOf(s.NodeSelectors) {
		for _, services := range unionOf(s.ServiceSelectors) {
			for _, some := range peers {
				e.NodeSelector, e.ServiceSelector, e.Peers = nodes.labels(), services.labels(), some
				out = append(out, e)
			}
		}
	}
	return out
}

// route returns what s says of its routes, whoever tells them to whom.
//
// Without one of its communities a route could go farther than it should: where one
// is not known, ok is false. MetalLB does not take such an advertisement either.
func (in *input) route(s bgpAdvertisementSpec) (e v1alpha1.BGPAnnouncement, ok bool) {
	e.AggregationLength = length(s.AggregationLength, leastV4, allV4)
	e.AggregationLengthV6 = length(s.AggregationLengthV6, leastV6, allV6)
	if s.LocalPref != 0 {
		pref := int64(s.LocalPref)
		e.LocalPref = &pref
	}
	for _, text := range s.Communities {
		c, ok := in.community(text)
		if !ok {
			return e, false
		}
		e.Communities = append(e.Communities, c)
	}
	slices.Sort(e.Communities)
	e.Communities = slices.Compact(e.Communities)
	return e, len(e.Communities) <= maxCommunities
}

// length returns the length of prefixes as Herald writes it: 0 for that of one
// address. A longer prefix is a part of a shorter one.
func length(n *int32, least, all int32) int32 {
	if n == nil || *n == all {
		return 0
	}
	return max(*n, least)
}

// noteBGP notes the fields of ad, which is for the pools that to names.
func (in *input) noteBGP(ad advertisement[bgpAdvertisementSpec], to string) {
	s := ad.spec
	in.noteCommunities(ad)
	in.notePeers(ad)
	if _, ok := in.route(s); !ok {
		in.add(Missing, ad.origin, "spec", "no equivalent: nothing is announced without all of its communities, for it could go farther than it should")
		return
	}
	in.noteLength(ad.origin, "spec.aggregationLength", s.AggregationLength, leastV4, allV4)
	in.noteLength(ad.origin, "spec.aggregationLengthV6", s.AggregationLengthV6, leastV6, allV6)
	for field, set := range map[string]bool{"spec.localPref": s.LocalPref != 0, "spec.communities": s.Communities != nil, "spec.peers": s.Peers != nil} {
		if set {
			in.add(Done, ad.origin, field, "translated to announce.bgp of %s", to)
		}
	}
	for field, n := range map[string]int{"spec.nodeSelectors": len(s.NodeSelectors), "spec.serviceSelectors": len(s.ServiceSelectors)} {
		if n > 0 {
			in.add(Done, ad.origin, field, "translated to announce.bgp of %s: one entry for each that cannot be said together with another", to)
		}
	}
}

// notePeers notes the names that no BGPPeer of the output has.
func (in *input) notePeers(ad advertisement[bgpAdvertisementSpec]) {
	for i, name := range ad.spec.Peers {
		field := fmt.Sprintf("spec.peers[%d]", i)
		switch {
		case in.lostPeers[name]:
			in.add(Attention, ad.origin, field, "names BGPPeer %q, for which none is written: see there", name)
		case !slices.ContainsFunc(in.peers, func(p peer) bool { return p.meta.Name == name }):
			in.add(Attention, ad.origin, field, "names %q, which is no BGPPeer of the input", name)
		}
	}
}

func (in *input) noteLength(o origin, field string, n *int32, least, all int32) {
	_, name, _ := strings.Cut(field, ".")
	switch {
	case n == nil:
	case *n == all:
		in.add(Done, o, field, "is the default (%d)", all)
	case *n < least:
		in.add(Missing, o, field, "no equivalent: %d, and Herald's prefixes are not shorter than %d, which is written: the router gets more of them; "+
			"write another %s if they are too many", *n, least, name)
	default:
		in.add(Done, o, field, "translated to %s", name)
	}
}

// noteRivals notes that two entries may come to one prefix and differ in localPref:
// of such Services MetalLB announces nothing.
func (in *input) noteRivals(p pool, entries []v1alpha1.BGPAnnouncement) {
	six := slices.ContainsFunc(p.spec.Addresses, func(text string) bool { return strings.Contains(normalize(text), ":") })
	four := slices.ContainsFunc(p.spec.Addresses, func(text string) bool { return !strings.Contains(normalize(text), ":") })
	for i, a := range entries {
		if slices.ContainsFunc(entries[:i], func(b v1alpha1.BGPAnnouncement) bool {
			prefix := four && a.AggregationLength == b.AggregationLength || six && a.AggregationLengthV6 == b.AggregationLengthV6
			return prefix && rivals(a, b)
		}) {
			in.add(Attention, p.origin, "", "advertisements that may come to one prefix for one peer differ in localPref: MetalLB then does not announce it, "+
				"Herald announces it with the higher one; make their selectors or peers disjoint")
			return
		}
	}
}

// rivals reports whether a and b differ in localPref, and may be for the same peer,
// Service and node.
func rivals(a, b v1alpha1.BGPAnnouncement) bool {
	peers := a.Peers == nil || b.Peers == nil || slices.ContainsFunc(a.Peers, func(name string) bool { return slices.Contains(b.Peers, name) })
	return peers && !reflect.DeepEqual(a.LocalPref, b.LocalPref) &&
		!termOf(a.NodeSelector).disjoint(termOf(b.NodeSelector)) && !termOf(a.ServiceSelector).disjoint(termOf(b.ServiceSelector))
}

// tellsNobody reports whether all routers that entries tell with MetalLB are such
// as Herald has no sessions with.
func (in *input) tellsNobody(entries []v1alpha1.BGPAnnouncement) bool {
	some := slices.ContainsFunc(in.peers, func(p peer) bool { return !in.lostPeers[p.meta.Name] })
	return len(in.lostPeers) > 0 && !slices.ContainsFunc(entries, func(e v1alpha1.BGPAnnouncement) bool {
		return e.Peers == nil && some || slices.ContainsFunc(e.Peers, func(name string) bool { return !in.lostPeers[name] })
	})
}

// noteUntold notes the pools of whose addresses, or of one family of them, no router
// of the input is told.
func (in *input) noteUntold(pools []config.Pool, peers []config.Peer) {
	for _, c := range pools {
		if len(c.BGP) == 0 {
			continue
		}
		at := in.pools[slices.IndexFunc(in.pools, func(p pool) bool { return p.meta.Name == c.Name })].origin
		if len(in.peers) == 0 {
			in.add(Attention, at, "", "no BGPPeer is in the input: if there are some elsewhere, give them, too; without them BGP announces nothing")
		}
		for _, family := range []ipam.Family{ipam.IPv4, ipam.IPv6} {
			if untold(c, peers, family) {
				in.add(Attention, at, "", "no BGPPeer takes its %s addresses: a router is told those of its session's family, as with MetalLB since 0.15; "+
					"if yours is older and told it all, write families: [IPv4, IPv6] in its BGPPeer", family)
			}
		}
	}
}

// untold reports whether c has addresses of family and is told to some of peers, but
// to none that takes those.
func untold(c config.Pool, peers []config.Peer, family ipam.Family) bool {
	has := slices.ContainsFunc(c.Ranges, func(r ipam.Range) bool { return r.Family() == family })
	some := false
	for _, p := range peers {
		if !slices.ContainsFunc(c.BGP, func(b config.BGP) bool { return len(b.Peers) == 0 || slices.Contains(b.Peers, p.Name) }) {
			continue
		}
		some = true
		if family == ipam.IPv4 && p.V4 || family == ipam.IPv6 && p.V6 {
			return false
		}
	}
	return has && some
}
