package l2

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSpans(t *testing.T) {
	tests := []struct {
		name    string
		numbers []uint32
		want    []Span
	}{
		{"nothing is no span", nil, nil},
		{"one address is one span", []uint32{1}, []Span{{1, 1}}},
		{"neighbours join, whatever their order", []uint32{3, 1, 2}, []Span{{1, 3}}},
		{"duplicates count once", []uint32{1, 1}, []Span{{1, 1}}},
		{"a gap parts", []uint32{1, 3}, []Span{{1, 1}, {3, 3}}},
		{"the ends of the address space", []uint32{1<<32 - 1, 0}, []Span{{0, 0}, {1<<32 - 1, 1<<32 - 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Spans(tt.numbers); !slices.Equal(got, tt.want) {
				t.Errorf("Spans() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWidenJoinsAcrossTheSmallestGaps(t *testing.T) {
	all := []Span{{0, 1}, {10, 10}, {13, 20}, {40, 41}, {44, 44}}
	tests := []struct {
		limit int
		want  []Span
	}{
		{5, all},
		{4, []Span{{0, 1}, {10, 10}, {13, 20}, {40, 44}}},
		{3, []Span{{0, 1}, {10, 20}, {40, 44}}},
		{2, []Span{{0, 20}, {40, 44}}},
		{1, []Span{{0, 44}}},
	}
	for _, tt := range tests {
		if got := widen(all, tt.limit); !slices.Equal(got, tt.want) {
			t.Errorf("widen(%d) = %v, want %v", tt.limit, got, tt.want)
		}
	}
}

// Whatever the addresses: the spans cover them all, are sorted, disjoint, few,
// and exact as long as they are few enough.
func TestSpansCover(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		numbers := randomNumbers(rnd)
		got := Spans(slices.Clone(numbers))
		if len(got) > maxSpans {
			t.Fatalf("%d spans, want at most %d", len(got), maxSpans)
		}
		var covered uint64
		for i, s := range got {
			if s.First > s.Last || i > 0 && uint64(got[i-1].Last)+1 >= uint64(s.First) {
				t.Fatalf("spans %v are not sorted, disjoint and apart", got)
			}
			covered += uint64(s.Last-s.First) + 1
		}
		for _, a := range numbers {
			if !in(got, a) {
				t.Fatalf("%d is not in %v", a, got)
			}
		}
		if len(got) < maxSpans && covered != uint64(len(numbers)) {
			t.Fatalf("%d spans let in %d addresses, want exactly %d", len(got), covered, len(numbers))
		}
	}
}

func in(ranges []Span, n uint32) bool {
	return slices.ContainsFunc(ranges, func(s Span) bool { return s.First <= n && n <= s.Last })
}

// randomNumbers returns none to a few hundred different numbers, some dense,
// some far apart, with the ends of their range among them.
func randomNumbers(rnd *rand.Rand) []uint32 {
	mask := []uint32{0x1f, 0x3ff, 1<<32 - 1}[rnd.IntN(3)]
	seen := map[uint32]bool{}
	for range rnd.IntN(300) {
		seen[rnd.Uint32()&mask] = true
	}
	if rnd.IntN(4) == 0 {
		seen[0], seen[1<<32-1] = true, true
	}
	return slices.Collect(maps.Keys(seen))
}
