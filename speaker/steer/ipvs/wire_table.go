package ipvs

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// A serviceID tells services apart. One of a firewall mark has that alone:
// the file does not show its family, of which there may be two.
type serviceID struct {
	proto  uint16
	addr   netip.AddrPort
	fwmark uint32
	second bool // of two of one firewall mark
}

// A tableRow is a service as /proc/net/ip_vs shows it.
type tableRow struct {
	id        serviceID
	scheduler string
	dests     []moby.Destination // in the kernel's order
}

// openTable opens the file of a place. It may be read anywhere.
func openTable(in place) (f *os.File, err error) {
	err = in.do(func() (err error) {
		f, err = os.Open("/proc/thread-self/net/ip_vs")
		return err
	})
	return f, err
}

// tableHead is how the file begins; in the first line version and size follow.
var tableHead = []string{
	"IP Virtual Server version ",
	"Prot LocalAddress:Port Scheduler Flags",
	"  -> RemoteAddress:Port Forward Weight ActiveConn InActConn",
}

// A tableReader reads the file line by line.
type tableReader struct {
	rows  []tableRow
	from  []int              // where the destinations of each row begin
	dests []moby.Destination // of all rows
}

// A tableSize is how much is in the file, if it is what it was the last time.
type tableSize struct{ rows, dests int }

// tableBuffer is much more than the page that the kernel gives at a time, in
// bytes: for each read it counts its way through all services anew.
const tableBuffer = 64 << 10

// readTable reads what the kernel writes (net/netfilter/ipvs/ip_vs_ctl.c,
// ip_vs_info_seq_show). An error names the line that it is in.
func readTable(r io.Reader, expect tableSize) ([]tableRow, tableSize, error) {
	t := tableReader{
		rows:  make([]tableRow, 0, expect.rows),
		from:  make([]int, 0, expect.rows),
		dests: make([]moby.Destination, 0, expect.dests),
	}
	if err := t.read(r); err != nil {
		return nil, tableSize{}, err
	}
	for i, from := range t.from {
		to := len(t.dests)
		if i+1 < len(t.from) {
			to = t.from[i+1]
		}
		t.rows[i].dests = t.dests[from:to:to]
	}
	return t.rows, tableSize{len(t.rows), len(t.dests)}, nil
}

