package v1alpha1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/ipam"
)

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// object is an AddressPool that was created in the given second.
func object(name string, second int64, addresses ...AddressRange) AddressPool {
	return AddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(second, 0)},
		Spec:       AddressPoolSpec{Addresses: addresses},
	}
}

// summary renders a Config as "pool: range range" lines and problems as
// "object field reason: detail" lines.
func summary(c config.Config, problems []config.Problem) []string {
	var out []string
	for _, p := range c.Pools {
		line := p.Name + ":"
		for _, r := range p.Ranges {
			line += " " + r.String()
		}
		out = append(out, line)
	}
	for _, p := range problems {
		out = append(out, fmt.Sprintf("%s %s %s: %s", p.Object, p.Field, p.Reason, p.Detail))
	}
	return out
}

func TestCompile(t *testing.T) {
	before, _ := Compile([]AddressPool{object("a", 1, "192.0.2.0/28"), object("gone", 1, "203.0.113.1")}, config.Config{})
	tests := []struct {
		name  string
		pools []AddressPool
		last  config.Config
		want  []string
	}{{
		name:  "pools come sorted, ranges joined, exclusions taken out",
		pools: []AddressPool{object("b", 1, "192.0.2.9", "192.0.2.8"), exclude(object("a", 2, "192.0.2.0/29"), "192.0.2.0", "192.0.2.7")},
		want:  []string{"a: 192.0.2.1-192.0.2.6", "b: 192.0.2.8-192.0.2.9"},
	}, {
		name:  "a pool that never was good is left out, and every bad field is named",
		pools: []AddressPool{exclude(object("a", 1, "192.0.2.1", "lan"), "192.0.2.1/24"), object("b", 2, "192.0.2.2")},
		want: []string{
			"b: 192.0.2.2",
			`a spec.addresses[1] Invalid: "lan" is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces`,
			`a spec.exclude[0] Invalid: "192.0.2.1/24" has bits set beyond its prefix length: write 192.0.2.0/24 for the whole subnet, 192.0.2.1 for the one address`,
		},
	}, {
		name:  "a pool that was good stays as it was",
		pools: []AddressPool{object("a", 1, "192.0.2.9-192.0.2.1")},
		last:  before,
		want: []string{
			"a: 192.0.2.0-192.0.2.15",
			`a spec.addresses[0] Invalid: range "192.0.2.9-192.0.2.1" ends before it starts: write 192.0.2.1-192.0.2.9`,
		},
	}, {
		name: "a pool that is no more is not in use",
		last: before,
	}, {
		name:  "an address of two pools belongs to the older one, the younger keeps the rest",
		pools: []AddressPool{object("a", 2, "192.0.2.0/28"), object("b", 1, "192.0.2.4-192.0.2.7", "198.51.100.1")},
		want: []string{
			"a: 192.0.2.0-192.0.2.3 192.0.2.8-192.0.2.15",
			"b: 192.0.2.4-192.0.2.7 198.51.100.1",
			`a spec.addresses Overlap: 192.0.2.4-192.0.2.7 belongs to pool "b", which is older: remove it here or there; the other addresses are in use`,
		},
	}, {
		name:  "of two pools of one second the smaller name counts as the older",
		pools: []AddressPool{object("b", 1, "192.0.2.0/30"), object("a", 1, "192.0.2.0/31")},
		want: []string{
			"a: 192.0.2.0-192.0.2.1", "b: 192.0.2.2-192.0.2.3",
			`b spec.addresses Overlap: 192.0.2.0-192.0.2.1 belongs to pool "a", which is older: remove it here or there; the other addresses are in use`,
		},
	}, {
		name:  "a pool that stays as it was keeps its place by age",
		pools: []AddressPool{object("a", 2, "bad"), object("b", 1, "192.0.2.8/29")},
		last:  before,
		want: []string{
			"a: 192.0.2.0-192.0.2.7", "b: 192.0.2.8-192.0.2.15",
			`a spec.addresses[0] Invalid: "bad" is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces`,
			`a spec.addresses Overlap: 192.0.2.8-192.0.2.15 belongs to pool "b", which is older: remove it here or there; the other addresses are in use`,
		},
	}, {
		name:  "a pool that lost all its addresses is still known by name",
		pools: []AddressPool{object("a", 2, "192.0.2.1"), object("b", 1, "192.0.2.0/24")},
		want: []string{
			"a:", "b: 192.0.2.0-192.0.2.255",
			`a spec.addresses Overlap: 192.0.2.1 belongs to pool "b", which is older: remove it here or there; the other addresses are in use`,
		},
	}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, summary(Compile(tt.pools, tt.last))); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

func exclude(o AddressPool, ranges ...AddressRange) AddressPool {
	o.Spec.Exclude = ranges
	return o
}

// What is left out of a pool gets the defaults that its schema promises.
func TestDefaults(t *testing.T) {
	c, problems := Compile([]AddressPool{object("lan", 1, "192.0.2.1")}, config.Config{})
	want := config.Default()
	want.Pool = ipam.Pool{Name: "lan", Auto: true, Ranges: []ipam.Range{{First: netip.MustParseAddr("192.0.2.1"), Last: netip.MustParseAddr("192.0.2.1")}}}
	if diff := cmp.Diff(config.Config{Pools: []config.Pool{want}}, c, sameAddr); diff != "" || len(problems) > 0 {
		t.Errorf("problems %v, config (-want +got):\n%s", problems, diff)
	}
}

func TestEveryFieldIsCompiled(t *testing.T) {
	o := object("lan", 1, "192.0.2.1")
	o.Spec.Assign, o.Spec.Priority = AssignOnRequest, -5
	o.Spec.SkipFirstLast, o.Spec.QuotaPerNamespace, o.Spec.OnShrink = true, 3, OnShrinkReassign
	o.Spec.ReuseAfter = metav1.Duration{Duration: time.Hour}
	o.Spec.NamespaceSelector = &Selector{metav1.LabelSelector{MatchLabels: map[string]string{"team": "shop"}}}
	o.Spec.ServiceSelector = &Selector{metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "tier", Operator: metav1.LabelSelectorOpIn, Values: []string{"inner", "edge"}},
		{Key: "retired", Operator: metav1.LabelSelectorOpDoesNotExist},
	}}}
	o.Spec.Announce = &Announce{Layer2: &Layer2{
		Interfaces:   []InterfacePattern{"eth0", "bond*"},
		NodeSelector: &Selector{metav1.LabelSelector{MatchLabels: map[string]string{"rack": "a"}}},
		PreferNodes: []metav1.LabelSelector{
			{MatchLabels: map[string]string{"uplink": "fast"}},
			{MatchLabels: map[string]string{"uplink": "slow"}},
		},
		Failback: FailbackDelayed, GratuitousInterval: metav1.Duration{Duration: time.Minute},
	}}
	o.Spec.Steer, o.Spec.Backends, o.Spec.Scheduler = SteerServiceProxy, BackendsNodePort, "mh"
	o.Spec.KeepClientIP, o.Spec.SchedulerFlags = new(bool), []SchedulerFlag{"mh-port"}

	c, problems := Compile([]AddressPool{o}, config.Config{})
	want := config.Pool{
		Pool:              ipam.Pool{Name: "lan", Priority: -5, Ranges: c.Pools[0].Ranges, SkipFirstLast: true, Quota: 3, Shrink: true},
		ReuseAfter:        time.Hour,
		NamespaceSelector: "team=shop",
		ServiceSelector:   "!retired,tier in (edge,inner)",
		Layer2: config.Layer2{
			Enabled: true, Interfaces: []string{"eth0", "bond*"}, NodeSelector: "rack=a",
			PreferNodes: []string{"uplink=fast", "uplink=slow"}, Failback: config.FailbackDelay, Refresh: time.Minute,
		},
		Steer:          config.SteerServiceProxy,
		Backends:       config.BackendsNodePort,
		Scheduler:      "mh",
		SchedulerFlags: config.SchedulerPort,
	}
	if diff := cmp.Diff(want, c.Pools[0], sameAddr); diff != "" || len(problems) > 0 {
		t.Errorf("problems %v, pool (-want +got):\n%s", problems, diff)
	}
	for _, s := range []string{want.NamespaceSelector, want.ServiceSelector, want.Layer2.NodeSelector} {
		if again, err := labels.Parse(s); err != nil || again.String() != s {
			t.Errorf("selector %q is read back as %v, %v", s, again, err)
		}
	}
}

