package ipvs

import (
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRoutesAreEncodedAsTheKernelReadsThem(t *testing.T) {
	tests := []struct {
		name  string
		route hostAddr
		kind  uint16
		table uint8
		to    uint8
		attrs map[uint16]string
	}{
		{"to this namespace", insideRoute(ip("192.0.2.1")), unix.RTM_NEWROUTE, unix.RT_TABLE_LOCAL, unix.RTN_LOCAL,
			map[uint16]string{unix.RTA_DST: "192.0.2.1"}},
		{"to a gateway", hostRoute(ip("2001:db8::1"), 7), unix.RTM_NEWROUTE, unix.RT_TABLE_MAIN, unix.RTN_UNICAST,
			map[uint16]string{unix.RTA_DST: "2001:db8::1", unix.RTA_GATEWAY: "fd48:6572:616c:64::2"}},
		{"away", hostAddr{addr: ip("192.0.2.1"), gateway: ip("169.254.77.2"), link: 7, del: true}, unix.RTM_DELROUTE, unix.RT_TABLE_MAIN, unix.RTN_UNICAST,
			map[uint16]string{unix.RTA_DST: "192.0.2.1", unix.RTA_GATEWAY: "169.254.77.2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			messages, err := syscall.ParseNetlinkMessage(tt.route.append(nil, 9))
			if err != nil || len(messages) != 1 {
				t.Fatalf("%d messages, %v", len(messages), err)
			}
			m := messages[0]
			if m.Header.Type != tt.kind || m.Header.Seq != 9 || m.Header.Flags&unix.NLM_F_ACK == 0 {
				t.Errorf("header %+v", m.Header)
			}
			if m.Data[1] != uint8(tt.route.addr.BitLen()) || m.Data[4] != tt.table || m.Data[5] != routeProtocol || m.Data[7] != tt.to {
				t.Errorf("struct rtmsg %v", m.Data[:12])
			}
			rest := m.Data[12:]
			for len(rest) > 0 {
				var kind uint16
				var value []byte
				if kind, value, rest, err = nextAttr(rest); err != nil {
					t.Fatal(err)
				}
				if kind == unix.RTA_OIF {
					continue
				}
				if a, _ := netip.AddrFromSlice(value); a.String() != tt.attrs[kind] {
					t.Errorf("attribute %d is %s, want %s", kind, a, tt.attrs[kind])
				}
				delete(tt.attrs, kind)
			}
			if len(tt.attrs) > 0 {
				t.Errorf("attributes %v are missing", tt.attrs)
			}
		})
	}
}
