package kube

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/snapshot"
)

// meet is what the BFD session with a node says from now on.
func (s *peersStory) meet(node string, c snapshot.Contact) {
	next := map[string]snapshot.Contact{node: c}
	for n, was := range s.p.contacts {
		if n != node {
			next[n] = was
		}
	}
	s.p.meet(next, s.now)
	s.p.judge(s.now)
}

// judged is a judgement in words: who is alive, and behind a stroke who is lost.
func (s *peersStory) judged() string {
	words := func(speakers []snapshot.Speaker) string {
		var names []string
		for _, sp := range speakers {
			name := sp.Node
			if sp.Leaving {
				name += "(leaving)"
			}
			if sp.Stale {
				name += "(stale)"
			}
			if sp.Deaf {
				name += "(deaf)"
			}
			if sp.Unheard {
				name += "(unheard)"
			}
			names = append(names, name)
		}
		return strings.Join(names, " ")
	}
	j := s.p.judge(s.now)
	return words(j.alive) + " | " + words(j.lost)
}

// A Lease is silent for three seconds before its speaker is lost. What a BFD
// session says counts for more; where there never was one, the Lease does.
func TestWhatASessionSaysCounts(t *testing.T) {
	const reached, lost, left, untried, deaf = snapshot.Reached, snapshot.Lost, snapshot.Left, snapshot.Untried, snapshot.Deaf
	tests := []struct {
		name string
		play func(*peersStory)
		want string
	}{
		{"who is reached is alive though his Lease is silent", func(s *peersStory) { s.meet("n2", reached); s.pass(10, "n1") }, "n1 n2 | "},
		{"for however long", func(s *peersStory) { s.meet("n2", reached); s.pass(100, "n1") }, "n1 n2 | "},
		{"also who was lost by his Lease", func(s *peersStory) { s.pass(5, "n1"); s.meet("n2", reached) }, "n1 n2 | "},
		{"who is lost is so at once, though his Lease is fresh", func(s *peersStory) { s.meet("n2", lost) }, "n1 | n2"},
		{"for as long as nothing else is heard", func(s *peersStory) { s.meet("n2", lost); s.pass(9, "n1", "n2") }, "n1 | n2"},
		{"and not any more once he is reached", func(s *peersStory) { s.meet("n2", lost); s.pass(9, "n1"); s.meet("n2", reached) }, "n1 n2 | "},
		{"who is lost is stale by his Lease alone", func(s *peersStory) { s.meet("n2", lost); s.pass(62, "n1") }, "n1 | n2"},
		{"a minute after its end", func(s *peersStory) { s.meet("n2", lost); s.pass(63, "n1") }, "n1 | n2(stale)"},
		{"and never while he renews it", func(s *peersStory) { s.meet("n2", lost); s.pass(100, "n1", "n2") }, "n1 | n2"},
		{"whose Lease is deleted is neither, if he was lost", func(s *peersStory) { s.meet("n2", lost); s.p.forget("herald-speaker-n2") }, "n1 | "},
		{"nor if he is reached: nothing is known of him", func(s *peersStory) { s.meet("n2", reached); s.p.forget("herald-speaker-n2") }, "n1 | "},

		{"who has left is alive still, and leaves", func(s *peersStory) { s.meet("n2", left) }, "n1 n2(leaving) | "},
		{"not who said so before he was lost: he may have died with it", func(s *peersStory) { s.hears("n2", "n1"); s.after(time.Millisecond); s.meet("n2", lost) }, "n1 | n2"},
		{"nor while his Lease is not renewed", func(s *peersStory) {
			s.hears("n2", "n1")
			s.after(time.Millisecond)
			s.meet("n2", lost)
			s.pass(2, "n1")
		}, "n1 | n2"},
		{"for as long as his Lease", func(s *peersStory) { s.meet("n2", left); s.pass(2, "n1") }, "n1 n2(leaving) | "},
		{"and is lost then, but not missed", func(s *peersStory) { s.meet("n2", left); s.pass(3, "n1") }, "n1 | n2(leaving)"},
		{"until he is reached", func(s *peersStory) { s.meet("n2", left); s.pass(3, "n1"); s.meet("n2", reached) }, "n1 n2 | "},
		{"and stale like any other", func(s *peersStory) { s.meet("n2", left); s.pass(63, "n1") }, "n1 | n2(leaving)(stale)"},
		{"who says on his Lease that he goes leaves, though he is reached", func(s *peersStory) { s.meet("n2", reached); s.leave("n2") }, "n1 n2(leaving) | "},
		{"and is not missed if he is lost then", func(s *peersStory) { s.meet("n2", reached); s.leave("n2"); s.meet("n2", lost) }, "n1 | n2(leaving)"},

		{"who was never tried is alive by his Lease", func(s *peersStory) { s.meet("n2", untried); s.pass(2, "n1") }, "n1 n2 | "},
		{"and lost by it", func(s *peersStory) { s.meet("n2", untried); s.pass(3, "n1") }, "n1 | n2"},
		{"so is whose session is made anew", func(s *peersStory) { s.meet("n2", reached); s.pass(3, "n1"); s.meet("n2", untried) }, "n1 | n2"},
		{"it may be the end of being lost", func(s *peersStory) { s.meet("n2", lost); s.pass(1, "n1", "n2"); s.meet("n2", untried) }, "n1 n2 | "},
		{"what one says is nothing about another", func(s *peersStory) {
			s.renew("n3", "n4")
			s.meet("n2", reached)
			s.meet("n3", lost)
			s.pass(2, "n1")
		}, "n1 n2 n4 | n3"},

		{"who is deaf is alive though his Lease is silent", func(s *peersStory) { s.meet("n2", deaf); s.pass(10, "n1") }, "n1 n2(deaf) | "},
		{"until he hears us", func(s *peersStory) { s.meet("n2", deaf); s.meet("n2", reached) }, "n1 n2 | "},
		{"or is lost", func(s *peersStory) { s.meet("n2", deaf); s.meet("n2", lost) }, "n1 | n2"},
		{"or goes", func(s *peersStory) { s.meet("n2", deaf); s.leave("n2") }, "n1 n2(leaving)(deaf) | "},
		{"who is lost and says that he hears us is alive: we are deaf", func(s *peersStory) { s.meet("n2", lost); s.hears("n2", "n0", "n1") }, "n1 n2(unheard) | "},
		{"for as long as his Lease", func(s *peersStory) { s.meet("n2", lost); s.hears("n2", "n1"); s.pass(2, "n1") }, "n1 n2(unheard) | "},
		{"and is lost with it", func(s *peersStory) { s.meet("n2", lost); s.hears("n2", "n1"); s.pass(3, "n1") }, "n1 | n2(unheard)"},
		{"or when he says so no more", func(s *peersStory) { s.meet("n2", lost); s.hears("n2", "n1"); s.renew("n2") }, "n1 | n2"},
		{"that he hears another says nothing", func(s *peersStory) { s.meet("n2", lost); s.hears("n2", "n3") }, "n1 | n2"},
		{"who was never tried and says that he hears us is not heard", func(s *peersStory) { s.hears("n2", "n1") }, "n1 n2(unheard) | "},
		{"who is reached is heard, whatever he says", func(s *peersStory) { s.meet("n2", reached); s.hears("n2", "n1") }, "n1 n2 | "},
		{"before the first judgement nothing counts", func(s *peersStory) {
			*s = *story(s.t)
			s.renew("n2", "n3")
			s.meet("n2", reached)
			s.meet("n3", lost)
		}, " | n2(leaving) n3(leaving)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := story(t)
			s.renew("n1", "n2")
			s.judged()
			tt.play(s)
			if got := s.judged(); got != tt.want {
				t.Errorf("judged %q, want %q", got, tt.want)
			}
		})
	}
}