func TestAnnounceWithoutAWayAnnouncesNothing(t *testing.T) {
	o := object("lan", 1, "192.0.2.1")
	o.Spec.Announce = &Announce{}
	c, problems := Compile([]AddressPool{o}, config.Config{})
	if len(problems) > 0 || c.Pools[0].Layer2.Enabled {
		t.Errorf("layer 2 %+v, problems %v", c.Pools[0].Layer2, problems)
	}
}

// Compile finds all that the schema refuses, in the same field: an object may
// have been written under an older schema.
func TestCompileKnowsWhatTheSchemaKnows(t *testing.T) {
	raw, err := os.ReadFile("testdata/admission.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		Name    string          `json:"name"`
		Spec    json.RawMessage `json:"spec"`
		Refused []string        `json:"refused"`
		Problem []string        `json:"problem"`
	}
	if err := yaml.UnmarshalStrict(raw, &tests); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.Name, func(t *testing.T) {
			o := object("lan", 1)
			if err := yaml.UnmarshalStrict(tt.Spec, &o.Spec); err != nil {
				if len(tt.Refused) == 0 {
					t.Errorf("it cannot be read: %v", err)
				}
				return // nor could it be written
			}
			_, problems := Compile([]AddressPool{o}, config.Config{})
			bad := append(tt.Refused, tt.Problem...)
			switch {
			case len(bad) == 0 && len(problems) == 0:
			case len(bad) == 0:
				t.Errorf("problems %v of a good pool", problems)
			case len(problems) != 1:
				t.Errorf("problems %v, want one of %s", problems, bad[0])
			case !strings.HasPrefix(bad[0], problems[0].Field):
				t.Errorf("problem of field %s, want %s", problems[0].Field, bad[0])
			case len(tt.Problem) > 1 && !strings.Contains(problems[0].Detail, tt.Problem[1]):
				t.Errorf("problem %q, want %q", problems[0].Detail, tt.Problem[1])
			}
		})
	}
}

