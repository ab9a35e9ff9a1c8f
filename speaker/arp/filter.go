package arp

import (
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker/l2"
)

// Where the fields of an ARP packet for IPv4 stand in an Ethernet frame.
const (
	offEtherType = 12
	offTypes     = 14 // hardware type and protocol type
	offLengths   = 18 // of hardware and protocol addresses
	offOperation = 20
	offSenderIP  = 28
	offTargetIP  = 38
)

// filter returns a program that passes ARP requests and replies for IPv4 on
// Ethernet whose target or sender IP is one of claimed, and nothing else; a few
// more where they are many and far apart.
func filter(claimed []netip.Addr) []bpf.Instruction {
	if len(claimed) == 0 {
		return []bpf.Instruction{l2.Drop}
	}
	spans := spansOf(claimed)
	return slices.Concat(
		l2.Only(offEtherType, 2, 0x0806),
		l2.Only(offTypes, 4, 0x0001_0800),
		l2.Only(offLengths, 2, 0x0604),
		[]bpf.Instruction{
			bpf.LoadAbsolute{Off: offOperation, Size: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 1, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: 2, SkipTrue: 1},
			l2.Drop,
		},
		l2.PassWithin(offTargetIP, spans),
		l2.PassWithin(offSenderIP, spans),
		[]bpf.Instruction{l2.Drop},
	)
}

func spansOf(addrs []netip.Addr) []l2.Span {
	numbers := make([]uint32, len(addrs))
	for i, a := range addrs {
		numbers[i] = number(a)
	}
	return l2.Spans(numbers)
}
