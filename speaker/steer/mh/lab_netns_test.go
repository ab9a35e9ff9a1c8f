//go:build netns

package mh

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/nettest"
)

// A lab is a client and a director on one cable. No destination exists: their
// prefixes end in a dummy link, for a connection is in the director's table as
// soon as it is scheduled.
type lab struct {
	client, director *nettest.Namespace
	ipvs             *moby.Handle
}

// Addresses of the client and of the virtual servers, by family.
var (
	clients4 = addrs("192.0.2.10", "192.0.2.11", "192.0.2.12", "198.51.100.7")
	clients6 = addrs("2001:db8::10", "2001:db8::11", "2001:db8::12", "2001:db8:7:8:9:a:b:c")
	virtual4 = netip.MustParseAddr("192.0.2.100")
	virtual6 = netip.MustParseAddr("2001:db8::100")
)

func addrs(all ...string) (parsed []netip.Addr) {
	for _, s := range all {
		parsed = append(parsed, netip.MustParseAddr(s))
	}
	return parsed
}

func newLab(t testing.TB) *lab {
	t.Helper()
	nettest.RequireIPVS(t)
	l := &lab{client: nettest.New(t, "client"), director: nettest.New(t, "director")}
	nettest.Cable(t, nettest.End{In: l.client, Link: "eth0"}, nettest.End{In: l.director, Link: "eth0",
		Addrs: []string{"192.0.2.1/24", "2001:db8::1/64", virtual4.String() + "/32", virtual6.String() + "/128"}})
	for _, a := range clients4 {
		l.client.Addr(t, "eth0", a.String()+"/24")
	}
	for _, a := range clients6 {
		l.client.Addr(t, "eth0", a.String()+"/64")
	}
	l.director.Route(t, "198.51.100.0/24", "192.0.2.10")
	l.director.Route(t, "2001:db8:7:8::/64", "2001:db8::10")
	l.director.Run(t, "ip", "link", "add", "dummy0", "type", "dummy")
	l.director.Addr(t, "dummy0", "10.244.255.254/16", "fd10:244:1:2::ffff/64")
	l.director.Up(t, "dummy0")
	var err error
	if l.ipvs, err = moby.New(fmt.Sprintf("/proc/self/fd/%d", l.director.FD())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.ipvs.Close)
	return l
}

// A flow is a connection as the director sees it come in.
type flow struct {
	proto           uint16
	client, virtual netip.AddrPort
}

// send sends the first packet of each flow: a datagram or a SYN.
func (l *lab) send(t testing.TB, flows []flow) {
	t.Helper()
	err := l.client.Do(func() error {
		for _, f := range flows {
			if err := f.send(); err != nil {
				return fmt.Errorf("sending from %s to %s: %w", f.client, f.virtual, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (f flow) send() error {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	if f.client.Addr().Is6() {
		domain = unix.AF_INET6
	}
	if f.proto == unix.IPPROTO_UDP {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sockaddr(f.client)); err != nil {
		return err
	}
	switch err := unix.Connect(fd, sockaddr(f.virtual)); {
	case kind == unix.SOCK_STREAM && (errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.ECONNREFUSED)):
		return nil
	case err != nil:
		return err
	}
	_, err = unix.Write(fd, []byte("x"))
	return err
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// connections are the director's: which destination each flow got.
func (l *lab) connections(t testing.TB) map[flow]netip.AddrPort {
	t.Helper()
	var file []byte
	if err := l.director.Do(func() (err error) {
		file, err = os.ReadFile("/proc/thread-self/net/ip_vs_conn")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	all := map[flow]netip.AddrPort{}
	_, lines, _ := strings.Cut(string(file), "\n") // the first line names the columns
	for line := range strings.Lines(lines) {
		// Pro FromIP FPrt ToIP TPrt DestIP DPrt State …, in hexadecimal.
		w := strings.Fields(line)
		f := flow{unix.IPPROTO_TCP, listed(t, w[1], w[2]), listed(t, w[3], w[4])}
		if w[0] == "UDP" {
			f.proto = unix.IPPROTO_UDP
		}
		all[f] = listed(t, w[5], w[6])
	}
	return all
}

func listed(t testing.TB, addr, port string) netip.AddrPort {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(addr, ":", ""))
	ip, ok := netip.AddrFromSlice(b)
	p, errPort := strconv.ParseUint(port, 16, 16)
	if err := errors.Join(err, errPort); err != nil || !ok {
		t.Fatalf("connection of %s %s: %v", addr, port, err)
	}
	return netip.AddrPortFrom(ip, uint16(p))
}

// A server is a virtual server and what it should look like to mh.
type server struct {
	lab   *lab
	svc   *moby.Service
	flags config.SchedulerFlags
	dests []Dest // in the order of addition
	// limit is the upper threshold of some destinations, count how many
	// connections each should have.
	limit, count map[netip.AddrPort]int
}

// serve adds a virtual server with the scheduler mh.
func (l *lab) serve(t testing.TB, virtual netip.AddrPort, proto uint16, flags config.SchedulerFlags) *server {
	t.Helper()
	svc := &moby.Service{Address: virtual.Addr().AsSlice(), Port: virtual.Port(), Protocol: proto, SchedName: "mh",
		AddressFamily: unix.AF_INET, Netmask: 0xffffffff}
	if virtual.Addr().Is6() {
		svc.AddressFamily, svc.Netmask = unix.AF_INET6, 128
	}
	if flags&config.SchedulerFallback != 0 {
		svc.Flags |= 0x08 // IP_VS_SVC_F_SCHED_MH_FALLBACK
	}
	if flags&config.SchedulerPort != 0 {
		svc.Flags |= 0x10 // IP_VS_SVC_F_SCHED_MH_PORT
	}
	if err := l.ipvs.NewService(svc); err != nil {
		t.Fatalf("adding %s: %v", virtual, err)
	}
	return &server{lab: l, svc: svc, flags: flags, limit: map[netip.AddrPort]int{}, count: map[netip.AddrPort]int{}}
}

func (s *server) do(t testing.TB, f func(*moby.Service, *moby.Destination) error, d Dest) {
	t.Helper()
	err := f(s.svc, &moby.Destination{Address: d.Addr.Addr().AsSlice(), Port: d.Addr.Port(), Weight: d.Weight,
		AddressFamily: s.svc.AddressFamily, UpperThreshold: uint32(s.limit[d.Addr])})
	if err != nil {
		t.Fatalf("destination %s: %v", d.Addr, err)
	}
}

func (s *server) add(t testing.TB, addr netip.AddrPort, weight int) {
	t.Helper()
	d := Dest{Addr: addr, Weight: weight, Overloaded: s.full(addr)}
	s.do(t, s.lab.ipvs.NewDestination, d)
	s.dests = append(s.dests, d)
}

func (s *server) set(t testing.TB, i, weight int) {
	t.Helper()
	d := &s.dests[i]
	d.Last = d.share()
	d.Weight = weight
	s.do(t, s.lab.ipvs.UpdateDestination, *d)
}

func (s *server) remove(t testing.TB, i int) {
	t.Helper()
	s.do(t, s.lab.ipvs.DelDestination, s.dests[i])
	s.dests = append(s.dests[:i:i], s.dests[i+1:]...)
}

func (s *server) full(addr netip.AddrPort) bool {
	return s.limit[addr] > 0 && s.count[addr] >= s.limit[addr]
}
