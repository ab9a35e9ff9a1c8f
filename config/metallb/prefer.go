package metallb

import (
	"cmp"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxPrefer is how many selectors announce.layer2.preferNodes has room for.
const maxPrefer = 16

// maxSets is how many sets of preferences are looked at: all of eight.
const maxSets = 256

// prefer returns the selectors of the nodes that ads like, the best first, for a pool
// that is announced in the way w.
//
// MetalLB adds up the weights of all preferences of a node, but those of each
// advertisement count only where that does.
func (in *input) prefer(p pool, ads []advertisement[layer2Spec], w way) []metav1.LabelSelector {
	var all []preferredNode
	for _, ad := range ads {
		if len(ad.spec.PreferredNodeSelectors) == 0 {
			continue
		}
		if own := newWay(ad); !own.nodes.equal(w.nodes) || !own.services.equal(w.services) {
			in.add(Missing, ad.origin, preferred, "no equivalent: of AddressPool %s other advertisements select other nodes or Services; "+
				"write announce.layer2.preferNodes, the best nodes first", p.meta.Name)
			continue
		}
		all = append(all, ad.spec.PreferredNodeSelectors...)
	}
	selectors, tied, ok := ranks(all)
	for _, ad := range ads {
		switch {
		case len(ad.spec.PreferredNodeSelectors) == 0:
		case !ok || len(selectors) > maxPrefer:
			in.add(Missing, ad.origin, preferred, "no equivalent: the weights add up to more sums than announce.layer2.preferNodes has room for, which is %d; "+
				"those that do not fit are left out: prefer fewer", maxPrefer)
		case tied:
			in.add(Attention, ad.origin, preferred, "translated to announce.layer2.preferNodes of AddressPool %s: of nodes with the same sum of weights "+
				"those of one selector come first, and not all alike", p.meta.Name)
		}
	}
	return selectors[:min(len(selectors), maxPrefer)]
}

// preferred is the field that says which nodes should rather announce than others.
const preferred = "spec.preferredNodeSelectors"

// A rank are nodes with the same sum of weights.
type rank struct {
	term
	weight int64
}

// ranks returns selectors of nodes, the highest sum of weights first, so that the first
// that selects a node is that of its sum: there is one for every set of preferences
// that a node can meet. It reports whether some have the same sum and are not one; ok
// is false if there are far too many.
func ranks(preferences []preferredNode) (selectors []metav1.LabelSelector, tied, ok bool) {
	sets := []rank{{}}
	for _, p := range preferences {
		if p.Weight <= 0 {
			continue
		}
		if len(sets) > maxSets {
			return nil, false, false
		}
		t := newTerm(p.Preference)
		for _, s := range slices.Clone(sets) {
			if !s.disjoint(t) {
				sets = append(sets, rank{s.and(t), s.weight + int64(p.Weight)})
			}
		}
	}
	sets = sets[1:]
	slices.SortStableFunc(sets, func(a, b rank) int { return cmp.Compare(b.weight, a.weight) })
	var kept []rank
	for _, s := range sets {
		if slices.ContainsFunc(kept, func(better rank) bool { return better.covers(s.term) }) {
			continue
		}
		last := len(kept) - 1
		if last >= 0 && kept[last].weight == s.weight {
			if one, ok := or(kept[last].term, s.term); ok {
				kept[last].term = one
				continue
			}
			tied = true
		}
		kept = append(kept, s)
	}
	for _, k := range kept {
		one := metav1.LabelSelector{}
		if s := k.selector(); s != nil {
			one = s.LabelSelector
		}
		selectors = append(selectors, one)
	}
	return selectors, tied, true
}
