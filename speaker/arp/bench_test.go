package arp

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/herald-lb/herald/speaker"
)

// silent is a socket that takes everything and costs nothing.
type silent struct{ fakeConn }

func (*silent) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), nil }
func (*silent) SetWriteDeadline(time.Time) error          { return nil }

// many returns n claims on eth0, every other address of a block.
func many(n int) speaker.Announcements {
	var w speaker.Announcements
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(2 * i >> 8), byte(2 * i)})
		w.Claims = append(w.Claims, speaker.Claim{Addr: addr, Link: "eth0"})
	}
	return w
}

func BenchmarkHandle(b *testing.B) {
	cases := map[string]string{"answered": "10.0.0.8", "ignored": "10.0.0.9"}
	for _, claims := range []int{10, 5000} {
		for name, target := range cases {
			b.Run(fmt.Sprintf("%s/claims=%d", name, claims), func(b *testing.B) {
				a := newAnnouncer(nil, &fakeNetwork{})
				a.live.Store(newClaims(many(claims)))
				p := &port{link: eth0, conn: &silent{}, count: &a.count}
				frame := wire(every, them, 1, them, "10.0.0.1", zero, target)
				b.ReportAllocs()
				for b.Loop() {
					a.handle(p, frame)
				}
			})
		}
	}
}

func BenchmarkFilter(b *testing.B) {
	addrs := newClaims(many(5000)).links["eth0"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := assemble(2, filter(spans(addrs))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewClaims(b *testing.B) {
	w := many(5000)
	b.ReportAllocs()
	for b.Loop() {
		newClaims(w)
	}
}
