package l2

import (
	"errors"
	"net"
)

// read answers what comes in on p until its socket is closed or fails. It is
// the whole of a reader's goroutine.
func (a *Announcer) read(p *port) {
	buf := make([]byte, FrameSize)
	for {
		n, _, err := p.conn.ReadFrom(buf)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			// A link that goes down says so here (ENETDOWN), once.
			p.lost.Store(&err)
			a.ring()
			return
		}
		a.handle(p, buf[:n])
	}
}

// handle has one frame judged and acts on it.
func (a *Announcer) handle(p *port, frame []byte) {
	at := Station{p.link.Name, p.link.MAC, a.live.Load(), *a.own.Load()}
	h, err := a.proto.Hear(frame, at)
	if err != nil {
		a.count.malformed.Add(1)
		return
	}
	switch h.Verdict {
	case Ignored:
		a.count.ignored.Add(1)
		return
	case Asked, Wanted:
		a.count.requests.Add(1)
		if p.send(h.Reply) == nil {
			a.count.replies.Add(1)
		}
	}
	if h.Verdict == Asked {
		return
	}
	a.count.conflicts.Add(1)
	a.report(sighting{h.Addr, at.Link, h.MAC, h.Verdict == Wanted})
}

// report tells Run of a sighting. If Run cannot keep up, the sighting is
// dropped: there will be more of the kind.
func (a *Announcer) report(s sighting) {
	select {
	case a.heard <- s:
	default:
	}
}