func (t *tableReader) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, tableBuffer), tableBuffer)
	n := 0
	for ; lines.Scan(); n++ {
		line := lines.Text()
		if err := t.line(n, line); err != nil {
			return fmt.Errorf("line %d, %q: %w", n+1, line, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("after line %d: %w", n, err)
	}
	if n < len(tableHead) {
		return fmt.Errorf("line %d is missing: the file has a head of %d", n+1, len(tableHead))
	}
	return nil
}

func (t *tableReader) line(n int, line string) error {
	if n < len(tableHead) {
		if !strings.HasPrefix(line, tableHead[n]) {
			return fmt.Errorf("it should begin with %q", tableHead[n])
		}
		return nil
	}
	var f fields
	if !f.split(line) {
		return errors.New("it has too many fields")
	}
	if strings.HasPrefix(line, "  -> ") {
		if len(t.rows) == 0 {
			return errors.New("a destination comes before any service")
		}
		d, err := f.destination()
		t.dests = append(t.dests, d)
		return err
	}
	row, err := f.service()
	t.rows, t.from = append(t.rows, row), append(t.from, len(t.dests))
	return err
}

// fields are the words of a line.
type fields struct {
	word [7]string
	n    int
}

func (f *fields) split(line string) bool {
	for w := range strings.FieldsSeq(line) {
		if f.n == len(f.word) {
			return false
		}
		f.word[f.n] = w
		f.n++
	}
	return true
}

// service parses one of these. What is behind the scheduler is known better
// from generic netlink, and only checked for its form.
//
//	TCP  C0000201:0050 rr
//	UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0035 mh persistent 30000 80000000
//	FWM  0000002A rr ops persistent 30000 FFFFFFFF
func (f *fields) service() (row tableRow, err error) {
	if f.n < 3 {
		return row, errors.New("a service has at least 3 fields")
	}
	if f.word[0] == "FWM" {
		var mark uint64
		mark, err = hex(f.word[1], 32)
		row.id.fwmark = uint32(mark)
	} else if row.id.proto, err = protocol(f.word[0]); err == nil {
		row.id.addr, err = hexAddrPort(f.word[1])
	}
	row.scheduler = f.word[2]
	if err != nil {
		return row, err
	}
	rest := f.word[3:f.n]
	if len(rest) > 0 && rest[0] == "ops" {
		rest = rest[1:]
	}
	if len(rest) == 0 || len(rest) == 3 && rest[0] == "persistent" && isDecimal(rest[1]) && isHex(rest[2]) {
		return row, nil
	}
	return row, fmt.Errorf("%q are no flags of a service", rest)
}

// destination parses one of these; the weight is whole, where moby/ipvs reads
// its lower half only.
//
//	-> 0A000007:1F90      Masq    1      0          0
//	-> [fd10:0000:0000:0000:0000:0000:0000:0007]:1F90      Tunnel  0      2          1
func (f *fields) destination() (d moby.Destination, err error) {
	if f.n != 6 {
		return d, errors.New("a destination has 6 fields")
	}
	addr, err := hexAddrPort(f.word[1])
	if err != nil {
		return d, err
	}
	d = moby.Destination{Address: addr.Addr().AsSlice(), Port: addr.Port(), AddressFamily: unix.AF_INET}
	if addr.Addr().Is6() {
		d.AddressFamily = unix.AF_INET6
	}
	if d.ConnectionFlags, err = forwarding(f.word[2]); err != nil {
		return d, err
	}
	for i, to := range []*int{&d.Weight, &d.ActiveConnections, &d.InactiveConnections} {
		v, err := strconv.ParseInt(f.word[3+i], 10, 32)
		if err != nil {
			return d, err
		}
		*to = int(v)
	}
	if d.Weight < 0 {
		return d, errors.New("a weight is not negative")
	}
	return d, nil
}

// forwarding is the reverse of ip_vs_fwd_name (include/net/ip_vs.h).
func forwarding(name string) (uint32, error) {
	switch name {
	case "Masq":
		return moby.ConnectionFlagMasq, nil
	case "Local":
		return moby.ConnectionFlagLocalNode, nil
	case "Tunnel":
		return moby.ConnectionFlagTunnel, nil
	case "Route":
		return moby.ConnectionFlagDirectRoute, nil
	}
	return 0, fmt.Errorf("%q is no way of forwarding", name)
}

// protocol is the reverse of ip_vs_proto_name (net/netfilter/ipvs/ip_vs_core.c).
func protocol(name string) (uint16, error) {
	switch name {
	case "TCP":
		return unix.IPPROTO_TCP, nil
	case "UDP":
		return unix.IPPROTO_UDP, nil
	case "SCTP":
		return unix.IPPROTO_SCTP, nil
	case "IP":
		return unix.IPPROTO_IP, nil
	case "ICMP":
		return unix.IPPROTO_ICMP, nil
	case "ICMPv6":
		return unix.IPPROTO_ICMPV6, nil
	}
	number, ok := strings.CutPrefix(name, "IP_")
	if n, err := strconv.ParseUint(number, 10, 16); ok && err == nil {
		return uint16(n), nil
	}
	return 0, fmt.Errorf("%q is no protocol", name)
}

// hexAddrPort parses C0000201:0050 and [2001:0db8:...]:0050, all of whose
// digits are there.
func hexAddrPort(s string) (netip.AddrPort, error) {
	const v4, v6 = len("C0000201:0050"), len("[2001:0db8:0000:0000:0000:0000:0000:0001]:0050")
	at := len(s) - len(":0050")
	if len(s) != v4 && len(s) != v6 || s[at] != ':' {
		return netip.AddrPort{}, fmt.Errorf("%q is no address with a port", s)
	}
	port, err := hex(s[at+1:], 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(s) == v6 {
		addr, err := hexAddr6(s[:at])
		return netip.AddrPortFrom(addr, uint16(port)), err
	}
	n, err := hex(s[:at], 32)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], uint32(n))
	return netip.AddrPortFrom(netip.AddrFrom4(raw), uint16(port)), nil
}

// hexAddr6 parses the 41 bytes of an IPv6 address in brackets.
func hexAddr6(s string) (netip.Addr, error) {
	var raw [16]byte
	ok := s[0] == '[' && s[len(s)-1] == ']'
	for i := range 8 {
		group := s[1+5*i:]
		n, err := hex(group[:4], 16)
		ok = ok && err == nil && (i == 7 || group[4] == ':')
		binary.BigEndian.PutUint16(raw[2*i:], uint16(n))
	}
	if !ok {
		return netip.Addr{}, fmt.Errorf("%q is no IPv6 address", s)
	}
	return netip.AddrFrom16(raw), nil
}

// hex parses a number of exactly bits/4 hexadecimal digits.
func hex(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(s, 16, bits)
	if err != nil || len(s) != bits/4 {
		return 0, fmt.Errorf("%q is no hexadecimal number of %d digits", s, bits/4)
	}
	return n, nil
}

func isHex(s string) bool { _, err := hex(s, 32); return err == nil }

// isDecimal is whether s is what %d makes of an int.
func isDecimal(s string) bool { _, err := strconv.ParseInt(s, 10, 32); return err == nil }
