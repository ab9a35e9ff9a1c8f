package ndp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker/l2"
)

// filter returns a program that passes solicitations and advertisements whose
// target or source is one of claimed, and nothing else. Where they are many and
// far apart, or of several subnets, it passes a few more.
func filter(claimed []netip.Addr) []bpf.Instruction {
	if len(claimed) == 0 {
		return []bpf.Instruction{l2.Drop}
	}
	upper, lower := split(claimed)
	return slices.Concat(
		l2.Only(offEtherType, 2, etherType),
		l2.Only(offNextHeader, 1, nextHeader),
		l2.Only(offHopLimit, 1, hopLimit),
		[]bpf.Instruction{
			bpf.LoadAbsolute{Off: offICMP, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: solicitation, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: advertisement, SkipTrue: 1},
			l2.Drop,
			bpf.LoadExtension{Num: bpf.ExtLen},
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: minLength, SkipTrue: 1},
			l2.Drop,
		},
		passWithin(offTarget, upper, lower),
		passWithin(offSource, upper, lower),
		[]bpf.Instruction{l2.Drop},
	)
}

// maxUppers bounds the length of a filter: each costs six instructions in each
// of two sections, and a jump cannot pass more than 255.
const maxUppers = 32

// An upper is the first 96 bits of an address, the way BPF compares them.
type upper [3]uint32

// split returns the first 96 bits of addrs, sorted, and what the last 32 range
// over. Too many different ones are none: then the lower bits have to do.
func split(addrs []netip.Addr) ([]upper, []l2.Span) {
	numbers := make([]uint32, len(addrs))
	var uppers []upper
	for i, a := range addrs {
		b := a.As16()
		word := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
		numbers[i] = word(12)
		uppers = append(uppers, upper{word(0), word(4), word(8)})
	}
	slices.SortFunc(uppers, func(a, b upper) int { return slices.Compare(a[:], b[:]) })
	uppers = slices.Compact(uppers)
	if len(uppers) > maxUppers {
		uppers = nil
	}
	return uppers, l2.Spans(numbers)
}

// passWithin passes a packet if the address at off begins and ends with what
// claimed addresses do, and goes on behind itself if not.
func passWithin(off uint32, uppers []upper, lower []l2.Span) []bpf.Instruction {
	end := l2.PassWithin(off+12, lower)
	if len(uppers) == 0 {
		return end
	}
	var prog []bpf.Instruction
	for i, u := range uppers {
		// From here to the next one, and to the look at the end of the address.
		rest := uint8(6*(len(uppers)-1-i) + 1)
		prog = append(prog,
			bpf.LoadAbsolute{Off: off, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: u[0], SkipTrue: 4},
			bpf.LoadAbsolute{Off: off + 4, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: u[1], SkipTrue: 2},
			bpf.LoadAbsolute{Off: off + 8, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: u[2], SkipTrue: rest})
	}
	return append(append(prog, bpf.Jump{Skip: uint32(len(end))}), end...)
}
