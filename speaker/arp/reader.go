package arp

import (
	"errors"
	"net"
)

// read answers what comes in on p until its socket is closed or fails. It is
// the whole of a reader's goroutine.
func (a *Announcer) read(p *port) {
	buf := make([]byte, frameSize)
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

// handle judges one frame and acts on it.
func (a *Announcer) handle(p *port, frame []byte) {
	m, err := parse(frame)
	if err != nil {
		a.count.malformed.Add(1)
		return
	}
	here := station{p.link.name, p.link.mac, a.live.Load(), *a.own.Load()}
	switch here.judge(m) {
	case ignored:
		a.count.ignored.Add(1)
	case asked:
		a.count.requests.Add(1)
		if frame, err := answer(m, p.link.mac); err == nil && p.send(frame) == nil {
			a.count.replies.Add(1)
		}
	case disputed:
		a.count.conflicts.Add(1)
		a.report(sighting{m.senderIP, p.link.name, m.senderMAC})
	}
}

// report tells Run of a sighting. If Run cannot keep up, the sighting is
// dropped: there will be more of the kind.
func (a *Announcer) report(s sighting) {
	select {
	case a.heard <- s:
	default:
	}
}
