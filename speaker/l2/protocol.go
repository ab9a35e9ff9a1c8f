package l2

import (
	"net"
	"net/netip"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker"
)

// A Protocol is how the addresses of one family are announced. Its functions
// are pure: no clock, no socket, no memory of what came before.
type Protocol struct {
	Name      string // as people call it: "ARP"
	EtherType int    // of its frames
	MinMTU    int    // below which a link does not speak it
	// Speaks is whether an address is of its family.
	Speaks func(netip.Addr) bool
	// Filter returns a program that passes every frame that can matter where
	// these addresses are claimed, and as few others as it can. They are sorted.
	Filter func(claimed []netip.Addr) []bpf.Instruction
	// Group returns the multicast group that questions for an address are sent
	// to. It is nil if they are broadcast.
	Group func(netip.Addr) netip.Addr
	// Hear returns what a frame means at a place. An error says that it is
	// none of the protocol's, or not plausible.
	Hear func(frame []byte, at Station) (Heard, error)
	// Greeting returns the frames that tell everybody that addr is at us.
	Greeting func(addr netip.Addr, us MAC) ([][]byte, error)
	// Probe returns the frame that asks whoever has addr to say so, and claims
	// nothing.
	Probe func(addr netip.Addr, us MAC) ([]byte, error)
	// Question returns the frame by which a host at from asks who has addr.
	Question func(addr, from netip.Addr, us MAC) ([]byte, error)
	// Defence returns the frame that contradicts whoever else claims addr.
	Defence func(addr netip.Addr, us MAC) ([]byte, error)
}

// A Verdict says what a packet means to us.
type Verdict uint8

// The verdicts.
const (
	Ignored  Verdict = iota // none of our business
	Asked                   // somebody wants to know who has an address of ours
	Wanted                  // … because he would like to have it himself
	Disputed                // somebody else says that an address we follow is his
)

// Heard is what a packet means.
type Heard struct {
	Verdict Verdict
	Addr    netip.Addr // that we follow
	MAC     MAC        // of whoever asks for it, or disputes it
	Reply   []byte     // the frame to be sent; nil for none
}

// A Station is the place on the wire where a packet is heard.
type Station struct {
	Link   string
	MAC    MAC
	claims *claims
	own    map[MAC]bool // the hardware addresses of this host, MAC among them
}

// NewStation returns the place that a host with hardware addresses own has on
// link, of which the first is that link's, while it announces want.
func NewStation(p Protocol, link string, want speaker.Announcements, own ...MAC) Station {
	s := Station{Link: link, MAC: own[0], claims: newClaims(p, want, &claims{}), own: map[MAC]bool{}}
	for _, at := range s.claims.set {
		at.seat.answers.Store(true)
	}
	for _, m := range own {
		s.own[m] = true
	}
	return s
}

// Follows is whether it matters here who has addr: because we answer for it, or
// would like to.
func (s Station) Follows(addr netip.Addr) bool { return s.claims.at(addr, s.Link).seat != nil }

// Claims is whether we answer for addr here.
func (s Station) Claims(addr netip.Addr) bool {
	seat := s.claims.at(addr, s.Link).seat
	return seat != nil && seat.answers.Load()
}

// Own is whether m is a hardware address of this host. A packet that bears one
// is our own voice, from another link or an echoing switch.
func (s Station) Own(m MAC) bool { return m == s.MAC || s.own[m] }

// Overhears is whether a frame to this destination is meant for others: it is
// here only because the link is in promiscuous mode.
func (s Station) Overhears(destination MAC) bool { return destination != s.MAC && !destination.Group() }

// A MAC is an Ethernet hardware address.
type MAC [6]byte

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// Group is whether m is a multicast address or broadcast.
func (m MAC) Group() bool { return m[0]&1 != 0 }

// Plausible is whether a host can have m.
func (m MAC) Plausible() bool { return !m.Group() && m != MAC{} }
