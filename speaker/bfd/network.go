package bfd

import (
	"net/netip"
	"time"
)

// A Network opens the sockets of a Server; only the goroutine of Run asks it.
type Network interface {
	// Listen opens the one socket that hears a port.
	Listen(Port) (Listener, error)
	// Dial opens the socket that sends to a peer from a UDP port of this
	// host. The error is EADDRINUSE if that port is taken.
	Dial(to Peer, from uint16) (Sender, error)
}

// A Port is what one socket can hear.
type Port struct{ Multihop, IPv6 bool }

// Number returns the UDP port (RFC 5881 §4, RFC 5883 §5).
func (p Port) Number() uint16 {
	if p.Multihop {
		return 4784
	}
	return 3784
}

func (p Port) family() string {
	if p.IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// A Listener hears one port.
type Listener interface {
	// Await calls ring, which never blocks, at any time after something has
	// come and was not read, until the Listener is closed. It is called by a
	// goroutine of its own.
	Await(ring func())
	// Read fills datagrams with what has come, oldest first, and returns how
	// many it has filled: fewer than all if there are no more. It does not
	// wait.
	Read(datagrams []Datagram) (int, error)
	Close() error
}

// A Sender sends to one peer.
type Sender interface {
	// Send sends one packet. An error may be about an earlier one, as when the
	// peer's host has refused it, but it does not mean that this one was sent.
	Send(packet []byte) error
	Close() error
}

// A Datagram is what comes in.
type Datagram struct {
	From netip.Addr // with a zone if link-local
	To   netip.Addr // without a zone
	TTL  int        // or hop limit; -1 if unknown
	Len  int
	Data [64]byte // more than any packet that we take
}

func (d *Datagram) payload() []byte { return d.Data[:d.Len] }

// Source ports (RFC 5881 §4).
const (
	firstSource = 49152
	lastSource  = 65535
)

// How a loop that wakes up late is forgiving.
const (
	// late is from when on it counts as absent. Below, even the shortest
	// interval has room for it.
	late = 20 * time.Millisecond
	// settling is how long packets then have to reach the socket.
	settling = 10 * time.Millisecond
)