// In any order, objects compile to the same Config; its pools are disjoint and
// a good pool loses nothing to a bad one.
func TestOrderOfObjectsDoesNotMatter(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var last config.Config
	for round := range 500 {
		var pools []AddressPool
		for i := range rnd.IntN(6) {
			o := object(fmt.Sprintf("p%d", i), int64(rnd.IntN(3)))
			for range 1 + rnd.IntN(3) {
				first := rnd.IntN(64)
				o.Spec.Addresses = append(o.Spec.Addresses, AddressRange(fmt.Sprintf("192.0.2.%d-192.0.2.%d", first, first+rnd.IntN(16)-1)))
			}
			pools = append(pools, o)
		}
		original := slices.Clone(pools)
		got, problems := Compile(pools, last)
		if diff := cmp.Diff(original, pools); diff != "" {
			t.Fatalf("round %d: Compile edited its argument:\n%s", round, diff)
		}
		rnd.Shuffle(len(pools), func(i, j int) { pools[i], pools[j] = pools[j], pools[i] })
		again, problemsAgain := Compile(pools, last)
		if diff := cmp.Diff(summary(got, problems), summary(again, problemsAgain)); diff != "" {
			t.Fatalf("round %d: order matters:\n%s", round, diff)
		}
		checkUse(t, got, pools)
		last = got
	}
}

