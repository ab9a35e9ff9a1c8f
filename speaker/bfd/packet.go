package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// packetSize is how long the mandatory section is, in bytes, and all that we
// ever send (RFC 5880 §4.1).
const packetSize = 24

// version is that of RFC 5880.
const version = 1

// Bits of the second byte, below the state.
const (
	flagPoll        = 1 << 5
	flagFinal       = 1 << 4
	flagIndependent = 1 << 3
	flagAuth        = 1 << 2
	flagDemand      = 1 << 1
	flagMultipoint  = 1 << 0
)

// A Packet is a BFD Control packet without authentication (RFC 5880 §4.1).
// Times are whole microseconds on the wire.
type Packet struct {
	State State
	Diag  Diag
	Poll  bool
	Final bool
	// Independent says that the sender's BFD outlives its control plane.
	Independent bool
	Demand      bool
	Multiplier  uint8

	MyDiscriminator   uint32
	YourDiscriminator uint32

	DesiredMinTx      time.Duration
	RequiredMinRx     time.Duration
	RequiredMinEchoRx time.Duration
}

// Why a packet is discarded (RFC 5880 §6.8.6).
var (
	errShort         = errors.New("shorter than a BFD packet")
	errVersion       = errors.New("not BFD version 1")
	errLength        = errors.New("length field does not fit the packet")
	errMultiplier    = errors.New("detection multiplier is 0")
	errMultipoint    = errors.New("multipoint bit is set")
	errDiscriminator = errors.New("my discriminator is 0")
	errNobody        = errors.New("your discriminator is 0 though the session is said to be there")
	errAuth          = errors.New("authenticated, which is not supported")
)

// Decode reads a packet from the payload of a datagram, or says why RFC 5880
// §6.8.6 has it discarded. What follows the packet is not looked at.
func Decode(b []byte) (Packet, error) {
	if len(b) < packetSize {
		return Packet{}, errShort
	}
	p := Packet{
		State:             State(b[1] >> 6),
		Diag:              Diag(b[0] & 0x1f),
		Poll:              b[1]&flagPoll != 0,
		Final:             b[1]&flagFinal != 0,
		Independent:       b[1]&flagIndependent != 0,
		Demand:            b[1]&flagDemand != 0,
		Multiplier:        b[2],
		MyDiscriminator:   binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:      interval(b[12:]),
		RequiredMinRx:     interval(b[16:]),
		RequiredMinEchoRx: interval(b[20:]),
	}
	switch length := int(b[3]); {
	case b[0]>>5 != version:
		return Packet{}, errVersion
	case length < packetSize || length > len(b):
		return Packet{}, errLength
	case p.Multiplier == 0:
		return Packet{}, errMultiplier
	case b[1]&flagMultipoint != 0:
		return Packet{}, errMultipoint
	case p.MyDiscriminator == 0:
		return Packet{}, errDiscriminator
	case p.YourDiscriminator == 0 && p.State != Down && p.State != AdminDown:
		return Packet{}, errNobody
	case b[1]&flagAuth != 0:
		return Packet{}, errAuth
	}
	return p, nil
}

// Append appends p as it goes over the wire. An interval that does not fit is
// sent as the nearest that does: at most about 71 minutes.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	for _, f := range [...]struct {
		set bool
		bit byte
	}{{p.Poll, flagPoll}, {p.Final, flagFinal}, {p.Independent, flagIndependent}, {p.Demand, flagDemand}} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|byte(p.Diag)&0x1f, flags, p.Multiplier, packetSize)
	b = binary.BigEndian.AppendUint32(b, p.MyDiscriminator)
	b = binary.BigEndian.AppendUint32(b, p.YourDiscriminator)
	b = binary.BigEndian.AppendUint32(b, microseconds(p.DesiredMinTx))
	b = binary.BigEndian.AppendUint32(b, microseconds(p.RequiredMinRx))
	return binary.BigEndian.AppendUint32(b, microseconds(p.RequiredMinEchoRx))
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

func microseconds(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), math.MaxUint32))
}

// A State is that of a session, at either end (RFC 5880 §4.1).
type State uint8

// The states. A session is alive in Up only; Init is "I hear you, do you hear
// me?".
const (
	AdminDown State = iota // not wanted; says nothing about the path
	Down
	Init
	Up
)

var stateNames = [...]string{"admin-down", "down", "init", "up"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Diag is why a session was last taken down, in the words of the end that
// did so (RFC 5880 §4.1).
type Diag uint8

// The diagnostics. Herald itself gives only those with a comment.
const (
	NoDiag        Diag = iota // has never been down since it was made
	DetectionTime             // nothing was heard for the detection time
	EchoFailed
	NeighborDown // the other end has said so
	ForwardingReset
	PathDown
	ConcatenatedPathDown
	AdministrativelyDown // somebody wanted it down: a planned stop
	ReverseConcatenatedPathDown
)

var diagNames = [...]string{
	"none", "control detection time expired", "echo function failed", "neighbor signaled session down",
	"forwarding plane reset", "path down", "concatenated path down", "administratively down",
	"reverse concatenated path down",
}

func (d Diag) String() string {
	if int(d) < len(diagNames) {
		return diagNames[d]
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// MarshalText implements [encoding.TextMarshaler].
func (d Diag) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
