package config

import (
	"net/netip"
	"time"
)

// LongestPassword is that of the kernel (TCP_MD5SIG_MAXKEYLEN), in bytes.
const LongestPassword = 80

// A Peer is a router that nodes have BGP sessions with.
type Peer struct {
	Name string // of the BGPPeer

	LocalASN, PeerASN  uint32 // PeerASN is 0 for any that External or Internal allows
	External, Internal bool

	Addr      netip.Addr // invalid with an Interface
	Interface string     // whose other end the router is at (unnumbered); "" with an Addr
	Port      uint16
	Source    netip.Addr // of the node; invalid for whichever the kernel chooses
	RouterID  netip.Addr // invalid for one of the node's own

	Secret, SecretKey string // of the TCP-MD5 password, in Herald's namespace; "" for none

	HoldTime, Keepalive, ConnectRetry time.Duration // whole seconds; no keepalives with HoldTime 0

	Multihop        bool
	TTLSecurity     bool
	GracefulRestart time.Duration // 0 for none
	BFDInterval     time.Duration // 0 for none
	BFDMultiplier   uint8

	NodeSelector string // "" selects all nodes
	V4, V6       bool   // families of the addresses that it is told
}

// A BGP says how a pool's addresses are told to routers. A pool may have several:
// each tells its own.
type BGP struct {
	Peers           []string // names of Peers, sorted; none means all
	NodeSelector    string   // "" selects all nodes
	ServiceSelector string   // "" selects all Services
	// LengthV4 and LengthV6 are those of the prefixes that addresses are told as
	// a part of: 32 and 128 for each by itself.
	LengthV4, LengthV6 int
	Communities        []uint32    // RFC 1997, sorted
	Large              [][3]uint32 // RFC 8092, sorted
	LocalPref, MED     *uint32
}

// Length returns that of the prefix which addr is told as a part of.
func (b BGP) Length(addr netip.Addr) int {
	if addr.Is6() {
		return b.LengthV6
	}
	return b.LengthV4
}
