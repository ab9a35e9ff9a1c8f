package bgp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/herald-lb/herald/speaker"
)

// refused is what is wrong with a session whose routes were others.
func refused(had []speaker.Route, w speaker.Session) error {
	was := w
	was.Routes = had
	_, bad := valid(speaker.Routing{Sessions: []speaker.Session{w}}, map[string]speaker.Session{w.Name: was})
	return bad[w.Name]
}

// routes are those to some prefixes; "!" stands for another thing that is said.
func routes(text string) (all []speaker.Route) {
	for p := range strings.FieldsSeq(text) {
		r := speaker.Route{}
		if p, other := strings.CutSuffix(p, "!"); p != "none" {
			r.Prefix = prefix("203.0.113." + p)
			if other {
				r.MED = number(7)
			}
		}
		all = append(all, r)
	}
	return all
}

func TestStep(t *testing.T) {
	tests := []struct {
		name          string
		from, to      string
		was, now, err string
	}{
		{name: "nothing to nothing"},
		{"all is new", "", "1/32 2/32", "", "1/32 2/32", ""},
		{"all goes", "1/32 2/32", "", "1/32 2/32", "", ""},
		{"nothing changes", "1/32 2/32", "1/32 2/32", "", "", ""},
		{"one goes", "1/32 2/32 3/32", "1/32 3/32", "2/32", "", ""},
		{"one comes", "1/32 3/32", "1/32 2/32 3/32", "", "2/32", ""},
		{"one is said otherwise", "1/32 2/32 3/32", "1/32 2/32! 3/32", "2/32", "2/32!", ""},
		{"the last one is exchanged", "1/32 2/32", "1/32 3/32", "2/32", "3/32", ""},
		{"by length where the address is one", "8/30", "8/29 8/30 8/32", "", "8/29 8/32", ""},
		{"in another order", "1/32 2/32 3/32", "3/32 1/32 2/32", "", "", ""},
		{"in another order, with others", "1/32 2/32 3/32", "4/32 3/32 1/32", "2/32", "4/32", ""},
		{"what is new is no prefix", "1/32", "1/32 2/24", "", "2/24", "203.0.113.2/24 is no prefix"},
		{"nor is what is nothing", "1/32", "none 1/32", "", "none", "invalid Prefix is no prefix"},
		{"twice, and both new", "1/32", "1/32 2/32 2/32", "", "2/32 2/32", "203.0.113.2/32 is there twice"},
		{"twice, and one known", "1/32 2/32", "1/32 2/32 2/32", "", "2/32", "203.0.113.2/32 is there twice"},
		{"twice, and the second known", "1/32", "1/32! 1/32", "1/32", "1/32 1/32!", "203.0.113.1/32 is there twice"},
		{"twice, and far from each other", "1/32 2/32 3/32", "1/32 2/32 3/32 1/32", "", "1/32", "203.0.113.1/32 is there twice"},
		{"twice, and known before what is out of order", "2/32", "2/32 1/32 2/32", "", "1/32 2/32", "203.0.113.2/32 is there twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := new(steps).between(routes(tt.from), routes(tt.to))
			if !sameWords(s.was, routes(tt.was)) || !sameWords(s.now, routes(tt.now)) && tt.err == "" {
				t.Errorf("%v were, and %v are now", s.was, s.now)
			}
			if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
				t.Errorf("err %v, want %q", err, tt.err)
			}
		})
	}
}

func sameWords(a, b []speaker.Route) bool {
	return slices.EqualFunc(a, b, func(a, b speaker.Route) bool { return sameRoute(&a, &b) })
}

// A step leads to the same changes as all routes do, and to the same complaints,
// whatever the order of those that are wanted, and however often they are. Of lists
// by prefix nothing is returned that does not differ.
func TestStepIsAllThatDiffers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	hops := nextHops{ipv4: ip("192.0.2.1"), ipv6: ip("2001:db8::1")}
	for round := range 3000 {
		had, want := randomRoutes(rnd), randomRoutes(rnd)
		kind := round % 3
		if kind > 0 {
			rnd.Shuffle(len(want), func(i, j int) { want[i], want[j] = want[j], want[i] })
		}
		if kind > 1 && len(want) > 0 {
			want = append(want, want[rnd.IntN(len(want))])
		}
		before := fmt.Sprint(want)
		s, err := new(steps).between(had, want)
		if fmt.Sprint(want) != before {
			t.Fatal("it has changed what it was given")
		}
		if twice := kind > 1 && len(want) > 0; (err != nil) != twice || s.ordered == twice {
			t.Fatalf("from %v to %v: %v, ordered %t", had, want, err, s.ordered)
		}
		told := tableOf(had, hops, true)
		c := core{told: told}
		got, all := diff(c.of(s.was, s.now), tableOf(s.now, hops, true)), diff(told, tableOf(want, hops, true))
		if err == nil && !slices.Equal(got, all) {
			t.Fatalf("from %v to %v: %v, want %v", had, want, got, all)
		}
		if most := len(all); err == nil && (len(s.was) > most || len(s.now) > most) {
			t.Fatalf("from %v to %v: %d and %d differ, of %d changes", had, want, len(s.was), len(s.now), most)
		}
	}
}

// Sessions that have all routes in common are looked at once; what one of them
// had before may be another thing.
func TestStepsAreShared(t *testing.T) {
	before, other, after := routes("1/32 2/32"), routes("1/32 2/32"), routes("1/32")
	all := steps{}
	for i, tt := range []struct {
		from, to []speaker.Route
		steps    int
	}{{before, after, 1}, {before, after, 1}, {other, after, 2}, {nil, after, 3}, {before, before[:1], 4}, {before, after, 4}} {
		s, err := all.between(tt.from, tt.to)
		if err != nil || !s.leads(tt.from, tt.to) || len(all) != tt.steps {
			t.Errorf("step %d: %v, %d steps", i+1, err, len(all))
		}
	}
}

// What is wrong with routes that sessions have in common is wrong with each.
func TestWrongRoutesAreWrongForAll(t *testing.T) {
	a, b, c := base("a", "192.0.2.1"), base("b", "192.0.2.2"), base("c", "192.0.2.3")
	a.Routes = routes("1/32 1/32")
	b.Routes, c.Routes = a.Routes, routes("1/32")
	good, bad := valid(speaker.Routing{Sessions: []speaker.Session{a, b, c}}, nil)
	if len(good) != 1 || len(bad) != 2 {
		t.Errorf("good %v, bad %v", good, bad)
	}
}
