//go:build netns

package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// detection is that of the sessions which an ear hears.
const detection = 150 * ms

// A loss is that one end of a session takes the other for dead, as it is heard
// on the wire, and before the other does so.
type loss struct {
	at      time.Time
	by, of  netip.Addr
	silence time.Duration // of the other end, at worst, in the second before
}

func (l loss) String() string {
	return fmt.Sprintf("%s: %s takes %s for dead, who was silent for %v", l.at.Format(time.StampMilli), l.by, l.of, l.silence.Round(ms))
}

// groundless is whether the other end was heard on the wire in time, not counting
// a packet that may have been late in the kernel of the one who missed it.
func (l loss) groundless() bool { return l.silence < detection*2/3 }

// An ear hears what goes over the wire between node and neighbour, and when
// the kernel saw it, however late it is read. What was before it began it does not
// know: a session may be down at first.
type ear struct {
	fd     int
	ours   []netip.Addr // our servers, the rest are referees
	stop   atomic.Bool
	ended  chan error
	voices map[netip.Addr]*voice

	packets int
	losses  []loss
}

// A voice is what one end of a session says.
type voice struct {
	up    bool
	first time.Time
	at    []time.Time // of the last second
}

func listen(t *testing.T, n *network, ours ...netip.Addr) *ear {
	t.Helper()
	e := &ear{ours: ours, ended: make(chan error, 1), voices: map[netip.Addr]*voice{}}
	err := n.wire.Do(func() (err error) {
		e.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err == nil {
		t.Cleanup(func() { _ = unix.Close(e.fd) })
		err = errors.Join(
			unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(e.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
			unix.SetsockoptTimeval(e.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.Bind(e.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: n.wire.Index(t, "p1")}))
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { e.ended <- e.listen() }()
	return e
}

// close ends the listening, and returns what was heard.
func (e *ear) close(t *testing.T) []loss {
	t.Helper()
	e.stop.Store(true)
	if err := <-e.ended; err != nil {
		t.Fatal(err)
	}
	return e.losses
}

func (e *ear) listen() error {
	buf, control := make([]byte, 2048), make([]byte, 128)
	for {
		flags := 0
		stop := e.stop.Load()
		if stop { // what has come is read
			flags = unix.MSG_DONTWAIT
		}
		n, size, _, _, err := unix.Recvmsg(e.fd, buf, control, flags)
		switch {
		case errors.Is(err, unix.EAGAIN) && stop:
			return nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		messages, err := unix.ParseSocketControlMessage(control[:size])
		if err != nil || len(messages) == 0 {
			return fmt.Errorf("no time with a packet: %w", err)
		}
		at := (*unix.Timespec)(unsafe.Pointer(&messages[0].Data[0]))
		if from, to, p, ok := overheard(buf[:n]); ok {
			e.hear(from, to, p, time.Unix(at.Unix()))
		}
	}
}

// overheard reads a BFD packet with all that is around it.
func overheard(b []byte) (from, to netip.Addr, p Packet, ok bool) {
	_, _, port, _, _, udp := dissect(b)
	if !udp || port != (Port{}).Number() {
		return from, to, p, false
	}
	if b[0]>>4 == 4 {
		from, to, b = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:])), b[20:]
	} else {
		from, to, b = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:])), b[40:]
	}
	p, err := Decode(b[8:])
	return from, to, p, err == nil
}

func (e *ear) hear(from, to netip.Addr, p Packet, at time.Time) {
	e.packets++
	v := e.voice(from)
	if other := e.voice(to); p.State == Down && p.Diag == DetectionTime && v.up && other.up && at.Sub(other.first) >= detection {
		e.losses = append(e.losses, loss{at, from, to, other.silence(at)})
	}
	if v.first.IsZero() {
		v.first = at
	}
	v.up = p.State == Up
	v.at = append(v.at, at)
	v.at = slices.DeleteFunc(v.at, func(t time.Time) bool { return at.Sub(t) > time.Second })
}

func (e *ear) voice(of netip.Addr) *voice {
	if e.voices[of] == nil {
		e.voices[of] = &voice{}
	}
	return e.voices[of]
}

// silence returns the longest in the second before a moment.
func (v *voice) silence(until time.Time) (longest time.Duration) {
	for i, at := range v.at {
		next := until
		if i+1 < len(v.at) {
			next = v.at[i+1]
		}
		longest = max(longest, next.Sub(at))
	}
	return longest
}
