package ipvs

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/nftables"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func virtual(addr string, proto snapshot.Proto) steer.Virtual {
	return steer.Virtual{Addr: netip.MustParseAddrPort(addr), Proto: proto}
}

func TestAServersKeyIsAddressProtocolPortInWholeWords(t *testing.T) {
	got := serverKey(virtual("192.0.2.1:8080", snapshot.UDP))
	want := []byte{192, 0, 2, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0}
	if !bytes.Equal(got, want) {
		t.Errorf("serverKey() = %v, want %v", got, want)
	}
}

func TestANodePortIsAtTheAddressOfTheNamespaceInside(t *testing.T) {
	m := member{set: snat, virtual: virtual("0.0.0.0:30080", snapshot.TCP)}
	if got, want := m.encode()[0].Key, serverKey(virtual("169.254.77.2:30080", snapshot.TCP)); !bytes.Equal(got, want) {
		t.Errorf("key in snat4 = %v, want %v", got, want)
	}
}

func TestMembersReadBack(t *testing.T) {
	servers := []steer.Virtual{
		virtual("192.0.2.1:80", snapshot.TCP), virtual("255.255.255.255:65535", snapshot.SCTP), virtual("[2001:db8::1]:53", snapshot.UDP),
	}
	var all []member
	for _, v := range servers {
		for _, set := range []setName{fronts, direct, limited, snat} {
			all = append(all, member{set: set, virtual: v})
		}
	}
	for _, v := range []steer.Virtual{virtual("0.0.0.0:30080", snapshot.TCP), virtual("[::]:30080", snapshot.UDP)} {
		all = append(all, member{set: ports, virtual: v}, member{set: snat, virtual: v})
	}
	for _, p := range []string{"10.0.0.0/8", "192.0.2.7/32", "0.0.0.0/0", "128.0.0.0/1"} {
		all = append(all, member{set: allowed, virtual: servers[0], prefix: netip.MustParsePrefix(p)})
	}
	for _, p := range []string{"fd00::/8", "::/0", "2001:db8::7/128"} {
		all = append(all, member{set: allowed, virtual: servers[2], prefix: netip.MustParsePrefix(p)})
	}
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		all = append(all, member{set: addrs, addr: ip(a)}, member{set: nodes, addr: ip(a)})
	}
	all = append(all, member{set: pods, prefix: netip.MustParsePrefix("10.244.1.0/24")}, member{set: locals, prefix: netip.MustParsePrefix("fd10::/64")})
	for _, m := range all {
		got, err := decode(m.set, m.family(), m.encode())
		if err != nil || len(got) != 1 || got[0] != m {
			t.Errorf("%v reads back as %v, %v", m, got, err)
		}
	}
}

func FuzzDecodeMember(f *testing.F) {
	v4, v6 := serverKey(virtual("192.0.2.1:80", snapshot.TCP)), serverKey(virtual("[2001:db8::1]:80", snapshot.TCP))
	f.Add(uint8(0), false, v4, []byte{})
	f.Add(uint8(6), false, append(v4, 10, 0, 0, 0), append(v4, 10, 255, 255, 255))
	f.Add(uint8(3), true, v6, []byte{})
	f.Add(uint8(7), true, []byte{}, []byte{})
	names := slices.Concat(onHost, inSingle)
	f.Fuzz(func(t *testing.T, which uint8, six bool, key, end []byte) {
		name, fam := names[int(which)%len(names)], family4
		if six {
			fam = family6
		}
		got, err := decode(name, fam, []nftables.SetElement{{Key: key, KeyEnd: end}})
		if err != nil || len(got) == 0 {
			return
		}
		again, err := decode(name, fam, got[0].encode())
		if err != nil || len(again) != 1 || again[0] != got[0] {
			t.Errorf("%v %v in %s reads as %v, which reads as %v, %v", key, end, name, got, again, err)
		}
	})
}

func TestPrefixEnd(t *testing.T) {
	tests := []struct {
		name, prefix, end string // no end: "invalid IP"
	}{
		{"the next network", "10.244.1.0/24", "10.244.2.0"},
		{"a carry", "10.244.255.0/24", "10.245.0.0"},
		{"one address", "10.0.0.255/32", "10.0.1.0"},
		{"half of all", "0.0.0.0/1", "128.0.0.0"},
		{"the last has none", "255.255.255.0/24", "invalid IP"},
		{"everything has none", "0.0.0.0/0", "invalid IP"},
		{"IPv6", "fd10:244:1::/64", "fd10:244:1:1::"},
		{"the last of IPv6 has none", "ffff::/16", "invalid IP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			end, ok := prefixEnd(netip.MustParsePrefix(tt.prefix))
			if end.String() != tt.end || ok != end.IsValid() {
				t.Errorf("prefixEnd(%s) = %s, %t, want %s", tt.prefix, end, ok, tt.end)
			}
		})
	}
}

