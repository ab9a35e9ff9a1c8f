package arp

import (
	"cmp"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

// maxSpans bounds the length of a filter: each span costs two instructions in
// each of two sections, and a jump cannot pass more than 255.
const maxSpans = 64

// A span is a closed range of IPv4 addresses, as numbers.
type span struct{ first, last uint32 }

// spans covers addrs with at most maxSpans spans, sorted and disjoint. If
// they do not fit, the smallest gaps are let in too: the filter only saves
// work, the look-up decides.
func spans(addrs []netip.Addr) []span {
	numbers := make([]uint32, len(addrs))
	for i, a := range addrs {
		numbers[i] = number(a)
	}
	slices.Sort(numbers)
	var all []span
	for _, n := range numbers {
		if i := len(all) - 1; i >= 0 && n-all[i].last <= 1 {
			all[i].last = n
			continue
		}
		all = append(all, span{n, n})
	}
	return widen(all, maxSpans)
}

// widen joins neighbours across the smallest gaps until at most limit are
// left. Of equal gaps the one at the higher address goes first.
func widen(all []span, limit int) []span {
	if len(all) <= limit {
		return all
	}
	cuts := make([]int, len(all)-1) // i is the gap before all[i+1]
	for i := range cuts {
		cuts[i] = i
	}
	gap := func(i int) uint32 { return all[i+1].first - all[i].last }
	slices.SortFunc(cuts, func(i, j int) int {
		return cmp.Or(cmp.Compare(gap(j), gap(i)), cmp.Compare(i, j))
	})
	cuts = cuts[:limit-1] // the widest stay
	slices.Sort(cuts)

	out := make([]span, 0, limit)
	from := 0
	for _, i := range append(cuts, len(all)-1) {
		out = append(out, span{all[from].first, all[i].last})
		from = i + 1
	}
	return out
}

// Where the fields of an ARP packet for IPv4 stand in an Ethernet frame.
const (
	offEtherType = 12
	offTypes     = 14 // hardware type and protocol type
	offLengths   = 18 // of hardware and protocol addresses
	offOperation = 20
	offSenderIP  = 28
	offTargetIP  = 38
)

var (
	pass = bpf.RetConstant{Val: frameSize}
	drop = bpf.RetConstant{Val: 0}
)

// filter returns a program that passes ARP requests and replies for IPv4 on
// Ethernet whose target or sender IP lies in one of spans, and nothing else.
func filter(spans []span) []bpf.Instruction {
	if len(spans) == 0 {
		return []bpf.Instruction{drop}
	}
	return slices.Concat(
		only(offEtherType, 2, 0x0806),
		only(offTypes, 4, 0x0001_0800),
		only(offLengths, 2, 0x0604),
		[]bpf.Instruction{
			bpf.LoadAbsolute{Off: offOperation, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 1, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 2, SkipTrue: 1},
			drop,
		},
		passWithin(offTargetIP, spans),
		passWithin(offSenderIP, spans),
		[]bpf.Instruction{drop},
	)
}

// only drops a packet unless the field at off has this value.
func only(off uint32, size int, value uint32) []bpf.Instruction {
	return []bpf.Instruction{
		bpf.LoadAbsolute{Off: off, Size: size},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipTrue: 1},
		drop,
	}
}

// passWithin passes a packet if the address at off lies in one of spans, and
// goes on behind itself if not. Since spans are sorted, the first one that
// begins above the address ends the search.
func passWithin(off uint32, spans []span) []bpf.Instruction {
	prog := []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: 4}}
	for i, s := range spans {
		// From here to the miss behind the last span, and equally far from
		// the next instruction to the hit behind that.
		skip := uint8(2*(len(spans)-i) - 1)
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: s.first, SkipTrue: skip},
			bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: s.last, SkipTrue: skip})
	}
	return append(prog, bpf.Jump{Skip: 1}, pass)
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
		drop,
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: packetOtherHost, SkipTrue: 1},
		drop,
	}
}
