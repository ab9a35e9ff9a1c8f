package controller

import (
	"slices"
	"testing"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
)

// When Herald releases a Service, the controller of its new class may have
// written a status already.
func TestAReleaseTakesAwayOnlyWhatIsHeralds(t *testing.T) {
	theirs := []snapshot.Ingress{{Addr: ip("192.0.2.10")}}
	tests := []struct {
		name    string
		edit    func(*snapshot.Service)
		leave   bool
		ingress []snapshot.Ingress
		event   string
	}{
		{"Herald's address goes", func(*snapshot.Service) {}, false, nil, "released 192.0.2.1"},
		{"also if no pool covers it", has("198.51.100.1"), false, nil, "released 198.51.100.1"},
		{"one of two is enough to know the status for Herald's", func(s *snapshot.Service) { s.Ingress = append(s.Ingress, theirs...) },
			false, nil, "released 192.0.2.1, 192.0.2.10"},
		{"what the API server has cleared is no more", func(s *snapshot.Service) { s.Ingress = nil }, false, nil, "released its address"},
		{"another address stays", func(s *snapshot.Service) { s.Ingress = theirs }, true, theirs, "released its address"},
		{"a host name stays", func(s *snapshot.Service) { s.Ingress, s.Named = nil, true }, true, nil, "released its address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := svc("ns/a", 1, has("192.0.2.1"), func(s *snapshot.Service) { s.Served = false }, tt.edit)
			got := plan(cluster([]config.Pool{lan()}, s)).Services
			if len(got) != 1 || len(got[0].Conditions) > 0 || len(got[0].Events) != 1 {
				t.Fatalf("wrote %+v, want the mark taken away, and one event", got)
			}
			if w := got[0]; w.Leave != tt.leave || !slices.Equal(w.Ingress, tt.ingress) || w.Events[0].Message != tt.event {
				t.Errorf("wrote %+v, want leave %t, %v, event %q", w, tt.leave, tt.ingress, tt.event)
			}
		})
	}
}
