package metallb

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// An advertisement says how the pools that it selects are announced.
type advertisement[S any] struct {
	origin
	pools selection
	spec  S
}

// announcements are what announces one pool.
type announcements struct {
	layer2 []advertisement[layer2Spec]
	bgp    []advertisement[bgpAdvertisementSpec]
}

// A selection is which pools an advertisement selects: those of its namespace,
// by name or by label.
type selection struct {
	namespace string
	names     []string
	selectors []labels.Selector
}

// selection reads the fields by which o selects pools.
func (in *input) selection(o origin, namespace string, names []string, selectors []metav1.LabelSelector) selection {
	s := selection{namespace: namespace, names: names}
	for i := range selectors {
		one, err := metav1.LabelSelectorAsSelector(&selectors[i])
		if err != nil {
			in.add(Missing, o, fmt.Sprintf("spec.ipAddressPoolSelectors[%d]", i), "no equivalent: cannot be read, and selects nothing: %v", err)
			one = labels.Nothing()
		}
		s.selectors = append(s.selectors, one)
	}
	return s
}

// has reports whether s selects p. One that says nothing selects all. Where a
// file names no namespace, it may be any.
func (s selection) has(p pool) bool {
	if p.own != nil || s.namespace != p.namespace && s.namespace != "" && p.namespace != "" {
		return false
	}
	if len(s.names) == 0 && len(s.selectors) == 0 {
		return true
	}
	return slices.Contains(s.names, p.meta.Name) ||
		slices.ContainsFunc(s.selectors, func(one labels.Selector) bool { return one.Matches(labels.Set(p.meta.Labels)) })
}

// announcing returns what announces p.
func (in *input) announcing(p pool) announcements {
	if p.own != nil {
		return *p.own
	}
	var out announcements
	for _, ad := range in.layer2 {
		if ad.pools.has(p) {
			out.layer2 = append(out.layer2, ad)
		}
	}
	for _, ad := range in.bgp {
		if ad.pools.has(p) {
			out.bgp = append(out.bgp, ad)
		}
	}
	return out
}

// A way is a set of places from which Services are announced: of services, on
// every node of nodes, on interfaces (nil: on all).
type way struct {
	origin
	services, nodes union
	interfaces      []string
}

func newWay(ad advertisement[layer2Spec]) way {
	return way{ad.origin, unionOf(ad.spec.ServiceSelectors), unionOf(ad.spec.NodeSelectors),
		slices.Compact(slices.Sorted(slices.Values(ad.spec.Interfaces)))}
}

func (w way) covers(other way) bool {
	more := slices.ContainsFunc(other.interfaces, func(i string) bool { return !slices.Contains(w.interfaces, i) })
	interfaces := w.interfaces == nil || other.interfaces != nil && !more
	return interfaces && w.services.covers(other.services) && w.nodes.covers(other.nodes)
}

// or returns the one way that is a or b, if there is one: where one covers the
// other, or they differ in one respect only.
func (w way) or(other way) (way, bool) {
	services, nodes := w.services.equal(other.services), w.nodes.equal(other.nodes)
	interfaces := slices.Equal(w.interfaces, other.interfaces) && (w.interfaces == nil) == (other.interfaces == nil)
	switch {
	case w.covers(other):
		return w, true
	case other.covers(w):
		return other, true
	case services && nodes: // neither is on all interfaces: it would cover the other
		w.interfaces = slices.Compact(slices.Sorted(slices.Values(slices.Concat(w.interfaces, other.interfaces))))
	case services && interfaces:
		for _, t := range other.nodes {
			w.nodes = w.nodes.add(t)
		}
	case nodes && interfaces:
		for _, t := range other.services {
			w.services = w.services.add(t)
		}
	default:
		return way{}, false
	}
	return w, true
}

func (w way) String() string {
	on := "all interfaces"
	if w.interfaces != nil {
		on = strings.Join(w.interfaces, ", ")
	}
	return fmt.Sprintf("nodes with %s, on %s, for Services with %s", w.nodes, on, w.services)
}

// waysOf returns the ways of ads, as few as can be found, those that are for
// all Services first.
func waysOf(ads []advertisement[layer2Spec]) []way {
	var ways []way
	for _, ad := range ads {
		w := newWay(ad)
		for i := 0; i < len(ways); i++ {
			if one, ok := ways[i].or(w); ok {
				w, ways, i = one, slices.Delete(ways, i, i+1), -1
			}
		}
		ways = append(ways, w)
	}
	slices.SortStableFunc(ways, func(a, b way) int {
		switch {
		case a.services.everything() == b.services.everything():
			return 0
		case a.services.everything():
			return -1
		}
		return 1
	})
	return ways
}

