package liveness

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker"
	"github.com/herald-lb/herald/speaker/bfd"
)

// up is a session that has come up.
func upSession(name, router, local string, asn uint32) speaker.SessionState {
	return speaker.SessionState{Name: name, Addr: ip(router), Local: ip(local), PeerASN: asn, State: "established", Up: true}
}

func TestPlanRouters(t *testing.T) {
	own := []snapshot.Link{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}}}
	watched := speaker.Session{Name: "r", LocalASN: 65000, Hops: 1, BFD: speaker.BFD{Interval: 100 * time.Millisecond, Multiplier: 3}}
	peer := bfd.Peer{Addr: ip("192.0.2.1"), Local: ip("192.0.2.11"), MinTx: 100 * time.Millisecond, MinRx: 100 * time.Millisecond, Multiplier: 3, Lasting: true}
	tests := []struct {
		name  string
		edit  func(*speaker.Session)
		state speaker.SessionState
		want  func(*bfd.Peer) // nil: none
	}{
		{"a neighbour", nil, upSession("r", "192.0.2.1", "192.0.2.11", 65001), func(*bfd.Peer) {}},
		{"not one that does not want it", func(s *speaker.Session) { s.BFD = speaker.BFD{} }, upSession("r", "192.0.2.1", "192.0.2.11", 65001), nil},
		{"not one that has never come up", nil, speaker.SessionState{Name: "r", Addr: ip("192.0.2.1")}, nil},
		{"nor one that there is no state of", nil, upSession("other", "192.0.2.1", "192.0.2.11", 65001), nil},
		{"one that was up", nil, speaker.SessionState{Name: "r", Addr: ip("192.0.2.1"), Local: ip("192.0.2.11"), State: "idle"}, func(*bfd.Peer) {}},
		{"one that is far away", func(s *speaker.Session) { s.Hops = 255 }, upSession("r", "198.51.100.1", "192.0.2.11", 65001),
			func(p *bfd.Peer) { p.Addr, p.Multihop = ip("198.51.100.1"), true }},
		{"an internal one on the link", nil, upSession("r", "192.0.2.1", "192.0.2.11", 65000), func(*bfd.Peer) {}},
		{"an internal one that is not", nil, upSession("r", "198.51.100.1", "192.0.2.11", 65000),
			func(p *bfd.Peer) { p.Addr, p.Multihop = ip("198.51.100.1"), true }},
		{"an internal one at the other end of a cable", nil, upSession("r", "fe80::1%eth1", "fe80::2%eth1", 65000),
			func(p *bfd.Peer) { p.Addr, p.Local = ip("fe80::1%eth1"), ip("fe80::2%eth1") }},
		{"nor is it far away, whatever is said of hops", func(s *speaker.Session) { s.Hops = 255 }, upSession("r", "fe80::1%eth1", "fe80::2%eth1", 65001),
			func(p *bfd.Peer) { p.Addr, p.Local = ip("fe80::1%eth1"), ip("fe80::2%eth1") }},
		{"one that keeps our routes while we restart", func(s *speaker.Session) { s.GracefulRestart = time.Minute }, upSession("r", "192.0.2.1", "192.0.2.11", 65001), func(*bfd.Peer) {}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, want := watched, map[string]bfd.Peer{}
			if tt.edit != nil {
				tt.edit(&s)
			}
			if tt.want != nil {
				p := peer
				tt.want(&p)
				want["r"] = p
			}
			got := PlanRouters(speaker.Routing{Sessions: []speaker.Session{s}}, []speaker.SessionState{tt.state}, own)
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("PlanRouters() (-want +got):\n%s", diff)
			}
		})
	}
}