// Who does not see his own Lease being renewed is cut off from the API. Sessions
// do not need it.
func TestWhatASessionSaysCountsWithoutTheAPI(t *testing.T) {
	const reached, lost, left, untried = snapshot.Reached, snapshot.Lost, snapshot.Left, snapshot.Untried
	tests := []struct {
		name string
		play func(*peersStory) // while n3 is lost already
		want string
	}{
		{"without a session nobody is judged", func(*peersStory) {}, "n1 n2 n4 | n3"},
		{"who is lost moves", func(s *peersStory) { s.meet("n2", lost) }, "n1 n4 | n2 n3"},
		{"and stays so for however long", func(s *peersStory) { s.meet("n2", lost); s.pass(100) }, "n1 n4 | n2 n3"},
		{"until he is reached", func(s *peersStory) { s.meet("n2", lost); s.pass(5); s.meet("n2", reached) }, "n1 n2 n4 | n3"},
		{"and may be lost again", func(s *peersStory) { s.meet("n2", lost); s.meet("n2", reached); s.meet("n2", lost) }, "n1 n4 | n2 n3"},
		{"who was lost before comes back when he is reached", func(s *peersStory) { s.meet("n3", reached) }, "n1 n2 n3 n4 | "},
		{"who stays reached stays alive", func(s *peersStory) { s.meet("n2", reached); s.pass(100) }, "n1 n2 n4 | n3"},
		{"whose session is made anew stays as he was last judged, lost", func(s *peersStory) { s.meet("n2", lost); s.meet("n2", untried) }, "n1 n4 | n2 n3"},
		{"or alive", func(s *peersStory) { s.meet("n3", reached); s.meet("n3", untried) }, "n1 n2 n3 n4 | "},
		{"who has left leaves", func(s *peersStory) { s.meet("n2", left); s.pass(5) }, "n1 n2(leaving) n4 | n3"},
		{"and is back when he is reached", func(s *peersStory) { s.meet("n2", left); s.meet("n2", reached) }, "n1 n2 n4 | n3"},
		{"who was lost may be found to have left", func(s *peersStory) { s.meet("n3", left) }, "n1 n2 n4 | n3(leaving)"},

		{"who is deaf is alive", func(s *peersStory) { s.meet("n3", snapshot.Deaf); s.pass(100) }, "n1 n2 n3(deaf) n4 | "},
		{"and who hears us, and was lost, was heard to say so too long ago", func(s *peersStory) { s.hears("n2", "n1"); s.meet("n2", lost) }, "n1 n4 | n2 n3"},

		{"back at the API: who is lost stays so", func(s *peersStory) { s.meet("n2", lost); s.pass(5); s.pass(1, "n1", "n4") }, "n1 n4 | n2 n3"},
		{"who is reached stays alive", func(s *peersStory) { s.meet("n3", reached); s.pass(5); s.pass(9, "n1", "n4") }, "n1 n3 n4 | n2"},
		{"others have the time of a Lease", func(s *peersStory) { s.meet("n2", lost); s.pass(5); s.pass(2, "n1") }, "n1 n4 | n2 n3"},
		{"and no more", func(s *peersStory) { s.meet("n2", lost); s.pass(5); s.pass(4, "n1") }, "n1 | n2 n3 n4"},
		{"but not who was lost meanwhile, whatever his session is then", func(s *peersStory) {
			s.meet("n2", lost)
			s.pass(5)
			s.meet("n2", untried)
			s.pass(1, "n1", "n4")
		}, "n1 n4 | n2 n3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := story(t)
			s.renew("n1", "n2", "n3", "n4")
			s.pass(3, "n1", "n2", "n4")
			s.pass(2) // the API is gone
			if got := s.judged(); got != "n1 n2 n4 | n3" || s.p.fresh {
				t.Fatalf("at first judged %q, in touch with the API: %t", got, s.p.fresh)
			}
			tt.play(s)
			if got := s.judged(); got != tt.want {
				t.Errorf("judged %q, want %q", got, tt.want)
			}
		})
	}
}

