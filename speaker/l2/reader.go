package l2

import (
	"errors"
	"net"
	"time"
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
	// Run stops answering before it shows that it is back. So who sees that it was
	// awake before he looks at what is answered for, sees that too.
	awake := a.awake()
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
		if !awake {
			return // it may have got another owner meanwhile
		}
		if p.send(h.Reply) == nil {
			a.count.replies.Add(1)
		}
	}
	if h.Verdict == Asked {
		return
	}
	if _, known := at.claims.peers[h.MAC]; !known && at.Claims(h.Addr) {
		a.count.conflicts.Add(1)
	}
	a.report(p, sighting{h.Addr, p, h.MAC, h.Verdict == Wanted}, at.Claims(h.Addr))
}

// report tells Run of a sighting. If Run cannot keep up with those about what we
// answer for, they are dropped: there will be more of the kind. An answer to a
// probe must not be missed.
func (a *Announcer) report(p *port, s sighting, answers bool) {
	if answers {
		select {
		case a.heard <- s:
		default:
		}
		return
	}
	select {
	case a.heard <- s:
	case <-p.closed:
	}
}

// absent is after what time without a sign of life Run takes itself for absent: less
// than others need to find that this node is lost, and to take over.
const absent = 300 * time.Millisecond

// awake is whether Run has been seen lately. If not, this process may have been
// stopped for long, and what its sockets hold is of old.
func (a *Announcer) awake() bool {
	return time.Since(a.base)-time.Duration(a.pulse.Load()) < a.absent
}
