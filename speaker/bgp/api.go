package bgp

import (
	"errors"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"

	"github.com/herald-lb/herald/speaker"
)

// peerOf is GoBGP's config for a session with a peer that connects from addr.
func peerOf(w speaker.Session, addr netip.Addr) *api.Peer {
	p := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: addr.String(), PeerAsn: w.PeerASN},
		Transport: &api.Transport{PassiveMode: true},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: uint64(innerHold(w)), KeepaliveInterval: uint64(w.Keepalive.Seconds())}},
	}
	if w.PeerASN == 0 && w.Relation == speaker.Internal {
		p.Conf.PeerAsn = w.LocalASN
	}
	for _, f := range families(w) {
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: apiFamily(f), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: w.GracefulRestart > 0}},
		})
	}
	if w.GracefulRestart > 0 {
		p.GracefulRestart = &api.GracefulRestart{Enabled: true, RestartTime: uint32(w.GracefulRestart.Seconds())}
	}
	return p
}

func families(w speaker.Session) []family {
	var all []family
	if w.V4 {
		all = append(all, ipv4)
	}
	if w.V6 {
		all = append(all, ipv6)
	}
	return all
}

func apiFamily(f family) *api.Family {
	return &api.Family{Afi: api.Family_Afi(f), Safi: api.Family_SAFI_UNICAST}
}

// pathOf is a change as GoBGP takes it, with attributes as attributesFor has them.
// It takes them as they are on the wire, too, which costs it least.
func pathOf(c change, attributes [][]byte) *api.Path {
	bits := c.prefix.Bits()
	nlri := append([]byte{byte(bits)}, c.prefix.Addr().AsSlice()[:(bits+7)/8]...)
	return &api.Path{Family: apiFamily(familyOf(c.prefix.Addr())), IsWithdraw: c.gone, NlriBinary: nlri, PattrsBinary: attributes}
}

// Path attributes (RFC 4271 §4.3, 1997, 8092), and their flags.
const (
	attributeOrigin      = 1
	attributeNextHop     = 3
	attributeMED         = 4
	attributeLocalPref   = 5
	attributeCommunities = 8
	attributeReach       = 14
	attributeUnreach     = 15
	attributeLarge       = 32

	flagOptional   = 0x80
	flagTransitive = 0x40
	flagExtended   = 0x10 // the length has two bytes
)

// attributesFor are those of a saying, each as it is on the wire. To GoBGP the
// next hop is one of IPv4, whatever it is.
func attributesFor(s saying) [][]byte {
	all := [][]byte{
		encode(flagTransitive, attributeOrigin, []byte{0}), // IGP
		encode(flagTransitive, attributeNextHop, s.hop.AsSlice()),
	}
	if s.med >= 0 {
		all = append(all, encode(flagOptional, attributeMED, pack(uint32(s.med))))
	}
	if s.localPref >= 0 {
		all = append(all, encode(flagTransitive, attributeLocalPref, pack(uint32(s.localPref))))
	}
	if s.communities != "" {
		all = append(all, encode(flagOptional|flagTransitive, attributeCommunities, []byte(s.communities)))
	}
	if s.large != "" {
		all = append(all, encode(flagOptional|flagTransitive, attributeLarge, []byte(s.large)))
	}
	return all
}

// maxAttributes is how many bytes the attributes of a route may take, for there is room
// for one prefix beside, and for what GoBGP adds and makes longer: the path of AS numbers,
// a local preference, the next hop of IPv6.
const maxAttributes = maxMessage - headerLen - 100

// errLong is a route with more attributes than that.
var errLong = errors.New("its attributes do not fit in a message")

func size(attributes [][]byte) int {
	n := 0
	for _, a := range attributes {
		n += len(a)
	}
	return n
}

// encode makes an attribute.
func encode(flags, kind byte, value []byte) []byte {
	if len(value) > 255 {
		return slices.Concat([]byte{flags | flagExtended, kind}, long(value), value)
	}
	return append([]byte{flags, kind, byte(len(value))}, value...)
}
