package ipvs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	moby "github.com/moby/ipvs"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func ipOf(s string) net.IP { return netip.MustParseAddr(s).AsSlice() }

// asMoby encodes a command as moby/ipvs v1.1.0 does (netlink_linux.go,
// fillService and fillDestination), which does not let others do so.
func asMoby(c command) []byte {
	s, d := c.svc, c.dest
	svc := nl.NewRtAttr(attrService, nil)
	svc.AddRtAttr(svcAF, nl.Uint16Attr(s.AddressFamily))
	if s.FWMark != 0 {
		svc.AddRtAttr(svcFWMark, nl.Uint32Attr(s.FWMark))
	} else {
		svc.AddRtAttr(svcProtocol, nl.Uint16Attr(s.Protocol))
		svc.AddRtAttr(svcAddr, s.Address)
		svc.AddRtAttr(svcPort, binary.BigEndian.AppendUint16(nil, s.Port))
	}
	if c.op == opNewService || c.op == opSetService { // moby: always
		svc.AddRtAttr(svcScheduler, nl.ZeroTerminated(s.SchedName))
		if s.PEName != "" {
			svc.AddRtAttr(svcPE, nl.ZeroTerminated(s.PEName))
		}
		svc.AddRtAttr(svcFlags, append(nl.Uint32Attr(s.Flags), nl.Uint32Attr(math.MaxUint32)...))
		svc.AddRtAttr(svcTimeout, nl.Uint32Attr(s.Timeout))
		svc.AddRtAttr(svcNetmask, nl.Uint32Attr(s.Netmask))
	}
	request := nl.NewNetlinkRequest(31, syscall.NLM_F_ACK)
	request.Seq = 7
	request.AddData(&nl.Genlmsg{Command: uint8(c.op), Version: 1})
	request.AddData(svc)
	if d != nil {
		dest := nl.NewRtAttr(attrDest, nil)
		dest.AddRtAttr(destAddr, d.Address)
		dest.AddRtAttr(destPort, binary.BigEndian.AppendUint16(nil, d.Port))
		if c.op != opDelDest { // moby: always
			dest.AddRtAttr(destMethod, nl.Uint32Attr(d.ConnectionFlags&moby.ConnectionFlagFwdMask))
			dest.AddRtAttr(destWeight, nl.Uint32Attr(uint32(d.Weight)))
			dest.AddRtAttr(destUpper, nl.Uint32Attr(d.UpperThreshold))
			dest.AddRtAttr(destLower, nl.Uint32Attr(d.LowerThreshold))
		}
		dest.AddRtAttr(destAF, nl.Uint16Attr(d.AddressFamily)) // moby: never
		request.AddData(dest)
	}
	return request.Serialize()
}

func TestCommandsAreEncodedLikeMobys(t *testing.T) {
	v4 := &moby.Service{Address: ipOf("192.0.2.1"), Protocol: 6, Port: 80, AddressFamily: unix.AF_INET,
		SchedName: "mh", Flags: flagPort | flagFallback, Netmask: netmask4}
	v6 := &moby.Service{Address: ipOf("2001:db8::1"), Protocol: 17, Port: 53, AddressFamily: unix.AF_INET6,
		SchedName: "wrr", Flags: 1, Timeout: 300, Netmask: netmask6, PEName: "sip"}
	mark := &moby.Service{FWMark: 42, AddressFamily: unix.AF_INET6, SchedName: "rr", Netmask: netmask6}
	d4 := &moby.Destination{Address: ipOf("10.0.0.7"), Port: 8080, Weight: 70000, AddressFamily: unix.AF_INET,
		ConnectionFlags: moby.ConnectionFlagTunnel, UpperThreshold: 9, LowerThreshold: 3}
	d6 := &moby.Destination{Address: ipOf("fd10::7"), Port: 8080, Weight: 1, AddressFamily: unix.AF_INET6}
	for _, svc := range []*moby.Service{v4, v6, mark} {
		for _, c := range []command{
			{opNewService, svc, nil}, {opSetService, svc, nil}, {opDelService, svc, nil},
			{opNewDest, svc, d4}, {opSetDest, svc, d6}, {opDelDest, svc, d4}, {opDelDest, svc, d6},
		} {
			if err := check(c); err != nil {
				t.Fatalf("check(%+v) = %v", c, err)
			}
			got, want := appendCommand(nil, 31, 7, c), asMoby(c)
			if !bytes.Equal(got, want) {
				t.Errorf("command %d of %+v:\n%x, want\n%x", c.op, svc, got, want)
			}
		}
	}
}

