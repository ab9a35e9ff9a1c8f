package nft

import (
	"net/netip"

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

// unspecified is the address that stands for every address of the node.
func (f family) unspecified() netip.Addr {
	if f == v4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// saddrOffset and daddrOffset are where the addresses stand in the header, in
// bytes (RFC 791 §3.1, RFC 8200 §3).
func (f family) saddrOffset() uint32 {
	if f == v4 {
		return 12
	}
	return 8
}

func (f family) daddrOffset() uint32 { return f.saddrOffset() + uint32(f.addrLen()) }

// loadSaddr loads the source address.
func (f family) loadSaddr(at int) expr.Any {
	return &expr.Payload{DestRegister: reg(at), Base: expr.PayloadBaseNetworkHeader,
		Offset: f.saddrOffset(), Len: uint32(f.addrLen())}
}

// loadDaddr loads the destination address.
func (f family) loadDaddr(at int) expr.Any {
	return &expr.Payload{DestRegister: reg(at), Base: expr.PayloadBaseNetworkHeader,
		Offset: f.daddrOffset(), Len: uint32(f.addrLen())}
}

// is matches packets of f.
func (f family) is() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{f.nfproto()}},
	}
}

// fromPods matches what comes from a pod of this node, and toPods what goes to
// one.
func (f family) fromPods() []expr.Any {
	return []expr.Any{f.loadSaddr(0), &expr.Lookup{SourceRegister: reg(0), SetName: podsSet(f).Name}}
}

func (f family) toPods() []expr.Any {
	return []expr.Any{f.loadDaddr(0), &expr.Lookup{SourceRegister: reg(0), SetName: podsSet(f).Name}}
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

// An entrance is where packets of one family look for their server.
type entrance struct {
	fam family
	// port is whether they go to an address of the node, whose servers have
	// the unspecified address: node ports.
	port bool
}

var entrances = []entrance{{v4, false}, {v6, false}, {v4, true}, {v6, true}}

// String returns "v4", "v6", "v4-port" or "v6-port".
func (e entrance) String() string {
	if e.port {
		return e.fam.String() + "-port"
	}
	return e.fam.String()
}

// words is how many registers an address takes.
func (f family) words() int { return f.addrLen() / 4 }

// loadServer loads the key of the virtual server into registers from at on,
// and returns the one behind it.
func (e entrance) loadServer(at int) ([]expr.Any, int) {
	addr := e.fam.loadDaddr(at)
	if e.port {
		addr = &expr.Immediate{Register: reg(at), Data: make([]byte, e.fam.addrLen())}
	}
	port, next := loadPort(at + e.fam.words())
	return append([]expr.Any{addr}, port...), next
}

// loadPort loads protocol and port, and returns the register behind them.
func loadPort(at int) ([]expr.Any, int) {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(at)},
		&expr.Payload{DestRegister: reg(at + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}, at + 2
}
