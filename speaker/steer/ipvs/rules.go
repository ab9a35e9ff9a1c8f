package ipvs

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The sets inside. Their elements are rows: servers that want SNAT, and
// prefixes whose clients get it always.
var (
	snat4 = &nftables.Set{Table: table, Name: "snat4",
		KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)}
	snat6 = &nftables.Set{Table: table, Name: "snat6",
		KeyType: nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetProto, nftables.TypeInetService)}
	pods4 = &nftables.Set{Table: table, Name: "pods4", Interval: true, KeyType: nftables.TypeIPAddr}
	pods6 = &nftables.Set{Table: table, Name: "pods6", Interval: true, KeyType: nftables.TypeIP6Addr}
)

// insideRules mark before IPVS what is to be masqueraded after it: the packet
// keeps its mark on the way through.
func insideRules(mark uint32) ruleset {
	return ruleset{
		sets: []*nftables.Set{snat4, snat6, pods4, pods6},
		chains: []chain{{
			Chain: nftables.Chain{Name: "mark", Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle},
			rules: []rule{
				{"servers that want SNAT", join(ipv4, destination(4), in(snat4), addMark(mark))},
				{"servers that want SNAT", join(ipv6, destination(16), in(snat6), addMark(mark))},
				{"the host as client", join(ipv4, source(4), equal(host4.Addr().AsSlice()), addMark(mark))},
				{"the host as client", join(ipv6, source(16), equal(host6.Addr().AsSlice()), addMark(mark))},
				{"pods of this node as clients", join(ipv4, source(4), in(pods4), addMark(mark))},
				{"pods of this node as clients", join(ipv6, source(16), in(pods6), addMark(mark))},
			},
		}, {
			Chain: nftables.Chain{Name: "nat", Type: nftables.ChainTypeNAT,
				Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource},
			rules: []rule{{"SNAT", join(isMarked(mark), masquerade)}},
		}},
	}
}

// hostRules lead the replies of connections whose client address was kept back
// into the namespace, and give the others an address of this node.
func hostRules(mark uint32) ruleset {
	// What answers a marked connection and is not from the namespace itself.
	reply := join(notFrom(hostLink), replies, isConnMarked(mark), addMark(mark))
	return ruleset{chains: []chain{{
		Chain: nftables.Chain{Name: "replies", Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle},
		rules: []rule{
			{"connections that left Herald", join(from(hostLink), fresh, addConnMark(mark))},
			{"their replies go back to Herald", reply},
		},
	}, {
		// An endpoint in the host's network answers from here: the chain type
		// routes anew what was marked.
		Chain: nftables.Chain{Name: "answers", Type: nftables.ChainTypeRoute,
			Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle},
		rules: []rule{{"replies of the host go back to Herald", join(replies, isConnMarked(mark), addMark(mark))}},
	}, {
		// Before kube-proxy and CNI plug-ins, which use srcnat.
		Chain: nftables.Chain{Name: "nat", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource - 10)},
		rules: []rule{
			{"SNAT to an address of this node", join(from(hostLink), ipv4, source(4), equal(inside4.Addr().AsSlice()), masquerade)},
			{"SNAT to an address of this node", join(from(hostLink), ipv6, source(16), equal(inside6.Addr().AsSlice()), masquerade)},
			{"the host as client", join(to(hostLink), localSource, masquerade)},
		},
	}, {
		// An endpoint in the host's network that answers UDP by a socket of no
		// address picks the source by the way back: to the namespace that would
		// be the link's own. To itself it is the address that was asked.
		Chain: nftables.Chain{Name: "own", Type: nftables.ChainTypeNAT,
			Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityNATSource},
		rules: []rule{
			{"SNAT to the address asked", join(from(hostLink), ipv4, source(4), equal(inside4.Addr().AsSlice()), snatToAsked(4))},
			{"SNAT to the address asked", join(from(hostLink), ipv6, source(16), equal(inside6.Addr().AsSlice()), snatToAsked(16))},
		},
	}}}
}

