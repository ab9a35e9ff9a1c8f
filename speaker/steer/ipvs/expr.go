package ipvs

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A matcher or an action is a few expressions on register 1 (or 8 and up, the
// 32-bit halves of it, for concatenations).
type exprs = []expr.Any

var (
	ipv4       = join(meta(expr.MetaKeyNFPROTO), equal([]byte{unix.NFPROTO_IPV4}))
	ipv6       = join(meta(expr.MetaKeyNFPROTO), equal([]byte{unix.NFPROTO_IPV6}))
	masquerade = exprs{&expr.Masq{}}
	notrack    = exprs{&expr.Notrack{}}
	accept     = exprs{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop       = exprs{&expr.Verdict{Kind: expr.VerdictDrop}}
	replies    = join(exprs{&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION}}, equal([]byte{1})) // IP_CT_DIR_REPLY
	fresh      = join(exprs{&expr.Ct{Register: 1, Key: expr.CtKeySTATE}}, hasBit(expr.CtStateBitNEW))

	localSource = join(exprs{&expr.Fib{Register: 1, FlagSADDR: true, ResultADDRTYPE: true}},
		equal(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)))
)

// notLocalSource is whether the packet comes from no address of the namespace.
var notLocalSource = join(exprs{&expr.Fib{Register: 1, FlagSADDR: true, ResultADDRTYPE: true}},
	exprs{&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)}})

// notICMP is whether the packet carries neither ICMP nor ICMPv6.
var notICMP = join(meta(expr.MetaKeyL4PROTO), exprs{
	&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.IPPROTO_ICMP}},
	&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
})

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

// localDestination is whether the packet is for this host.
var localDestination = join(exprs{&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}},
	equal(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)))

// carries is whether the packet carries a protocol.
func carries(proto byte) exprs { return join(meta(expr.MetaKeyL4PROTO), equal([]byte{proto})) }

// portUnreachable is whether the packet says that nobody serves a port: by its
// type and code, of RFC 792 or RFC 4443.
func portUnreachable(f family) exprs {
	kind := []byte{3, 3}
	if f.six() {
		kind = []byte{1, 4}
	}
	return join(carries(f.icmp()), exprs{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 2}}, equal(kind))
}

// is matches packets of f.
func is(f family) exprs {
	if f.six() {
		return ipv6
	}
	return ipv4
}

// size is how many bytes an address has.
func (f family) size() uint32 {
	if f.six() {
		return 16
	}
	return 4
}

// sourceOffset and destinationOffset are where an IP header has its addresses.
func (f family) sourceOffset() uint32 {
	if f.six() {
		return 8
	}
	return 12
}

func (f family) destinationOffset() uint32 { return f.sourceOffset() + f.size() }

// header is how long an IP header is that has no options or extensions.
func (f family) header() uint32 {
	if f.six() {
		return 40
	}
	return 20
}

// network loads part of the network header.
func network(register, offset, size uint32) exprs {
	return exprs{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size}}
}

// transport loads part of what comes behind it.
func transport(register, offset, size uint32) exprs {
	return exprs{&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}}
}

// source and destination load an address of the packet.
func source(f family) exprs      { return network(1, f.sourceOffset(), f.size()) }
func destination(f family) exprs { return network(1, f.destinationOffset(), f.size()) }

// inner loads the destination of the packet in the tunnel.
func inner(f family) exprs { return network(1, f.header()+f.destinationOffset(), f.size()) }

// word8 is NFT_REG32_00, the first of the 32-bit registers that a concatenation
// is loaded into, each part in whole ones.
const word8 = unix.NFT_REG32_00

// server loads what identifies a virtual server: destination address, protocol
// and port.
func server(f family) exprs {
	next := word8 + f.size()/4
	return join(network(word8, f.destinationOffset(), f.size()),
		exprs{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next}},
		transport(next+1, 2, 2))
}

// client loads the source address behind server.
func client(f family) exprs {
	return network(word8+f.size()/4+2, f.sourceOffset(), f.size())
}

// port loads protocol and destination port.
func port() exprs {
	return join(exprs{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word8}}, transport(word8+1, 2, 2))
}

// quoted loads, of an ICMP error, what identifies the virtual server that the
// packet in question came from: its source address, protocol and source port
// (RFC 792, RFC 4443 §3).
func quoted(f family) exprs {
	const icmp = 8
	protoOffset := uint32(9)
	if f.six() {
		protoOffset = 6
	}
	next := word8 + f.size()/4
	return join(transport(word8, icmp+f.sourceOffset(), f.size()),
		transport(next, icmp+protoOffset, 1),
		transport(next+1, icmp+f.header(), 2))
}