// announce writes into s how p is announced, and returns by which objects. A
// pool that nothing selects is announced by nobody, with MetalLB as with Herald.
//
// Where it is only Herald that cannot announce a pool, its addresses are given
// out on request only: nobody who asks for just any address should get one that
// cannot be reached.
func (in *input) announce(p pool, s *v1alpha1.AddressPoolSpec) (from []string) {
	a := in.announcing(p)
	s.Announce = &v1alpha1.Announce{}
	if len(a.layer2)+len(a.bgp) == 0 {
		in.add(Attention, p.origin, "", "no advertisement of the input selects this pool: it is announced nowhere, as with MetalLB; "+
			"if there is an L2Advertisement or a BGPAdvertisement elsewhere, give it, too")
		return nil
	}
	if len(a.layer2) > 0 {
		s.Announce.Layer2 = in.layer2Of(p, a.layer2)
	}
	s.Announce.BGP = in.told(p, a.bgp)
	if s.Announce.Layer2 == nil && (s.Announce.BGP == nil || in.tellsNobody(s.Announce.BGP)) {
		s.Assign = v1alpha1.AssignOnRequest
		in.add(Missing, p.origin, "", "no equivalent: Herald announces this pool nowhere, for nothing could be made of its advertisements or their peers; "+
			"it is given out on request only: see there, and remove assign once it is announced")
	}
	if reflect.DeepEqual(s.Announce, &v1alpha1.Announce{Layer2: &v1alpha1.Layer2{}}) {
		s.Announce = nil // which says the same
	}
	return a.from(p)
}

// from returns the objects that announce p, other than its own.
func (a announcements) from(p pool) (from []string) {
	for _, ad := range a.layer2 {
		from = append(from, ad.object)
	}
	for _, ad := range a.bgp {
		from = append(from, ad.object)
	}
	return slices.DeleteFunc(from, func(object string) bool { return object == p.object })
}

// layer2Of returns the first of the ways of ads, and notes the others; nil if p cannot
// be announced on layer 2.
func (in *input) layer2Of(p pool, ads []advertisement[layer2Spec]) *v1alpha1.Layer2 {
	ways := waysOf(ads)
	w := ways[0]
	for _, other := range ways[1:] {
		in.add(Missing, other.origin, "spec", "no equivalent: AddressPool %s is announced in one way, which is that of %s; left out is: %s; "+
			"make them alike, or split the pool", p.meta.Name, w.object, other)
	}
	if !w.services.everything() {
		in.add(Missing, w.origin, "spec.serviceSelectors", "no equivalent: AddressPool %s can be announced on layer 2 for all its Services or for none; it is for none; "+
			"move the Services with %s into a pool of their own by its serviceSelector", p.meta.Name, w.services)
		return nil
	}
	l2 := &v1alpha1.Layer2{
		NodeSelector: in.one(w.origin, "spec.nodeSelectors", "nodes", w.nodes, splitPool),
		PreferNodes:  in.prefer(p, ads, w),
	}
	for _, name := range w.interfaces {
		l2.Interfaces = append(l2.Interfaces, v1alpha1.InterfacePattern(literally.Replace(name)))
	}
	return l2
}

// literally writes a name as a pattern that only it matches.
var literally = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// noteAdvertisements notes the fields of all advertisements, which may concern
// several pools each.
func (in *input) noteAdvertisements() {
	for _, ad := range in.layer2 {
		in.noteLayer2(ad, in.noteSelection(ad.origin, ad.pools, "announce.layer2"))
	}
	for _, ad := range in.bgp {
		in.noteBGP(ad, in.noteSelection(ad.origin, ad.pools, "announce.bgp"))
	}
	for _, p := range in.pools {
		if p.own == nil {
			continue
		}
		for _, ad := range p.own.bgp {
			in.noteBGP(ad, "AddressPool "+p.meta.Name)
		}
	}
	in.noteAliases()
}

// noteSelection notes what s has become of, and returns the pools that it selects,
// in words.
func (in *input) noteSelection(o origin, s selection, way string) string {
	var pools []string
	for _, p := range in.pools {
		if s.has(p) {
			pools = append(pools, p.meta.Name)
		}
	}
	to := "AddressPool " + strings.Join(pools, ", ")
	if len(pools) == 0 {
		in.add(Attention, o, "", "selects no pool of the input: nothing is made of it")
		to = "no AddressPool"
	}
	if s.names != nil {
		in.add(Done, o, "spec.ipAddressPools", "translated to %s of %s", way, to)
	}
	for i, name := range s.names {
		if !slices.ContainsFunc(in.pools, func(p pool) bool { return p.meta.Name == name }) {
			in.add(Attention, o, fmt.Sprintf("spec.ipAddressPools[%d]", i), "names %q, which is no pool of the input", name)
		}
	}
	if s.selectors != nil {
		in.add(Done, o, "spec.ipAddressPoolSelectors", "translated to %s of %s, which it selects now; later pools say themselves how they are announced", way, to)
	}
	return to
}

// noteLayer2 notes the fields of ad, which is for the pools that to names.
func (in *input) noteLayer2(ad advertisement[layer2Spec], to string) {
	for field, set := range map[string]bool{
		"spec.nodeSelectors": ad.spec.NodeSelectors != nil, "spec.interfaces": ad.spec.Interfaces != nil, "spec.serviceSelectors": ad.spec.ServiceSelectors != nil,
		preferred: ad.spec.PreferredNodeSelectors != nil,
	} {
		if set {
			in.add(Done, ad.origin, field, "translated to announce.layer2 of %s", to)
		}
	}
}
