package metallb

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config/v1alpha1"
)

// A term is one label selector: requirements that must all hold, sorted. The
// empty term selects everything.
type term []metav1.LabelSelectorRequirement

func newTerm(s metav1.LabelSelector) term {
	t := term{}
	for key, value := range s.MatchLabels {
		t = append(t, isIn(key, value))
	}
	for _, r := range s.MatchExpressions {
		r.Values = slices.Compact(slices.Sorted(slices.Values(r.Values)))
		t = append(t, r)
	}
	slices.SortFunc(t, compareRequirements)
	return slices.CompactFunc(t, func(a, b metav1.LabelSelectorRequirement) bool { return compareRequirements(a, b) == 0 })
}

// termOf returns what s selects, which is everything if it is nil.
func termOf(s *metav1.LabelSelector) term {
	if s == nil {
		return term{}
	}
	return newTerm(*s)
}

func isIn(key string, values ...string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: values}
}

func compareRequirements(a, b metav1.LabelSelectorRequirement) int {
	return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Operator, b.Operator), slices.Compare(a.Values, b.Values))
}

// selector returns t as Herald writes it: nil if it selects everything.
func (t term) selector() *v1alpha1.Selector {
	s := t.labels()
	if s == nil {
		return nil
	}
	return &v1alpha1.Selector{LabelSelector: *s}
}

// labels is selector for where there may be many.
func (t term) labels() *metav1.LabelSelector {
	if len(t) == 0 {
		return nil
	}
	s := &metav1.LabelSelector{}
	for _, r := range t {
		_, twice := s.MatchLabels[r.Key]
		if r.Operator == metav1.LabelSelectorOpIn && len(r.Values) == 1 && !twice {
			if s.MatchLabels == nil {
				s.MatchLabels = map[string]string{}
			}
			s.MatchLabels[r.Key] = r.Values[0]
			continue
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return s
}

// String returns t as kubectl's --selector takes it.
func (t term) String() string {
	if len(t) == 0 {
		return "everything"
	}
	return metav1.FormatLabelSelector(&metav1.LabelSelector{MatchExpressions: t})
}

// covers reports whether t selects all that other does, as far as can be told
// without knowing the labels there are.
func (t term) covers(other term) bool {
	for _, need := range t {
		if !slices.ContainsFunc(other, func(has metav1.LabelSelectorRequirement) bool { return implies(has, need) }) {
			return false
		}
	}
	return true
}

func implies(has, need metav1.LabelSelectorRequirement) bool {
	if has.Key != need.Key {
		return false
	}
	switch {
	case compareRequirements(has, need) == 0:
		return true
	case has.Operator != metav1.LabelSelectorOpIn || len(has.Values) == 0:
		return false
	case need.Operator == metav1.LabelSelectorOpIn:
		return !slices.ContainsFunc(has.Values, func(v string) bool { return !slices.Contains(need.Values, v) })
	}
	return need.Operator == metav1.LabelSelectorOpExists
}

// disjoint reports whether no labels match both t and other, as far as the values of
// one label tell.
func (t term) disjoint(other term) bool {
	return slices.ContainsFunc(t, func(mine metav1.LabelSelectorRequirement) bool {
		return slices.ContainsFunc(other, func(theirs metav1.LabelSelectorRequirement) bool {
			common := slices.ContainsFunc(mine.Values, func(v string) bool { return slices.Contains(theirs.Values, v) })
			return mine.Key == theirs.Key && mine.Operator == metav1.LabelSelectorOpIn && theirs.Operator == metav1.LabelSelectorOpIn && !common
		})
	})
}

// and returns the term that selects what both t and other do.
func (t term) and(other term) term {
	return newTerm(metav1.LabelSelector{MatchExpressions: slices.Concat(t, other)})
}

// or returns the one term that selects what a or b does, if there is one:
// where one covers the other, or they differ in the values of one label.
func or(a, b term) (term, bool) {
	switch {
	case a.covers(b):
		return a, true
	case b.covers(a):
		return b, true
	case len(a) != len(b):
		return nil, false
	}
	at := -1
	for i := range a {
		if compareRequirements(a[i], b[i]) == 0 {
			continue
		}
		both := a[i].Key == b[i].Key && a[i].Operator == metav1.LabelSelectorOpIn && b[i].Operator == metav1.LabelSelectorOpIn
		if at >= 0 || !both {
			return nil, false
		}
		at = i
	}
	one := slices.Clone(a)
	one[at] = isIn(a[at].Key, slices.Compact(slices.Sorted(slices.Values(slices.Concat(a[at].Values, b[at].Values))))...)
	return one, true
}

// A union selects what any of its terms does. Without terms it is nothing.
type union []term

// unionOf returns what any of selectors selects; none of them means everything.
func unionOf(selectors []metav1.LabelSelector) union {
	if len(selectors) == 0 {
		return union{term{}}
	}
	var u union
	for _, s := range selectors {
		u = u.add(newTerm(s))
	}
	return u
}

// add returns u or t in as few terms as it finds.
func (u union) add(t term) union {
	u = slices.Clone(u)
	for i := 0; i < len(u); i++ {
		if one, ok := or(u[i], t); ok {
			// What has grown may now unite with those before it.
			t, u, i = one, slices.Delete(u, i, i+1), -1
		}
	}
	u = append(u, t)
	slices.SortFunc(u, func(a, b term) int { return slices.CompareFunc(a, b, compareRequirements) })
	return u
}

// everything reports whether u selects everything.
func (u union) everything() bool { return len(u) == 1 && len(u[0]) == 0 }

func (u union) equal(other union) bool { return reflect.DeepEqual(u, other) }

func (u union) covers(other union) bool {
	return !slices.ContainsFunc(other, func(t term) bool {
		return !slices.ContainsFunc(u, func(mine term) bool { return mine.covers(t) })
	})
}

// String returns u for people.
func (u union) String() string {
	var texts []string
	for _, t := range u {
		texts = append(texts, t.String())
	}
	return strings.Join(texts, " or ")
}
