package l2

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker"
)

// silent is a socket that takes everything and costs nothing.
type silent struct{ net.PacketConn }

func (silent) SetFilter([]bpf.Instruction) error             { return nil }
func (silent) SetGroups([]netip.Addr, func()) error          { return nil }
func (silent) WriteTo(b []byte, _ net.Addr) (n int, _ error) { return len(b), nil }
func (silent) SetWriteDeadline(time.Time) error              { return nil }

// many returns n claims on eth0.
func many(n int) speaker.Announcements {
	var w speaker.Announcements
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		w.Claims = append(w.Claims, speaker.Claim{Addr: addr, Link: "eth0"})
	}
	return w
}

// BenchmarkHandle is what an answer costs on top of what the protocol does.
func BenchmarkHandle(b *testing.B) {
	reply := make([]byte, 60)
	addr := many(1).Claims[0].Addr
	p := Protocol{
		Speaks: netip.Addr.Is4,
		Hear: func(_ []byte, at Station) (Heard, error) {
			if !at.Claims(addr) {
				return Heard{}, nil
			}
			return Heard{Verdict: Asked, Addr: addr, Reply: reply}, nil
		},
	}
	for _, n := range []int{10, 5000} {
		b.Run(fmt.Sprintf("claims=%d", n), func(b *testing.B) {
			a := New(p, Options{})
			a.live.Store(newClaims(p, many(n), &claims{}))
			for _, at := range a.live.Load().set {
				at.seat.answers.Store(true)
			}
			a.base = time.Now().Add(time.Hour) // awake
			on := &port{proto: p, link: Link{Name: "eth0"}, conn: silent{}, count: &a.count}
			b.ReportAllocs()
			for b.Loop() {
				a.handle(on, reply)
			}
			if s := a.Stats(); s.Replies == 0 {
				b.Error("nothing was answered")
			}
		})
	}
}

func BenchmarkNewClaims(b *testing.B) {
	w := many(5000)
	b.ReportAllocs()
	for b.Loop() {
		newClaims(Protocol{Speaks: netip.Addr.Is4}, w, &claims{})
	}
}
