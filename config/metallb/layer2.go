package metallb

import (
	"fmt"
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
	bgp    int // how many
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
			out.bgp++
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
	for _, ad := range a.layer2 {
		if ad.object != p.object {
			from = append(from, ad.object)
		}
	}
	if len(a.layer2) > 0 {
		in.announceLayer2(p, waysOf(a.layer2), s)
		return from
	}
	s.Announce = &v1alpha1.Announce{}
	if a.bgp == 0 {
		in.add(Attention, p.origin, "", "no advertisement of the input selects this pool: it is announced nowhere, as with MetalLB; "+
			"if there is an L2Advertisement elsewhere, give it, too")
		return from
	}
	s.Assign = v1alpha1.AssignOnRequest
	in.add(Missing, p.origin, "", "%s: only BGP announces this pool; with Herald it is announced nowhere, and given out on request only; "+
		"leave it out and keep MetalLB for it until Herald speaks BGP, or write announce.layer2 if its addresses lie in the nodes' subnet", notYet)
	return from
}

// announceLayer2 writes the first of ways into s, and notes the others.
func (in *input) announceLayer2(p pool, ways []way, s *v1alpha1.AddressPoolSpec) {
	w := ways[0]
	for _, other := range ways[1:] {
		in.add(Missing, other.origin, "spec", "no equivalent: AddressPool %s is announced in one way, which is that of %s; left out is: %s; "+
			"make them alike, or split the pool", p.meta.Name, w.object, other)
	}
	if !w.services.everything() {
		s.Announce, s.Assign = &v1alpha1.Announce{}, v1alpha1.AssignOnRequest
		in.add(Missing, w.origin, "spec.serviceSelectors", "no equivalent: AddressPool %s can be announced for all its Services or for none; it is for none, "+
			"and given out on request only; move the Services with %s into a pool of their own by its serviceSelector", p.meta.Name, w.services)
		return
	}
	in.noteIPv6(p)
	l2 := &v1alpha1.Layer2{NodeSelector: in.one(w.origin, "spec.nodeSelectors", "nodes", w.nodes)}
	for _, name := range w.interfaces {
		l2.Interfaces = append(l2.Interfaces, v1alpha1.InterfacePattern(literally.Replace(name)))
	}
	if l2.NodeSelector != nil || l2.Interfaces != nil {
		s.Announce = &v1alpha1.Announce{Layer2: l2}
	}
}

// noteIPv6 notes that nobody announces the IPv6 addresses of p yet.
func (in *input) noteIPv6(p pool) {
	if !slices.ContainsFunc(p.spec.Addresses, func(text string) bool { return strings.Contains(normalize(text), ":") }) {
		return
	}
	in.add(Missing, p.origin, "spec.addresses", "%s: announce IPv6 addresses by NDP; Herald assigns and steers them, but announces IPv4 only: "+
		"lead them to a node by a route", notYet)
}

// literally writes a name as a pattern that only it matches.
var literally = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// noteLayer2 notes the fields of ad, which may concern several pools.
func (in *input) noteLayer2(ad advertisement[layer2Spec]) {
	var pools []string
	for _, p := range in.pools {
		if ad.pools.has(p) {
			pools = append(pools, p.meta.Name)
		}
	}
	to := "AddressPool " + strings.Join(pools, ", ")
	if len(pools) == 0 {
		in.add(Attention, ad.origin, "", "selects no pool of the input: nothing is made of it")
		to = "no AddressPool"
	}
	in.noteNames(ad.origin, ad.spec.IPAddressPools)
	for field, set := range map[string]bool{
		"spec.ipAddressPools": ad.spec.IPAddressPools != nil, "spec.nodeSelectors": ad.spec.NodeSelectors != nil,
		"spec.interfaces": ad.spec.Interfaces != nil, "spec.serviceSelectors": ad.spec.ServiceSelectors != nil,
	} {
		if set {
			in.add(Done, ad.origin, field, "translated to announce.layer2 of %s", to)
		}
	}
	if ad.spec.IPAddressPoolSelectors != nil {
		in.add(Done, ad.origin, "spec.ipAddressPoolSelectors", "translated to announce.layer2 of %s, which it selects now; later pools say themselves how they are announced", to)
	}
	if len(ad.spec.PreferredNodeSelectors) > 0 {
		in.add(Missing, ad.origin, "spec.preferredNodeSelectors", "%s: nodes that should rather announce than others; "+
			"any node that may announce does, and traffic flows; to force it write announce.layer2.nodeSelector; it will be announce.layer2.preferNodes", notYet)
	}
}

// noteNames notes the names that no pool has.
func (in *input) noteNames(o origin, names []string) {
	for i, name := range names {
		if !slices.ContainsFunc(in.pools, func(p pool) bool { return p.meta.Name == name }) {
			in.add(Attention, o, fmt.Sprintf("spec.ipAddressPools[%d]", i), "names %q, which is no pool of the input", name)
		}
	}
}
