package v1alpha1

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/ipam"
)

// Compile returns the Config that pools describe, and what of them is not in
// use as written, by Object. The order of pools does not matter. Neither
// argument is edited.
//
// A pool with a field that cannot be read stays as it is in last, the Config
// that was in use until now; if it is not there, it is left out. An address
// that several pools list belongs to the oldest of them; the younger ones lose
// it and nothing else. So no object can break what works because of another.
func Compile(pools []AddressPool, last config.Config) (config.Config, []config.Problem) {
	pools = slices.SortedFunc(slices.Values(pools), func(a, b AddressPool) int {
		return cmp.Or(a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	used := make(map[string]config.Pool, len(last.Pools))
	for _, p := range last.Pools {
		used[p.Name] = p
	}
	var c config.Config
	var problems []config.Problem
	for i := range pools {
		p, bad := compilePool(&pools[i])
		problems = append(problems, bad...)
		if len(bad) > 0 {
			var ok bool
			if p, ok = used[pools[i].Name]; !ok {
				continue
			}
		}
		c.Pools = append(c.Pools, p)
	}
	problems = append(problems, disjoin(c.Pools)...)
	slices.SortFunc(c.Pools, func(a, b config.Pool) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortStableFunc(problems, func(a, b config.Problem) int { return cmp.Compare(a.Object, b.Object) })
	return c, problems
}

// disjoin leaves every address to the first of pools that has it.
func disjoin(pools []config.Pool) []config.Problem {
	sets := make([][]ipam.Range, len(pools))
	for i, p := range pools {
		sets[i] = p.Ranges
	}
	kept, clashes := ipam.Disjoin(sets)
	for i := range pools {
		pools[i].Ranges = kept[i]
	}
	problems := make([]config.Problem, 0, len(clashes))
	for _, c := range clashes {
		problems = append(problems, config.Problem{
			Object: pools[c.Loser].Name,
			Field:  "spec.addresses",
			Reason: config.Overlap,
			Detail: fmt.Sprintf("%s belongs to pool %q, which is older: remove it here or there; the other addresses are in use",
				c.Range, pools[c.Winner].Name),
		})
	}
	return problems
}

// A reader reads the fields of one object and collects what it cannot read.
type reader struct {
	object   string
	problems []config.Problem
}

func (r *reader) invalid(field, detail string) {
	r.problems = append(r.problems, config.Problem{Object: r.object, Field: field, Reason: config.Invalid, Detail: detail})
}

// compilePool reads o. The pool is usable only if there is no problem.
func compilePool(o *AddressPool) (config.Pool, []config.Problem) {
	r := reader{object: o.Name}
	s := &o.Spec
	if len(s.Addresses) == 0 {
		r.invalid("spec.addresses", "is empty: list at least one address, range or CIDR")
	}
	flags := r.scheduler(s.Scheduler, s.SchedulerFlags)
	p := config.Pool{
		Pool: ipam.Pool{
			Name:     o.Name,
			Priority: s.Priority,
			Auto:     oneOf(&r, "spec.assign", s.Assign, AssignAuto, AssignOnRequest) == AssignAuto,
			Ranges:   ipam.Subtract(r.ranges("spec.addresses", s.Addresses), r.ranges("spec.exclude", s.Exclude)),

			SkipFirstLast: s.SkipFirstLast,
			Quota:         r.quota(s.QuotaPerNamespace),
			Shrink:        oneOf(&r, "spec.onShrink", s.OnShrink, OnShrinkKeep, OnShrinkReassign) == OnShrinkReassign,
		},
		ReuseAfter:        r.reuseAfter(s.ReuseAfter.Duration),
		NamespaceSelector: r.selector("spec.namespaceSelector", s.NamespaceSelector),
		ServiceSelector:   r.selector("spec.serviceSelector", s.ServiceSelector),
		Layer2:            r.layer2(s.Announce),
		BGP:               r.bgp(s.Announce),
		Steer:             config.Steer(oneOf(&r, "spec.steer", s.Steer, SteerIPVS, SteerServiceProxy)),
		Backends:          config.Backends(oneOf(&r, "spec.backends", s.Backends, BackendsPod, BackendsNodePort, BackendsClusterIP)),
		KeepClientIP:      s.KeepClientIP == nil || *s.KeepClientIP,
		Scheduler:         string(s.Scheduler),
		SchedulerFlags:    flags,
	}
	return p, r.problems
}

// oneOf returns value, which must be one of known; the first of these is the
// default.
func oneOf[T ~string](r *reader, field string, value T, known ...T) T {
	if value == "" {
		return known[0]
	}
	if !slices.Contains(known, value) {
		names := make([]string, 0, len(known))
		for _, k := range known {
			names = append(names, string(k))
		}
		r.invalid(field, fmt.Sprintf("%q is not known: write one of %s", string(value), strings.Join(names, ", ")))
	}
	return value
}

func (r *reader) quota(n int32) int32 {
	if n < 0 {
		r.invalid("spec.quotaPerNamespace", fmt.Sprintf("%d is less than 1: write how many addresses a namespace may have, or leave it out", n))
	}
	return n
}

// longestRest bounds how long a mistake keeps addresses from being used.
const longestRest = 30 * 24 * time.Hour

func (r *reader) reuseAfter(d time.Duration) time.Duration {
	if d < 0 || d > longestRest {
		r.invalid("spec.reuseAfter", fmt.Sprintf("%s is no time from 0s to 720h: write hours, minutes and seconds, as in 10m, 24h or 1h30m", d))
	}
	return d
}

func (r *reader) ranges(field string, list []AddressRange) []ipam.Range {
	ranges := make([]ipam.Range, 0, len(list))
	for i, s := range list {
		one, err := ipam.ParseRange(string(s))
		if err != nil {
			r.invalid(fmt.Sprintf("%s[%d]", field, i), err.Error())
			continue
		}
		ranges = append(ranges, one)
	}
	return ipam.Normalize(ranges)
}

// selector returns s in the syntax of kubectl's --selector; "" selects all.
func (r *reader) selector(field string, s *Selector) string {
	if s == nil {
		return ""
	}
	return r.labels(field, &s.LabelSelector)
}

// labels is selector for one that the API server does not look at: where there may
// be many, looking costs it more than it grants.
func (r *reader) labels(field string, s *metav1.LabelSelector) string {
	if s == nil {
		return ""
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		r.invalid(field, fmt.Sprintf("cannot be read: correct it: %v", err))
		return ""
	}
	return selector.String()
}

func (r *reader) layer2(a *Announce) config.Layer2 {
	if a == nil {
		return config.Layer2{Enabled: true}
	}
	if a.Layer2 == nil {
		return config.Layer2{}
	}
	l2 := config.Layer2{Enabled: true}
	for i, pattern := range a.Layer2.Interfaces {
		// The kernel has no names with these (dev_valid_name in net/core/dev.c).
		impossible := pattern == "" || strings.ContainsAny(string(pattern), "/ \t\r\n\v\f")
		if _, err := path.Match(string(pattern), ""); err != nil || impossible {
			r.invalid(fmt.Sprintf("spec.announce.layer2.interfaces[%d]", i),
				fmt.Sprintf("%q is no pattern: write a name like eth0 or a pattern like eth*", string(pattern)))
			continue
		}
		l2.Interfaces = append(l2.Interfaces, string(pattern))
	}
	l2.NodeSelector = r.selector("spec.announce.layer2.nodeSelector", a.Layer2.NodeSelector)
	for i, s := range a.Layer2.PreferNodes {
		l2.PreferNodes = append(l2.PreferNodes, r.labels(fmt.Sprintf("spec.announce.layer2.preferNodes[%d]", i), &s))
	}
	switch a.Layer2.Failback {
	case "", FailbackImmediate:
	case FailbackDelayed:
		l2.Failback = config.FailbackDelay
	case FailbackNever:
		l2.Failback = config.FailbackNever
	default:
		r.invalid("spec.announce.layer2.failback", fmt.Sprintf("%q: write Immediate, Delayed or Never", a.Layer2.Failback))
	}
	switch d := a.Layer2.GratuitousInterval.Duration; {
	case d != 0 && (d < time.Second || d > 24*time.Hour):
		r.invalid("spec.announce.layer2.gratuitousInterval", fmt.Sprintf("%s is no time from 1s to 24h: write hours, minutes and seconds, as in 30s or 5m", d))
	default:
		l2.Refresh = d
	}
	return l2
}
