package bfd

import (
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"
)

func BenchmarkDecode(b *testing.B) {
	packet := wire(b, good)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(packet); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	buf := make([]byte, 0, packetSize)
	b.ReportAllocs()
	for b.Loop() {
		buf = goodPacket.Append(buf[:0])
	}
}

// mute is a socket that takes everything and costs nothing.
type mute struct{}

func (mute) Send([]byte) error { return nil }
func (mute) Close() error      { return nil }

// crowd is a loop with n sessions that are up, and a packet of each peer.
func crowd(b *testing.B, n int, now time.Time) (*loop, []Datagram) {
	b.Helper()
	l := newLoop(New(Options{Log: slog.New(slog.DiscardHandler)}))
	var packets []Datagram
	for i := range n {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		e := l.add(Peer{Addr: addr, MinTx: 300 * ms, MinRx: 300 * ms, Multiplier: 3}, now)
		e.sender = mute{}
		p := Packet{State: Init, Multiplier: 3, MyDiscriminator: 1 + uint32(i), YourDiscriminator: e.my, DesiredMinTx: 300 * ms, RequiredMinRx: 300 * ms}
		d := Datagram{From: addr, TTL: 255}
		d.Len = copy(d.Data[:], p.Append(nil))
		l.take(Port{}, &d, now)
		p.State, p.Final = Up, true
		copy(d.Data[:], p.Append(nil))
		l.take(Port{}, &d, now)
		if e.state != Up || e.polling {
			b.Fatalf("a session is %s", e.state)
		}
		packets = append(packets, d)
	}
	return l, packets
}

func BenchmarkReceive(b *testing.B) {
	now := time.Now()
	l, packets := crowd(b, 250, now)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		l.take(Port{}, &packets[i%len(packets)], now)
		i++
	}
}

// A tick per interval, by which each session has sent and heard once.
func BenchmarkTick(b *testing.B) {
	for _, n := range []int{1, 250} {
		b.Run(fmt.Sprintf("sessions=%d", n), func(b *testing.B) {
			now := time.Now()
			l, packets := crowd(b, n, now)
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(300 * ms)
				for i := range packets {
					l.take(Port{}, &packets[i], now)
				}
				l.tick(now, now, false)
			}
		})
	}
}
