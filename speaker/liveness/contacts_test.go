package liveness

import (
	"net/netip"
	"testing"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/bfd"
)

// contact is what one session says of a node.
func contact(s bfd.Status, last snapshot.Contact) snapshot.Contact {
	addr := ip("192.0.2.2")
	return Contacts(map[string]bfd.Peer{"n2": {Addr: addr}}, map[netip.Addr]bfd.Status{addr: s}, map[string]snapshot.Contact{"n2": last})["n2"]
}

// A life is told as its session has it, and what is thought of it.
func TestContacts(t *testing.T) {
	type chapter struct {
		s    bfd.Status
		want snapshot.Contact
	}
	up := func(state, remote bfd.State) bfd.Status {
		return bfd.Status{State: state, RemoteState: remote, WasUp: true}
	}
	never := func(state, remote bfd.State) bfd.Status { return bfd.Status{State: state, RemoteState: remote} }
	comes := []chapter{
		{never(bfd.Down, bfd.Down), snapshot.Untried}, {never(bfd.Init, bfd.Down), snapshot.Untried}, {up(bfd.Up, bfd.Init), snapshot.Reached}, {up(bfd.Up, bfd.Up), snapshot.Reached},
	}
	tests := []struct {
		name string
		life []chapter
	}{
		{"who never answers is not tried", []chapter{{never(bfd.Down, bfd.Down), snapshot.Untried}, {never(bfd.Down, bfd.Down), snapshot.Untried}}},
		{"who is going as we come is not tried either", []chapter{{never(bfd.Down, bfd.AdminDown), snapshot.Untried}}},
		{"who answers is reached", comes},
		{"who falls silent is lost", append(comes[:4:4], chapter{up(bfd.Down, bfd.Up), snapshot.Lost}, chapter{up(bfd.Down, bfd.Down), snapshot.Lost})},
		{"until he answers again", append(comes[:4:4], chapter{up(bfd.Down, bfd.Down), snapshot.Lost}, chapter{up(bfd.Init, bfd.Down), snapshot.Lost}, chapter{up(bfd.Up, bfd.Up), snapshot.Reached})},
		{"who says that he goes has left", append(comes[:4:4], chapter{up(bfd.Down, bfd.AdminDown), snapshot.Left})},
		{"and is not lost when he falls silent", append(comes[:4:4], chapter{up(bfd.Down, bfd.AdminDown), snapshot.Left}, chapter{up(bfd.Down, bfd.Down), snapshot.Left}, chapter{up(bfd.Down, bfd.Down), snapshot.Left})},
		{"nor while he comes back", append(comes[:4:4], chapter{up(bfd.Down, bfd.AdminDown), snapshot.Left}, chapter{up(bfd.Init, bfd.Down), snapshot.Left}, chapter{up(bfd.Up, bfd.Up), snapshot.Reached})},
		{"but is once he was back", append(comes[:4:4], chapter{up(bfd.Down, bfd.AdminDown), snapshot.Left}, chapter{up(bfd.Up, bfd.Up), snapshot.Reached}, chapter{up(bfd.Down, bfd.Down), snapshot.Lost})},
		{"who was lost may still say that he goes", append(comes[:4:4], chapter{up(bfd.Down, bfd.Down), snapshot.Lost}, chapter{up(bfd.Down, bfd.AdminDown), snapshot.Left})},
		{"a session that is made anew knows nothing", append(comes[:4:4], chapter{never(bfd.Down, bfd.Down), snapshot.Untried})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			last := snapshot.Untried
			for i, c := range tt.life {
				if got := contact(c.s, last); got != c.want {
					t.Errorf("step %d, %v after %d: %d, want %d", i, c.s, last, got, c.want)
				}
				last = c.want
			}
		})
	}
}

// What holds in every state that a session can be in, whatever was before.
func TestContactsInEveryState(t *testing.T) {
	states := []bfd.State{bfd.AdminDown, bfd.Down, bfd.Init, bfd.Up}
	for _, state := range states {
		for _, remote := range states {
			for last := snapshot.Untried; last <= snapshot.Left; last++ {
				s := bfd.Status{State: state, RemoteState: remote}
				if got := contact(s, last); got != snapshot.Untried {
					t.Errorf("%v was never up, after %d: %d, want untried", s, last, got)
				}
				s.WasUp = true
				got := contact(s, last)
				if (got == snapshot.Reached) != (state == bfd.Up) {
					t.Errorf("%v after %d: %d, but reached is who is up", s, last, got)
				}
				goes := state != bfd.Up && (remote == bfd.AdminDown || last == snapshot.Left)
				if (got == snapshot.Left) != goes {
					t.Errorf("%v after %d: %d, but left has who said so, until he is up", s, last, got)
				}
				if got == snapshot.Untried {
					t.Errorf("%v after %d: untried", s, last)
				}
			}
		}
	}
}

func TestContactsAreOfWhoIsPlanned(t *testing.T) {
	plan := map[string]bfd.Peer{"n2": {Addr: ip("192.0.2.2")}, "n3": {Addr: ip("192.0.2.3")}}
	sessions := map[netip.Addr]bfd.Status{ // of n3 not yet, of n4 still
		ip("192.0.2.2"): {State: bfd.Up, WasUp: true},
		ip("192.0.2.4"): {State: bfd.Up, WasUp: true},
	}
	got := Contacts(plan, sessions, map[string]snapshot.Contact{"n3": snapshot.Left, "n4": snapshot.Reached})
	if len(got) != 2 || got["n2"] != snapshot.Reached || got["n3"] != snapshot.Untried {
		t.Errorf("contacts %v, want n2 reached and n3 untried", got)
	}
}
