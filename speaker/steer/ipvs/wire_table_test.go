package ipvs

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// tableTop is how the file of kernel 6.12 begins.
const tableTop = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
`

func dest4(s string, weight int) moby.Destination {
	a := netip.MustParseAddrPort(s)
	d := moby.Destination{Address: a.Addr().AsSlice(), Port: a.Port(), Weight: weight, AddressFamily: unix.AF_INET}
	if a.Addr().Is6() {
		d.AddressFamily = unix.AF_INET6
	}
	return d
}

func TestReadTable(t *testing.T) {
	row := func(proto uint16, addr, scheduler string, dests ...moby.Destination) tableRow {
		return tableRow{serviceID{proto: proto, addr: netip.MustParseAddrPort(addr)}, scheduler, dests}
	}
	tunnel := dest4("[fd10::7]:8080", 0)
	tunnel.ConnectionFlags, tunnel.ActiveConnections, tunnel.InactiveConnections = moby.ConnectionFlagTunnel, 2, 1
	route, local := dest4("10.0.0.7:8080", 2147483647), dest4("10.0.0.7:8081", 1)
	route.ConnectionFlags, local.ConnectionFlags = moby.ConnectionFlagDirectRoute, moby.ConnectionFlagLocalNode
	tests := []struct {
		name, file string
		want       []tableRow
	}{
		{"nothing", "", nil},
		{"a service without destinations", "TCP  C0000201:0050 rr  \n", []tableRow{row(6, "192.0.2.1:80", "rr")}},
		{"destinations in the kernel's order", "TCP  C0000201:0050 rr  \n" +
			"  -> 0A000009:1F90      Masq    1      0          0         \n" +
			"  -> 0A000007:1F90      Masq    3      0          0         \n" +
			"  -> 0A000008:1F90      Masq    2      0          0         \n",
			[]tableRow{row(6, "192.0.2.1:80", "rr", dest4("10.0.0.9:8080", 1), dest4("10.0.0.7:8080", 3), dest4("10.0.0.8:8080", 2))}},
		{"each service its own destinations", "TCP  C0000201:0050 rr  \n" +
			"  -> 0A000009:1F90      Masq    1      0          0         \n" +
			"UDP  C0000201:0050 wlc  \n" +
			"SCTP  C0000201:0050 mh  \n" +
			"  -> 0A000007:1F90      Masq    65536  0          0         \n",
			[]tableRow{row(6, "192.0.2.1:80", "rr", dest4("10.0.0.9:8080", 1)), row(17, "192.0.2.1:80", "wlc"),
				row(132, "192.0.2.1:80", "mh", dest4("10.0.0.7:8080", 65536))}},
		{"IPv6, and every way of forwarding", "UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 mh \n" +
			"  -> [fd10:0000:0000:0000:0000:0000:0000:0007]:1F90      Tunnel  0      2          1         \n" +
			"  -> 0A000007:1F90      Route   2147483647 0          0         \n" +
			"  -> 0A000007:1F91      Local   1      0          0         \n",
			[]tableRow{row(17, "[2001:db8::1]:53", "mh", tunnel, route, local)}},
		{"flags", "TCP  C0000201:0050 rr ops persistent 30000 FFFFFFFF\n" +
			"TCP  C0000202:0050 rr ops \n" +
			"TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 rr persistent -1 80000000\n",
			[]tableRow{row(6, "192.0.2.1:80", "rr"), row(6, "192.0.2.2:80", "rr"), row(6, "[2001:db8::1]:80", "rr")}},
		{"marks", "FWM  0000002A rr \nFWM  FFFFFFFF none ops persistent 1 FFFFFFFF\n",
			[]tableRow{{serviceID{fwmark: 42}, "rr", nil}, {serviceID{fwmark: 0xffffffff}, "none", nil}}},
		{"rare protocols", "IP  C0000201:0000 rr  \nICMP  C0000201:0000 rr  \nICMPv6  C0000201:0000 rr  \nIP_47  C0000201:0000 rr  \n",
			[]tableRow{row(0, "192.0.2.1:0", "rr"), row(1, "192.0.2.1:0", "rr"), row(58, "192.0.2.1:0", "rr"), row(47, "192.0.2.1:0", "rr")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := readTable(strings.NewReader(tableTop+tt.file), tableSize{})
			if err != nil || len(got) != len(tt.want) {
				t.Fatalf("readTable() = %+v, %v\nwant %+v", got, err, tt.want)
			}
			for i, want := range tt.want {
				if len(got[i].dests) == 0 && len(want.dests) == 0 {
					got[i].dests, want.dests = nil, nil
				}
				if !reflect.DeepEqual(got[i], want) {
					t.Errorf("row %d: %+v\nwant   %+v", i, got[i], want)
				}
			}
		})
	}
}

func TestReadTableNamesTheLineThatIsWrong(t *testing.T) {
	const svc, dest = "TCP  C0000201:0050 rr  \n", "  -> 0A000007:1F90      Masq    1      0          0         \n"
	tests := []struct{ name, file, line string }{
		{"an empty file", "", "line 1 "},
		{"another file", "root:x:0:0\n", "line 1,"},
		{"half a head", tableTop[:60], "line 2,"},
		{"two lines of a head", tableTop[:strings.Index(tableTop, "  ->")], "line 3 "},
		{"a destination of nobody", tableTop + dest, "line 4,"},
		{"an empty line", tableTop + svc + "\n" + svc, "line 5,"},
		{"a file that ends in a service", tableTop + svc + "TCP  C00002", "line 5,"},
		{"a file that ends in a destination", tableTop + svc + dest + "  -> 0A000007:1F90      Masq    1   ", "line 6,"},
		{"no scheduler", tableTop + "TCP  C0000201:0050\n", "line 4,"},
		{"an unknown flag", tableTop + "TCP  C0000201:0050 rr sticky\n", "line 4,"},
		{"persistence without a mask", tableTop + "TCP  C0000201:0050 rr persistent 300\n", "line 4,"},
		{"persistence of nothing", tableTop + "TCP  C0000201:0050 rr persistent x FFFFFFFF\n", "line 4,"},
		{"too many words", tableTop + "TCP  C0000201:0050 rr ops persistent 300 FFFFFFFF more\n", "line 4,"},
		{"an unknown protocol", tableTop + "XTP  C0000201:0050 rr\n", "line 4,"},
		{"a protocol of no number", tableTop + "IP_x  C0000201:0050 rr\n", "line 4,"},
		{"a protocol beyond 16 bits", tableTop + "IP_65536  C0000201:0050 rr\n", "line 4,"},
		{"a mark of seven digits", tableTop + "FWM  000002A rr\n", "line 4,"},
		{"a short address", tableTop + "TCP  C00002:0050 rr\n", "line 4,"},
		{"an address of no digits", tableTop + "TCP  C00002G1:0050 rr\n", "line 4,"},
		{"a signed address", tableTop + "TCP  +0000201:0050 rr\n", "line 4,"},
		{"a port of no digits", tableTop + "TCP  C0000201:00x0 rr\n", "line 4,"},
		{"an address without a port", tableTop + "TCP  C0000201x0050 rr\n", "line 4,"},
		{"an IPv6 address without brackets", tableTop + "TCP  -2001:0db8:0000:0000:0000:0000:0000:0001-:0050 rr\n", "line 4,"},
		{"an IPv6 address of other groups", tableTop + "TCP  [2001:0db8:0000:0000:0000:0000:000:00001]:0050 rr\n", "line 4,"},
		{"an unknown way of forwarding", tableTop + svc + strings.Replace(dest, "Masq", "Mask", 1), "line 5,"},
		{"a negative weight", tableTop + svc + strings.Replace(dest, " 1 ", "-1 ", 1), "line 5,"},
		{"a weight beyond 31 bits", tableTop + svc + strings.Replace(dest, " 1 ", " 2147483648 ", 1), "line 5,"},
		{"a destination of five words", tableTop + svc + strings.TrimRight(dest, " 0\n"), "line 5,"},
		{"a destination of seven words", tableTop + svc + strings.TrimRight(dest, "\n") + " 0\n", "line 5,"},
		{"a line without end", tableTop + svc + strings.Repeat("x", 1<<17), "line 4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rows, _, err := readTable(strings.NewReader(tt.file), tableSize{})
			if err == nil || !strings.Contains(err.Error(), tt.line) {
				t.Errorf("readTable() = %+v, %v, want an error about %s", rows, err, tt.line)
			}
		})
	}
}

// asTable writes rows as the kernel does.
func asTable(rows []tableRow) string {
	var b strings.Builder
	b.WriteString(tableTop)
	hexed := func(a netip.AddrPort) string {
		if a.Addr().Is4() {
			return fmt.Sprintf("%08X:%04X", a.Addr().AsSlice(), a.Port())
		}
		return fmt.Sprintf("[%s]:%04X", a.Addr().StringExpanded(), a.Port())
	}
	for _, r := range rows {
		name := map[uint16]string{0: "IP", 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}[r.id.proto]
		switch {
		case r.id.fwmark != 0 || !r.id.addr.IsValid():
			fmt.Fprintf(&b, "FWM  %08X %s \n", r.id.fwmark, r.scheduler)
		case name == "":
			fmt.Fprintf(&b, "IP_%d  %s %s  \n", r.id.proto, hexed(r.id.addr), r.scheduler)
		default:
			fmt.Fprintf(&b, "%s  %s %s  \n", name, hexed(r.id.addr), r.scheduler)
		}
		for _, d := range r.dests {
			a, _ := addrPort(d.Address, d.Port)
			forward := []string{"Masq", "Local", "Tunnel", "Route"}[d.ConnectionFlags]
			fmt.Fprintf(&b, "  -> %s      %-7s %-6d %-10d %-10d\n", hexed(a), forward, d.Weight, d.ActiveConnections, d.InactiveConnections)
		}
	}
	return b.String()
}

// Whatever the file says, it is either refused or read as something that,
// written as the kernel does, is read as the same again.
func FuzzReadTable(f *testing.F) {
	f.Add(tableTop)
	f.Add(tableTop + "TCP  C0000201:0050 rr  \n  -> 0A000007:1F90      Masq    1      0          0         \n")
	f.Add(tableTop + "UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 mh persistent 30000 80000000\n" +
		"  -> [fd10:0000:0000:0000:0000:0000:0000:0007]:1F90      Tunnel  0      2          1         \n")
	f.Add(tableTop + "FWM  0000002A rr ops persistent 30000 FFFFFFFF\nIP_47  C0000201:0000 rr \n")
	f.Fuzz(func(t *testing.T, file string) {
		rows, _, err := readTable(strings.NewReader(file), tableSize{})
		if err != nil {
			return
		}
		again, _, err := readTable(strings.NewReader(asTable(rows)), tableSize{})
		if err != nil || !reflect.DeepEqual(again, rows) {
			t.Errorf("read as %+v\nand then as %+v, %v", rows, again, err)
		}
	})
}
