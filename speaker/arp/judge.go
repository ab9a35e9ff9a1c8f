package arp

import "github.com/mdlayher/arp"

// A verdict says what a packet means to us.
type verdict uint8

const (
	ignored  verdict = iota // none of our business
	asked                   // somebody wants to know who has an address of ours
	disputed                // somebody else says that an address of ours is his
)

// A station is the place on the wire where a packet is heard.
type station struct {
	link   string
	mac    mac
	claims *claims
	own    map[mac]bool // the hardware addresses of this host, mac among them
}

// judge decides about one packet, by RFC 826 and RFC 5227 alone: no clock, no
// socket, no memory of what came before.
func (s station) judge(m message) verdict {
	switch {
	case m.destination != s.mac && !m.destination.group():
		return ignored // overheard in promiscuous mode (arp_rcv drops it too)
	case s.own[m.senderMAC] || m.senderMAC == s.mac:
		return ignored // our own voice, from another link or an echoing switch
	case s.claims.has(m.senderIP, s.link):
		// RFC 5227 §2.4: any packet, request or reply, with our address as
		// sender and a hardware address that is none of ours. A probe has
		// no sender IP, so it is never one.
		return disputed
	case m.op == arp.OperationRequest && s.claims.has(m.targetIP, s.link):
		return asked
	}
	return ignored
}
