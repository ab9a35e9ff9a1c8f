package arp

import (
	"github.com/mdlayher/arp"

	"github.com/herald-lb/herald/speaker/l2"
)

// hear judges one frame.
func hear(frame []byte, at l2.Station) (h l2.Heard, err error) {
	m, err := parse(frame)
	if err != nil {
		return h, err
	}
	switch h.Verdict = judge(m, at); h.Verdict {
	case l2.Asked:
		h.Addr, h.MAC = m.targetIP, m.senderMAC
		h.Reply, err = answer(m, at.MAC)
	case l2.Disputed:
		h.Addr, h.MAC = m.senderIP, m.senderMAC
	}
	return h, err
}

// judge decides about one packet, by RFC 826 and RFC 5227 alone.
func judge(m message, at l2.Station) l2.Verdict {
	switch {
	case at.Overhears(m.destination): // arp_rcv drops it too
	case at.Own(m.senderMAC):
	case at.Follows(m.senderIP):
		// RFC 5227 §2.1.1 and §2.4: any packet, request or reply, with the
		// address as sender and a hardware address that is none of ours. A
		// probe has no sender IP, so it is never one.
		return l2.Disputed
	case m.op == arp.OperationRequest && at.Claims(m.targetIP):
		return l2.Asked
	}
	return l2.Ignored
}
