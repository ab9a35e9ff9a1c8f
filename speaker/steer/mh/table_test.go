package mh

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func build(t testing.TB, dests []Dest) *Table {
	t.Helper()
	table, err := Build(dests, DefaultTabIndex)
	if err != nil {
		t.Fatalf("Build(%v) = %v", dests, err)
	}
	return table
}

// pods returns destinations with these weights, each at an address of its own.
func pods(weights ...int) []Dest {
	dests := make([]Dest, len(weights))
	for i, w := range weights {
		dests[i] = Dest{Addr: pod(i), Weight: w}
	}
	return dests
}

func pod(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i / 250), byte(1 + i%250)}), 8080)
}

// randomPods returns 1 to 40 destinations of weight 1 to 5.
func randomPods(r *rand.Rand) []Dest {
	dests := make([]Dest, 1+r.IntN(40))
	for i, host := range r.Perm(1000)[:len(dests)] {
		dests[i] = Dest{Addr: pod(host), Weight: 1 + r.IntN(5)}
	}
	return dests
}

// held counts the slots of each destination.
func held(table *Table, dests int) []int {
	counts := make([]int, dests)
	for _, d := range table.slots {
		counts[d]++
	}
	return counts
}

func TestShares(t *testing.T) {
	tests := []struct {
		name  string
		dests []Dest
		want  []int // slots
	}{
		{"one has them all", pods(1), []int{4093}},
		{"equal weights are equal shares, and the newest has what is over", pods(1, 1), []int{2046, 2047}},
		{"weights are shares", pods(1, 2), []int{1364, 2729}},
		{"only the ratio of weights counts", pods(100, 200), []int{1364, 2729}},
		{"a destination that was added with weight 0 has none", pods(0, 1), []int{0, 4093}},
		{"one that was set to weight 0 keeps its own",
			[]Dest{{Addr: pod(0), Last: 1}, {Addr: pod(1), Weight: 2}}, []int{1364, 2729}},
		{"an earlier weight means nothing", []Dest{{Addr: pod(0), Weight: 1, Last: 5}, {Addr: pod(1), Weight: 2}}, []int{1364, 2729}},
		{"one that is overloaded keeps its own",
			[]Dest{{Addr: pod(0), Weight: 1, Overloaded: true}, {Addr: pod(1), Weight: 2}}, []int{1364, 2729}},
		{"turns are cut to six bits, at least one", pods(1, 65535), []int{63, 4030}},
		{"no more is cut than has to be", pods(1, 127), []int{63, 4030}},
		{"63 to 1 needs no cut", pods(1, 63), []int{63, 4030}},
		{"nobody has a share", pods(0, 0), []int{0, 0}},
		{"there is nobody", nil, []int{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := held(build(t, tt.dests), len(tt.dests)); !slices.Equal(got, tt.want) {
				t.Errorf("slots %v, want %v", got, tt.want)
			}
		})
	}
}

// In each round everybody has as many turns as its weight says.
func TestSharesAreInTheRatioOfWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		dests, sum := randomPods(r), 0
		divisor := 0
		for _, d := range dests {
			sum += d.Weight
			divisor = gcd(divisor, d.Weight)
		}
		rounds := 4093 / (sum / divisor)
		for i, n := range held(build(t, dests), len(dests)) {
			turns := dests[i].Weight / divisor
			if n < rounds*turns || n > (rounds+1)*turns {
				t.Errorf("weight %d of %d has %d slots of 4093", dests[i].Weight, sum, n)
			}
		}
	}
}

// moved counts the slots that have another destination in b than in a, those
// of the address gone left out.
func moved(a, b *Table, in, now []Dest, gone netip.AddrPort) (n int) {
	for i := range a.slots {
		was := in[a.slots[i]].Addr
		if was != gone && now[b.slots[i]].Addr != was {
			n++
		}
	}
	return n
}

func TestWhoLeavesTakesFewWithIt(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, count := range []int{3, 10, 100} {
		dests := pods(slices.Repeat([]int{1}, count)...)
		gone := r.IntN(count)
		rest := slices.Delete(slices.Clone(dests), gone, gone+1)
		n := moved(build(t, dests), build(t, rest), dests, rest, dests[gone].Addr)
		t.Logf("1 of %d leaves: %d of 4093 slots move besides its own", count, n)
		if n > 4093*5/100 {
			t.Errorf("%d slots move besides its own", n)
		}
	}
}

// Nodes that added the same destinations in another order disagree about a few
// flows: where two want one slot, the one that was added later gets it.
func TestTheOrderOfAdditionMatters(t *testing.T) {
	for _, count := range []int{2, 3, 10, 100} {
		dests := pods(slices.Repeat([]int{1}, count)...)
		turned := slices.Clone(dests)
		slices.Reverse(turned)
		n := moved(build(t, dests), build(t, turned), dests, turned, netip.AddrPort{})
		t.Logf("%d in reverse order: %d of 4093 slots differ", count, n)
		if n == 0 || n > 4093*10/100 {
			t.Errorf("%d of 4093 slots differ, want a few", n)
		}
	}
}

func TestToDrainMovesNoSlot(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		dests := randomPods(r)
		before := build(t, dests)
		for i := range dests {
			if r.IntN(3) == 0 {
				dests[i].Weight, dests[i].Last = 0, dests[i].Weight
			}
		}
		if after := build(t, dests); !slices.Equal(before.slots, after.slots) {
			t.Fatalf("slots moved as weights were set to 0: %v", dests)
		}
	}
}

func TestTablesOfEverySizeAreFull(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for i, size := range primes {
		table, err := Build(randomPods(r), minTabIndex+i)
		if err != nil || len(table.slots) != size || slices.Contains(table.slots, free) {
			t.Errorf("index %d: %v, %d slots, want %d, all taken", minTabIndex+i, err, len(table.slots), size)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	tests := []struct {
		name  string
		dests []Dest
		index int
		want  string
	}{
		{"an index below the smallest", nil, 7, "index 7: want 8 to 17"},
		{"an index above the greatest", nil, 18, "index 18: want 8 to 17"},
		{"more destinations than slots", pods(make([]int, 252)...), 8, "251 slots: 252 destinations are too many"},
		{"no address", []Dest{{Weight: 1}}, 12, "not an address"},
		{"two families", append(pods(1), Dest{Addr: netip.MustParseAddrPort("[2001:db8::1]:80")}), 12,
			"destination [2001:db8::1]:80: 10.244.0.1:8080 is of the other family"},
		{"a negative weight", pods(-1), 12, "weight -1, last 0: want 0 to"},
		{"a negative last weight", []Dest{{Addr: pod(0), Last: -1}}, 12, "weight 0, last -1: want 0 to"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Build(tt.dests, tt.index); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Build() = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func BenchmarkBuild(b *testing.B) {
	for _, count := range []int{3, 100, 1000} {
		dests := pods(slices.Repeat([]int{1}, count)...)
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Build(dests, DefaultTabIndex); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
