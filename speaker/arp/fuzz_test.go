package arp

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// Whatever comes in: nothing panics, at most one packet goes out, and that is
// the right reply to a request for a claimed address from somebody else.
func FuzzHandle(f *testing.F) {
	for _, p := range promises(us, them) {
		f.Add(p.frame)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		a := newAnnouncer(nil, &fakeNetwork{})
		a.live.Store(newClaims(want("eth0 192.0.2.10 192.0.2.11", "eth1 192.0.2.20")))
		c := &fakeConn{closed: make(chan struct{})}
		if err := c.setFilter(filter(spans(a.live.Load().links["eth0"]))); err != nil {
			t.Fatal(err)
		}
		a.handle(&port{link: eth0, conn: c, count: &a.count}, frame)

		s, said := a.Stats(), c.frames()
		if s.Requests+s.Conflicts+s.Ignored+s.Malformed != 1 {
			t.Fatalf("counted as %+v, want exactly one of them", s)
		}
		if s.Replies != s.Requests || int(s.Replies) != len(said) {
			t.Fatalf("%d requests, %d replies, said %q", s.Requests, s.Replies, said)
		}
		if (s.Requests > 0 || s.Conflicts > 0) && !c.passes(frame) {
			t.Errorf("the filter holds back what matters: % x", frame)
		}
		if len(said) == 0 {
			return
		}
		dotted := func(at int) string {
			return fmt.Sprintf("%d.%d.%d.%d", frame[at], frame[at+1], frame[at+2], frame[at+3])
		}
		asker, sender, target := mac(frame[22:28]), dotted(28), dotted(38)
		if op := binary.BigEndian.Uint16(frame[20:]); op != 1 || (target != "192.0.2.10" && target != "192.0.2.11") {
			t.Errorf("operation %d about %s is answered", op, target)
		}
		if want := text(wire(asker, us, 2, us, target, asker, sender)); said[0] != want {
			t.Errorf("says %s, want %s", said[0], want)
		}
	})
}
