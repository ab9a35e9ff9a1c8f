package bgp

import (
	"encoding/binary"
	"time"

	"github.com/herald-lb/herald/internal/loop"
)

// A router may ask for all routes of a family again (ROUTE-REFRESH, RFC 2918).
// GoBGP answers each time, at once, and queues what the router does not read. So
// that one that asks over and over costs next to nothing, the relay passes on the
// first, and merges those that come within a pause into one at the end of it: the
// router gets all routes as they are after its last request, if a bit later.

// refreshPause is the time between two answers with a number of routes: what an
// answer takes grows with them.
func refreshPause(routes int) time.Duration {
	return time.Second + time.Duration(routes)*time.Millisecond
}

// refreshCatchUp is how long a router has to have read all there is before it is
// told all again, and how often to look.
const (
	refreshCatchUp = 5 * time.Millisecond
	refreshLook    = 100 * time.Millisecond
)

// hearRefresh notes what a router asks for. A family that is not of the session
// is not answered, nor is anything but the family looked at (RFC 2918 §4).
func (r *relay) hearRefresh(m message) error {
	b := m.body()
	if len(b) != 4 {
		return r.refuse(badLength(m))
	}
	if asked, ok := r.asked[family(binary.BigEndian.Uint16(b))]; ok && b[3] == unicast {
		select {
		case asked <- struct{}{}:
		default: // the one that waits will do
		}
	}
	return nil
}

// answer passes on requests for a family.
func (r *relay) answer(f family) {
	for {
		select {
		case <-r.life.Done():
			return
		case <-r.asked[f]:
		}
		if r.tell(event{kind: asking}) != nil || r.feed(refresh(f)) != nil {
			return // the others know why
		}
		r.rest()
	}
}

// rest waits until a router may be answered again: it takes time, and the router
// has to have read what it was told.
func (r *relay) rest() {
	for wait := refreshPause(int(r.routes.Load())); loop.Pause(r.life, wait); wait = refreshLook {
		if since := r.idle.Load(); since != nil && time.Since(*since) > refreshCatchUp {
			return
		}
	}
}

// refresh is the request for a family.
func refresh(f family) message {
	return newMessage(typeRefresh, binary.BigEndian.AppendUint16(nil, uint16(f)), []byte{0, unicast})
}
