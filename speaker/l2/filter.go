package l2

import (
	"cmp"
	"slices"

	"golang.org/x/net/bpf"
)

// FrameSize is more than any packet needs that matters here.
const FrameSize = 2048

// What a filter says of a packet.
var (
	Pass = bpf.RetConstant{Val: FrameSize}
	Drop = bpf.RetConstant{Val: 0}
)

// maxSpans bounds the length of a filter: each span costs two instructions
// wherever it is looked for, and a jump cannot pass more than 255.
const maxSpans = 64

// A Span is a closed range of numbers that stand for addresses.
type Span struct{ First, Last uint32 }

// Spans covers numbers with at most 64 spans, sorted and disjoint. If they do
// not fit, the smallest gaps are let in too: the filter only saves work, the
// look-up decides. It sorts numbers.
func Spans(numbers []uint32) []Span {
	slices.Sort(numbers)
	var all []Span
	for _, n := range numbers {
		if i := len(all) - 1; i >= 0 && n-all[i].Last <= 1 {
			all[i].Last = n
			continue
		}
		all = append(all, Span{n, n})
	}
	return widen(all, maxSpans)
}

// widen joins neighbours across the smallest gaps until at most limit are
// left. Of equal gaps the one at the higher address goes first.
func widen(all []Span, limit int) []Span {
	if len(all) <= limit {
		return all
	}
	cuts := make([]int, len(all)-1) // i is the gap before all[i+1]
	for i := range cuts {
		cuts[i] = i
	}
	gap := func(i int) uint32 { return all[i+1].First - all[i].Last }
	slices.SortFunc(cuts, func(i, j int) int {
		return cmp.Or(cmp.Compare(gap(j), gap(i)), cmp.Compare(i, j))
	})
	cuts = cuts[:limit-1] // the widest stay
	slices.Sort(cuts)

	out := make([]Span, 0, limit)
	from := 0
	for _, i := range append(cuts, len(all)-1) {
		out = append(out, Span{all[from].First, all[i].Last})
		from = i + 1
	}
	return out
}

// Only drops a packet unless the field at off has this value.
func Only(off uint32, size int, value uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: off, Size: size},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipTrue: 1},
		Drop,
	}
}

// PassWithin passes a packet if the four bytes at off lie in one of spans, and
// goes on behind itself if not. Since spans are sorted, the first one that
// begins above them ends the search.
func PassWithin(off uint32, spans []Span) []bpf.Instruction {
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: 4}}
	for i, s := range spans {
		// From here to the miss behind the last span, and equally far from
		// the next instruction to the hit behind that.
		skip := uint8(2*(len(spans)-i) - 1)
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: s.First, SkipTrue: skip},
			bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: s.Last, SkipTrue: skip})
	}
	return append(prog, bpf.Jump{Skip: 1}, Pass)
}

// atLink drops what only passes by the link of this index.
//
// A packet socket also gets frames that the kernel hands on to a VLAN, a
// bond or a bridge above its link, with the tag already taken off: skb->dev
// tells them apart. A frame of a VLAN that nobody has is marked
// PACKET_OTHERHOST, again without its tag (both: net/core/dev.c,
// __netif_receive_skb_core).
func atLink(index int) []bpf.Instruction {
	const packetOtherHost = 3
	return []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtInterfaceIndex},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(index), SkipTrue: 1},
		Drop,
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packetOtherHost, SkipTrue: 1},
		Drop,
	}
}
