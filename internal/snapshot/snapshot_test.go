package snapshot

import (
	"slices"
	"testing"

	"github.com/herald-lb/herald/config"
)

func TestSameView(t *testing.T) {
	s := Snapshot{
		Config:   config.Config{Pools: []config.Pool{{}}},
		Services: []Service{{Key: "ns/a"}}, Nodes: []Node{{Name: "n1"}}, Speakers: []Speaker{{Node: "n1"}}, Lost: []Speaker{{Node: "n2"}},
	}
	tests := []struct {
		name string
		edit func(*Snapshot)
		same bool
	}{
		{"taken again", func(*Snapshot) {}, true},
		{"what only a controller reads", func(s *Snapshot) { s.Reports = []Report{{}} }, true},
		{"who is lost, and is in another list", func(s *Snapshot) { s.Lost = slices.Clone(s.Lost) }, true},
		{"another is lost", func(s *Snapshot) { s.Lost = []Speaker{{Node: "n3"}} }, false},
		{"Services taken anew", func(s *Snapshot) { s.Services = slices.Clone(s.Services) }, false},
		{"a password that is the last one", func(s *Snapshot) { s.PasswordsKept = map[string]string{"r": "it is gone"} }, false},
		{"no Services", func(s *Snapshot) { s.Services = nil }, false},
		{"pools taken anew", func(s *Snapshot) { s.Config.Pools = slices.Clone(s.Config.Pools) }, false},
		{"nodes taken anew", func(s *Snapshot) { s.Nodes = slices.Clone(s.Nodes) }, false},
		{"speakers taken anew", func(s *Snapshot) { s.Speakers = slices.Clone(s.Speakers) }, false},
	}
	for _, tt := range tests {
		now := s
		tt.edit(&now)
		if got := s.SameView(now); got != tt.same || now.SameView(s) != tt.same {
			t.Errorf("%s: SameView() = %t, want %t", tt.name, got, tt.same)
		}
	}
}
