package metallb

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// universe are all label sets of two keys with a few values or none.
func universe() []map[string]string {
	var out []map[string]string
	for _, a := range []string{"", "1", "2", "3"} {
		for _, b := range []string{"", "1", "2"} {
			of := map[string]string{"a": a, "b": b}
			maps.DeleteFunc(of, func(_, v string) bool { return v == "" })
			out = append(out, of)
		}
	}
	return out
}

func randomSelectors(rnd *rand.Rand) []metav1.LabelSelector {
	out := make([]metav1.LabelSelector, rnd.IntN(4))
	for i := range out {
		for range rnd.IntN(3) {
			r := metav1.LabelSelectorRequirement{Key: []string{"a", "b"}[rnd.IntN(2)]}
			switch rnd.IntN(6) {
			case 0:
				r.Operator = metav1.LabelSelectorOpExists
			case 1:
				r.Operator = metav1.LabelSelectorOpDoesNotExist
			case 2:
				r.Operator, r.Values = metav1.LabelSelectorOpNotIn, []string{"1", "2"}[:1+rnd.IntN(2)]
			default:
				r.Operator, r.Values = metav1.LabelSelectorOpIn, []string{"2", "1", "3"}[:1+rnd.IntN(3)]
			}
			out[i].MatchExpressions = append(out[i].MatchExpressions, r)
		}
		if rnd.IntN(3) == 0 {
			out[i].MatchLabels = map[string]string{"a": "1"}
		}
	}
	return out
}

// anyOf is what MetalLB does with a list of selectors.
func anyOf(t *testing.T, selectors []metav1.LabelSelector, of map[string]string) bool {
	for _, s := range selectors {
		parsed, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Matches(labels.Set(of)) {
			return true
		}
	}
	return len(selectors) == 0
}

// matches is what the API server does with a selector.
func (t term) matches(of map[string]string) bool {
	s, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchExpressions: t})
	return err == nil && s.Matches(labels.Set(of))
}

func (u union) matches(of map[string]string) bool {
	return slices.ContainsFunc(u, func(t term) bool { return t.matches(of) })
}

// Uniting selectors never changes what they select, and neither does writing one.
func TestAUnionSelectsWhatItsSelectorsDo(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		selectors := randomSelectors(rnd)
		u := unionOf(selectors)
		for _, of := range universe() {
			if got, want := u.matches(of), anyOf(t, selectors, of); got != want {
				t.Fatalf("%v\nselect %v: %v, united (%s): %v", selectors, of, want, u, got)
			}
			if s := u[0].selector(); s != nil && anyOf(t, []metav1.LabelSelector{s.LabelSelector}, of) != u[0].matches(of) {
				t.Fatalf("%s is written %v", u[0], s)
			}
		}
	}
}

func randomAd(rnd *rand.Rand) advertisement[layer2Spec] {
	ad := advertisement[layer2Spec]{spec: layer2Spec{NodeSelectors: randomSelectors(rnd), Interfaces: []string{"eth1", "eth0"}[:rnd.IntN(3)]}}
	if rnd.IntN(3) == 0 {
		ad.spec.ServiceSelectors = randomSelectors(rnd)
	}
	return ad
}

// From the same places, the same Services are announced.
func TestWaysAnnounceWhatTheirAdvertisementsDo(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	on := func(interfaces []string, i string) bool {
		return len(interfaces) == 0 || slices.Contains(interfaces, i)
	}
	for range 300 {
		ads := make([]advertisement[layer2Spec], 1+rnd.IntN(3))
		for i := range ads {
			ads[i] = randomAd(rnd)
		}
		ways := waysOf(ads)
		for _, node := range universe() {
			for _, svc := range universe() {
				for _, i := range []string{"eth0", "eth1", "eth2"} {
					want := slices.ContainsFunc(ads, func(ad advertisement[layer2Spec]) bool {
						return on(ad.spec.Interfaces, i) && anyOf(t, ad.spec.NodeSelectors, node) && anyOf(t, ad.spec.ServiceSelectors, svc)
					})
					got := slices.ContainsFunc(ways, func(w way) bool {
						return on(w.interfaces, i) && w.nodes.matches(node) && w.services.matches(svc)
					})
					if got != want {
						t.Fatalf("%v on %s of %v: %v, want %v\nads  %+v\nways %v", svc, i, node, got, want, ads, ways)
					}
				}
			}
		}
	}
}

// MetalLB tries pools with a serviceAllocation before those without, the lower
// number first and no number last.
func TestPrioritiesKeepTheOrderOfChoice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	rank := func(p pool) (int, int64) {
		switch a := p.spec.ServiceAllocation; {
		case a == nil:
			return 2, 0
		case a.Priority <= 0:
			return 1, 0
		default:
			return 0, a.Priority
		}
	}
	for range 200 {
		pools := make([]pool, 8)
		for i := range pools {
			if n := rnd.Int64N(6); n > 0 {
				pools[i].spec.ServiceAllocation = &serviceAllocation{Priority: (n - 1) * 1_000_000_000_000}
			}
		}
		got := priorities(pools)
		for i := range pools {
			for j := range pools {
				a, m := rank(pools[i])
				b, n := rank(pools[j])
				if theirs, ours := cmp.Or(cmp.Compare(a, b), cmp.Compare(m, n)), cmp.Compare(got[j], got[i]); theirs != ours {
					t.Fatalf("%+v and %+v have priorities %d and %d", pools[i].spec.ServiceAllocation, pools[j].spec.ServiceAllocation, got[i], got[j])
				}
			}
		}
	}
}

func TestAnnotations(t *testing.T) {
	tests := []struct {
		name      string
		have, out map[string]string
	}{
		{"all have an equivalent",
			map[string]string{"metallb.io/address-pool": "a", "metallb.universe.tf/loadBalancerIPs": "192.0.2.1", "metallb.io/allow-shared-ip": "k"},
			map[string]string{"herald-lb.io/pool": "a", "herald-lb.io/addresses": "192.0.2.1", "herald-lb.io/share": "k"}},
		{"a Service's own win",
			map[string]string{"metallb.io/address-pool": "a", "herald-lb.io/pool": "b", "herald-lb.io/share-with": "x"},
			map[string]string{"herald-lb.io/pool": "b", "herald-lb.io/share-with": "x"}},
		{"the new prefix wins over the old",
			map[string]string{"metallb.io/address-pool": "new", "metallb.universe.tf/address-pool": "old"},
			map[string]string{"herald-lb.io/pool": "new"}},
		{"what is empty, or MetalLB's own, or nobody's, is left out",
			map[string]string{"metallb.io/address-pool": "", "metallb.io/ip-allocated-from-pool": "a", "example.com/x": "y"},
			map[string]string{}},
		{"without annotations there are none", nil, map[string]string{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Annotations(tt.have); !maps.Equal(got, tt.out) {
				t.Errorf("Annotations() = %v, want %v", got, tt.out)
			}
		})
	}
}
