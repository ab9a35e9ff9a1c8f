//go:build netns

package bgp

import (
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker"
)

// lan is a cable with the addresses of base and ebgp.
func lan(t testing.TB) site {
	t.Helper()
	return cable(t, node(t), []string{"192.0.2.10/24", "2001:db8::10/64"}, []string{"192.0.2.1/24", "2001:db8::1/64"})
}

// second is another router beside that of lan, and a session with it.
func second(t testing.TB) (*bird, speaker.Session) {
	t.Helper()
	in := cable(t, node(t), []string{"198.51.100.130/25", "2001:db8:2::10/64"}, []string{"198.51.100.129/25", "2001:db8:2::1/64"})
	p := ebgp()
	p.neighbor = "198.51.100.130"
	w := base("other", "198.51.100.129")
	w.Routes = told
	return startBIRD(t, in, p), w
}

// What is wrong is said in words, with what to do.
func TestSaysWhatIsWrong(t *testing.T) {
	tests := []struct {
		name   string
		at     func(p *peering, w *speaker.Session)
		judges string // those that say so; "" for all, and BIRD where it is the kernel, theirs or ours
		err    string
	}{
		{"another number than the router's", func(_ *peering, w *speaker.Session) { w.PeerASN = 65009 }, "",
			"the router says it is AS 65001, and spec.peerASN is 65009"},
		{"another number than the router expects", func(_ *peering, w *speaker.Session) { w.LocalASN = 65109 }, "",
			"the router ended the session: bad peer AS; it has another number for this node than spec.myASN (or localASN) 65109"},
		{"external, but of our own AS", func(p *peering, w *speaker.Session) {
			p.asn, w.LocalASN, w.PeerASN, w.Relation = 65001, 65001, 0, speaker.External
		}, "", "the router says it is AS 65001 as we are, and spec.peerASN is external"},
		{"a port that is closed", func(_ *peering, w *speaker.Session) { w.Port = 180 }, "BIRD",
			"connection refused: nothing listens at 192.0.2.1:180: does BGP run there, on this address and port?"},
		{"a network without a route", func(_ *peering, w *speaker.Session) { w.Addr = ip("10.9.9.9") }, "BIRD",
			"network is unreachable: this node has no route to 10.9.9.9"},
		{"a source address that the node does not have", func(_ *peering, w *speaker.Session) { w.Source = ip("192.0.2.99") }, "BIRD",
			"this node does not have the address 192.0.2.99: spec.sourceAddress has to be one of it"},
		{"a router that does not know the node", func(p *peering, _ *speaker.Session) { p.neighbor = "192.0.2.50" }, "",
			"it may not know this node as a neighbour"},
		{"no family in common", func(p *peering, w *speaker.Session) { p.families, w.V4 = families46[:1], false }, "FRR",
			"the router ended the session: unsupported capability"},
		{"unnumbered on a link that is not there", func(_ *peering, w *speaker.Session) { w.Addr, w.Interface = netip.Addr{}, "nolink" }, "BIRD",
			"spec.interface: this node has no link nolink"},
		{"the router's own ID", func(p *peering, w *speaker.Session) {
			p.asn, w.LocalASN, w.RouterID = 65001, 65001, ip("192.0.2.1")
		}, "", "the router has the router ID 192.0.2.1, as this node: set spec.routerID"},
	}
	for _, j := range judges {
		for _, tt := range tests {
			if tt.judges != "" && tt.judges != j.name {
				continue
			}
			t.Run(j.name+" "+tt.name, func(t *testing.T) {
				in := lan(t)
				p, w := ebgp(), base("a", "192.0.2.1")
				tt.at(&p, &w)
				j.start(t, in, p)
				s, _ := run(t)
				want(t, s, w)
				defer func() { t.Logf("it says: %s", state(s, "a").Err) }()
				nettest.Await(t, "words", func() bool { return strings.Contains(state(s, "a").Err, tt.err) })
				if st := state(s, "a"); st.Up || st.State == "established" {
					t.Errorf("the session is up: %+v", st)
				}
			})
		}
	}
}

