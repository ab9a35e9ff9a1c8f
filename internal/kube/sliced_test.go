package kube

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// The index holds what a plain list of all slices would be searched for.
func TestTheIndexFollowsTheSlices(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var x sliceIndex
	there := map[string]*sliced{} // by name
	for range 2000 {
		name := fmt.Sprintf("slice-%d", r.IntN(12))
		was := there[name]
		var now *sliced
		if r.IntN(3) > 0 {
			now = &sliced{ObjectMeta: metav1.ObjectMeta{Name: name}, service: []string{"", "ns/a", "ns/b", "ns/c"}[r.IntN(4)]}
		}
		x.change(was, now)
		if delete(there, name); now != nil {
			there[name] = now
		}
		for _, service := range []string{"ns/a", "ns/b", "ns/c"} {
			want := 0
			got := x.of(service)
			for _, s := range there {
				if s.service == service {
					want++
					if !slices.Contains(got, s) {
						t.Fatalf("%s of %s is not found", s.Name, service)
					}
				}
			}
			if len(got) != want {
				t.Fatalf("%d slices of %s are found, want %d", len(got), service, want)
			}
		}
	}
	if len(x.of("")) > 0 {
		t.Error("slices of no Service are kept")
	}
}

// The watch may have missed the end of an object, and then says what it was.
func TestASliceThatWasMissedIsTheSame(t *testing.T) {
	s := &sliced{service: "ns/a"}
	if asSliced(cache.DeletedFinalStateUnknown{Key: "ns/x", Obj: s}) != s || asSliced(s) != s || asSliced(nil) != nil || asSliced("else") != nil {
		t.Error("asSliced() takes one thing for another")
	}
}
