package kube

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// rules are the selectors of one pool.
type rules struct {
	pool       string
	text       string // of all selectors, for comparison
	namespaces labels.Selector
	services   labels.Selector
	nodes      labels.Selector
	liked      []labels.Selector // nodes, the best first
}

// compileRules returns the selectors of every pool, by name.
func compileRules(c config.Config) []rules {
	out := make([]rules, 0, len(c.Pools))
	for _, p := range c.Pools {
		out = append(out, rules{
			pool: p.Name,
			text: strings.Join(append([]string{p.NamespaceSelector, p.ServiceSelector, p.Layer2.NodeSelector},
				p.Layer2.PreferNodes...), "\n"),
			namespaces: selector(p.NamespaceSelector),
			services:   selector(p.ServiceSelector),
			nodes:      selector(p.Layer2.NodeSelector),
		})
		for _, text := range p.Layer2.PreferNodes {
			r := &out[len(out)-1]
			r.liked = append(r.liked, selector(text))
		}
	}
	return out
}

// selector reads what Compile has written; what it cannot read selects
// nothing, rather than everything.
func selector(text string) labels.Selector {
	s, err := labels.Parse(text)
	if err != nil {
		return labels.Nothing()
	}
	return s
}

func equalRules(a, b []rules) bool {
	return slices.EqualFunc(a, b, func(x, y rules) bool { return x.pool == y.pool && x.text == y.text })
}

// poolsFor returns the names of the pools that an object may take from, by its
// labels and those of its namespace. Without the
// labels of its namespace it may take from none: a selector by what a
// namespace has not would match.
func poolsFor(all []rules, object, namespace map[string]string) []string {
	var out []string
	if namespace == nil {
		return nil
	}
	for _, r := range all {
		if r.namespaces.Matches(labels.Set(namespace)) && r.services.Matches(labels.Set(object)) {
			out = append(out, r.pool)
		}
	}
	return out
}

// announcedFrom returns the names of the pools that a node with these labels
// may announce.
func announcedFrom(all []rules, node map[string]string) []string {
	var out []string
	for _, r := range all {
		if r.nodes.Matches(labels.Set(node)) {
			out = append(out, r.pool)
		}
	}
	return out
}

// ranksOf returns how well pools like a node with these labels; nil if none likes
// some nodes better than others.
func ranksOf(all []rules, node map[string]string) map[string]int {
	var ranks map[string]int
	for _, r := range all {
		if len(r.liked) == 0 {
			continue
		}
		if ranks == nil {
			ranks = map[string]int{}
		}
		i := slices.IndexFunc(r.liked, func(s labels.Selector) bool { return s.Matches(labels.Set(node)) })
		if i < 0 {
			i = len(r.liked)
		}
		ranks[r.pool] = i
	}
	return ranks
}

func condition(c metav1.Condition) snapshot.Condition {
	return snapshot.Condition{
		Type: c.Type, Status: c.Status == metav1.ConditionTrue, Reason: c.Reason, Message: c.Message,
	}
}
