package nft

import (
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// chain returns the chain of h.
//
// A packet that comes while a transaction is being committed may draw a slot
// that is gone before it looks it up; slot 0 is there as long as any is. Where
// that is gone too the packet is dropped, and the client sends it again.
func (h helper) chain(mark uint32) chain {
	c := chain{name: h.String()}
	if h.snat {
		c.rules = append(c.rules, orMark(mark))
	} else {
		c.rules = append(c.rules, slices.Concat(h.fam.fromPods(), orConnMark(mark)))
	}
	if h.keep > 0 {
		c.rules = append(c.rules, h.remember()...)
	}
	server, at := h.loadServer(0)
	first := &expr.Immediate{Register: reg(at), Data: binaryutil.NativeEndian.PutUint32(0)}
	c.rules = append(c.rules,
		slices.Concat(server, h.choose(at), value(endsSet(h.fam), 0, at), h.send(at)),
		slices.Concat(server, []expr.Any{first}, value(endsSet(h.fam), 0, at), h.send(at)),
		[]expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	return c
}

// remember returns the rules that send a client where its last connection
// went, if that is still to be had, and else draw a slot and remember it.
//
// What has been drawn is looked up again: of two connections that a client
// makes at once the second then follows the first. Where there is no room to
// remember, the rules below draw once more.
//
// In the registers stand the client, the server, and a slot or an id, one
// behind the other: the first two are the key of what is remembered, the last
// two that of a slot or a target.
func (h helper) remember() [][]expr.Any {
	behind := h.fam.words()
	server, at := h.loadServer(behind)
	key := append([]expr.Any{h.fam.loadSaddr(0)}, server...)
	kept := slices.Concat(key, id(affinitySet(h.fam), 0, at))
	live := slices.Concat(kept, value(liveSet(h.fam), behind, at), h.send(at))
	renewed := slices.Concat(kept, h.note(opUpdate, at), value(liveSet(h.fam), behind, at), h.send(at))
	return [][]expr.Any{
		renewed,
		slices.Concat(kept, h.note(opDelete, at)),
		slices.Concat(key, h.choose(at), id(idsSet(h.fam), behind, at), h.note(opUpdate, at)),
		live,
	}
}

// What a rule does with an element (enum nft_dynset_ops, nf_tables.h). Update
// adds it or makes it live anew, but leaves its value as it is.
const (
	opUpdate = unix.NFT_DYNSET_OP_UPDATE
	opDelete = 2
)

// note remembers, or forgets, that the client went to the target whose id is in
// a register.
func (h helper) note(op uint32, at int) []expr.Any {
	d := &expr.Dynset{SrcRegKey: reg(0), SrcRegData: reg(at), SetName: affinitySet(h.fam).Name, Operation: op}
	if op == opUpdate {
		d.Timeout = time.Duration(h.keep) * time.Second
	}
	return []expr.Any{d}
}

// choose draws a slot into a register. What is hashed is loaded behind it.
func (h helper) choose(at int) []expr.Any {
	n := uint32(h.n)
	switch h.draw {
	case byTurn:
		return []expr.Any{&expr.Numgen{Register: reg(at), Modulus: n, Type: unix.NFT_NG_INCREMENTAL}}
	case atRandom:
		return []expr.Any{&expr.Numgen{Register: reg(at), Modulus: n, Type: unix.NFT_NG_RANDOM}}
	}
	hashed, length := at+1, h.fam.addrLen()
	load := []expr.Any{h.fam.loadSaddr(hashed)}
	if h.draw == byFlow {
		load = append(load, &expr.Payload{DestRegister: reg(hashed + h.fam.words()),
			Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2})
		length += 4
	}
	return append(load, &expr.Hash{SourceRegister: reg(hashed), DestRegister: reg(at), Length: uint32(length),
		Modulus: n, Seed: hashSeed, Type: expr.HashTypeJenkins})
}

// hashSeed is the same on every node, so that all choose alike; without one
// the kernel draws one for each rule.
const hashSeed = 0x68657261

// value looks up a value of a map by the key that begins in a register.
func value(m *nftables.Set, key, at int) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: reg(key), IsDestRegSet: true, DestRegister: reg(at), SetName: m.Name}}
}

// id looks up an id, and takes it through the packet's mark, which is put back.
//
// That is for the program nft: it does not know how long the value of a map is,
// and aborts when it lists a rule where one is part of a key, or is a value
// itself (netlink_parse_concat_expr). How long a mark is it knows.
func id(m *nftables.Set, key, at int) []expr.Any {
	mark := func(at int) expr.Any { return &expr.Meta{Key: expr.MetaKeyMARK, Register: reg(at)} }
	setMark := func(at int) expr.Any {
		return &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(at)}
	}
	return append(value(m, key, at), mark(at+1), setMark(at), mark(at), setMark(at+1))
}

// send sends to the target in a register. The flag and the maxima are what the
// kernel makes of it anyway.
func (h helper) send(at int) []expr.Any {
	port := reg(at + h.fam.words())
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(h.fam.nfproto()), Specified: true,
		RegAddrMin: reg(at), RegAddrMax: reg(at), RegProtoMin: port, RegProtoMax: port}}
}
