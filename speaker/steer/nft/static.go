package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A family is one of the two kinds of addresses; it says where they stand in
// a packet.
type family uint8

const (
	v4 family = 4
	v6 family = 6
)

var families = []family{v4, v6}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return v4
	}
	return v6
}

func (f family) String() string {
	if f == v4 {
		return "v4"
	}
	return "v6"
}

func (f family) addrLen() int {
	if f == v4 {
		return 4
	}
	return 16
}

// nfproto is the number that netfilter has for f.
func (f family) nfproto() byte {
	if f == v4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// A chain is one chain with its rules, as Herald wants it.
type chain struct {
	name     string
	hook     *nftables.ChainHook // nil: only gone to from others
	priority nftables.ChainPriority
	rules    [][]expr.Any
}

// refuse is the chain that answers for what nobody serves.
const refuse = "refuse"

// service is the chain that finds the server for what goes to an address of f.
func (f family) service() string { return f.String() + "-service" }

// staticChains are the chains that are there as long as the table is.
func staticChains(mark uint32) []chain {
	chains := []chain{
		{name: refuse, rules: refuseRules()},
		{name: v4.service(), rules: serviceRules(v4, mark)},
		{name: v6.service(), rules: serviceRules(v6, mark)},
		{name: "prerouting", hook: nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityNATDest - 10},
		{name: "output", hook: nftables.ChainHookOutput, priority: *nftables.ChainPriorityNATDest - 10},
		{name: "postrouting", hook: nftables.ChainHookPostrouting, priority: *nftables.ChainPriorityNATSource - 10,
			rules: [][]expr.Any{masquerade(mark)}},
	}
	for i, c := range chains {
		switch c.name {
		case "prerouting":
			chains[i].rules = [][]expr.Any{toService(v4), toService(v6)}
		case "output":
			// What the node itself sends has its address from the route to
			// the service, not from the one to the endpoint.
			chains[i].rules = [][]expr.Any{
				toService(v4, orMark(mark)...), toService(v6, orMark(mark)...)}
		}
	}
	return chains
}

// reg returns the number of a 32-bit register the way the kernel lists it: one
// that begins a 128-bit register goes by that one's number (nft_dump_register),
// so that rules can be compared with those listed.
func reg(i int) uint32 {
	if i%4 == 0 {
		return uint32(unix.NFT_REG_1 + i/4)
	}
	return uint32(unix.NFT_REG32_00 + i)
}

// Where a key begins: address, protocol, port, slot. What is hashed begins
// behind the longest key.
const (
	keyReg  = 0
	hashReg = 8
)

// loadDaddr loads the destination address.
func (f family) loadDaddr(at int) expr.Any {
	if f == v4 {
		return &expr.Payload{DestRegister: reg(at), Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}
	}
	return &expr.Payload{DestRegister: reg(at), Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16}
}

// loadSaddr loads the source address.
func (f family) loadSaddr(at int) expr.Any {
	if f == v4 {
		return &expr.Payload{DestRegister: reg(at), Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
	}
	return &expr.Payload{DestRegister: reg(at), Base: expr.PayloadBaseNetworkHeader, Offset: 8, Len: 16}
}

// loadServer loads the key of a virtual server, and returns the register
// behind it.
func (f family) loadServer() ([]expr.Any, int) {
	at := keyReg + f.addrLen()/4
	return []expr.Any{
		f.loadDaddr(keyReg),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(at)},
		&expr.Payload{DestRegister: reg(at + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}, at + 2
}

// toService sends what goes to an address of f to its service chain, after
// doing what stands in first.
func toService(f family, first ...expr.Any) []expr.Any {
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{f.nfproto()}},
		f.loadDaddr(keyReg),
		&expr.Lookup{SourceRegister: reg(keyReg), SetName: addrsSet(f).Name},
	}
	rule = append(rule, first...)
	return append(rule, &expr.Verdict{Kind: expr.VerdictGoto, Chain: f.service()})
}

// serviceRules mark what comes from the pods of this node, send to the server,
// answer an echo request, and refuse the rest.
//
// The server is looked up twice: kernels before 6.17 find neither the old nor
// the new element if it is being replaced at that very moment.
func serviceRules(f family, mark uint32) [][]expr.Any {
	fromPods := append([]expr.Any{
		f.loadSaddr(keyReg),
		&expr.Lookup{SourceRegister: reg(keyReg), SetName: podsSet(f).Name},
	}, orMark(mark)...)
	server, _ := f.loadServer()
	server = append(server, &expr.Lookup{SourceRegister: reg(keyReg), IsDestRegSet: true,
		DestRegister: unix.NFT_REG_VERDICT, SetName: serversSet(f).Name})
	return [][]expr.Any{
		fromPods,
		server,
		server, // again, see above
		echo(f),
		{&expr.Verdict{Kind: expr.VerdictGoto, Chain: refuse}},
	}
}

// echo lets the node answer an echo request with an address of its own, which
// the reply does not show: the NAT turns it back.
func echo(f family) []expr.Any {
	proto, kind := byte(unix.IPPROTO_ICMP), byte(8)
	if f == v6 {
		proto, kind = unix.IPPROTO_ICMPV6, 128
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{proto}},
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{kind}},
		&expr.Redir{},
	}
}

