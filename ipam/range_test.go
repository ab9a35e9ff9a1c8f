package ipam

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRange(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"a CIDR is all its addresses, the first and the last included", "192.0.2.0/30", "192.0.2.0-192.0.2.3"},
		{"a host prefix is one address", "192.0.2.1/32", "192.0.2.1"},
		{"all of IPv4", "0.0.0.0/0", "0.0.0.0-255.255.255.255"},
		{"all of IPv6", "::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"an IPv6 CIDR", "2001:DB8::/126", "2001:db8::-2001:db8::3"},
		{"a range", "192.0.2.1-192.0.2.9", "192.0.2.1-192.0.2.9"},
		{"a range of one", "192.0.2.1-192.0.2.1", "192.0.2.1"},
		{"an IPv6 range", "2001:db8::1-2001:db8::ffff", "2001:db8::1-2001:db8::ffff"},
		{"a CIDR may end among the addresses of IPv4 inside IPv6", "::/80", "::-::ffff:255.255.255.255"},
		{"one address", "2001:db8::1", "2001:db8::1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseRange(tt.in)
			if err != nil || got.String() != tt.want {
				t.Errorf("ParseRange(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
			}
		})
	}
}

func TestParseRangeRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "", `"" is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces`},
		{"words", "lan", `"lan" is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces`},
		{"leading zeros", "192.0.2.010", `"192.0.2.010" is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces`},
		{"spaces", "192.0.2.1 - 192.0.2.2", `"192.0.2.1 " is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces`},
		{"a range without end", "192.0.2.1-", `"" is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces`},
		{"a range of three", "192.0.2.1-192.0.2.2-192.0.2.3", `"192.0.2.2-192.0.2.3" is not an address: write one like 192.0.2.10 or 2001:db8::10, without spaces`},
		{"a range the wrong way round", "192.0.2.9-192.0.2.1", `range "192.0.2.9-192.0.2.1" ends before it starts: write 192.0.2.1-192.0.2.9`},
		{"a range of two families", "192.0.2.1-2001:db8::1", `range "192.0.2.1-2001:db8::1" mixes IPv4 and IPv6: write one range for each`},
		{"host bits", "192.0.2.5/24", `"192.0.2.5/24" has bits set beyond its prefix length: write 192.0.2.0/24 for the whole subnet, 192.0.2.5 for the one address`},
		{"a long prefix", "192.0.2.0/33", `"192.0.2.0/33" is not a CIDR: write one like 192.0.2.0/24 or 2001:db8::/64`},
		{"a zone", "fe80::1%eth0", `"fe80::1%eth0" has a zone: write fe80::1`},
		{"a zone in a CIDR", "fe80::%eth0/64", `"fe80::%eth0/64" is not a CIDR: write one like 192.0.2.0/24 or 2001:db8::/64`},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", `"::ffff:192.0.2.1" is IPv4 inside IPv6: write 192.0.2.1`},
		{"a CIDR of IPv4 in IPv6", "::ffff:192.0.2.0/120", `"::ffff:192.0.2.0/120" is IPv4 inside IPv6: write it as an IPv4 CIDR`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseRange(tt.in)
			if err == nil || err.Error() != tt.want {
				t.Errorf("ParseRange(%q) = %v, %v\nwant error %s", tt.in, got, err, tt.want)
			}
		})
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"192.0.2.0/24", "192.0.2.1-192.0.2.9", "2001:db8::/64", "::/0", "1.2.3.4", "-", "/", "::ffff:1.2.3.4/96", "fe80::1%a-b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			if !strings.Contains(err.Error(), ": write ") {
				t.Errorf("ParseRange(%q): no remedy in %q", s, err)
			}
			return
		}
		if r.Last.Less(r.First) || r.First.BitLen() != r.Last.BitLen() || r.First.Is4In6() || r.First.Zone() != "" || r.Len() < 1 {
			t.Errorf("ParseRange(%q) = %v", s, r)
		}
		if r.Last.Is4In6() {
			return // reached from below, as by ::/80: it has no text that stands for IPv6
		}
		if again, err := ParseRange(r.String()); err != nil || again != r {
			t.Errorf("%q is %v, and that is %v, %v", s, r, again, err)
		}
	})
}

func TestRangeLen(t *testing.T) {
	tests := []struct {
		in   string
		want int64
	}{
		{"192.0.2.1", 1},
		{"0.0.0.0/0", 1 << 32},
		{"2001:db8::/66", 1 << 62},
		{"2001:db8::/65", math.MaxInt64}, // one too many for an int64
		{"2001:db8::-2001:db8::7fff:ffff:ffff:fffe", math.MaxInt64},
		{"2001:db8::ffff:ffff:ffff:ffff-2001:db8:0:1::", 2}, // over the border of 64 bits
		{"::/0", math.MaxInt64},
	}
	for _, tt := range tests {
		r, err := ParseRange(tt.in)
		if got := r.Len(); err != nil || got != tt.want {
			t.Errorf("%s has %d addresses (%v), want %d", tt.in, got, err, tt.want)
		}
	}
}