// So is what takes the kernel seconds to find out.
func TestSaysWhyNobodyAnswers(t *testing.T) {
	p := ebgp()
	p.password = "right"
	startBIRD(t, lan(t), p)
	wrong, none, nobody := base("another password", "192.0.2.1"), base("no password", "192.0.2.1"), base("an address that nobody has", "192.0.2.77")
	wrong.Password = "wrong"
	s, _ := run(t)
	want(t, s, wrong, none, nobody)
	silence := "connection timed out: the router does not answer at 192.0.2.1:179: it is down, or a filter is in between, or "
	awaitErr(t, s, nobody.Name, "no route to host: nobody answers for 192.0.2.77: is the router up, and on this network?")
	awaitErr(t, s, wrong.Name, silence+"the password differs")
	awaitErr(t, s, none.Name, silence+"it wants a password (spec.passwordSecretRef)")
}

// A router that restarts is back within a few seconds, with all routes.
func TestRouterRestarts(t *testing.T) {
	for _, j := range judges {
		t.Run(j.name, func(t *testing.T) {
			r := j.start(t, lan(t), ebgp())
			s, _ := run(t)
			w := base("a", "192.0.2.1")
			w.Routes = told
			want(t, s, w)
			awaitUp(t, s, "a")
			r.kill()
			nettest.Await(t, "the loss to be noticed", func() bool { return !state(s, "a").Up })
			t.Logf("it says: %s", state(s, "a").Err)
			time.Sleep(time.Second)
			r.restart(t)
			began := time.Now()
			awaitUp(t, s, "a")
			took := time.Since(began)
			t.Logf("back after %s", took)
			if took > defaultRetry+10*time.Second { // the longest wait, and what a busy machine may take
				t.Errorf("back only after %s", took)
			}
			awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
			if st := state(s, "a"); st.Flaps != 1 || st.Err != "" {
				t.Errorf("state %+v, want one flap and no error", st)
			}
		})
	}
}

// What changes is told alone, in the session that is there; nobody else hears.
func TestChangesAreToldAlone(t *testing.T) {
	for _, j := range judges {
		t.Run(j.name, func(t *testing.T) {
			other, w2 := second(t)
			r := j.start(t, lan(t), ebgp())
			s, _ := run(t)
			w := base("a", "192.0.2.1")
			w.Routes = told
			want(t, s, w, w2)
			awaitUp(t, s, "a")
			awaitUp(t, s, "other")
			awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
			awaitRoutes(t, other, w2, expected(w2, told, "198.51.100.130", "2001:db8:2::10"))
			before, up := r.updates(t)
			otherBefore, otherUp := other.updates(t)

			w.Routes = append([]speaker.Route{{Prefix: prefix("203.0.113.3/32")}}, told[1:]...) // one comes, one goes
			w.Routes[1].MED = number(77)                                                        // and one changes
			want(t, s, w, w2)
			awaitRoutes(t, r, w, expected(w, w.Routes, "192.0.2.10", "2001:db8::10"))

			after, stillUp := r.updates(t)
			if n := after - before; n < 2 || n > 3 {
				t.Errorf("the router had %d updates, want 2, and a withdrawal", n)
			}
			if up != stillUp {
				t.Error("the session was closed")
			}
			want(t, s, w2) // the session is removed
			nettest.Await(t, "the router to be told", func() bool {
				why := strings.ToLower(r.why(t))
				return strings.Contains(why, "unconfigured") || strings.Contains(why, "de-configured") || strings.Contains(why, "deconfigured")
			})
			otherAfter, otherStillUp := other.updates(t)
			if otherBefore != otherAfter || otherUp != otherStillUp {
				t.Errorf("another session: %d updates, up since %d; before %d and %d", otherAfter, otherStillUp, otherBefore, otherUp)
			}
		})
	}
}

// A session with other parameters is another one; the others stay.
func TestChangedSessionIsRestartedAlone(t *testing.T) {
	other, w2 := second(t)
	p := ebgp()
	in := lan(t)
	r := startFRR(t, in, p)
	s, _ := run(t)
	w := base("a", "192.0.2.1")
	w.Routes = told
	want(t, s, w, w2)
	awaitUp(t, s, "a")
	awaitUp(t, s, "other")
	awaitRoutes(t, other, w2, expected(w2, told, "198.51.100.130", "2001:db8:2::10"))
	_, otherUp := other.updates(t)
	w.HoldTime, w.Keepalive = 30*time.Second, 10*time.Second
	began := time.Now()
	want(t, s, w, w2)
	nettest.Await(t, "the session to come up anew", func() bool { _, n := r.updates(t); return n == 2 })
	t.Logf("anew after %s", time.Since(began))
	awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
	if _, still := other.updates(t); still != otherUp {
		t.Error("another session was closed")
	}
}

