package speaker

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/herald-lb/herald/internal/snapshot"
)

func TestHolders(t *testing.T) {
	svc := func(key, addr string, edit func(*snapshot.Service)) snapshot.Service {
		s := snapshot.Service{Key: key, Routed: true, Ingress: []snapshot.Ingress{{Addr: netip.MustParseAddr(addr)}},
			Endpoints: []snapshot.Endpoint{{Addr: netip.MustParseAddr("10.1.0.1"), Node: "n1", Ready: true}}}
		if edit != nil {
			edit(&s)
		}
		return s
	}
	for name, c := range map[string]struct {
		services []snapshot.Service
		edit     func(*snapshot.Snapshot)
		want     string // address: able; the node is one of them
	}{
		"any node serves it":                 {[]snapshot.Service{svc("a/web", "203.0.113.7", nil)}, nil, "203.0.113.7: n1 n2 n3"},
		"not one that is no machine":         {[]snapshot.Service{svc("a/web", "203.0.113.7", nil)}, func(s *snapshot.Snapshot) { s.Speakers[1].Node, s.Nodes[1].Name = "robot", "robot" }, "203.0.113.7: n1 n3"},
		"not one that cannot steer":          {[]snapshot.Service{svc("a/web", "203.0.113.7", nil)}, func(s *snapshot.Snapshot) { s.Speakers[0].DataPath = "" }, "203.0.113.7: n2 n3"},
		"not one that is excluded":           {[]snapshot.Service{svc("a/web", "203.0.113.7", nil)}, func(s *snapshot.Snapshot) { s.Nodes[0].Excluded = "a label" }, "203.0.113.7: n2 n3"},
		"not one whose speaker is lost":      {[]snapshot.Service{svc("a/web", "203.0.113.7", nil)}, func(s *snapshot.Snapshot) { s.Lost, s.Speakers = s.Speakers[:1], s.Speakers[1:] }, "203.0.113.7: n2 n3"},
		"one that is drained if it is alone": {[]snapshot.Service{svc("a/web", "203.0.113.7", nil)}, func(s *snapshot.Snapshot) { s.Nodes[0].Draining = true; s.Speakers = s.Speakers[:1] }, "203.0.113.7: n1"},
		"or else not":                        {[]snapshot.Service{svc("a/web", "203.0.113.7", nil)}, func(s *snapshot.Snapshot) { s.Nodes[0].Draining = true }, "203.0.113.7: n2 n3"},
		"of policy Local where endpoints are": {[]snapshot.Service{svc("a/web", "203.0.113.7", func(s *snapshot.Service) { s.Local = true })}, nil,
			"203.0.113.7: n1"},
		"nobody where there is none": {[]snapshot.Service{svc("a/web", "203.0.113.7", func(s *snapshot.Service) { s.Endpoints = nil })}, nil, ""},
		"two Services on one go together": {[]snapshot.Service{svc("a/api", "203.0.113.7", func(s *snapshot.Service) { s.Local = true }), svc("a/web", "203.0.113.7", nil)}, nil,
			"203.0.113.7: n1"},
		"not what Herald itself has assigned": {[]snapshot.Service{svc("a/web", "203.0.113.7", func(s *snapshot.Service) { s.Routed, s.Served, s.Ours = false, true, true })}, nil, ""},
		"not what is closed":                  {[]snapshot.Service{svc("a/web", "203.0.113.7", func(s *snapshot.Service) { s.Closed = true })}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot.Snapshot{Services: c.services}
			for i := range 3 {
				n := fmt.Sprintf("n%d", i+1)
				s.Nodes, s.Speakers = append(s.Nodes, snapshot.Node{Name: n}), append(s.Speakers, snapshot.Speaker{Node: n, DataPath: "nft"})
			}
			if c.edit != nil {
				c.edit(&s)
			}
			var lines []string
			for addr, h := range Holders(s, func(n string) bool { return n != "robot" }) {
				if !slices.Contains(h.Able, h.Node) {
					t.Errorf("%s is at %s, which is none of %v", addr, h.Node, h.Able)
				}
				lines = append(lines, fmt.Sprintf("%s: %s", addr, strings.Join(h.Able, " ")))
			}
			if got := strings.Join(lines, "\n"); got != c.want {
				t.Errorf("Holders() = %q, want %q", got, c.want)
			}
		})
	}
}

// However nodes come and go, an address moves only from one that is gone, or to one that has
// come; and where there are many, none has more than a quarter above its share.
func TestHoldersProperties(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := snapshot.Snapshot{}
		for i := range 1 + r.IntN(200) {
			addr := netip.AddrFrom4([4]byte{203, 0, byte(r.IntN(256)), byte(i)})
			s.Services = append(s.Services, snapshot.Service{Key: fmt.Sprintf("a/%03d", i), Routed: true, Ingress: []snapshot.Ingress{{Addr: addr}},
				Endpoints: []snapshot.Endpoint{{Addr: netip.MustParseAddr("10.1.0.1"), Node: "n1", Ready: true}}})
		}
		nodes := 2 + r.IntN(9)
		for i := range nodes {
			n := fmt.Sprintf("n%02d", i)
			s.Nodes, s.Speakers = append(s.Nodes, snapshot.Node{Name: n}), append(s.Speakers, snapshot.Speaker{Node: n, DataPath: "nft"})
		}
		all := func(string) bool { return true }
		before := Holders(s, all)
		load := map[string]int{}
		for _, h := range before {
			load[h.Node]++
		}
		if most := max(loadFew, (5*len(before)+4*nodes-1)/(4*nodes)); slices.Max(slices.Collect(maps.Values(load))) > most {
			t.Errorf("seed %d: %v, of which none should have more than %d", seed, load, most)
		}
		gone := s.Speakers[r.IntN(nodes)].Node
		s.Speakers = slices.DeleteFunc(slices.Clone(s.Speakers), func(sp snapshot.Speaker) bool { return sp.Node == gone })
		for addr, h := range Holders(s, all) {
			if h.Node == gone {
				t.Errorf("seed %d: %s is at %s, which is gone", seed, addr, gone)
			}
			if len(before) <= loadFew && before[addr].Node != gone && h.Node != before[addr].Node {
				t.Errorf("seed %d: %s has moved from %s to %s, and %s has gone", seed, addr, before[addr].Node, h.Node, gone)
			}
		}
	}
}
