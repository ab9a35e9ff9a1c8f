package ndp

import (
	"net/netip"

	"github.com/herald-lb/herald/speaker/l2"
)

// hear judges one frame.
func hear(frame []byte, at l2.Station) (h l2.Heard, err error) {
	m, err := parse(frame)
	if err != nil {
		return h, err
	}
	h.Verdict, h.Addr = judge(m, at)
	if h.Verdict == l2.Ignored {
		return l2.Heard{}, nil
	}
	h.MAC = m.mac
	if h.Verdict != l2.Disputed {
		h.Reply, err = answer(m, at.MAC)
	}
	return h, err
}

// judge decides about one packet, and which address of ours it is about.
func judge(m message, at l2.Station) (l2.Verdict, netip.Addr) {
	switch {
	case at.Overhears(m.to):
	case at.Own(m.from) || at.Own(m.mac):
		// Also where a switch answers in our stead, with our hardware address.
	case at.Follows(m.source):
		return l2.Disputed, m.source // whatever it is about
	case m.advertises && at.Follows(m.target):
		return l2.Disputed, m.target
	case m.advertises, !at.Claims(m.target):
	case m.source.IsUnspecified():
		return l2.Wanted, m.target // RFC 4862 §5.4.2: a probe
	default:
		return l2.Asked, m.target
	}
	return l2.Ignored, netip.Addr{}
}