// Whatever sessions and Leases say and in whatever order: nobody is both alive and
// lost, each list is sorted, and who is reached is alive, who is lost is lost.
func TestJudgementsAreConsistent(t *testing.T) {
	for seed := range uint64(50) {
		s, rnd := story(t), rand.New(rand.NewPCG(seed, 1))
		for step := range 300 {
			node := []string{"n1", "n2", "n3", "n4"}[rnd.IntN(4)]
			switch rnd.IntN(7) {
			case 6:
				s.hears(node, "n1")
			case 0, 1:
				s.renew(node)
			case 2:
				s.leave(node)
			case 3:
				if node != "n1" {
					s.meet(node, snapshot.Contact(rnd.IntN(5)))
				}
			case 4:
				s.after(time.Duration(rnd.IntN(4000)) * time.Millisecond)
			case 5:
				if rnd.IntN(10) == 0 {
					s.p.forget("herald-speaker-" + node)
				}
			}
			j := s.p.judge(s.now)
			for _, list := range [][]snapshot.Speaker{j.alive, j.lost} {
				if !slices.IsSortedFunc(list, func(a, b snapshot.Speaker) int { return strings.Compare(a.Node, b.Node) }) {
					t.Fatalf("seed %d, step %d: not sorted: %v", seed, step, list)
				}
			}
			for _, sp := range j.alive {
				if among(j.lost, sp) {
					t.Fatalf("seed %d, step %d: %s is alive and lost", seed, step, sp.Node)
				}
				if s.p.judged && s.p.contacts[sp.Node] == snapshot.Lost && !sp.Unheard {
					t.Fatalf("seed %d, step %d: %s is alive, though his session is lost", seed, step, sp.Node)
				}
			}
			for _, sp := range j.lost {
				if c := s.p.contacts[sp.Node]; s.p.judged && (c == snapshot.Reached || c == snapshot.Deaf) {
					t.Fatalf("seed %d, step %d: %s is lost, though he is reached", seed, step, sp.Node)
				}
			}
		}
	}
}
