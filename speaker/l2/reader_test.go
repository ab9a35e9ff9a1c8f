package l2

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/bpf"

	"github.com/herald-lb/herald/speaker"
)

// slow is a protocol in which each frame asks for addr, and takes a moment to be
// understood.
func slow(addr netip.Addr, takes time.Duration) Protocol {
	frame := func(netip.Addr, MAC) ([]byte, error) { return make([]byte, 14), nil }
	return Protocol{
		Name: "slow", Speaks: netip.Addr.Is4, Probe: frame, Defence: frame,
		Filter:   func([]netip.Addr) []bpf.Instruction { return nil },
		Greeting: func(netip.Addr, MAC) ([][]byte, error) { return [][]byte{make([]byte, 14)}, nil },
		Hear: func(_ []byte, at Station) (h Heard, err error) {
			if at.Claims(addr) {
				h = Heard{Verdict: Asked, Addr: addr, Reply: []byte("an answer to it")}
			}
			time.Sleep(takes)
			return h, nil
		},
	}
}

// cable is a network of one link, on which nobody hears what is said.
type cable struct {
	silent
	in      chan []byte // heard by the first socket
	opened  bool
	hang    chan time.Duration // what the next frame waits for room
	answers chan []byte
}

// plug is a socket on it.
type plug struct {
	*cable
	in     chan []byte
	closed chan struct{}
}

func (c *cable) Links() ([]Link, error) { return []Link{{Name: "eth0", MAC: MAC{2}}}, nil }

func (c *cable) Listen(Link, []bpf.Instruction) (Conn, error) {
	in := c.in
	if c.opened {
		in = make(chan []byte)
	}
	c.opened = true
	return plug{c, in, make(chan struct{})}, nil
}

func (c *cable) Watch(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return nil
}

func (c plug) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case frame := <-c.in:
		return copy(b, frame), nil, nil
	case <-c.closed:
		return 0, nil, net.ErrClosed
	}
}

func (c *cable) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case d := <-c.hang:
		time.Sleep(d)
	default:
	}
	if string(b) == "an answer to it" {
		c.answers <- b
	}
	return len(b), nil
}

func (c plug) Close() error {
	close(c.closed)
	return nil
}

// A reader that has judged a frame while Run was absent does not answer it, though
// Run is back meanwhile: it has not asked yet who has the address now.
func TestWhatWasJudgedInAbsenceIsNotAnswered(t *testing.T) {
	for _, tt := range []struct {
		name    string
		after   time.Duration // of the absence that begins
		answers int
	}{
		{"before it is one", 100 * time.Millisecond, 1},
		{"shortly before its end", 360 * time.Millisecond, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				addr := netip.MustParseAddr("192.0.2.10")
				c := &cable{in: make(chan []byte), hang: make(chan time.Duration, 1), answers: make(chan []byte, 9)}
				a := New(slow(addr, 50*time.Millisecond), Options{Network: c})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- a.Run(ctx) }()
				<-a.Started()
				plan := speaker.Announcements{Claims: []speaker.Claim{{Addr: addr, Link: "eth0"}}}
				if err := a.Sync(ctx, plan); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				c.hang <- 400 * time.Millisecond
				plan.Claims = append(plan.Claims, speaker.Claim{Addr: addr.Next(), Link: "eth0"})
				go func() { _ = a.Sync(ctx, plan) }()
				time.Sleep(tt.after)
				c.in <- make([]byte, 14)
				time.Sleep(100 * time.Millisecond)
				if got := len(c.answers); got != tt.answers {
					t.Errorf("%d answers, want %d", got, tt.answers)
				}
				time.Sleep(time.Second)
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
