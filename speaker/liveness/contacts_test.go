package liveness

import (
	"net/netip"
	"slices"
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
	heard := func(state, remote bfd.State) bfd.Status {
		return bfd.Status{State: state, RemoteState: remote, WasUp: true, RemoteDiscriminator: 7}
	}
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
		{"who is heard and says that he is down does not hear us", append(comes[:4:4], chapter{heard(bfd.Down, bfd.Down), snapshot.Deaf}, chapter{heard(bfd.Init, bfd.Down), snapshot.Deaf})},
		{"until he does", append(comes[:4:4], chapter{heard(bfd.Init, bfd.Down), snapshot.Deaf}, chapter{heard(bfd.Up, bfd.Init), snapshot.Reached})},
		{"or is not heard any more either", append(comes[:4:4], chapter{heard(bfd.Init, bfd.Down), snapshot.Deaf}, chapter{up(bfd.Down, bfd.Down), snapshot.Lost})},
		{"who was lost may be found to be deaf", append(comes[:4:4], chapter{up(bfd.Down, bfd.Up), snapshot.Lost}, chapter{heard(bfd.Init, bfd.Down), snapshot.Deaf})},
		{"who is deaf may go", append(comes[:4:4], chapter{heard(bfd.Init, bfd.Down), snapshot.Deaf}, chapter{heard(bfd.Down, bfd.AdminDown), snapshot.Left})},
		{"who has left is not deaf as he comes back", append(comes[:4:4], chapter{heard(bfd.Down, bfd.AdminDown), snapshot.Left}, chapter{heard(bfd.Init, bfd.Down), snapshot.Left})},
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
			for last := snapshot.Untried; last <= snapshot.Deaf; last++ {
				for number := range uint32(2) { // nobody is heard who has none
					s := bfd.Status{State: state, RemoteState: remote, RemoteDiscriminator: number}
					if got := contact(s, last); got != snapshot.Untried {
						t.Errorf("%v was never up, after %d: %d, want untried", s, last, got)
					}
					s.WasUp = true
					everWas(t, s, last)
				}
			}
		}
	}
}

// everWas checks what is said of a session that was up at any time.
func everWas(t *testing.T, s bfd.Status, last snapshot.Contact) {
	t.Helper()
	got := contact(s, last)
	if (got == snapshot.Reached) != (s.State == bfd.Up) {
		t.Errorf("%v after %d: %d, but reached is who is up", s, last, got)
	}
	goes := s.State != bfd.Up && (s.RemoteState == bfd.AdminDown || last == snapshot.Left)
	if (got == snapshot.Left) != goes {
		t.Errorf("%v after %d: %d, but left has who said so, until he is up", s, last, got)
	}
	deaf := s.State != bfd.Up && s.RemoteState == bfd.Down && s.RemoteDiscriminator != 0
	if (got == snapshot.Deaf) != (deaf && !goes) {
		t.Errorf("%v after %d: %d, but deaf is who is heard and down, and has not left", s, last, got)
	}
	if got == snapshot.Untried {
		t.Errorf("%v after %d: untried", s, last)
	}
}

// Those who do not hear this node are told by its Lease, in order.
func TestHears(t *testing.T) {
	got := Hears(map[string]snapshot.Contact{"n4": snapshot.Deaf, "n2": snapshot.Deaf, "n3": snapshot.Lost, "n5": snapshot.Reached})
	if !slices.Equal(got, []string{"n2", "n4"}) {
		t.Errorf("hears %v, want n2 and n4", got)
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