// There is one BFD session with each address, whoever wants it.
func TestTogether(t *testing.T) {
	a, b := ip("192.0.2.1"), ip("192.0.2.2")
	peer := func(addr netip.Addr, interval time.Duration, m uint8) bfd.Peer {
		return bfd.Peer{Addr: addr, MinTx: interval, MinRx: interval, Multiplier: m}
	}
	slow, quick := peer(a, time.Second, 3), peer(a, 100*time.Millisecond, 5)
	lasting := quick
	lasting.Lasting = true
	far := quick
	far.Multihop = true
	tests := []struct {
		name              string
		speakers, routers map[string]bfd.Peer
		want              []bfd.Peer
	}{
		{"none", nil, nil, nil},
		{"one of each", map[string]bfd.Peer{"n": slow}, map[string]bfd.Peer{"r": peer(b, time.Second, 3)}, []bfd.Peer{slow, peer(b, time.Second, 3)}},
		{"two routers that are one", nil, map[string]bfd.Peer{"p": slow, "q": quick}, []bfd.Peer{quick}},
		{"as fast, whoever comes first", nil, map[string]bfd.Peer{"p": quick, "q": slow}, []bfd.Peer{quick}},
		{"one of them lasts", nil, map[string]bfd.Peer{"p": slow, "q": lasting}, []bfd.Peer{lasting}},
		{"a speaker that is a router goes the way of speakers", map[string]bfd.Peer{"n": slow}, map[string]bfd.Peer{"r": far}, []bfd.Peer{quick}},
	}
	for _, tt := range tests {
		got := together(tt.speakers, tt.routers)
		slices.SortFunc(got, func(x, y bfd.Peer) int { return x.Addr.Compare(y.Addr) })
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	status := func(state, remote bfd.State, losses int, number uint32) bfd.Status {
		return bfd.Status{State: state, RemoteState: remote, Losses: losses, Discriminator: number}
	}
	up, none := status(bfd.Up, bfd.Up, 0, 1), bfd.Status{}
	tests := []struct {
		name    string
		was, is bfd.Status
		want    verdict
	}{
		{"one that begins", none, status(bfd.Down, bfd.Down, 0, 1), asBefore},
		{"one that comes up", status(bfd.Init, bfd.Down, 0, 1), up, back},
		{"one that came up before it was looked at", none, up, back},
		{"one that stays up", up, up, asBefore},
		{"one that is lost", up, status(bfd.Down, bfd.Up, 1, 1), lost},
		{"one whose router has lost us", up, status(bfd.Down, bfd.Down, 1, 1), lost},
		{"one that is lost and on its way back", up, status(bfd.Init, bfd.Down, 1, 1), lost},
		{"one that was away for a moment", up, status(bfd.Up, bfd.Up, 1, 1), lost},
		{"one that the router has taken down", up, status(bfd.Down, bfd.AdminDown, 1, 1), asBefore},
		{"which then falls silent", status(bfd.Down, bfd.AdminDown, 1, 1), status(bfd.Down, bfd.Down, 1, 1), asBefore},
		{"and comes back", status(bfd.Down, bfd.Down, 1, 1), status(bfd.Up, bfd.Up, 1, 1), back},
		{"one that is down and stays so", status(bfd.Down, bfd.Up, 1, 1), status(bfd.Down, bfd.Down, 1, 1), asBefore},
		{"another session that is not up yet", up, status(bfd.Down, bfd.Down, 0, 2), asBefore},
		{"another session that is up", up, status(bfd.Up, bfd.Up, 0, 2), back},
		{"one that there is not any more", up, none, asBefore},
	}
	for _, tt := range tests {
		if got := judge(tt.was, tt.is); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestWhatIsWrongWithBFDIsSaidOfTheSession(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration, b bfd.Status) bfd.Status { b.Since = now.Add(-d); return b }
	broken := upSession("r", "192.0.2.1", "192.0.2.11", 65001)
	broken.Err = "something else"
	idle := upSession("r", "192.0.2.1", "192.0.2.11", 65001)
	idle.Up = false
	tests := []struct {
		name  string
		state speaker.SessionState
		bfd   bfd.Status
		words string // "" for none
	}{
		{"up", upSession("r", "192.0.2.1", "192.0.2.11", 65001), bfd.Status{State: bfd.Up}, ""},
		{"it may take its time", upSession("r", "192.0.2.1", "192.0.2.11", 65001), ago(patience-1, bfd.Status{State: bfd.Down, RemoteState: bfd.Down}), ""},
		{"no answer", upSession("r", "192.0.2.1", "192.0.2.11", 65001), ago(patience, bfd.Status{State: bfd.Down, RemoteState: bfd.Down}), "for its neighbour 192.0.2.11?"},
		{"refused", upSession("r", "192.0.2.1", "192.0.2.11", 65001), ago(patience, bfd.Status{State: bfd.Down, RemoteState: bfd.Down, Err: "sending: connection refused"}), "for its neighbour 192.0.2.11?"},
		{"one way only", upSession("r", "192.0.2.1", "192.0.2.11", 65001), ago(patience, bfd.Status{State: bfd.Init, RemoteState: bfd.Down, RemoteDiscriminator: 7}), "does not hear this node"},
		{"shut down", upSession("r", "192.0.2.1", "192.0.2.11", 65001), ago(patience, bfd.Status{State: bfd.Down, RemoteState: bfd.AdminDown}), "the router has taken it down"},
		{"no socket", upSession("r", "192.0.2.1", "192.0.2.11", 65001), ago(patience, bfd.Status{State: bfd.Down, RemoteState: bfd.Down, Err: "address already in use"}), "already in use"},
		{"what else is wrong comes first", broken, ago(patience, bfd.Status{State: bfd.Down, RemoteState: bfd.Down}), "something else"},
		{"a session that is not up has its own error", idle, ago(patience, bfd.Status{State: bfd.Down, RemoteState: bfd.Down}), ""},
	}
	for _, tt := range tests {
		got := withBFD(tt.state, tt.bfd, now)
		if got.BFD != tt.bfd.State.String() || (got.Err == "") != (tt.words == "") || !strings.Contains(got.Err, tt.words) {
			t.Errorf("%s: BFD %q, error %q, want %q in it", tt.name, got.BFD, got.Err, tt.words)
		}
	}
}

// What is wrong with a session as it is wanted is said beside what is wrong with it, and
// at once.
func TestAWarningIsSaidOfTheSession(t *testing.T) {
	down := speaker.SessionState{Name: "r", State: "idle", Err: "connection refused"}
	for _, tt := range []struct {
		name, warning string
		state         speaker.SessionState
		want          string
	}{
		{"none", "", upSession("r", "192.0.2.1", "192.0.2.11", 65001), ""},
		{"of one that is up", "the last password", upSession("r", "192.0.2.1", "192.0.2.11", 65001), "the last password"},
		{"of one that is not", "the last password", down, "connection refused; the last password"},
		{"of another", "", down, "connection refused"},
	} {
		said := 0
		g := New("n1", func(map[string]snapshot.Contact) {}, slog.New(slog.DiscardHandler)).
			Guard(&stub{states: []speaker.SessionState{tt.state}}, func() { said++ })
		for range 2 {
			want := speaker.Routing{Sessions: []speaker.Session{{Name: "other", Warning: "of it"}, {Name: "r", Warning: tt.warning}}}
			if err := g.Sync(t.Context(), want); err != nil {
				t.Fatal(err)
			}
		}
		if got := g.States()[0].Err; got != tt.want || said != 1 {
			t.Errorf("%s: error %q, want %q; said %d times, want once", tt.name, got, tt.want, said)
		}
	}
}

// A stub is a Guarded that notes what it is told of.
type stub struct {
	states []speaker.SessionState
	told   []string
}

func (s *stub) Sync(context.Context, speaker.Routing) error { return nil }
func (s *stub) States() []speaker.SessionState              { return slices.Clone(s.states) }
func (s *stub) Down(name string)                            { s.told = append(s.told, "down "+name) }
func (s *stub) Up(name string)                              { s.told = append(s.told, "up "+name) }

// A router is watched once its session has come up, beside other speakers, and no more
// once nobody wants it.
func TestARouterIsWatchedWhileItsSessionWantsIt(t *testing.T) {
	r := &stub{}
	w := New("n1", func(map[string]snapshot.Contact) {}, slog.New(slog.DiscardHandler))
	g := w.Guard(r, func() {})
	want := speaker.Routing{Sessions: []speaker.Session{{Name: "r", Hops: 1, BFD: speaker.BFD{Interval: time.Second, Multiplier: 3}}}}
	look := func() int {
		t.Helper()
		if err := g.Sync(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		w.report() // as Run does
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.routers)
	}
	if n := look(); n != 0 {
		t.Errorf("%d are watched before a session has come up", n)
	}
	r.states = []speaker.SessionState{upSession("r", "192.0.2.1", "192.0.2.11", 65001)}
	if n := look(); n != 1 {
		t.Errorf("%d are watched once it has", n)
	}
	want.Sessions[0].BFD = speaker.BFD{}
	if n := look(); n != 0 {
		t.Errorf("%d are watched though nobody wants it", n)
	}
}

// A link that has lost its carrier makes an internal router no other: that would
// be another session, which would not miss it.
func TestAnInternalRouterIsMissedWhenItsLinkIsGone(t *testing.T) {
	own := []snapshot.Link{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}}}
	established := upSession("r", "192.0.2.1", "192.0.2.11", 65000)
	over := established
	over.Up = false
	for _, tt := range []struct {
		name    string
		session speaker.SessionState
		bfd     bfd.Status
		want    bool // whether it is watched over several hops then
	}{
		{"one that is up", established, bfd.Status{WasUp: true}, false},
		{"one that BFD never saw", established, bfd.Status{}, true},
		{"one whose session has ended may be farther when it comes back", over, bfd.Status{WasUp: true}, true},
	} {
		r := &stub{states: []speaker.SessionState{established}}
		g := &Guard{Guarded: r, want: speaker.Routing{Sessions: []speaker.Session{{Name: "r", LocalASN: 65000, Hops: 1, BFD: speaker.BFD{Interval: time.Second, Multiplier: 3}}}}}
		last := g.plan(own, nil, nil)
		if last["r"].Multihop {
			t.Fatalf("%s: a router on a link of the node is watched over several hops", tt.name)
		}
		r.states = []speaker.SessionState{tt.session}
		if got := g.plan(nil, last, map[netip.Addr]bfd.Status{established.Addr: tt.bfd})["r"].Multihop; got != tt.want {
			t.Errorf("%s: multihop %t, want %t", tt.name, got, tt.want)
		}
		if last["r"].Multihop {
			t.Errorf("%s: what was is edited", tt.name)
		}
	}
}