// checkUse checks that every address of a good pool is in use, in one pool.
func checkUse(t *testing.T, c config.Config, pools []AddressPool) {
	t.Helper()
	for n := range byte(80) {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, n})
		listed := slices.ContainsFunc(pools, func(o AddressPool) bool {
			p, problems := compilePool(&o)
			return len(problems) == 0 && p.Contains(addr)
		})
		users := 0
		for _, p := range c.Pools {
			if p.Contains(addr) {
				users++
			}
		}
		if users > 1 || listed && users == 0 {
			t.Fatalf("%s is in %d pools of %v", addr, users, summary(c, nil))
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("192.0.2.0/24", "192.0.2.1-192.0.2.5", "eth*", "team", "In", "rr", "Keep", int32(2), int64(time.Hour))
	f.Add("::/0", "0.0.0.0/0", "[", "a b", "Exists", "", "", int32(-1), int64(-1))
	f.Fuzz(func(t *testing.T, first, second, pattern, key, operator, scheduler, shrink string, quota int32, reuse int64) {
		a := object("a", 2, AddressRange(first), AddressRange(second))
		b := exclude(object("b", 1, AddressRange(second)), AddressRange(first))
		a.Spec.Announce = &Announce{Layer2: &Layer2{Interfaces: []InterfacePattern{InterfacePattern(pattern)}}}
		a.Spec.Scheduler = Scheduler(scheduler)
		b.Spec.NamespaceSelector = &Selector{metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: key, Operator: metav1.LabelSelectorOperator(operator), Values: []string{pattern}},
		}}}
		b.Spec.OnShrink, b.Spec.QuotaPerNamespace, b.Spec.ReuseAfter.Duration = OnShrink(shrink), quota, time.Duration(reuse)
		c, problems := Compile([]AddressPool{a, b}, config.Config{})
		for _, p := range c.Pools {
			if p.Quota < 0 || p.ReuseAfter < 0 || p.ReuseAfter > longestRest {
				t.Errorf("quota %d, rest %s is in use", p.Quota, p.ReuseAfter)
			}
		}
		for _, p := range problems {
			if p.Field == "" || p.Detail == "" {
				t.Errorf("problem without a word: %+v", p)
			}
		}
		again, _ := Compile([]AddressPool{b, a}, c)
		for _, p := range again.Pools {
			if _, err := labels.Parse(p.NamespaceSelector); err != nil {
				t.Errorf("selector %q cannot be read back: %v", p.NamespaceSelector, err)
			}
		}
	})
}

// Ten thousand ranges and excluded ranges, and all of both families, cost what
// they are, not what they span.
func TestManyRangesCompile(t *testing.T) {
	o := object("lan", 1, "0.0.0.0/0", "::/0")
	for i := range 10000 {
		o.Spec.Exclude = append(o.Spec.Exclude, AddressRange(fmt.Sprintf("10.%d.%d.%d", i/2500, i/10%250, i%10*20)))
	}
	c, problems := Compile([]AddressPool{o}, config.Config{})
	if len(problems) > 0 || len(c.Pools[0].Ranges) != 10002 || ipam.Count(c.Pools[0].Pool, ipam.IPv4) != 1<<32-10000 {
		t.Errorf("problems %v, %d ranges, %d addresses", problems, len(c.Pools[0].Ranges), ipam.Count(c.Pools[0].Pool, ipam.IPv4))
	}
}

// Every object survives the way to the API and back.
func TestRoundTrip(t *testing.T) {
	o := object("lan", 1, "192.0.2.1")
	o.Spec.ReuseAfter.Duration = 10 * time.Minute
	o.Status = AddressPoolStatus{
		IPv4:       &AddressCount{Total: 1, Free: 1},
		Resting:    []RestingAddress{{Address: "192.0.2.1", Service: "shop/web", Until: metav1.Unix(9, 0)}},
		Conditions: []metav1.Condition{{Type: ConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: metav1.Unix(1, 0)}},
	}
	raw, err := yaml.Marshal(o.DeepCopy())
	if err != nil {
		t.Fatal(err)
	}
	var got AddressPool
	if err := yaml.UnmarshalStrict(raw, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o, got); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}
	if bytes.Contains(raw, []byte("ipv6")) {
		t.Errorf("a pool without IPv6 shows it:\n%s", raw)
	}
}

// Ten thousand pools that all overlap cost little more than ten thousand that
// do not: nothing is compared with everything.
func BenchmarkCompile(b *testing.B) {
	for _, overlap := range []bool{false, true} {
		pools := make([]AddressPool, 10000)
		for i := range pools {
			last := fmt.Sprintf("10.%d.%d.9", i/250, i%250)
			if overlap {
				last = "10.255.255.255"
			}
			pools[i] = object(fmt.Sprintf("p%05d", i), 1, AddressRange(fmt.Sprintf("10.%d.%d.1-%s", i/250, i%250, last)))
		}
		b.Run(fmt.Sprintf("overlap=%v", overlap), func(b *testing.B) {
			for b.Loop() {
				Compile(pools, config.Config{})
			}
		})
	}
}
