package metallb

import (
	"math/rand/v2"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Of two nodes Herald likes the one better that MetalLB likes better.
func TestRanksKeepTheOrderOfNodes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	score := func(all []preferredNode, node map[string]string) (sum int32) {
		for _, p := range all {
			if anyOf(t, []metav1.LabelSelector{p.Preference}, node) {
				sum += p.Weight
			}
		}
		return sum
	}
	for range 500 {
		var all []preferredNode
		for _, s := range append(randomSelectors(rnd), randomSelectors(rnd)...) {
			all = append(all, preferredNode{Weight: 1 + rnd.Int32N(100), Preference: s})
		}
		selectors, tied, ok := ranks(all)
		if !ok {
			t.Fatalf("%d preferences are too many", len(all))
		}
		place := func(node map[string]string) int {
			i := slices.IndexFunc(selectors, func(s metav1.LabelSelector) bool { return anyOf(t, []metav1.LabelSelector{s}, node) })
			if i < 0 {
				return len(selectors)
			}
			return i
		}
		for _, a := range universe() {
			for _, b := range universe() {
				switch {
				case score(all, a) > score(all, b) && place(a) >= place(b):
					t.Fatalf("%v is not liked better than %v\npreferences %+v\nselectors %+v", a, b, all, selectors)
				case score(all, a) == score(all, b) && place(a) != place(b) && !tied:
					t.Fatalf("%v and %v are not liked alike\npreferences %+v\nselectors %+v", a, b, all, selectors)
				}
			}
		}
	}
}
