package hetzner

import (
	"regexp"
	"slices"
	"strings"
)

var (
	labelKey   = regexp.MustCompile(`^([a-z0-9A-Z]([-a-z0-9A-Z.]{0,251}[a-z0-9A-Z])?/)?[a-z0-9A-Z]([-a-z0-9A-Z._]{0,61}[a-z0-9A-Z])?$`)
	labelValue = regexp.MustCompile(`^([a-z0-9A-Z]([-a-z0-9A-Z._]{0,61}[a-z0-9A-Z])?)?$`)

	setTerm   = regexp.MustCompile(`^(\S+)\s+(in|notin)\s*\((.*)\)$`)
	equalTerm = regexp.MustCompile(`^([^=!\s]+)\s*(==|!=|=)\s*(\S*)$`)
)

// A term is one condition of a label selector.
type term struct {
	key    string
	not    bool
	exists bool // whatever the value
	values []string
}

func (t term) matches(labels map[string]string) bool {
	value, ok := labels[t.key]
	return (ok && (t.exists || slices.Contains(t.values, value))) != t.not
}

// A selector is met by labels that meet all of its terms.
type selector []term

func (s selector) matches(labels map[string]string) bool {
	return !slices.ContainsFunc(s, func(t term) bool { return !t.matches(labels) })
}

// parseSelector reads k, !k, k=v, k==v, k!=v, k in (v,w), k notin (v,w), and
// several of them with commas between.
func parseSelector(text string) (selector, error) {
	var s selector
	for _, part := range splitOutside(text) {
		t, ok := parseTerm(strings.TrimSpace(part))
		if !ok || !labelKey.MatchString(t.key) {
			return nil, invalid("label_selector", "%q is no selector", part)
		}
		for _, v := range t.values {
			if !labelValue.MatchString(v) {
				return nil, invalid("label_selector", "%q is no value of a label", v)
			}
		}
		s = append(s, t)
	}
	return s, nil
}

func parseTerm(text string) (term, bool) {
	if m := setTerm.FindStringSubmatch(text); m != nil {
		values := strings.Split(m[3], ",")
		for i := range values {
			values[i] = strings.TrimSpace(values[i])
		}
		return term{key: m[1], not: m[2] == "notin", values: values}, true
	}
	if m := equalTerm.FindStringSubmatch(text); m != nil {
		return term{key: m[1], not: m[2] == "!=", values: []string{m[3]}}, true
	}
	key, not := strings.CutPrefix(text, "!")
	return term{key: key, not: not, exists: true}, key != ""
}

// splitOutside splits at the commas that stand outside parentheses.
func splitOutside(text string) []string {
	var parts []string
	depth, start := 0, 0
	for i, r := range text {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}

// checkLabels refuses what the API refuses, among it its own prefix.
func checkLabels(labels map[string]string) error {
	for k, v := range labels {
		prefix, _, _ := strings.Cut(k, "/")
		switch {
		case !labelKey.MatchString(k):
			return invalid("labels", "%q is no key of a label", k)
		case prefix == "hetzner.cloud" || strings.HasSuffix(prefix, ".hetzner.cloud"):
			return invalid("labels", "the prefix of %q is reserved", k)
		case !labelValue.MatchString(v):
			return invalid("labels", "%q is no value of a label", v)
		}
	}
	return nil
}
