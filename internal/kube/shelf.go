package kube

import (
	"maps"
	"slices"
	"strings"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A shelf keeps converted Services in the order of their keys. It is not safe
// for concurrent use; the zero value is empty.
type shelf struct {
	all   []snapshot.Service           // by Key, as last returned: never edited
	fresh map[string]*snapshot.Service // what was put since, and nil for what was dropped, by Key
	puts  uint64                       // how often anything was put: the revision of what was last
}

func (s *shelf) put(svc snapshot.Service) {
	s.puts++
	svc.Revision = s.puts
	s.change(svc.Key, &svc)
}

func (s *shelf) drop(key string) { s.change(key, nil) }

func (s *shelf) change(key string, to *snapshot.Service) {
	if s.fresh == nil {
		s.fresh = map[string]*snapshot.Service{}
	}
	s.fresh[key] = to
}

// list returns all Services by Key, and the same slice as long as nothing has
// changed. What it has returned is never edited.
func (s *shelf) list() []snapshot.Service {
	maps.DeleteFunc(s.fresh, func(key string, svc *snapshot.Service) bool {
		_, known := find(s.all, key)
		return svc == nil && !known
	})
	if len(s.fresh) == 0 {
		return s.all
	}
	next, old := make([]snapshot.Service, 0, len(s.all)+len(s.fresh)), s.all
	for _, key := range slices.Sorted(maps.Keys(s.fresh)) {
		i, known := find(old, key)
		next, old = append(next, old[:i]...), old[i:]
		if known {
			old = old[1:]
		}
		if svc := s.fresh[key]; svc != nil {
			next = append(next, *svc)
		}
	}
	s.all, s.fresh = append(next, old...), nil
	return s.all
}

// find returns where the Service of key is, or would be.
func find(all []snapshot.Service, key string) (int, bool) {
	return slices.BinarySearchFunc(all, key, func(s snapshot.Service, key string) int { return strings.Compare(s.Key, key) })
}