// A matcher or an action is a few expressions on register 1 (or 8 and up, the
// 32-bit halves of it, for concatenations).
type exprs = []expr.Any

var (
	ipv4       = join(meta(expr.MetaKeyNFPROTO), equal([]byte{unix.NFPROTO_IPV4}))
	ipv6       = join(meta(expr.MetaKeyNFPROTO), equal([]byte{unix.NFPROTO_IPV6}))
	masquerade = exprs{&expr.Masq{}}
	replies    = join(exprs{&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION}}, equal([]byte{1})) // IP_CT_DIR_REPLY
	fresh      = join(exprs{&expr.Ct{Register: 1, Key: expr.CtKeySTATE}}, hasBit(expr.CtStateBitNEW))

	localSource = join(exprs{&expr.Fib{Register: 1, FlagSADDR: true, ResultADDRTYPE: true}},
		equal(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)))
)

func join(parts ...exprs) (all exprs) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func meta(key expr.MetaKey) exprs { return exprs{&expr.Meta{Key: key, Register: 1}} }

func equal(data []byte) exprs { return exprs{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}} }

func from(link string) exprs { return join(meta(expr.MetaKeyIIFNAME), equal(ifname(link))) }
func to(link string) exprs   { return join(meta(expr.MetaKeyOIFNAME), equal(ifname(link))) }

func notFrom(link string) exprs {
	return join(meta(expr.MetaKeyIIFNAME), exprs{&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: ifname(link)}})
}

// ifname pads a name to the width of the register (IFNAMSIZ).
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// source loads the source address of a packet, size bytes long.
func source(size uint32) exprs {
	offset := uint32(12)
	if size == 16 {
		offset = 8
	}
	return exprs{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}}
}

// destination loads destination address, protocol and port as the key of snat4
// or snat6. Each part takes whole 32-bit registers, from NFT_REG32_00 (8) on.
func destination(size uint32) exprs {
	next := unix.NFT_REG32_00 + size/4
	return exprs{
		&expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: destinationOffset(size), Len: size},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// snatToAsked makes the source of a connection be its destination.
func snatToAsked(size uint32) exprs {
	family := uint32(unix.NFPROTO_IPV4)
	if size == 16 {
		family = unix.NFPROTO_IPV6
	}
	return exprs{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: destinationOffset(size), Len: size},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family, RegAddrMin: 1},
	}
}

func destinationOffset(size uint32) uint32 {
	if size == 16 {
		return 24
	}
	return 16
}

// in looks up the register that source or destination has loaded.
func in(s *nftables.Set) exprs {
	register := uint32(unix.NFT_REG32_00)
	if s.Interval {
		register = 1
	}
	return exprs{&expr.Lookup{SourceRegister: register, SetName: s.Name}}
}

func word(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

// hasBit is whether register 1 has a bit set.
func hasBit(bit uint32) exprs {
	return exprs{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: word(bit), Xor: word(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: word(0)},
	}
}

// orBit sets a bit in register 1.
func orBit(bit uint32) exprs {
	return exprs{&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: word(^bit), Xor: word(bit)}}
}

func isMarked(mark uint32) exprs { return join(meta(expr.MetaKeyMARK), hasBit(mark)) }

func isConnMarked(mark uint32) exprs {
	return join(exprs{&expr.Ct{Register: 1, Key: expr.CtKeyMARK}}, hasBit(mark))
}

func addMark(mark uint32) exprs {
	return join(meta(expr.MetaKeyMARK), orBit(mark),
		exprs{&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}})
}

func addConnMark(mark uint32) exprs {
	return join(exprs{&expr.Ct{Register: 1, Key: expr.CtKeyMARK}}, orBit(mark),
		exprs{&expr.Ct{Register: 1, Key: expr.CtKeyMARK, SourceRegister: true}})
}

// bigBuffers lets one transaction carry ten thousand elements and more.
func bigBuffers(c *netlink.Conn) error {
	const size = 64 << 20
	if err := c.SetWriteBuffer(size); err != nil {
		return err
	}
	return c.SetReadBuffer(size)
}
