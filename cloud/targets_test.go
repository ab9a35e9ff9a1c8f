package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/herald-lb/herald/cloud"
	"github.com/herald-lb/herald/cloud/cloudtest"
)

// limited is a cloud whose load balancers have few targets.
type limited struct {
	*cloudtest.Fake
	most  int
	asked map[string]int // how often whether a node is a target
}

func (l limited) MaxTargets(cloud.LBSpec, *cloud.Found) int { return l.most }

func (l limited) Standing(f *cloud.Found) func(cloud.Target) bool {
	return func(t cloud.Target) bool {
		l.asked[t.Node]++
		return f != nil && slices.Contains(f.Raw.(cloud.LBSpec).Targets, t)
	}
}

// Of too many nodes those with endpoints are targets, and none is changed for one that
// is no better (P4). Each step says which nodes there are, which have endpoints, and
// which are targets then.
func TestTargetsOfTooManyNodes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy corev1.ServiceExternalTrafficPolicy
		steps  [][3]string
	}{
		{"those with endpoints first, then by name", "Local", [][3]string{{"1 2 3 4 5", "4 5", "1 4 5"}}},
		{"one that moves among targets changes none", "Local", [][3]string{{"1 2 3 4 5", "4 5", "1 4 5"}, {"1 2 3 4 5", "1 5", "1 4 5"}, {"1 2 3 4 5", "1", "1 4 5"}}},
		{"one that moves to no target brings that in", "Local", [][3]string{{"1 2 3 4 5", "4 5", "1 4 5"}, {"1 2 3 4 5", "2 5", "1 2 5"}}},
		{"with endpoints everywhere none is changed", "Local", [][3]string{{"2 3 4 5", "2 3 4 5", "2 3 4"}, {"1 2 3 4 5", "1 2 3 4 5", "2 3 4"}, {"1 2 3 4 5", "1 2 3 5", "1 2 3"}}},
		{"without endpoints none is changed", "Local", [][3]string{{"1 2 3 4 5", "4 5", "1 4 5"}, {"1 2 3 4 5", "", "1 4 5"}}},
		{"where each node serves, all are alike", "Cluster", [][3]string{{"2 3 4 5", "4 5", "2 3 4"}, {"1 2 3 4 5", "1 5", "2 3 4"}, {"1 2 4 5", "5", "1 2 4"}}},
		{"with room for all, all", "Local", [][3]string{{"1 2 3", "3", "1 2 3"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, local := few(t)
				svc := cloudtest.Service("web", "uid-web", 80)
				svc.Spec.ExternalTrafficPolicy = tt.policy
				for _, step := range tt.steps {
					*local = named(step[1])
					time.Sleep(time.Minute)
					w.Serve(t, svc, nodes(step[0]))
					if got := targets(w); got != step[2] {
						t.Errorf("nodes %s, endpoints on %q: targets %s, want %s", step[0], step[1], got, step[2])
					}
				}
			})
		})
	}
}

// few is a world with three targets for a load balancer, and who has endpoints in it.
func few(t *testing.T) (*cloudtest.World, *map[string]bool) {
	lab := cloudtest.FakeLab(t)
	lab.Driver = limited{lab.Driver.(*cloudtest.Fake), 3, map[string]int{}}
	w, local := cloudtest.NewWorld(lab), &map[string]bool{}
	w.Engine.Local = func(context.Context, *corev1.Service) (map[string]bool, error) { return *local, nil }
	return w, local
}

func named(text string) map[string]bool {
	all := map[string]bool{}
	for n := range strings.FieldsSeq(text) {
		all["n"+n] = true
	}
	return all
}

func nodes(text string) (all []*corev1.Node) {
	for n := range strings.FieldsSeq(text) {
		all = append(all, cloudtest.Node("n"+n, "10.0.0."+n))
	}
	return all
}

