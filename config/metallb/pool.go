package metallb

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// A pool is an IPAddressPool or one of its predecessors.
type pool struct {
	origin
	namespace string
	meta      metav1.ObjectMeta
	spec      poolSpec
	own       *announcements // of a predecessor: how it is announced; nil if advertisements select it
}

func newPool(o origin, m metav1.ObjectMeta, s poolSpec) pool {
	return pool{origin: o, namespace: m.Namespace, meta: m, spec: s}
}

// oldPool reads a pool that says itself how it is announced.
func (in *input) oldPool(o origin, m metav1.ObjectMeta, s oldPoolSpec) {
	p := newPool(o, m, poolSpec{Addresses: s.Addresses, AutoAssign: s.AutoAssign, AvoidBuggyIPs: s.AvoidBuggyIPs})
	p.own = &announcements{}
	switch s.Protocol {
	case "layer2":
		p.own.layer2 = []advertisement[layer2Spec]{{origin: o}}
		in.add(Done, o, "spec.protocol", "translated to announce.layer2")
	case "bgp":
		p.own.bgp = ownBGP(o, s.BGPAdvertisements)
		in.add(Done, o, "spec.protocol", "translated to announce.bgp")
	default:
		in.add(Missing, o, "spec.protocol", "no equivalent: %q is not known: the pool is not announced; write announce.layer2 or announce.bgp if it should be", s.Protocol)
	}
	if s.Protocol != "bgp" && len(s.BGPAdvertisements) > 0 {
		in.add(Missing, o, "spec.bgpAdvertisements", "no equivalent: the protocol of the pool is not bgp, with which MetalLB takes none; write announce.bgp if it should be")
	}
	in.pools = append(in.pools, p)
}

// A Pool is an AddressPool with where it comes from.
type Pool struct {
	Object v1alpha1.AddressPool
	From   []string // objects of MetalLB's
	Lost   []string // what has no equivalent, and concerns this pool
}

// translate returns p in Herald's words.
func (in *input) translate(p pool, priority int32) Pool {
	out := Pool{From: []string{p.object}, Object: v1alpha1.AddressPool{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "AddressPool"},
		ObjectMeta: metav1.ObjectMeta{Name: p.meta.Name},
	}}
	before := len(in.list)
	out.Object.Labels = in.carry(p.origin, "metadata.labels", p.meta.Labels)
	out.Object.Annotations = in.carry(p.origin, "metadata.annotations", p.meta.Annotations)
	s := &out.Object.Spec
	s.Addresses = in.addresses(p)
	if p.spec.AutoAssign != nil {
		in.add(Done, p.origin, "spec.autoAssign", "translated to assign")
		if !*p.spec.AutoAssign {
			s.Assign = v1alpha1.AssignOnRequest
		}
	}
	if p.spec.AvoidBuggyIPs != nil {
		in.add(Done, p.origin, "spec.avoidBuggyIPs", "translated to skipFirstLast")
		s.SkipFirstLast = *p.spec.AvoidBuggyIPs
	}
	s.Priority = priority
	in.allocation(p, s)
	out.From = append(out.From, in.announce(p, s)...)
	out.Lost = in.lostSince(before)
	return out
}

// bookkeeping are beginnings of labels and annotations by which other tools
// know what is theirs: on a second object they would mislead those tools.
var bookkeeping = []string{
	"kubectl.kubernetes.io/", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "meta.helm.sh/", "helm.sh/",
	"argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/", "helm.toolkit.fluxcd.io/", "config.kubernetes.io/",
}

// carry returns the labels or annotations that are the user's own.
func (in *input) carry(o origin, field string, of map[string]string) map[string]string {
	out := maps.Clone(of)
	maps.DeleteFunc(out, func(key, _ string) bool {
		return slices.ContainsFunc(bookkeeping, func(b string) bool { return strings.HasPrefix(key, b) })
	})
	if len(of) > len(out) {
		in.add(Done, o, field, "left out where they belong to the tool that applied the object")
	}
	if len(out) == 0 {
		return nil
	}
	in.add(Done, o, field, "carried over")
	return out
}

func (in *input) addresses(p pool) []v1alpha1.AddressRange {
	var out []v1alpha1.AddressRange
	for i, text := range p.spec.Addresses {
		now := normalize(text)
		out = append(out, v1alpha1.AddressRange(now))
		if now != text {
			in.add(Done, p.origin, fmt.Sprintf("spec.addresses[%d]", i), "%q is written %s", text, now)
		}
	}
	in.add(Done, p.origin, "spec.addresses", "translated to addresses")
	return out
}

