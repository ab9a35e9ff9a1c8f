package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/herald-lb/herald/speaker"
)

func ip(s string) netip.Addr       { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }
func number(n uint32) *uint32      { return &n }

func TestDiff(t *testing.T) {
	one, two := saying{hop: ip("192.0.2.1"), med: -1}, saying{hop: ip("192.0.2.1"), med: 5}
	a, b, c := prefix("203.0.113.1/32"), prefix("203.0.113.2/32"), prefix("2001:db8::1/128")
	tests := []struct {
		name       string
		have, want table
		changes    []string
	}{
		{"nothing to nothing", nil, nil, nil},
		{"what is there stays", table{a: one}, table{a: one}, nil},
		{"all of the first want", nil, table{c: one, b: one, a: one},
			[]string{"announce 203.0.113.1/32 by 192.0.2.1", "announce 203.0.113.2/32 by 192.0.2.1", "announce 2001:db8::1/128 by 192.0.2.1"}},
		{"what is said otherwise is said again", table{a: one, b: one}, table{a: two, b: one}, []string{"announce 203.0.113.1/32 by 192.0.2.1"}},
		{"what comes is said before what goes", table{a: one}, table{b: one},
			[]string{"announce 203.0.113.2/32 by 192.0.2.1", "withdraw 203.0.113.1/32"}},
		{"all goes", table{a: one, c: one}, nil, []string{"withdraw 203.0.113.1/32", "withdraw 2001:db8::1/128"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, c := range diff(tt.have, tt.want) {
				got = append(got, c.String())
			}
			if !slices.Equal(got, tt.changes) {
				t.Errorf("diff() = %q, want %q", got, tt.changes)
			}
		})
	}
}

// From any table the changes lead to any other, and none is without effect.
func TestDiffLeadsThere(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	have := table{}
	for range 500 {
		want := tableOf(randomRoutes(rnd), nextHops{ipv4: ip("192.0.2.1"), ipv6: ip("2001:db8::1")}, true)
		for _, c := range diff(have, want) {
			if was, ok := have[c.prefix]; c.gone != ok && !ok || !c.gone && ok && was == c.saying {
				t.Fatalf("%s changes nothing", c)
			}
			if have[c.prefix] = c.saying; c.gone {
				delete(have, c.prefix)
			}
		}
		if !maps.Equal(have, want) {
			t.Fatalf("have %v, want %v", have, want)
		}
	}
}

// randomRoutes returns some of few, said in few ways, in the order that Sync
// gets them.
func randomRoutes(rnd *rand.Rand) []speaker.Route {
	var routes []speaker.Route
	for i := range 12 {
		if rnd.IntN(2) == 0 {
			continue
		}
		r := speaker.Route{Prefix: prefix(fmt.Sprintf("203.0.113.%d/32", i))}
		if i >= 6 {
			r.Prefix = prefix(fmt.Sprintf("2001:db8::%d/128", i))
		}
		for n := range uint32(rnd.IntN(3)) {
			r.Communities = append(r.Communities, 65000<<16+n)
			r.Large = append(r.Large, [3]uint32{65000, n, n})
		}
		if rnd.IntN(2) == 0 {
			r.MED = number(uint32(rnd.IntN(2)))
		}
		routes = append(routes, r)
	}
	return routes
}

