package kube

import (
	"slices"

	"github.com/herald-lb/herald/internal/snapshot"
)

// A shelf keeps converted Services in the order of their keys. It is not safe
// for concurrent use; the zero value is empty.
type shelf struct {
	byKey  map[string]snapshot.Service
	keys   []string // of byKey, and of what has been dropped since they were sorted
	sorted bool
	puts   uint64             // how often anything was put: the revision of what was last
	listed []snapshot.Service // as last returned; nil if anything has changed since
}

func (s *shelf) put(svc snapshot.Service) {
	if s.byKey == nil {
		s.byKey = map[string]snapshot.Service{}
	}
	if _, known := s.byKey[svc.Key]; !known {
		s.keys, s.sorted = append(s.keys, svc.Key), false
	}
	s.puts++
	svc.Revision = s.puts
	s.byKey[svc.Key], s.listed = svc, nil
}

func (s *shelf) drop(key string) {
	if _, known := s.byKey[key]; known {
		delete(s.byKey, key)
		s.sorted, s.listed = false, nil
	}
}

// list returns all Services by Key. What it has returned is never edited.
func (s *shelf) list() []snapshot.Service {
	if !s.sorted {
		s.keys = slices.DeleteFunc(s.keys, func(key string) bool { _, ok := s.byKey[key]; return !ok })
		slices.Sort(s.keys)
		s.keys, s.sorted = slices.Compact(s.keys), true
	}
	if s.listed == nil {
		s.listed = make([]snapshot.Service, 0, len(s.keys))
		for _, key := range s.keys {
			s.listed = append(s.listed, s.byKey[key])
		}
	}
	return s.listed
}