// normalize returns what MetalLB reads in text as Herald writes it: ranges
// without spaces, CIDRs from their first address on, IPv4 inside IPv6 as IPv4.
// What it cannot read it returns as it is, for Compile to complain of.
func normalize(text string) string {
	if first, last, ok := strings.Cut(text, "-"); ok {
		a, errA := netip.ParseAddr(strings.TrimSpace(first))
		b, errB := netip.ParseAddr(strings.TrimSpace(last))
		if errA != nil || errB != nil || a.Zone() != "" || b.Zone() != "" {
			return text
		}
		return a.Unmap().String() + "-" + b.Unmap().String()
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return text
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked().String()
}

// allocation translates who may take from p.
func (in *input) allocation(p pool, s *v1alpha1.AddressPoolSpec) {
	a := p.spec.ServiceAllocation
	if a == nil {
		return
	}
	const field = "spec.serviceAllocation"
	in.add(Done, p.origin, field, "translated to priority %d: a pool with serviceAllocation comes before those without", s.Priority)
	if a.Priority > 0 {
		in.add(Done, p.origin, field+".priority", "translated to priority %d: with MetalLB the lower number wins, with Herald the higher", s.Priority)
	}
	if a.Priority < 0 {
		in.add(Attention, p.origin, field+".priority", "taken for 0: with MetalLB no order is defined for negative numbers")
	}
	var namespaces union
	if len(a.Namespaces) > 0 {
		// Every namespace has its name as a label.
		namespaces = namespaces.add(newTerm(metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			isIn("kubernetes.io/metadata.name", a.Namespaces...)}}))
		in.add(Done, p.origin, field+".namespaces", "translated to namespaceSelector, by the label kubernetes.io/metadata.name")
	}
	if len(a.NamespaceSelectors) > 0 {
		for _, t := range unionOf(a.NamespaceSelectors) {
			namespaces = namespaces.add(t)
		}
		in.add(Done, p.origin, field+".namespaceSelectors", "translated to namespaceSelector")
	}
	if len(a.ServiceSelectors) > 0 {
		in.add(Done, p.origin, field+".serviceSelectors", "translated to serviceSelector")
	}
	s.NamespaceSelector = in.one(p.origin, field+".namespaceSelectors", "namespaces", namespaces, splitPool)
	s.ServiceSelector = in.one(p.origin, field+".serviceSelectors", "Services", unionOf(a.ServiceSelectors), splitPool)
}

// splitPool is what helps where a pool has room for one selector.
const splitPool = "split the pool"

// one returns the first term of u, and notes that Herald cannot say "or", and what
// else helps.
func (in *input) one(o origin, field, what string, u union, helps string) *v1alpha1.Selector {
	if len(u) == 0 {
		return nil
	}
	for _, t := range u[1:] {
		in.add(Missing, o, field, "no equivalent: selects %s with %s, too, and Herald has one selector there, which is %s: "+
			"put one label on all that are meant and select that, or %s", what, t, u[0], helps)
	}
	return u[0].selector()
}

// step is the distance of priorities, so that there is room between them.
const step = 10

// priorities returns the priority of each pool, so that Herald chooses in
// MetalLB's order (allocator.go, Allocate and sortPools): first pools with a
// serviceAllocation, of these the lower number first and 0 last, then all
// others. Where MetalLB has no order Herald has that of names.
func priorities(pools []pool) []int32 {
	number := func(p pool) int64 { // smaller is earlier
		if p.spec.ServiceAllocation.Priority <= 0 {
			return math.MaxInt64
		}
		return p.spec.ServiceAllocation.Priority
	}
	var numbers []int64
	for _, p := range pools {
		if p.spec.ServiceAllocation != nil {
			numbers = append(numbers, number(p))
		}
	}
	slices.SortFunc(numbers, func(a, b int64) int { return cmp.Compare(b, a) })
	numbers = slices.Compact(numbers)
	out := make([]int32, len(pools))
	for i, p := range pools {
		if p.spec.ServiceAllocation != nil {
			out[i] = int32(step * (1 + slices.Index(numbers, number(p))))
		}
	}
	return out
}
