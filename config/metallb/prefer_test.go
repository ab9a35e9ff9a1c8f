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
	nodes := universe()
	for range 200 {
		var all []preferredNode
		for _, s := range append(randomSelectors(rnd), randomSelectors(rnd)...) {
			all = append(all, preferredNode{Weight: 1 + rnd.Int32N(100), Preference: s})
		}
		selectors, tied, ok := ranks(all)
		if !ok {
			t.Fatalf("%d preferences are too many", len(all))
		}
		scores, places := make([]int32, len(nodes)), make([]int, len(nodes))
		for i, node := range nodes {
			scores[i] = score(all, node)
			places[i] = slices.IndexFunc(selectors, func(s metav1.LabelSelector) bool { return anyOf(t, []metav1.LabelSelector{s}, node) })
			if places[i] < 0 {
				places[i] = len(selectors)
			}
		}
		for i, a := range nodes {
			for j, b := range nodes {
				switch {
				case scores[i] > scores[j] && places[i] >= places[j]:
					t.Fatalf("%v is not liked better than %v\npreferences %+v\nselectors %+v", a, b, all, selectors)
				case scores[i] == scores[j] && places[i] != places[j] && !tied:
					t.Fatalf("%v and %v are not liked alike\npreferences %+v\nselectors %+v", a, b, all, selectors)
				}
			}
		}
	}
}