// icmp is the protocol of ICMP errors.
func (f family) icmp() byte {
	if f.six() {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// tunnel is the protocol of a packet in a packet.
func (f family) tunnel() byte {
	if f.six() {
		return unix.IPPROTO_IPV6
	}
	return unix.IPPROTO_IPIP
}

// in looks up what was loaded: one value, or what begins at word8.
func in(s *nftables.Set) exprs { return lookup(s, false) }

// notIn is the contrary of in.
func notIn(s *nftables.Set) exprs { return lookup(s, true) }

func lookup(s *nftables.Set, invert bool) exprs {
	register := uint32(1)
	if s.Concatenation {
		register = word8
	}
	return exprs{&expr.Lookup{SourceRegister: register, SetName: s.Name, Invert: invert}}
}

// rewrite writes an address into the packet, without connection tracking. Of
// IPv4 the checksum of the header follows; what a tunnel carries has none over
// the outer addresses.
func rewrite(f family, offset uint32, to netip.Addr) exprs {
	write := &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1,
		Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size(),
	}
	if !f.six() {
		write.CsumType, write.CsumOffset = expr.CsumTypeInet, 10
	}
	return exprs{&expr.Immediate{Register: 1, Data: to.AsSlice()}, write}
}

// natTo changes where a new connection goes, as DNAT or SNAT do.
func natTo(kind expr.NATType, f family, to netip.Addr) exprs {
	return exprs{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: kind, Family: f.netfilter(), RegAddrMin: 1},
	}
}

// fromAskedAddress and fromAskedPort write into a reply, as its source, the
// destination of the packet that began the connection.
func fromAskedAddress(f family) exprs {
	write := &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader,
		Offset: f.sourceOffset(), Len: f.size(), CsumType: expr.CsumTypeInet, CsumOffset: 10,
		CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR,
	}
	if f.six() {
		// IPv6 has no such checksum, but without one the library leaves out the
		// flag. What is written here is overwritten by the address.
		write.CsumOffset = write.Offset
	}
	return exprs{&expr.Ct{Register: 1, Key: expr.CtKeyDST}, write}
}

func fromAskedPort(proto byte) exprs {
	checksums := map[byte]uint32{unix.IPPROTO_TCP: 16, unix.IPPROTO_UDP: 6}
	return exprs{
		&expr.Ct{Register: 1, Key: expr.CtKeyPROTODST},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader,
			Offset: 0, Len: 2, CsumType: expr.CsumTypeInet, CsumOffset: checksums[proto],
		},
	}
}

// snatToAsked makes the source of a connection be its destination.
func snatToAsked(f family) exprs {
	return join(destination(f), exprs{&expr.NAT{Type: expr.NATTypeSourceNAT, Family: f.netfilter(), RegAddrMin: 1}})
}

// netfilter is the number that netfilter has for f.
func (f family) netfilter() uint32 {
	if f.six() {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// clamp lowers the greatest segment that the sender of a TCP SYN says it takes;
// the kernel never raises it (net/netfilter/nft_exthdr.c).
func clamp(size int) exprs {
	const tcpFlags, syn, optionMSS = 13, 0x02, 2
	return join(carries(unix.IPPROTO_TCP), transport(1, tcpFlags, 1),
		exprs{
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn}, Xor: []byte{0}},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0}},
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(uint16(size))},
			&expr.Exthdr{SourceRegister: 1, Type: optionMSS, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
		})
}

func word(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

// masked is whether register 1, under mask, is value.
func masked(mask, value uint32) exprs {
	return exprs{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: word(mask), Xor: word(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: word(value)},
	}
}

// hasBit is whether register 1 has a bit set.
func hasBit(bit uint32) exprs {
	return exprs{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: word(bit), Xor: word(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: word(0)},
	}
}

// put makes register 1, under mask, be value, and leaves its other bits alone.
func put(mask, value uint32) exprs {
	return exprs{&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: word(^mask), Xor: word(value)}}
}

func isMarked(mask, value uint32) exprs { return join(meta(expr.MetaKeyMARK), masked(mask, value)) }

func isConnMarked(mask, value uint32) exprs {
	return join(exprs{&expr.Ct{Register: 1, Key: expr.CtKeyMARK}}, masked(mask, value))
}

func mark(mask, value uint32) exprs {
	return join(meta(expr.MetaKeyMARK), put(mask, value),
		exprs{&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}})
}

func markConn(mask, value uint32) exprs {
	return join(exprs{&expr.Ct{Register: 1, Key: expr.CtKeyMARK}}, put(mask, value),
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
