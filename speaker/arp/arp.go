package arp

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/l2"
)

// New returns an Announcer of IPv4 claims. It opens and starts nothing.
func New(o l2.Options) *l2.Announcer { return l2.New(protocol, o) }

var protocol = l2.Protocol{
	Name:      "ARP",
	EtherType: unix.ETH_P_ARP,
	Speaks:    netip.Addr.Is4,
	Filter:    filter,
	Hear:      hear,
	Greeting:  greeting,
	Probe:     probe,
	Question:  question,
	Defence:   announcement,
}

// greeting is both forms: some hosts take no notice of the one, some of the
// other.
func greeting(addr netip.Addr, us l2.MAC) ([][]byte, error) {
	request, err := announcement(addr, us)
	if err != nil {
		return nil, err
	}
	reply, err := gratuitousReply(addr, us)
	return [][]byte{request, reply}, err
}

// Protocol returns ARP, for who only listens.
func Protocol() l2.Protocol { return protocol }