// refuseRules answer TCP with a reset and all else with port unreachable.
func refuseRules() [][]expr.Any {
	return [][]expr.Any{
		{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{unix.IPPROTO_TCP}},
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		},
		{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}},
	}
}

// orMark sets the bit that asks for masquerading.
func orMark(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^mark), Xor: binaryutil.NativeEndian.PutUint32(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(0)},
	}
}

// masquerade does so where the bit is set, and clears it: a tunnel hands the
// mark on to its own packets, which are not to be masqueraded again.
func masquerade(mark uint32) []expr.Any {
	none := []byte{0, 0, 0, 0}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg(0)},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(1), Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mark), Xor: none},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg(1), Data: none},
		&expr.Bitwise{SourceRegister: reg(0), DestRegister: reg(0), Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^mark), Xor: none},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg(0)},
		&expr.Masq{FullyRandom: true},
	}
}

// chain returns the chain of h.
//
// A packet that comes while a transaction is being committed may draw a slot
// that is gone before it looks it up; slot 0 is there as long as any is. Where
// that is gone too the packet is dropped, and the client sends it again.
func (h helper) chain(mark uint32) chain {
	c := chain{name: h.String()}
	if h.snat {
		c.rules = append(c.rules, orMark(mark))
	}
	server, at := h.fam.loadServer()
	first := &expr.Immediate{Register: reg(at), Data: binaryutil.NativeEndian.PutUint32(0)}
	c.rules = append(c.rules,
		h.send(append(server, h.choose(at)...)),
		h.send(append(server[:len(server):len(server)], first)),
		[]expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	return c
}

// choose draws a slot into a register.
func (h helper) choose(at int) []expr.Any {
	n := uint32(h.n)
	switch h.draw {
	case byTurn:
		return []expr.Any{&expr.Numgen{Register: reg(at), Modulus: n, Type: unix.NFT_NG_INCREMENTAL}}
	case atRandom:
		return []expr.Any{&expr.Numgen{Register: reg(at), Modulus: n, Type: unix.NFT_NG_RANDOM}}
	}
	length := h.fam.addrLen()
	load := []expr.Any{h.fam.loadSaddr(hashReg)}
	if h.draw == byFlow {
		load = append(load, &expr.Payload{DestRegister: reg(hashReg + length/4),
			Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2})
		length += 4
	}
	return append(load, &expr.Hash{SourceRegister: reg(hashReg), DestRegister: reg(at), Length: uint32(length),
		Modulus: n, Seed: hashSeed, Type: expr.HashTypeJenkins})
}

// hashSeed is the same on every node, so that all choose alike; without one
// the kernel draws one for each rule.
const hashSeed = 0x68657261

// send looks up the target of the key that is loaded, and sends there. The
// flag and the maxima are what the kernel makes of it anyway.
func (h helper) send(load []expr.Any) []expr.Any {
	port := reg(keyReg + h.fam.addrLen()/4)
	return append(load,
		&expr.Lookup{SourceRegister: reg(keyReg), IsDestRegSet: true, DestRegister: reg(keyReg), SetName: endsSet(h.fam).Name},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(h.fam.nfproto()), Specified: true,
			RegAddrMin: reg(keyReg), RegAddrMax: reg(keyReg), RegProtoMin: port, RegProtoMax: port})
}
