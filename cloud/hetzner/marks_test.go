package hetzner

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/herald-lb/herald/cloud"
)

func asError(err error, e **cloud.Error) bool { return errors.As(err, e) }

// What marks say, labels keep: any number of ports and targets (O1).
func TestMarksAreKept(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		m := marks{owner: owner, title: "a", adopted: rnd.IntN(2) == 0}
		for range rnd.IntN(60) {
			m.ports = append(m.ports, 1+rnd.IntN(65535))
		}
		slices.Sort(m.ports)
		m.ports = slices.Compact(m.ports)
		for range rnd.IntN(150) {
			m.targets = append(m.targets, target{server: rnd.Int64N(1 << 40)}.key())
		}
		slices.Sort(m.targets)
		labels := m.labels()
		for key, value := range labels {
			if !validValue.MatchString(value) || len(value) > longestValue || value == "" {
				t.Fatalf("label %s=%q", key, value)
			}
		}
		got := marksOf(labels)
		if !m.adopted {
			m.targets = nil
		}
		if got.owner != m.owner || got.adopted != m.adopted || !slices.Equal(got.ports, m.ports) || !slices.Equal(got.targets, m.targets) {
			t.Fatalf("wrote %+v, read %+v", m, got)
		}
	}
}

func TestLabelValue(t *testing.T) {
	long := strings.Repeat("long-", 20)
	values := map[string]bool{}
	for _, s := range []string{"a", "A.b_c-9", "", "-a", "a.", "größer", "ü", long, long + "x", "front door", "/"} {
		v := labelValue(s)
		if len(v) > longestValue || !validValue.MatchString(v) {
			t.Errorf("%q becomes %q, which is no value", s, v)
		}
		if values[v] {
			t.Errorf("%q becomes %q, as something else does", s, v)
		}
		values[v] = true
		if again := labelValue(v); again != v {
			t.Errorf("%q becomes %q", v, again)
		}
	}
}

func TestPortsOfReadsWhatPeopleWrite(t *testing.T) {
	for text, want := range map[string][]int{"80": {80}, "80-82.443": {80, 81, 82, 443}, "x.80": {80}, "": nil, "0": nil, "9-1": nil, "1-70000": nil} {
		if got := portsOf(strings.Split(text, ".")); !slices.Equal(got, want) {
			t.Errorf("%q is %v, want %v", text, got, want)
		}
	}
}

func TestMarksOfPartAreNobodys(t *testing.T) {
	if o := ownerOf(map[string]string{labelCluster: "c1"}); o != (cloud.Owner{}) {
		t.Errorf("labels of a cluster alone belong to %v", o)
	}
	if labels := (marks{ports: []int{80}}).labels(); len(labels) != 0 {
		t.Errorf("nobody's marks are %v", labels)
	}
}