// The bytes of one command, so that the test above cannot be wrong with the
// code alike: what moby/ipvs sends, but for the address family at its end.
func TestACommandOnTheWire(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	c := command{opNewDest,
		&moby.Service{Address: ipOf("192.0.2.1"), Protocol: 6, Port: 80, AddressFamily: unix.AF_INET, SchedName: "rr"},
		&moby.Destination{Address: ipOf("10.0.0.7"), Port: 8080, Weight: 1, AddressFamily: unix.AF_INET}}
	want := "74000000 1f00 0500 07000000 00000000 05 01 0000" + // nlmsghdr, genlmsghdr
		"2400 0100" + "0600 0100 0200 0000" + "0600 0200 0600 0000" + "0800 0300 c0000201" + "0600 0400 0050 0000" +
		"3c00 0200" + "0800 0100 0a000007" + "0600 0200 1f90 0000" + "0800 0300 00000000" + "0800 0400 01000000" +
		"0800 0500 00000000" + "0800 0600 00000000" + "0600 0b00 0200 0000"
	if got := fmt.Sprintf("%x", appendCommand(nil, 31, 7, c)); got != strings.ReplaceAll(want, " ", "") {
		t.Errorf("appendCommand() = %s, want %s", got, want)
	}
}

func TestNoServiceClaimsToBeHashed(t *testing.T) {
	svc := &moby.Service{Address: ipOf("192.0.2.1"), AddressFamily: unix.AF_INET, SchedName: "rr", Flags: flagPort}
	want := appendCommand(nil, 31, 7, command{op: opNewService, svc: svc})
	svc.Flags |= flagHashed
	if got := appendCommand(nil, 31, 7, command{op: opNewService, svc: svc}); !bytes.Equal(got, want) {
		t.Errorf("flag %#x is sent: %x", flagHashed, got)
	}
}

func TestADestinationIsOfTheFamilyOfItsService(t *testing.T) {
	c := command{opNewDest,
		&moby.Service{Address: ipOf("2001:db8::1"), AddressFamily: unix.AF_INET6},
		&moby.Destination{Address: ipOf("fd10::7"), Port: 80}}
	got := appendCommand(nil, 31, 7, c)
	c.dest.AddressFamily = unix.AF_INET6
	if want := appendCommand(nil, 31, 7, c); !bytes.Equal(got, want) {
		t.Errorf("appendCommand() = %x, want %x", got, want)
	}
}

func TestCheckRefuses(t *testing.T) {
	tests := []struct {
		name string
		edit func(*command)
		want error
	}{
		{"no op", func(c *command) { c.op = 0 }, unix.EOPNOTSUPP},
		{"reading", func(c *command) { c.op = cmdGetService }, unix.EOPNOTSUPP},
		{"an op that is not about a service", func(c *command) { c.op = 17 }, unix.EOPNOTSUPP},
		{"no service", func(c *command) { c.svc = nil }, nil},
		{"no destination", func(c *command) { c.dest = nil }, nil},
		{"a destination too many", func(c *command) { c.op = opDelService }, nil},
		{"a scheduler with a long name", func(c *command) { c.svc.SchedName = strings.Repeat("m", 70000) }, unix.ERANGE},
		{"a persistence engine with a long name", func(c *command) { c.svc.PEName = strings.Repeat("m", 70000) }, unix.ERANGE},
		{"a service without an address", func(c *command) { c.svc.Address = nil }, unix.EINVAL},
		{"a service of no family", func(c *command) { c.svc.AddressFamily = 0 }, unix.EAFNOSUPPORT},
		{"an IPv6 address in an IPv4 service", func(c *command) { c.svc.Address = ipOf("2001:db8::1") }, unix.EINVAL},
		{"an IPv4 address in an IPv6 service", func(c *command) { c.svc.AddressFamily = unix.AF_INET6 }, unix.EINVAL},
		{"an IPv6 destination that is said to be IPv4", func(c *command) { c.dest.Address = ipOf("fd10::7") }, unix.EINVAL},
		{"an IPv6 destination of an IPv4 service, of no family",
			func(c *command) { c.dest.Address, c.dest.AddressFamily = ipOf("fd10::7"), 0 }, unix.EINVAL},
		{"a destination of three bytes", func(c *command) { c.dest.Address = c.dest.Address[:3] }, unix.EINVAL},
		{"a negative weight", func(c *command) { c.dest.Weight = -1 }, unix.ERANGE},
		{"a weight of more than 31 bits", func(c *command) { c.dest.Weight = 1 << 31 }, unix.ERANGE},
		{"a mark of no family", func(c *command) { *c.svc = moby.Service{FWMark: 1}; c.dest.AddressFamily = 0 }, unix.EAFNOSUPPORT},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := command{opNewDest,
				&moby.Service{Address: ipOf("192.0.2.1"), AddressFamily: unix.AF_INET},
				&moby.Destination{Address: ipOf("10.0.0.7"), AddressFamily: unix.AF_INET}}
			if err := check(c); err != nil {
				t.Fatalf("check() before the edit = %v", err)
			}
			tt.edit(&c)
			if err := check(c); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("check() = %v, want %v", err, tt.want)
			}
		})
	}
}