func TestNormalize(t *testing.T) {
	got := pool("", "2001:db8::/127", "192.0.2.8/29", "192.0.2.0/29", "192.0.2.20", "192.0.2.4-192.0.2.6",
		"255.255.255.255", "::", "2001:db8::2").Ranges
	want := []string{"192.0.2.0-192.0.2.15", "192.0.2.20", "255.255.255.255", "::", "2001:db8::-2001:db8::2"}
	if diff := cmp.Diff(want, texts(got)); diff != "" {
		t.Errorf("ranges (-want +got):\n%s", diff)
	}
}

func TestSubtract(t *testing.T) {
	tests := []struct {
		name             string
		from, take, want []string
	}{
		{"nothing", []string{"192.0.2.0/30"}, nil, []string{"192.0.2.0-192.0.2.3"}},
		{"all", []string{"192.0.2.0/30"}, []string{"192.0.2.0/24"}, nil},
		{"a hole", []string{"192.0.2.0/29"}, []string{"192.0.2.3"}, []string{"192.0.2.0-192.0.2.2", "192.0.2.4-192.0.2.7"}},
		{"both ends", []string{"192.0.2.0/29"}, []string{"192.0.2.0", "192.0.2.7"}, []string{"192.0.2.1-192.0.2.6"}},
		{"one that reaches into two", []string{"192.0.2.0-192.0.2.3", "192.0.2.6-192.0.2.9"}, []string{"192.0.2.2-192.0.2.7"}, []string{"192.0.2.0-192.0.2.1", "192.0.2.8-192.0.2.9"}},
		{"the ends of both families", []string{"0.0.0.0/0", "::/0"}, []string{"0.0.0.0/1", "128.0.0.1-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"},
			[]string{"128.0.0.0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Subtract(pool("", tt.from...).Ranges, pool("", tt.take...).Ranges)
			if diff := cmp.Diff(tt.want, texts(got)); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDisjoin(t *testing.T) {
	sets := [][]Range{
		pool("", "192.0.2.4-192.0.2.5", "255.255.255.255").Ranges,
		pool("", "192.0.2.0/28", "::1").Ranges,
		pool("", "192.0.2.14-192.0.2.17", "255.255.255.0/24").Ranges,
		pool("", "198.51.100.1", "192.0.2.2").Ranges,
	}
	kept, clashes := Disjoin(sets)
	var got []string
	for _, k := range kept {
		got = append(got, strings.Join(texts(k), " "))
	}
	want := []string{
		"192.0.2.4-192.0.2.5 255.255.255.255",
		"192.0.2.0-192.0.2.3 192.0.2.6-192.0.2.15 ::1",
		"192.0.2.16-192.0.2.17 255.255.255.0-255.255.255.254",
		"198.51.100.1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	first := func(s string) Range { return pool("", s).Ranges[0] }
	wantClashes := []Clash{
		{0, 1, first("192.0.2.4-192.0.2.5")}, {1, 2, first("192.0.2.14-192.0.2.15")}, {1, 3, first("192.0.2.2")},
	}
	if !slices.Equal(clashes, wantClashes) {
		t.Errorf("clashes %v, want %v", clashes, wantClashes)
	}
}

// Address by address, sets of ranges behave as sets.
func TestRangesAreSets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for round := range 1500 {
		sets := make([][]Range, 1+rnd.IntN(5))
		for i := range sets {
			for range rnd.IntN(5) {
				sets[i] = append(sets[i], randomRange(rnd))
			}
		}
		kept, clashes := Disjoin(sets)
		a, b := Normalize(sets[0]), Normalize(sets[len(sets)-1])
		minus := Subtract(a, b)
		lost := map[int]int{} // loser to winner at any address
		for n := range byte(16) {
			for _, addr := range []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, n}), netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: n})} {
				if got, want := within(minus, addr), within(a, addr) && !within(b, addr); got != want {
					t.Fatalf("round %d: %v minus %v is %v: has %s: %v", round, a, b, minus, addr, got)
				}
				winner := slices.IndexFunc(sets, func(s []Range) bool { return within(s, addr) })
				for i := range sets {
					if got, want := within(kept[i], addr), winner == i; got != want {
						t.Fatalf("round %d: %v became %v: set %d has %s: %v", round, sets, kept, i, addr, got)
					}
					if winner >= 0 && winner < i && within(sets[i], addr) {
						lost[i] = winner
					}
				}
			}
		}
		if len(clashes) != len(lost) {
			t.Fatalf("round %d: %v: clashes %v, but lost %v", round, sets, clashes, lost)
		}
		for _, c := range clashes {
			if c.Winner >= c.Loser || !within(sets[c.Winner], c.Range.First) || !within(sets[c.Loser], c.Range.First) || !within(sets[c.Loser], c.Range.Last) {
				t.Fatalf("round %d: %v: wrong clash %v", round, sets, c)
			}
		}
	}
}

func within(ranges []Range, addr netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.Contains(addr) })
}

func texts(ranges []Range) (out []string) {
	for _, r := range ranges {
		out = append(out, r.String())
	}
	return out
}
