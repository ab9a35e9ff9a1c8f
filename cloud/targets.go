package cloud

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// targets are the nodes to which a Service's load balancer sends. If none of those
// that were asked for is known, nothing is to be changed: an error.
func (e *Engine) targets(ctx context.Context, svc *corev1.Service, w Wanted, nodes []*corev1.Node) ([]Target, error) {
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(n *corev1.Node) bool { return !chosen(n, w.Asked.NodeSelector) })
	if len(nodes) == 0 {
		return nil, nil
	}
	known, unknown, err := e.Driver.Instances(ctx, nodes, w.Spec)
	if err != nil {
		return nil, fmt.Errorf("looking for the machines of %d nodes: %w", len(nodes), err)
	}
	if len(known) == 0 {
		return nil, &Error{Class: Retryable, Reason: ReasonNoInstance, After: ComeAgain, Text: "none of the nodes is a machine of this cloud: " + reasons(unknown)}
	}
	if len(unknown) > 0 {
		e.warn(svc, ReasonNoInstance, "without nodes that are no machines of this cloud: "+reasons(unknown))
	}
	slices.SortFunc(known, func(a, b Target) int { return cmp.Compare(a.Node, b.Node) })
	return known, nil
}

// trimmed is what is wanted, with no more targets than the load balancer may have.
func (e *Engine) trimmed(ctx context.Context, svc *corev1.Service, w Wanted, f *Found) (Wanted, error) {
	l, ok := e.Driver.(TargetLimiter)
	if !ok {
		return w, nil
	}
	most := l.MaxTargets(w.Spec, f)
	if most <= 0 || len(w.Spec.Targets) <= most {
		return w, nil
	}
	var local map[string]bool
	if e.Local != nil && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		var err error
		if local, err = e.Local(ctx, svc); err != nil {
			return w, fmt.Errorf("asking on which nodes Service %s has endpoints: %w", w.Spec.Owner.Key(), err)
		}
	}
	e.warn(svc, ReasonTargetLimit, fmt.Sprintf("%d nodes could be targets, and the load balancer may have %d: the others are none", len(w.Spec.Targets), most))
	w.Spec.Targets = preferred(w.Spec.Targets, most, local, l.Standing(f))
	return w, nil
}

// preferred are as many targets as there may be: those with endpoints first, and of
// these, and of the others, those that are targets already, so that none is changed
// for one that is no better. All, and those chosen, are by name.
func preferred(all []Target, most int, local map[string]bool, has func(Target) bool) []Target {
	var ranks [4][]Target
	for _, t := range all {
		n := 0
		if !local[t.Node] {
			n += 2
		}
		if !has(t) {
			n++
		}
		ranks[n] = append(ranks[n], t)
	}
	some := slices.Concat(ranks[:]...)[:most:most]
	slices.SortFunc(some, func(a, b Target) int { return cmp.Compare(a.Node, b.Node) })
	return some
}

// reasons names a few nodes, and why.
func reasons(unknown map[string]string) string {
	const few = 3
	var all []string
	for _, node := range slices.Sorted(maps.Keys(unknown)) {
		if len(all) == few {
			return fmt.Sprintf("%s and %d more", strings.Join(all, ", "), len(unknown)-few)
		}
		all = append(all, fmt.Sprintf("%s (%s)", node, unknown[node]))
	}
	return strings.Join(all, ", ")
}

func chosen(n *corev1.Node, selector map[string]string) bool {
	for key, value := range selector {
		if v, ok := n.Labels[key]; !ok || v != value {
			return false
		}
	}
	return true
}
