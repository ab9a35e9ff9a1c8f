package kube

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/herald-lb/herald/internal/snapshot"
)

func TestAShelfListsWhatWasPutLastInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var s shelf
		want := map[string]bool{}
		var handed [][]snapshot.Service
		var copies [][]snapshot.Service
		for range 40 {
			for range r.IntN(4) {
				key := fmt.Sprintf("ns/%02d", r.IntN(20))
				if r.IntN(3) == 0 {
					s.drop(key)
					delete(want, key)
				} else {
					s.put(snapshot.Service{Key: key})
					want[key] = true
				}
			}
			got := s.list()
			var keys []string
			for _, svc := range got {
				keys = append(keys, svc.Key)
			}
			if !slices.Equal(keys, slices.Sorted(maps.Keys(want))) {
				t.Fatalf("list() = %v, want %v", keys, slices.Sorted(maps.Keys(want)))
			}
			if again := s.list(); len(got) > 0 && &again[0] != &got[0] {
				t.Fatal("list() makes a new slice though nothing has changed")
			}
			handed, copies = append(handed, got), append(copies, slices.Clone(got))
		}
		for i := range handed {
			if !slices.EqualFunc(handed[i], copies[i], func(a, b snapshot.Service) bool { return a.Key == b.Key && a.Revision == b.Revision }) {
				t.Fatal("what list() has returned is edited")
			}
		}
	}
}

func TestAServicePutAnewHasAnotherRevision(t *testing.T) {
	var s shelf
	s.put(snapshot.Service{Key: "ns/a"})
	s.put(snapshot.Service{Key: "ns/b"})
	first := s.list()
	s.put(snapshot.Service{Key: "ns/b"})
	second := s.list()
	if first[0].Revision != second[0].Revision || first[1].Revision == second[1].Revision {
		t.Errorf("revisions %d %d, then %d %d", first[0].Revision, first[1].Revision, second[0].Revision, second[1].Revision)
	}
	s.drop("ns/none")
	if again := s.list(); &again[0] != &second[0] {
		t.Error("dropping what is not there makes a new slice")
	}
}

func BenchmarkShelf(b *testing.B) {
	var s shelf
	for i := range 10000 {
		s.put(snapshot.Service{Key: fmt.Sprintf("ns/%05d", i)})
	}
	s.list()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.put(snapshot.Service{Key: fmt.Sprintf("ns/%05d", i%10000)})
		s.list()
	}
}
