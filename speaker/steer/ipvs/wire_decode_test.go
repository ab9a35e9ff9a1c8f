package ipvs

import (
	"bytes"
	"encoding/binary"
	"net"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

func FuzzAnswers(f *testing.F) {
	f.Add(ack(1, 0))
	f.Add(slices.Concat(ack(1, 0), ack(2, unix.EEXIST), ack(3, 0)))
	f.Add(ack(1, unix.EEXIST)[:30])
	f.Add(bytes.Repeat([]byte{0xff}, 50))
	f.Add(make([]byte, 50))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		n := 0
		for _, errno := range answers(datagram) {
			if errno > 1<<31 {
				t.Errorf("an error is %d", errno)
			}
			n++
		}
		if n > len(datagram)/20 {
			t.Errorf("%d answers in %d bytes", n, len(datagram))
		}
		// Whole acknowledgements behind are found if those before are whole.
		if whole, err := syscall.ParseNetlinkMessage(datagram); err == nil && len(datagram)%4 == 0 {
			acks := 0
			for _, m := range whole {
				if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 && int32(binary.NativeEndian.Uint32(m.Data)) <= 0 {
					acks++
				}
			}
			if acks > n {
				t.Errorf("%d answers found of %d", n, acks)
			}
		}
	})
}

// someServices are what the kernel can list.
func someServices() []moby.Service {
	return []moby.Service{
		{Address: ipOf("192.0.2.1"), Protocol: 6, Port: 80, AddressFamily: unix.AF_INET,
			SchedName: "mh", Flags: flagHashed | flagPort, Netmask: netmask4},
		{Address: ipOf("2001:db8::1"), Protocol: 17, Port: 53, AddressFamily: unix.AF_INET6,
			SchedName: "wrr", Flags: flagHashed | 1, Timeout: 300, Netmask: netmask6, PEName: "sip"},
		{FWMark: 42, AddressFamily: unix.AF_INET, SchedName: "rr", Flags: flagHashed, Netmask: netmask4},
		{FWMark: 42, AddressFamily: unix.AF_INET6, SchedName: "rr", Flags: flagHashed, Netmask: netmask6},
	}
}

// asListed encodes a service as the kernel lists it: as it is written but with
// the flag that says it is hashed, an address of 16 bytes, and statistics.
func asListed(seq uint32, svc moby.Service) []byte {
	whole := svc
	whole.Address = nil
	b := appendHeader(nil, 31, seq, 0, uint8(opNewService))
	at := len(b)
	b = appendAttr(b, attrService, 0)
	b = append16(b, svcAF, svc.AddressFamily)
	if svc.FWMark != 0 {
		b = append32(b, svcFWMark, svc.FWMark)
	} else {
		b = append16(b, svcProtocol, svc.Protocol)
		b = append(appendAttr(b, svcAddr, 16), append(slices.Clone(svc.Address), make([]byte, 12)...)[:16]...)
		b = appendPort(b, svcPort, svc.Port)
	}
	b = appendName(b, svcScheduler, svc.SchedName)
	if svc.PEName != "" {
		b = appendName(b, svcPE, svc.PEName)
	}
	b = append(appendAttr(b, svcFlags, 8), binary.NativeEndian.AppendUint64(nil, uint64(svc.Flags))...)
	b = append32(b, svcTimeout, svc.Timeout)
	b = append32(b, svcNetmask, svc.Netmask)
	b = append(appendAttr(b, 10|unix.NLA_F_NESTED, 8), 8, 0, 1, 0, 1, 2, 3, 4)
	b = endAttr(b, at)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

// dumpDone is the end of a dump.
func dumpDone(seq uint32, errno syscall.Errno) []byte {
	b := ack(seq, errno)[:20]
	binary.NativeEndian.PutUint32(b, 20)
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_DONE)
	return b
}

func TestServicesAreDecoded(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("asListed writes flags and mask as on a little-endian machine")
	}
	for _, want := range someServices() {
		m, rest, err := nextMessage(asListed(1, want))
		if err != nil || len(rest) != 0 {
			t.Fatalf("nextMessage() = %v, %d bytes left", err, len(rest))
		}
		if got, err := decodeService(m.body); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("decodeService() = %+v, %v\nwant %+v", got, err, want)
		}
		// Cut off anywhere, it is an error and no other service.
		for n := range m.body {
			got, err := decodeService(m.body[:n])
			if err == nil {
				t.Errorf("decodeService() of %d bytes of %d = %+v", n, len(m.body), got)
			}
		}
	}
}

