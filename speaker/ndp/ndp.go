package ndp

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/l2"
)

// New returns an Announcer of IPv6 claims. It opens and starts nothing.
func New(o l2.Options) *l2.Announcer { return l2.New(protocol, o) }

var protocol = l2.Protocol{
	Name:      "NDP",
	EtherType: unix.ETH_P_IPV6,
	MinMTU:    1280, // RFC 8200 §5: below it the kernel takes IPv6 off the link
	Speaks:    func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() },
	Filter:    filter,
	Group:     solicitedNode,
	Hear:      hear,
	Greeting: func(addr netip.Addr, us l2.MAC) ([][]byte, error) {
		frame, err := announcement(addr, us)
		return [][]byte{frame}, err
	},
	Probe:    probe,
	Question: question,
	Defence:  announcement,
}

// Protocol returns neighbour discovery, for who only listens.
func Protocol() l2.Protocol { return protocol }
