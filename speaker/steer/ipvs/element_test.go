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

func virtual(addr string, proto snapshot.Proto) steer.Virtual {
	return steer.Virtual{Addr: netip.MustParseAddrPort(addr), Proto: proto}
}

func TestSNATKeyIsAddressProtocolPortInWholeWords(t *testing.T) {
	got := snatKey(virtual("192.0.2.1:8080", snapshot.UDP))
	want := []byte{192, 0, 2, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0}
	if !bytes.Equal(got, want) {
		t.Errorf("snatKey() = %v, want %v", got, want)
	}
}

func TestSNATKeyReadsBack(t *testing.T) {
	for _, v := range []steer.Virtual{
		virtual("192.0.2.1:80", snapshot.TCP),
		virtual("255.255.255.255:65535", snapshot.SCTP),
		virtual("[2001:db8::1]:53", snapshot.UDP),
	} {
		if got, err := parseSNATKey(snatKey(v)); err != nil || got != v {
			t.Errorf("parseSNATKey(snatKey(%s)) = %s, %v", v, got, err)
		}
	}
}

func FuzzParseSNATKey(f *testing.F) {
	f.Add(snatKey(virtual("192.0.2.1:80", snapshot.TCP)))
	f.Add(snatKey(virtual("[2001:db8::1]:80", snapshot.TCP)))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, key []byte) {
		v, err := parseSNATKey(key)
		if err != nil {
			return
		}
		if again, err := parseSNATKey(snatKey(v)); err != nil || again != v {
			t.Errorf("%v reads as %s, which reads as %s, %v", key, v, again, err)
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

func TestElementsOfABatch(t *testing.T) {
	snatted, plain := virtual("192.0.2.1:80", snapshot.TCP), virtual("192.0.2.1:81", snapshot.TCP)
	joins, leaves := netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("10.244.0.0/16")
	adds, dels := elements(
		map[steer.Virtual]wish{snatted: {true, 1}, plain: {false, 0}},
		map[netip.Prefix]wish{joins: {true, 2}, leaves: {false, 3}})
	// One that is not wanted is added before it is deleted, or deleting fails.
	if n, m := len(adds["snat4"]), len(dels["snat4"]); n != 2 || m != 1 {
		t.Errorf("snat4: %d to add, %d to delete, want 2 and 1", n, m)
	}
	if !bytes.Equal(dels["snat4"][0].Key, snatKey(plain)) {
		t.Errorf("snat4 loses %v, want %v", dels["snat4"][0].Key, snatKey(plain))
	}
	if n, m := len(adds["pods4"]), len(dels["pods4"]); n != 2 || m != 2 {
		t.Errorf("pods4: %d to add, %d to delete, want two ends each", n, m)
	}
	if len(adds["snat6"])+len(adds["pods6"]) > 0 {
		t.Error("IPv6 sets change although nothing is IPv6")
	}
}
