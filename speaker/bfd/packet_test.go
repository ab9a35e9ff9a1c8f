package bfd

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"testing"
	"time"
)

// good is a packet written by hand from RFC 5880 §4.1; the tests below break it
// in one place each.
const good = "20f00318" + "11223344" + "55667788" + "000493e0" + "000493e0" + "0000c350"

func wire(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var goodPacket = Packet{
	State: Up, Poll: true, Final: true, Multiplier: 3,
	MyDiscriminator: 0x11223344, YourDiscriminator: 0x55667788,
	DesiredMinTx: 300 * time.Millisecond, RequiredMinRx: 300 * time.Millisecond, RequiredMinEchoRx: 50 * time.Millisecond,
}

func TestDecode(t *testing.T) {
	set := func(at int, bytes ...byte) func([]byte) []byte {
		return func(b []byte) []byte { copy(b[at:], bytes); return b }
	}
	tests := []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"a good packet is taken", set(0), nil},
		{"what follows the packet is not looked at", func(b []byte) []byte { return append(b, 1, 2, 3) }, nil},
		{"a longer packet is taken if it is all there", func(b []byte) []byte { b[3] = 26; return append(b, 1, 2) }, nil},
		{"an empty datagram", func([]byte) []byte { return nil }, errShort},
		{"a datagram that is cut", func(b []byte) []byte { return b[:23] }, errShort},
		{"version 0", set(0, 0x00), errVersion},
		{"version 2", set(0, 0x40), errVersion},
		{"a length below the mandatory section", set(3, 23), errLength},
		{"a length beyond the datagram", set(3, 25), errLength},
		{"multiplier 0", set(2, 0), errMultiplier},
		{"multipoint", set(1, 0xf1), errMultipoint},
		{"my discriminator 0", set(4, 0, 0, 0, 0), errDiscriminator},
		{"up, but with nobody", set(8, 0, 0, 0, 0), errNobody},
		{"init, but with nobody", func(b []byte) []byte { return set(8, 0, 0, 0, 0)(set(1, 0x80)(b)) }, errNobody},
		{"down, with nobody yet", func(b []byte) []byte { return set(8, 0, 0, 0, 0)(set(1, 0x40)(b)) }, nil},
		{"admin-down, with nobody yet", func(b []byte) []byte { return set(8, 0, 0, 0, 0)(set(1, 0x00)(b)) }, nil},
		{"authenticated", set(1, 0xf4), errAuth},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode(tt.change(wire(t, good)))
			if !errors.Is(err, tt.want) {
				t.Fatalf("Decode() = %v, want %v", err, tt.want)
			}
			if err != nil && got != (Packet{}) {
				t.Errorf("a packet that is discarded reads %+v", got)
			}
		})
	}
	if got, err := Decode(wire(t, good)); err != nil || got != goodPacket {
		t.Errorf("Decode() = %+v, %v\nwant       %+v", got, err, goodPacket)
	}
}

func TestAppend(t *testing.T) {
	if got := hex.EncodeToString(goodPacket.Append(nil)); got != good {
		t.Errorf("Append() = %s\nwant       %s", got, good)
	}
	p := Packet{State: Down, Multiplier: 1, MyDiscriminator: 1, DesiredMinTx: 100 * time.Hour, RequiredMinRx: -time.Second}
	got, err := Decode(p.Append(nil))
	if err != nil || got.DesiredMinTx != 4294967295*time.Microsecond || got.RequiredMinRx != 0 {
		t.Errorf("intervals that do not fit are sent as %v and %v, %v", got.DesiredMinTx, got.RequiredMinRx, err)
	}
}

func TestWordsForStatesAndDiagnostics(t *testing.T) {
	for got, want := range map[string]string{
		Up.String():           "up",
		State(9).String():     "state 9",
		NeighborDown.String(): "neighbor signaled session down",
		Diag(31).String():     "diagnostic 31",
	} {
		if got != want {
			t.Errorf("reads %q, want %q", got, want)
		}
	}
}

// Whatever comes in: nothing panics, and what is taken is what was sent.
func FuzzDecode(f *testing.F) {
	f.Add(wire(f, good))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 60))
	f.Add(Packet{State: Down, Multiplier: 1, MyDiscriminator: 1}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		again := p.Append(nil)
		want := bytes.Clone(b[:packetSize])
		want[3] = packetSize
		if !bytes.Equal(again, want) {
			t.Errorf("read  % x\nwrote % x", want, again)
		}
		if q, err := Decode(again); err != nil || q != p {
			t.Errorf("Decode() = %+v, %v\nwant       %+v", q, err, p)
		}
		if b[1]&(flagAuth|flagMultipoint) != 0 || binary.BigEndian.Uint32(b[4:]) == 0 || b[2] == 0 {
			t.Errorf("taken: % x", b)
		}
	})
}
