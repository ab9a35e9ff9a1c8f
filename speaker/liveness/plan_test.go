package liveness

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/bfd"
)

func TestInterval(t *testing.T) {
	for speakers, want := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 100 * time.Millisecond, 3: 100 * time.Millisecond, 87: 100 * time.Millisecond,
		88: 150 * time.Millisecond, 131: 150 * time.Millisecond, 132: 200 * time.Millisecond,
		250: 300 * time.Millisecond, 1000: 1150 * time.Millisecond,
	} {
		if got := Interval(speakers); got != want {
			t.Errorf("%d speakers: %v, want %v", speakers, got, want)
		}
	}
}

// However many speakers there are, none sends more than a thousand packets a
// second; and no faster than a failure has to be found, nor slower than it could.
func TestNobodySendsTooMuch(t *testing.T) {
	const least, step, much = 100 * time.Millisecond, 50 * time.Millisecond, 1000
	// BFD takes up to a quarter off each interval (RFC 5880 §6.8.7).
	rate := func(speakers int, interval time.Duration) float64 {
		return float64(speakers-1) / (interval - interval/8).Seconds()
	}
	for speakers := 2; speakers <= 2000; speakers++ {
		got := Interval(speakers)
		if got < least || got%step != 0 || got < Interval(speakers-1) {
			t.Fatalf("%d speakers: %v, after %v for one less", speakers, got, Interval(speakers-1))
		}
		if r := rate(speakers, got); r > much {
			t.Fatalf("%d speakers: each sends %.0f packets a second", speakers, r)
		}
		if less := got - step; less >= least && rate(speakers, less) < much-10 {
			t.Fatalf("%d speakers: %v, though %v would do", speakers, got, less)
		}
	}
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// three is a cluster of three nodes on one segment whose speakers speak BFD.
func three() snapshot.Snapshot {
	var s snapshot.Snapshot
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		s.Nodes = append(s.Nodes, snapshot.Node{Name: name, Internal: []netip.Addr{ip(fmt.Sprintf("192.0.2.%d", i+1))}})
		s.Speakers = append(s.Speakers, snapshot.Speaker{Node: name, BFD: true, Links: []snapshot.Link{
			{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", i+1))}},
		}})
	}
	return s
}

func TestPlan(t *testing.T) {
	const n2, n3 = "n2 192.0.2.1>192.0.2.2", "n3 192.0.2.1>192.0.2.3"
	tests := []struct {
		name string
		edit func(*snapshot.Snapshot)
		want []string
	}{
		{"one with each other, none with oneself", func(*snapshot.Snapshot) {}, []string{n2, n3}},
		{"also with one that is lost: it may come back", func(s *snapshot.Snapshot) {
			s.Speakers, s.Lost = s.Speakers[:2], s.Speakers[2:]
		}, []string{n2, n3}},
		{"none with one that does not speak BFD", func(s *snapshot.Snapshot) { s.Speakers[2].BFD = false }, []string{n2}},
		{"none with one whose Node is gone", func(s *snapshot.Snapshot) { s.Nodes = s.Nodes[:2] }, []string{n2}},
		{"none with one whose Lease is gone", func(s *snapshot.Snapshot) { s.Speakers = s.Speakers[:2] }, []string{n2}},
		{"none without a family in common", func(s *snapshot.Snapshot) { s.Nodes[2].Internal = []netip.Addr{ip("2001:db8::3")} }, []string{n2}},
		{"none without an address", func(s *snapshot.Snapshot) { s.Nodes[0].Internal = nil }, nil},
		{"by IPv4 where both have both", func(s *snapshot.Snapshot) {
			for i := range s.Nodes {
				s.Nodes[i].Internal = append([]netip.Addr{ip(fmt.Sprintf("2001:db8::%d", i+1))}, s.Nodes[i].Internal...)
			}
		}, []string{n2, n3}},
		{"by the first of several addresses", func(s *snapshot.Snapshot) {
			s.Nodes[1].Internal = append(s.Nodes[1].Internal, ip("192.0.2.99"))
		}, []string{n2, n3}},
		{"over routers where it is not near", func(s *snapshot.Snapshot) { s.Nodes[2].Internal[0] = ip("198.51.100.3") },
			[]string{n2, "n3 192.0.2.1>198.51.100.3 multihop"}},
		{"over routers where its links do not hold us", func(s *snapshot.Snapshot) { s.Speakers[2].Links = nil },
			[]string{n2, n3 + " multihop"}},
		{"over routers before anything is known of oneself", func(s *snapshot.Snapshot) { s.Speakers = s.Speakers[1:] },
			[]string{n2 + " multihop", n3 + " multihop"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := three()
			tt.edit(&s)
			var got []string
			for _, node := range slices.Sorted(maps.Keys(Plan(s, "n1"))) {
				p := Plan(s, "n1")[node]
				text := fmt.Sprintf("%s %s>%s", node, p.Local, p.Addr)
				if p.Multihop {
					text += " multihop"
				}
				got = append(got, text)
				if p.MinTx != Interval(3) && p.MinTx != Interval(2) || p.MinRx != p.MinTx || p.Multiplier != Multiplier {
					t.Errorf("session with %s: %+v", node, p)
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
		})
	}
}

// Whatever the cluster is like, both ends of a session come to the same: to its
// being there, to its addresses, and to its being one hop long, for else they send
// to different ports.
func TestBothEndsAgree(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	single, multi, none := 0, 0, 0
	for round := range 2000 {
		s := randomCluster(rnd)
		plans := map[string]map[string]bfd.Peer{}
		for _, n := range s.Nodes {
			plans[n.Name] = Plan(s, n.Name)
		}
		for _, a := range s.Nodes {
			if p, ok := plans[a.Name][a.Name]; ok {
				t.Fatalf("round %d: %s has a session with itself: %+v", round, a.Name, p)
			}
			for _, b := range s.Nodes {
				ours, here := plans[a.Name][b.Name]
				theirs, there := plans[b.Name][a.Name]
				if !speaksBFD(s, a.Name) || !speaksBFD(s, b.Name) || a.Name >= b.Name {
					continue
				}
				want := ours
				want.Addr, want.Local = ours.Local, ours.Addr
				if here != there || theirs != want {
					t.Fatalf("round %d: %s has %+v\n%s has %+v", round, a.Name, ours, b.Name, theirs)
				}
				switch {
				case !here:
					none++
				case ours.Multihop:
					multi++
				default:
					single++
					if !holds(s, a.Name, ours.Addr) || !holds(s, b.Name, ours.Local) {
						t.Fatalf("round %d: %s and %s are no neighbours, but have %+v", round, a.Name, b.Name, ours)
					}
				}
			}
		}
	}
	if single < 1000 || multi < 1000 || none < 1000 {
		t.Errorf("%d sessions of one hop, %d of several, %d times none: too few to mean anything", single, multi, none)
	}
}

func speakersOf(s snapshot.Snapshot, node string) []snapshot.Speaker {
	return slices.DeleteFunc(slices.Concat(s.Speakers, s.Lost), func(sp snapshot.Speaker) bool { return sp.Node != node })
}

func speaksBFD(s snapshot.Snapshot, node string) bool {
	return slices.ContainsFunc(speakersOf(s, node), func(sp snapshot.Speaker) bool { return sp.BFD })
}

// holds is whether addr is in a subnet of a link of node.
func holds(s snapshot.Snapshot, node string, addr netip.Addr) bool {
	for _, sp := range speakersOf(s, node) {
		for _, l := range sp.Links {
			for _, p := range l.Prefixes {
				if p.Masked().Contains(addr) {
					return true
				}
			}
		}
	}
	return false
}

// randomCluster has nodes with and without speakers, on one or two segments, of
// one family or both, and with subnets that need not be the same for all.
func randomCluster(rnd *rand.Rand) snapshot.Snapshot {
	var s snapshot.Snapshot
	for i := range 2 + rnd.IntN(5) {
		name, segment := fmt.Sprintf("n%d", i+1), rnd.IntN(2)
		v4, v6 := ip(fmt.Sprintf("10.0.%d.%d", segment, i+1)), ip(fmt.Sprintf("2001:db8:%d::%d", segment, i+1))
		node := snapshot.Node{Name: name}
		sp := snapshot.Speaker{Node: name, BFD: rnd.IntN(5) > 0}
		for _, addr := range []netip.Addr{v4, v6, v4.Next(), v6.Next()} {
			if rnd.IntN(2) == 0 {
				node.Internal = append(node.Internal, addr)
			}
			bits := addr.BitLen() - []int{0, 8, 8, 16}[rnd.IntN(4)]
			if rnd.IntN(4) > 0 {
				sp.Links = append(sp.Links, snapshot.Link{Name: "eth" + addr.String(), Prefixes: []netip.Prefix{netip.PrefixFrom(addr, bits)}})
			}
		}
		rnd.Shuffle(len(node.Internal), func(i, j int) {
			node.Internal[i], node.Internal[j] = node.Internal[j], node.Internal[i]
		})
		s.Nodes = append(s.Nodes, node)
		switch rnd.IntN(6) {
		case 0: // no speaker there
		case 1:
			s.Lost = append(s.Lost, sp)
		default:
			s.Speakers = append(s.Speakers, sp)
		}
	}
	return s
}