func TestTableOf(t *testing.T) {
	four, six := prefix("203.0.113.1/32"), prefix("2001:db8::/64")
	hop4, hop6 := ip("192.0.2.1"), ip("2001:db8::1")
	both := nextHops{ipv4: hop4, ipv6: hop6}
	full := speaker.Route{Prefix: four, LocalPref: number(0), MED: number(1<<32 - 1), Communities: []uint32{1, 2}, Large: [][3]uint32{{1, 2, 3}, {4, 5, 6}}}
	tests := []struct {
		name     string
		routes   []speaker.Route
		hops     nextHops
		internal bool
		want     table
	}{
		{"nothing", nil, both, false, table{}},
		{"each family by its own next hop", []speaker.Route{{Prefix: four}, {Prefix: six}}, both, false,
			table{four: {hop: hop4, localPref: -1, med: -1}, six: {hop: hop6, localPref: -1, med: -1}}},
		{"a family without a next hop is not said", []speaker.Route{{Prefix: four}, {Prefix: six}}, nextHops{ipv4: hop4, ipv6: {}}, false,
			table{four: {hop: hop4, localPref: -1, med: -1}}},
		{"IPv4 by an IPv6 next hop", []speaker.Route{{Prefix: four}}, nextHops{ipv4: hop6}, false, table{four: {hop: hop6, localPref: -1, med: -1}}},
		{"an internal router is told all", []speaker.Route{full}, both, true, table{four: {hop: hop4, localPref: 0, med: 1<<32 - 1,
			communities: "\x00\x00\x00\x01\x00\x00\x00\x02", large: "\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04\x00\x00\x00\x05\x00\x00\x00\x06"}}},
		{"an external one no local preference", []speaker.Route{{Prefix: four, LocalPref: number(7), MED: number(0)}}, both, false,
			table{four: {hop: hop4, localPref: -1, med: 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tableOf(tt.routes, tt.hops, tt.internal); !maps.Equal(got, tt.want) {
				t.Errorf("tableOf() = %v\nwant        %v", got, tt.want)
			}
		})
	}
}

// A table says what the routes say, of each that has a next hop, in whatever
// order they come; and leaves them as they are.
func TestTableOfSaysAll(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	for range 500 {
		hops := nextHops{}
		for f, hop := range map[family]string{ipv4: "192.0.2.1", ipv6: "2001:db8::1"} {
			if rnd.IntN(4) > 0 {
				hops[f] = ip(hop)
			}
		}
		routes, internal := randomRoutes(rnd), rnd.IntN(2) == 0
		before := saidOf(routes)
		got := tableOf(routes, hops, internal)
		for p, said := range before {
			s, ok := got[p]
			if ok != hops[familyOf(p.Addr())].IsValid() || ok && (s.hop != hops[familyOf(p.Addr())] || !internal && s.localPref != -1) {
				t.Fatalf("%s is said to be %+v", p, s)
			}
			if ok && saidBy(t, p, s) != said {
				t.Fatalf("%s: %q, want %q", p, saidBy(t, p, s), said)
			}
		}
		if len(got) > len(routes) || !maps.Equal(saidOf(routes), before) {
			t.Fatalf("%d are said of %d", len(got), len(routes))
		}
		rnd.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
		if again := tableOf(routes, hops, internal); !maps.Equal(again, got) {
			t.Fatalf("after a shuffle: %v, before: %v", again, got)
		}
	}
}

// saidBy is what a puppet would hear of a prefix.
func saidBy(t *testing.T, p netip.Prefix, s saying) string {
	t.Helper()
	r := speaker.Route{Prefix: p, Communities: unpack(s.communities)}
	for l := unpack(s.large); len(l) > 0; l = l[3:] {
		r.Large = append(r.Large, [3]uint32(l[:3]))
	}
	if s.med >= 0 {
		r.MED = number(uint32(s.med))
	}
	return saidOf([]speaker.Route{r})[p]
}

// unpack is the reverse of pack.
func unpack(s string) []uint32 {
	numbers := make([]uint32, 0, len(s)/4)
	for ; len(s) >= 4; s = s[4:] {
		numbers = append(numbers, binary.BigEndian.Uint32([]byte(s[:4])))
	}
	return numbers
}

func TestChooseHops(t *testing.T) {
	addrs := []netip.Addr{ip("127.0.0.1"), ip("fe80::a"), ip("192.0.2.10"), ip("2001:db8::10")}
	tests := []struct {
		name       string
		local      string
		addrs      []netip.Addr
		extended   bool
		hop4, hop6 string
	}{
		{"over IPv4", "192.0.2.11", addrs, true, "192.0.2.11", "2001:db8::10"},
		{"over IPv4, with no more than a link-local address", "192.0.2.11", addrs[:3], true, "192.0.2.11", "fe80::a"},
		{"over IPv4, without IPv6", "192.0.2.11", addrs[2:3], true, "192.0.2.11", ""},
		{"over IPv6, to a router that knows RFC 8950", "2001:db8::10", addrs, true, "2001:db8::10", "2001:db8::10"},
		{"over IPv6, to one that does not", "2001:db8::10", addrs, false, "192.0.2.10", "2001:db8::10"},
		{"over a link-local address", "fe80::a%eth0", addrs, true, "fe80::a", "fe80::a"},
		{"over IPv6, without IPv4", "2001:db8::10", addrs[:2], false, "", "2001:db8::10"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := chooseHops(ip(tt.local), tt.addrs, open{extended: tt.extended})
			for f, want := range map[family]string{ipv4: tt.hop4, ipv6: tt.hop6} {
				if a := got[f]; a.IsValid() != (want != "") || a.IsValid() && a.String() != want {
					t.Errorf("%s by %s, want %q", f, a, want)
				}
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	tests := []struct {
		failed   int
		most     time.Duration
		from, to time.Duration
	}{
		{0, 0, 125 * time.Millisecond, 250 * time.Millisecond},
		{1, 0, 250 * time.Millisecond, 500 * time.Millisecond},
		{4, 0, 2 * time.Second, 4 * time.Second},
		{5, 0, 2500 * time.Millisecond, 5 * time.Second},
		{1000, 0, 2500 * time.Millisecond, 5 * time.Second},
		{1000, time.Minute, 30 * time.Second, time.Minute},
		{0, 100 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond},
	}
	for _, tt := range tests {
		if from, to := backoff(tt.failed, tt.most, 0), backoff(tt.failed, tt.most, 1); from != tt.from || to != tt.to {
			t.Errorf("after %d failures, at most %s: from %s to %s, want %s to %s", tt.failed, tt.most, from, to, tt.from, tt.to)
		}
	}
}

// A session that comes up and falls is not tried faster than one that does not come
// up, but one that has lasted is back soon.
func TestRestAfterASession(t *testing.T) {
	const soon, most = 250 * time.Millisecond, 10 * time.Second
	w := base("a", "192.0.2.1")
	w.ConnectRetry = most
	s := newSession(w, slog.New(slog.DiscardHandler), func() {})
	lost := errors.New("lost")
	var wait time.Duration
	for i, step := range []struct {
		name  string
		times int
		up    time.Duration
		err   error
		want  time.Duration // the last wait
	}{
		{"it does not come up", 1, 0, lost, soon},
		{"it comes up and falls", 9, time.Second, lost, most},
		{"it is up for a little less than the longest wait", 1, most - 1, lost, most},
		{"it is changed", 1, time.Second, errChanged, 0},
		{"it falls again", 1, time.Second, lost, most},
		{"it falls after an hour", 1, time.Hour, lost, soon},
		{"it falls at once", 1, 0, lost, 2 * soon},
	} {
		for range step.times {
			wait = s.rest(step.up, step.err, 1)
		}
		if wait != step.want {
			t.Errorf("step %d, %s: a wait of %s, want %s", i+1, step.name, wait, step.want)
		}
	}
}

// base is a session that is right.
func base(name, addr string) speaker.Session {
	return speaker.Session{
		Name: name, LocalASN: 65100, PeerASN: 65001, Addr: ip(addr), Port: 179, RouterID: ip("192.0.2.10"),
		HoldTime: 9 * time.Second, Keepalive: 3 * time.Second, Hops: 1, V4: true, V6: true,
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		at  func(*speaker.Session)
		err string
	}{
		{func(*speaker.Session) {}, ""},
		{func(w *speaker.Session) { w.LocalASN = 0 }, "spec.myASN"},
		{func(w *speaker.Session) { w.RouterID = netip.Addr{} }, "spec.routerID"},
		{func(w *speaker.Session) { w.RouterID = ip("::1") }, "spec.routerID"},
		{func(w *speaker.Session) { w.Addr = netip.Addr{} }, "spec.address"},
		{func(w *speaker.Session) { w.Addr = ip("fe80::1") }, "spec.interface"},
		{func(w *speaker.Session) { w.Addr, w.Interface = netip.Addr{}, "eth0" }, ""},
		{func(w *speaker.Session) { w.Addr = ip("::ffff:192.0.2.1") }, "in disguise"},
		{func(w *speaker.Session) { w.Port = 0 }, "spec.port"},
		{func(w *speaker.Session) { w.Source = ip("2001:db8::1") }, "spec.sourceAddress"},
		{func(w *speaker.Session) { w.HoldTime = 2 * time.Second }, "spec.holdTime"},
		{func(w *speaker.Session) { w.HoldTime, w.Keepalive = 0, 0 }, ""},
		{func(w *speaker.Session) { w.HoldTime = 70000 * time.Second }, "spec.holdTime"},
		{func(w *speaker.Session) { w.Keepalive = w.HoldTime }, "spec.keepaliveTime"},
		{func(w *speaker.Session) { w.GracefulRestart = 5000 * time.Second }, "spec.gracefulRestart"},
		{func(w *speaker.Session) { w.Password = strings.Repeat("x", 81) }, "password"},
		{func(w *speaker.Session) { w.V4, w.V6 = false, false }, "spec.families"},
		{func(w *speaker.Session) { w.Routes = []speaker.Route{{}} }, "no prefix"},
		{func(w *speaker.Session) { w.Routes = []speaker.Route{{Prefix: prefix("192.0.2.1/24")}} }, "no prefix"},
		{func(w *speaker.Session) {
			w.Routes = []speaker.Route{{Prefix: prefix("192.0.2.0/24")}, {Prefix: prefix("192.0.2.0/24")}}
		}, "twice"},
	}
	for i, tt := range tests {
		w := base("a", "192.0.2.1")
		tt.at(&w)
		if err := refused(nil, w); (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("row %d: %v, want %q", i, err, tt.err)
		}
	}
}

// An invalid session harms no other, and stays as it was.
func TestInvalidSessionStaysAsItWas(t *testing.T) {
	s := New(Options{})
	good, bad := base("good", "192.0.2.1"), base("bad", "192.0.2.2")
	want(t, s, bad, good)
	bad.Password, bad.LocalASN = "very secret", 0
	good.Hops = 3
	want(t, s, bad, good) // or no pass would be a good one until it is mended
	if said := state(s, "bad").Err; !strings.Contains(said, "spec.myASN is 0") || strings.Contains(said, "secret") {
		t.Errorf("it says %q", said)
	}
	if s.want["bad"].LocalASN != 65100 || s.want["good"].Hops != 3 {
		t.Errorf("wanted is %+v", s.want)
	}
	want(t, s, good, good)
	if said := state(s, "good").Err; said != "it is there twice" {
		t.Errorf("of the same name twice it says %q", said)
	}
}

// A session that cannot be as it is wanted is seen, and so is what is wrong with it.
func TestWhatIsRefusedIsShown(t *testing.T) {
	changes := 0
	s := New(Options{Changed: func() { changes++ }})
	bad := base("bad", "192.0.2.1")
	bad.Password = strings.Repeat("x", 99)
	want(t, s, bad)
	if got := s.States(); len(got) != 1 || got[0].Name != "bad" || got[0].Up || !strings.Contains(got[0].Err, "longer than 80 bytes") {
		t.Errorf("states %+v", got)
	}
	want(t, s, bad)
	if changes != 1 {
		t.Errorf("it was said %d times, want once", changes)
	}
	want(t, s)
	if len(s.States()) != 0 || changes != 2 {
		t.Errorf("without it: states %+v, said %d times", s.States(), changes)
	}
}

// A router that closes connections without a word is still angry for the same reason.
func TestWhatWasWrongIsRemembered(t *testing.T) {
	s := newSession(base("a", "192.0.2.1"), slog.New(slog.DiscardHandler), func() {})
	wrong := errors.New("the router says it is AS 1")
	const after = "the router says it is AS 1; since then it closes each connection at once"
	for i, step := range []struct {
		came bool
		err  error
		want string
	}{
		{false, errMute, errMute.Error()}, {false, wrong, wrong.Error()}, {false, errMute, after}, {false, errMute, after},
		{true, errors.New("lost"), "lost"}, {false, errMute, errMute.Error()},
		{false, wrong, wrong.Error()}, {false, errChanged, errChanged.Error()}, {false, errMute, errMute.Error()},
	} {
		if got := s.remember(step.came, step.err).Error(); got != step.want {
			t.Errorf("step %d: %q, want %q", i+1, got, step.want)
		}
	}
}

func TestDiffer(t *testing.T) {
	a := base("a", "192.0.2.1")
	b := a
	b.Routes, b.ConnectRetry, b.BFD = []speaker.Route{{Prefix: prefix("192.0.2.0/24")}}, time.Minute, speaker.BFD{Interval: time.Second}
	if a.Differs(b) {
		t.Error("other routes make another session")
	}
	if b.Password = "x"; !a.Differs(b) {
		t.Error("another password makes no other session")
	}
}

func TestNotificationsInWords(t *testing.T) {
	w := base("a", "192.0.2.1")
	tests := []struct {
		n    notification
		want string
	}{
		{cease(ceaseShutdown, "maintenance until 6\npm"), `the router ended the session: administrative shutdown: "maintenance until 6 pm"; its operator has shut the session down`},
		{cease(ceaseDeconfigured, ""), "the router ended the session: peer de-configured; this node was removed from its configuration"},
		{cease(ceasePrefixes, ""), "the router ended the session: maximum number of prefixes reached; it takes fewer routes than it is told: raise its maximum, or aggregate"},
		{notification{codeCease, ceaseReset, []byte{3, 'a', 0xc2, 0x85}}, `the router ended the session: administrative reset: "a "`}, // U+0085
		{notification{code: 2, subcode: 6}, "the router ended the session: unacceptable hold time; it does not accept spec.holdTime 9s"},
		{notification{code: 6, subcode: 99}, "the router ended the session: cease, subcode 99"},
		{notification{code: 99, subcode: 1}, "the router ended the session: code 99, subcode 1"},
		{notification{codeCease, ceaseShutdown, []byte{200, 'a', 0xff}}, `the router ended the session: administrative shutdown: "a?"; its operator has shut the session down`},
	}
	for _, tt := range tests {
		if got := refusal(tt.n, w, ip("192.0.2.10")).Error(); got != tt.want {
			t.Errorf("refusal() = %s\nwant        %s", got, tt.want)
		}
	}
}

func TestUnknownErrorsAreKept(t *testing.T) {
	odd := errors.New("odd")
	if got := unreached(odd, netip.AddrPort{}, base("a", "192.0.2.1")); !errors.Is(got, odd) {
		t.Errorf("unreached() = %v", got)
	}
	if got := lost(odd, true); !errors.Is(got, odd) {
		t.Errorf("lost() = %v", got)
	}
}