func TestWhatIsNoServiceIsAnError(t *testing.T) {
	attrs := func(a ...[]byte) []byte {
		all := slices.Concat(a...)
		return slices.Concat([]byte{1, 1, 0, 0}, appendAttr(nil, attrService, len(all)), all)
	}
	family := append16(nil, svcAF, unix.AF_INET)
	tests := []struct {
		name string
		body []byte
		want string
	}{
		{"a destination", append([]byte{1, 1, 0, 0}, appendAttr(nil, attrDest, 0)...), "attribute 2 is another thing"},
		{"no family", attrs(), "address family 0"},
		{"no address", attrs(family), "it has 0 bytes, not 4"},
		{"half an address", attrs(append16(nil, svcAF, unix.AF_INET6), append32(nil, svcAddr, 1)), "it has 4 bytes, not 16"},
		{"a port of four bytes", attrs(family, append32(nil, svcPort, 80)), "attribute 4 of a service has 4 bytes, not 2"},
		{"an attribute that is too long", attrs(family, appendAttr(nil, svcPort, 2)), "is said to have 6"},
		{"an attribute without a head", attrs(family, []byte{3, 0, 1, 0}), "is said to have 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if svc, err := decodeService(tt.body); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("decodeService() = %+v, %v, want %q", svc, err, tt.want)
			}
		})
	}
}

// asListedDest encodes a destination as the kernel lists it.
func asListedDest(seq uint32, d moby.Destination) []byte {
	b := appendHeader(nil, 31, seq, 0, uint8(opNewDest))
	at := len(b)
	b = appendAttr(b, attrDest, 0)
	b = append(appendAttr(b, destAddr, 16), append(slices.Clone(d.Address), make([]byte, 12)...)[:16]...)
	b = appendPort(b, destPort, d.Port)
	b = append32(b, destMethod, d.ConnectionFlags|0x8000)
	b = append32(b, destWeight, uint32(d.Weight))
	b = append32(b, destUpper, d.UpperThreshold)
	b = append32(b, destLower, d.LowerThreshold)
	b = append32(b, 7, 12345) // active connections
	b = append16(b, destAF, d.AddressFamily)
	b = endAttr(b, at)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestDestinationsAreDecoded(t *testing.T) {
	for _, want := range []moby.Destination{
		dest4("10.0.0.7:8080", 65535),
		{Address: ipOf("fd00::7"), Port: 53, AddressFamily: unix.AF_INET6, ConnectionFlags: moby.ConnectionFlagTunnel, UpperThreshold: 9, LowerThreshold: 3},
	} {
		m, _, err := nextMessage(asListedDest(1, want))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeDestination(m.body, unix.AF_INET); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("decodeDestination() = %+v, %v\nwant %+v", got, err, want)
		}
		for n := range len(m.body) - 12 { // the family at the end may be missing
			if got, err := decodeDestination(m.body[:n], unix.AF_INET); err == nil {
				t.Errorf("decodeDestination() of %d bytes of %d = %+v", n, len(m.body), got)
			}
		}
	}
}

func FuzzDump(f *testing.F) {
	var all []byte
	for _, svc := range someServices() {
		all = append(all, asListed(1, svc)...)
	}
	f.Add(append(all, dumpDone(1, 0)...), false)
	f.Add(asListedDest(1, dest4("10.0.0.7:8080", 1)), true)
	f.Add(all[:100], false)
	f.Add(ack(1, unix.EPERM), false)
	f.Fuzz(func(t *testing.T, datagram []byte, dests bool) {
		check := func(addr net.IP, mark uint32) {
			if mark == 0 && len(addr) != 4 && len(addr) != 16 {
				t.Errorf("there is the address %v", addr)
			}
		}
		d := dumping{family: 31, seq: 1, each: func(body []byte) error {
			if dests {
				d, err := decodeDestination(body, unix.AF_INET)
				if err == nil {
					check(d.Address, 0)
				}
				return err
			}
			svc, err := decodeService(body)
			if err == nil {
				check(svc.Address, svc.FWMark)
			}
			return err
		}}
		_ = d.read(datagram) // whatever it says, it must say it
	})
}