// A speaker that restarts does not take its routes away.
func TestGracefulRestart(t *testing.T) {
	for _, j := range judges {
		t.Run(j.name, func(t *testing.T) {
			p := ebgp()
			p.graceful = true
			r := j.start(t, lan(t), p)
			w := base("a", "192.0.2.1")
			w.Routes, w.GracefulRestart = told, 30*time.Second
			all := expected(w, told, "192.0.2.10", "2001:db8::10")
			s, stop := run(t)
			want(t, s, w)
			awaitUp(t, s, "a")
			awaitRoutes(t, r, w, all)
			stop()
			stale := map[netip.Prefix]heard{}
			for p, h := range all {
				h.stale = true
				stale[p] = h
			}
			awaitRoutes(t, r, w, stale)

			w.Routes = told[1:] // one is gone meanwhile
			s, _ = run(t)
			want(t, s, w)
			awaitUp(t, s, "a")
			delete(all, told[0].Prefix)
			awaitRoutes(t, r, w, all)
		})
	}
}

// Without graceful restart a speaker that stops says so, and routes go at once.
func TestLeavesInWords(t *testing.T) {
	for _, j := range judges {
		t.Run(j.name, func(t *testing.T) {
			r := j.start(t, lan(t), ebgp())
			w := base("a", "192.0.2.1")
			w.Routes = told
			s, stop := run(t)
			want(t, s, w)
			awaitUp(t, s, "a")
			awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
			stop()
			awaitRoutes(t, r, w, map[netip.Prefix]heard{})
			nettest.Await(t, "the words", func() bool { return strings.Contains(r.why(t), "Herald is stopped on this node") })
		})
	}
}

// A router that offers a whole table is not listened to, and costs nothing.
func TestOffersAreRefused(t *testing.T) {
	const n = 100_000
	p := ebgp()
	var static strings.Builder
	static.WriteString("protocol static {\n ipv4;\n")
	for i := range n {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		static.WriteString(" route " + a.String() + "/32 blackhole;\n")
	}
	static.WriteString("}\n")
	p.global = static.String()
	r := startBIRD(t, lan(t), p)
	s, _ := run(t)
	w := base("a", "192.0.2.1")
	w.Routes = told
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	want(t, s, w)
	awaitUp(t, s, "a")
	defer func() { t.Logf("the session is %+v", state(s, "a")) }()
	nettest.Await(t, "all offers to be counted", func() bool { return state(s, "a").Offered == n })
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("the heap has grown by %d KiB", grown>>10)
	if grown > 4<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
	if st := state(s, "a"); !st.Up || st.Flaps != 0 {
		t.Errorf("the session is %+v", st)
	}
}

// BFD ends a session at once.
func TestBFDEndsASession(t *testing.T) {
	r := startBIRD(t, lan(t), ebgp())
	s, _ := run(t)
	w := base("a", "192.0.2.1")
	w.Routes = told
	want(t, s, w)
	awaitUp(t, s, "a")
	awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
	s.Down("a")
	nettest.Await(t, "the session to end", func() bool { return state(s, "a").Flaps == 1 })
	s.Up("a")
	awaitUp(t, s, "a")
	awaitRoutes(t, r, w, expected(w, told, "192.0.2.10", "2001:db8::10"))
}

// A router that falls silent is noticed by the hold time.
func TestSilenceIsNoticed(t *testing.T) {
	in := lan(t)
	r := startBIRD(t, in, ebgp())
	s, _ := run(t)
	w := base("a", "192.0.2.1")
	w.HoldTime, w.Keepalive = 3*time.Second, time.Second
	want(t, s, w)
	awaitUp(t, s, "a")
	_ = r
	in.Down(t, "eth0")
	nettest.Await(t, "silence to be noticed", func() bool { return !state(s, "a").Up })
	if st := state(s, "a"); !strings.Contains(st.Err, "silent for 3s") {
		t.Errorf("it says %q", st.Err)
	}
}
