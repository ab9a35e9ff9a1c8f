package nft

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// weights parses "a 2, b 1": destinations by their letter.
func weights(s string) map[netip.AddrPort]int {
	m := map[netip.AddrPort]int{}
	for part := range strings.SplitSeq(s, ", ") {
		var letter byte
		var weight int
		if n, _ := fmt.Sscanf(part, "%c %d", &letter, &weight); n == 2 {
			m[real(letter)] = weight
		}
	}
	return m
}

// real is the destination that a letter stands for.
func real(letter byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, letter}), 8080)
}

func reals(letters string) []netip.AddrPort {
	var all []netip.AddrPort
	for _, l := range []byte(letters) {
		all = append(all, real(l))
	}
	return all
}

func letters(all []netip.AddrPort) string {
	var b strings.Builder
	for _, r := range all {
		b.WriteByte(r.Addr().As4()[3])
	}
	return b.String()
}

func TestArrange(t *testing.T) {
	tests := []struct {
		name, have, weights string
		draw                draw
		want                string
	}{
		{"nothing is nothing", "", "", byTurn, ""},
		{"each gets a slot", "", "a 1, b 1, c 1", byTurn, "abc"},
		{"equal weights are one slot each", "", "a 100, b 100", byTurn, "ab"},
		{"weight 0 gets none", "", "a 0, b 1", byTurn, "b"},
		{"only weight 0 leaves none", "a", "a 0", byTurn, ""},
		{"weights are shares", "", "a 4, b 2", byTurn, "aab"},
		{"what comes goes to the end", "ba", "a 1, b 1, c 1", byTurn, "bac"},
		{"what leaves is replaced by the last", "abcd", "a 1, c 1, d 1", byTurn, "adc"},
		{"the last leaves alone", "abc", "a 1, b 1", byTurn, "ab"},
		{"what comes takes the place of what leaves", "abc", "a 1, d 1, c 1", atRandom, "adc"},
		{"a greater weight moves nobody", "ab", "a 2, b 1", byTurn, "aba"},
		{"a smaller weight makes one move", "aab", "a 1, b 1", byTurn, "ab"},
		{"a hash has them in order", "ba", "a 1, b 1, c 1", byFlow, "abc"},
		{"a hash closes the gap in order", "abcd", "a 1, c 1, d 1", bySource, "acd"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := letters(arrange(reals(tt.have), weights(tt.weights), tt.draw))
			if got != tt.want {
				t.Errorf("arrange(%s, %s) = %s, want %s", tt.have, tt.weights, got, tt.want)
			}
		})
	}
}

// TestArrangeIsFairAndStable walks through random weights.
func TestArrangeIsFairAndStable(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, d := range []draw{byTurn, atRandom, bySource, byFlow} {
		var have []netip.AddrPort
		for range 2000 {
			w := map[netip.AddrPort]int{}
			for range r.IntN(12) {
				w[real(byte('a'+r.IntN(14)))] = []int{0, 1, 1, 2, 3, 100, 65535}[r.IntN(7)]
			}
			next := arrange(have, w, d)
			if again := arrange(next, w, d); !slices.Equal(again, next) {
				t.Fatalf("%s: arranging %v once more gives %v", d, letters(next), letters(again))
			}
			fair(t, w, next)
			have = next
		}
	}
}

// fair checks that everybody has slots by weight, give or take the rounding.
func fair(t *testing.T, w map[netip.AddrPort]int, slots []netip.AddrPort) {
	t.Helper()
	sum, count := 0, map[netip.AddrPort]int{}
	for _, weight := range w {
		sum += weight
	}
	for _, real := range slots {
		count[real]++
	}
	for real, weight := range w {
		if (weight > 0) != (count[real] > 0) {
			t.Errorf("weight %d has %d slots", weight, count[real])
		}
		share := float64(count[real]) / max(1, float64(len(slots)))
		if want := float64(weight) / max(1, float64(sum)); share > want+0.05 || share < want-0.05 {
			t.Errorf("weight %d of %d has %d of %d slots", weight, sum, count[real], len(slots))
		}
	}
	if len(slots) > maxSlots+len(w) {
		t.Errorf("%d slots", len(slots))
	}
}

// TestArrangeChangesLittle adds and removes one destination of many.
func TestArrangeChangesLittle(t *testing.T) {
	w := map[netip.AddrPort]int{}
	for i := range 100 {
		w[real(byte(i))] = 1
	}
	have := arrange(nil, w, byTurn)
	for _, gone := range slices.SortedFunc(maps.Keys(w), netip.AddrPort.Compare) {
		less := maps.Clone(w)
		delete(less, gone)
		moved := 0
		for i, real := range arrange(have, less, byTurn) {
			if real != have[i] {
				moved++
			}
		}
		if moved > 1 {
			t.Errorf("%d slots change when %s goes", moved, gone)
		}
	}
}