// Any set of prefixes that do not overlap reads back, in whatever order the
// kernel lists it, neighbours included.
func TestIntervalsReadBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		var want []netip.Prefix
		var elements []nftables.SetElement
		for range r.IntN(12) {
			p := randomPrefix(r, round%2 == 0)
			if slices.ContainsFunc(want, p.Overlaps) {
				continue
			}
			want, elements = append(want, p), append(elements, interval(p)...)
		}
		r.Shuffle(len(elements), func(i, j int) { elements[i], elements[j] = elements[j], elements[i] })
		slices.SortFunc(want, netip.Prefix.Compare)
		got := parseIntervals(elements)
		slices.SortFunc(got, netip.Prefix.Compare)
		if !slices.Equal(got, want) {
			t.Fatalf("round %d: parseIntervals() = %v, want %v", round, got, want)
		}
	}
}

// randomPrefix draws from few networks, so that neighbours are common.
func randomPrefix(r *rand.Rand, four bool) netip.Prefix {
	if four {
		a := netip.AddrFrom4([4]byte{byte(254 + r.IntN(2)), 255, byte(252 + r.IntN(4)), byte(r.IntN(256))})
		return netip.PrefixFrom(a, 20+r.IntN(13)).Masked()
	}
	a := netip.AddrFrom16([16]byte{0xff, 0xff, 15: byte(r.IntN(8))})
	return netip.PrefixFrom(a, 120+r.IntN(9)).Masked()
}

func TestIntervalsThatAreNoPrefixAreLeftOut(t *testing.T) {
	key := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	got := parseIntervals([]nftables.SetElement{
		{Key: key("10.0.0.1")}, {Key: key("10.0.0.4"), IntervalEnd: true},
		{Key: key("10.0.0.8")}, {Key: key("10.0.0.12"), IntervalEnd: true},
		{Key: []byte{1, 2, 3}},
	})
	if want := []netip.Prefix{netip.MustParsePrefix("10.0.0.8/30")}; !slices.Equal(got, want) {
		t.Errorf("parseIntervals() = %v, want %v", got, want)
	}
}

func TestElementsComeAndGoInOrder(t *testing.T) {
	v := virtual("192.0.2.1:80", snapshot.TCP)
	of := func(tier steer.Tier) steer.Virtual { w := v; w.Tier = tier; return w }
	change := func(verb steer.Verb, tier steer.Tier, s steer.Server) steer.Change {
		return steer.Change{Verb: verb, Virtual: of(tier), Server: s}
	}
	plain := steer.Server{Scheduler: "rr"}
	closed := steer.Server{Scheduler: "rr", SNAT: true, Sources: "10.0.0.0/8"}
	tests := []struct {
		name        string
		have        map[steer.Virtual]steer.Server
		change      steer.Change
		early, late []string
	}{
		{"what restricts a new server comes before it",
			nil, change(steer.Add, steer.Single, closed), []string{"allowed 10.0.0.0/8", "limited", "snat"}, nil},
		{"and goes after it",
			map[steer.Virtual]steer.Server{of(steer.Single): closed}, change(steer.Del, steer.Single, plain), nil, []string{"allowed 10.0.0.0/8", "limited", "snat"}},
		{"what leads to a front comes after it",
			nil, change(steer.Add, steer.Front, plain), nil, []string{"fronts"}},
		{"and goes before it",
			map[steer.Virtual]steer.Server{of(steer.Front): plain}, change(steer.Del, steer.Front, plain), []string{"fronts"}, nil},
		{"a back that is to wait behind the tunnel is led to no more",
			map[steer.Virtual]steer.Server{of(steer.Back): {Scheduler: "rr", Direct: true}}, change(steer.Set, steer.Back, plain), []string{"direct"}, nil},
		{"sources are exchanged at one time",
			map[steer.Virtual]steer.Server{of(steer.Single): closed}, change(steer.Set, steer.Single, steer.Server{Scheduler: "rr", SNAT: true, Sources: "10.0.0.0/9"}),
			[]string{"allowed 10.0.0.0/8", "allowed 10.0.0.0/9"}, nil},
		{"what does not change is left alone",
			map[steer.Virtual]steer.Server{of(steer.Single): closed}, change(steer.Set, steer.Single, steer.Server{Scheduler: "lc", SNAT: true, Sources: "10.0.0.0/8"}), nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := New(Options{})
			k.known = &known{servers: map[steer.Virtual]steer.Server{}, members: map[member]bool{}}
			for v, s := range tt.have {
				k.known.servers[v] = s
				for _, m := range membersOf(v, s) {
					k.known.members[m] = true
				}
			}
			b := newBatch(k, []steer.Change{tt.change})
			b.gather(t.Context(), 0)
			early, late := b.split()
			if !slices.Equal(told(early), tt.early) || !slices.Equal(told(late), tt.late) {
				t.Errorf("early %v, late %v\nwant  %v,      %v", told(early), told(late), tt.early, tt.late)
			}
		})
	}
}

// told is members in words, sorted.
func told(members []member) (words []string) {
	for _, m := range members {
		w := string(m.set)
		if m.prefix.IsValid() {
			w += " " + m.prefix.String()
		}
		words = append(words, w)
	}
	slices.Sort(words)
	return words
}