func targets(w *cloudtest.World) string {
	var all []string
	for _, t := range w.All()[0].Raw.(cloud.LBSpec).Targets {
		all = append(all, strings.TrimPrefix(t.Node, "n"))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// However many nodes there are, none is looked for twice.
func TestTargetsAreAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := few(t)
		svc := cloudtest.Service("web", "uid-web", 80)
		all := nodes("1 2 3 4 5 6 7 8 9")
		w.Serve(t, svc, all)
		asked := w.Lab.Driver.(limited).asked
		clear(asked)
		w.Serve(t, svc, all)
		for node, n := range asked {
			if n != 1 {
				t.Errorf("%s was looked for %d times", node, n)
			}
		}
	})
}

// One target that the cloud refuses holds up no other; but while none that is wanted
// serves, none is taken away (T1), nor is anything done that comes after. Adds are refused one after the other, as marked by x.
func TestTargetsThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ before, after, answers, want string }{
		{"1 2", "2 3 4", "x ", "2 4"},
		{"1 2", "2 3 4", " x", "2 3"},
		{"1 2", "2 3 4", "xx", "2"},
		{"1 2", "3 4", "x ", "4"},
		{"1 2", "3 4", "xx", "1 2"},
	} {
		t.Run(fmt.Sprintf("%s to %s, %q", tt.before, tt.after, tt.answers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := cloudtest.NewWorld(cloudtest.FakeLab(t))
				svc := cloudtest.Service("web", "uid-web", 80, 443)
				w.Serve(t, svc, nodes(tt.before))
				svc.Spec.Ports = svc.Spec.Ports[:1]
				asked := -1
				w.Fault(func(call string, after bool) error {
					if call != "add target" || after {
						return nil
					}
					if asked++; asked < len(tt.answers) && tt.answers[asked] == 'x' {
						return cloud.Refuse("", "it is in another network")
					}
					return nil
				})
				if _, err := w.Ensure(t.Context(), svc, nodes(tt.after)); !cloud.Is(err, cloud.Terminal) || targets(w) != tt.want {
					t.Errorf("targets are %s, not %s: Ensure() = %v", targets(w), tt.want, err)
				}
				ports := len(w.All()[0].Raw.(cloud.LBSpec).Listeners)
				if stays := tt.want == tt.before; stays != (ports == 2) {
					t.Errorf("there are %d listeners", ports)
				}
			})
		})
	}
}

// No answer about endpoints changes no target.
func TestTargetsStayWhileEndpointsAreNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, local := few(t)
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		*local = named("4 5")
		w.Serve(t, svc, nodes("1 2 3 4 5"))
		w.Engine.Local = func(context.Context, *corev1.Service) (map[string]bool, error) { return nil, errors.New("no answer") }
		if _, err := w.Ensure(t.Context(), svc, nodes("1 2 3 4 5 6")); err == nil || targets(w) != "1 4 5" {
			t.Errorf("Ensure() = %v, and targets are %s", err, targets(w))
		}
	})
}

// Wherever endpoints go: those with some are targets as far as there is room, whatever
// the order of nodes; and what fits is not changed.
func TestTargetsFitAndStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rnd := rand.New(rand.NewPCG(4, 4))
		w, local := few(t)
		svc := cloudtest.Service("web", "uid-web", 80)
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		all, before := nodes("1 2 3 4 5 6"), ""
		for range 300 {
			var with []string
			for i := range 6 {
				if rnd.IntN(3) == 0 {
					with = append(with, fmt.Sprint(i+1))
				}
			}
			*local = named(strings.Join(with, " "))
			rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			fits := func(set string) bool {
				n := 0
				for _, node := range with {
					if strings.Contains(set, node) {
						n++
					}
				}
				return n == min(3, len(with))
			}
			time.Sleep(time.Minute)
			w.Serve(t, svc, all)
			after := targets(w)
			if !fits(after) || before != "" && fits(before) && after != before {
				t.Fatalf("endpoints on %v: targets were %s and are %s", with, before, after)
			}
			before = after
		}
	})
}
