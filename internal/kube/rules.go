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
	tells      []labels.Selector // nodes, by announce.bgp
	told       []labels.Selector // Services, by announce.bgp
}

// compileRules returns the selectors of every pool, by name.
func compileRules(c config.Config) []rules {
	out := make([]rules, 0, len(c.Pools))
	for _, p := range c.Pools {
		texts := append([]string{p.NamespaceSelector, p.ServiceSelector, p.Layer2.NodeSelector}, p.Layer2.PreferNodes...)
		r := rules{
			pool:       p.Name,
			namespaces: selector(p.NamespaceSelector),
			services:   selector(p.ServiceSelector),
			nodes:      selector(p.Layer2.NodeSelector),
		}
		for _, text := range p.Layer2.PreferNodes {
			r.liked = append(r.liked, selector(text))
		}
		for _, b := range p.BGP {
			r.tells, r.told = append(r.tells, selector(b.NodeSelector)), append(r.told, selector(b.ServiceSelector))
			texts = append(texts, "bgp", b.NodeSelector, b.ServiceSelector)
		}
		r.text = strings.Join(texts, "\n")
		out = append(out, r)
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

// tells returns, by pool, the entries of announce.bgp that select a node with these
// labels; nil if there are none.
func tells(all []rules, node map[string]string) map[string][]int {
	return entries(all, node, func(r rules) []labels.Selector { return r.tells })
}

// told is tells for a Service.
func told(all []rules, service map[string]string) map[string][]int {
	return entries(all, service, func(r rules) []labels.Selector { return r.told })
}

func entries(all []rules, object map[string]string, of func(rules) []labels.Selector) map[string][]int {
	var out map[string][]int
	for _, r := range all {
		for i, s := range of(r) {
			if !s.Matches(labels.Set(object)) {
				continue
			}
			if out == nil {
				out = map[string][]int{}
			}
			out[r.pool] = append(out[r.pool], i)
		}
	}
	return out
}

// peersOf returns the names of the peers that a node with these labels has.
func peersOf(peers []config.Peer, node map[string]string) (out []string) {
	for _, p := range peers {
		if selector(p.NodeSelector).Matches(labels.Set(node)) {
			out = append(out, p.Name)
		}
	}
	return out
}

func condition(c metav1.Condition) snapshot.Condition {
	return snapshot.Condition{
		Type: c.Type, Status: c.Status == metav1.ConditionTrue, Reason: c.Reason, Message: c.Message,
	}
}
