package ipvs

import (
	"fmt"
	"net"
	"net/netip"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// Flags of a virtual server (linux/ip_vs.h); moby/ipvs has no names for them.
const (
	flagHashed     = 0x02 // set by the kernel on every one that it lists
	flagMHFallback = 0x08 // IP_VS_SVC_F_SCHED_MH_FALLBACK: go on from one that is full or has weight 0
	flagMHPort     = 0x10 // IP_VS_SVC_F_SCHED_MH_PORT: hash the client's port too
)

// Netmasks that group clients only if they are equal: IPVS takes a mask for
// IPv4 and a length for IPv6.
const (
	netmask4 = 0xffffffff
	netmask6 = 128
)

// flagsOf returns the flags that a scheduler needs. mh without them sends all
// connections of a client to one endpoint, and those whose endpoint drains
// nowhere.
func flagsOf(scheduler string) uint32 {
	if scheduler == "mh" {
		return flagMHFallback | flagMHPort
	}
	return 0
}

// service returns v as IPVS wants it; s may be the zero Server where only the
// identity counts.
func service(v steer.Virtual, s steer.Server) *moby.Service {
	svc := &moby.Service{
		Address:       v.Addr.Addr().AsSlice(),
		Protocol:      uint16(v.Proto),
		Port:          v.Addr.Port(),
		SchedName:     s.Scheduler,
		Flags:         flagsOf(s.Scheduler),
		AddressFamily: unix.AF_INET,
		Netmask:       netmask4,
	}
	if v.Addr.Addr().Is6() {
		svc.AddressFamily, svc.Netmask = unix.AF_INET6, netmask6
	}
	return svc
}

// destinationOf returns real as IPVS wants it.
func destinationOf(real netip.AddrPort, weight int) *moby.Destination {
	d := &moby.Destination{
		Address:         real.Addr().AsSlice(),
		Port:            real.Port(),
		Weight:          weight,
		ConnectionFlags: moby.ConnectionFlagMasq,
		AddressFamily:   unix.AF_INET,
	}
	if real.Addr().Is6() {
		d.AddressFamily = unix.AF_INET6
	}
	return d
}

// parseService is the reverse of service. One that has anything else set than
// what we set is listed with a scheduler that nobody wants, so that it is set
// right like any other that differs.
func parseService(svc *moby.Service) (steer.Virtual, steer.Server, error) {
	addr, err := addrPort(svc.Address, svc.Port)
	if err != nil {
		return steer.Virtual{}, steer.Server{}, fmt.Errorf("reading a virtual server: %w", err)
	}
	v := steer.Virtual{Addr: addr, Proto: snapshot.Proto(svc.Protocol)}
	server := steer.Server{Scheduler: svc.SchedName}
	want := service(v, server)
	if got := svc.Flags &^ flagHashed; got != want.Flags || svc.Netmask != want.Netmask {
		server.Scheduler = fmt.Sprintf("%s (flags %#x, netmask %#x)", svc.SchedName, got, svc.Netmask)
	}
	return v, server, nil
}

// parseDestination is the reverse of destinationOf. One that does not forward
// by Masq is listed with a weight that nobody wants.
func parseDestination(d *moby.Destination) (netip.AddrPort, int, error) {
	real, err := addrPort(d.Address, d.Port)
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("reading a destination: %w", err)
	}
	if d.ConnectionFlags&moby.ConnectionFlagFwdMask != moby.ConnectionFlagMasq {
		return real, -1, nil
	}
	return real, d.Weight, nil
}

func addrPort(ip net.IP, port uint16) (netip.AddrPort, error) {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%v is no address", ip)
	}
	return netip.AddrPortFrom(a, port), nil
}
