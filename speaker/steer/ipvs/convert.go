package ipvs

import (
	"fmt"
	"net"
	"net/netip"

	moby "github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/config"
	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// Flags of a virtual server (linux/ip_vs.h); moby/ipvs has no names for them.
const (
	flagPersistent = 0x01 // IP_VS_SVC_F_PERSISTENT: affinity, by the time-out
	flagHashed     = 0x02 // set by the kernel on every one that it lists
	flagFallback   = 0x08 // IP_VS_SVC_F_SCHED_{SH,MH}_FALLBACK: go on from one that has weight 0
	flagPort       = 0x10 // IP_VS_SVC_F_SCHED_{SH,MH}_PORT: hash the client's port too
)

// Netmasks that group clients only if they are equal: IPVS takes a mask for
// IPv4 and a length for IPv6.
const (
	netmask4 = 0xffffffff
	netmask6 = 128
)

// flagsOf returns the flags of what is set on a server.
func flagsOf(s steer.Server) (flags uint32) {
	if s.Affinity > 0 {
		flags |= flagPersistent
	}
	if s.Flags&config.SchedulerFallback != 0 {
		flags |= flagFallback
	}
	if s.Flags&config.SchedulerPort != 0 {
		flags |= flagPort
	}
	return flags
}

// service returns v as IPVS wants it; s may be the zero Server where only the
// identity counts.
func service(v steer.Virtual, s steer.Server) *moby.Service {
	v = inside(v)
	svc := &moby.Service{
		Address:       v.Addr.Addr().AsSlice(),
		Protocol:      uint16(v.Proto),
		Port:          v.Addr.Port(),
		SchedName:     s.Scheduler,
		Flags:         flagsOf(s),
		Timeout:       s.Affinity,
		AddressFamily: unix.AF_INET,
		Netmask:       netmask4,
	}
	if v.Addr.Addr().Is6() {
		svc.AddressFamily, svc.Netmask = unix.AF_INET6, netmask6
	}
	return svc
}

// destinationOf returns a destination of v as IPVS wants it.
func destinationOf(v steer.Virtual, real netip.AddrPort, weight int) *moby.Destination {
	d := &moby.Destination{
		Address:         real.Addr().AsSlice(),
		Port:            real.Port(),
		Weight:          weight,
		ConnectionFlags: methodOf(v.Tier),
		AddressFamily:   unix.AF_INET,
	}
	if real.Addr().Is6() {
		d.AddressFamily = unix.AF_INET6
	}
	return d
}

// methodOf is how a tier sends a packet on.
func methodOf(t steer.Tier) uint32 {
	if t == steer.Front {
		return moby.ConnectionFlagTunnel
	}
	return moby.ConnectionFlagMasq
}

// parseService is the reverse of service, as far as IPVS knows. One that has
// anything else set than what we set is listed with a scheduler that nobody
// wants, so that it is set right like any other that differs.
func parseService(t steer.Tier, svc *moby.Service) (steer.Virtual, steer.Server, error) {
	addr, err := addrPort(svc.Address, svc.Port)
	if err != nil {
		return steer.Virtual{}, steer.Server{}, fmt.Errorf("reading a virtual server: %w", err)
	}
	v := outside(steer.Virtual{Addr: addr, Proto: snapshot.Proto(svc.Protocol), Tier: t})
	server := steer.Server{Scheduler: svc.SchedName}
	got := svc.Flags &^ flagHashed
	if got&flagPersistent != 0 {
		server.Affinity = svc.Timeout
	}
	if got&flagFallback != 0 {
		server.Flags |= config.SchedulerFallback
	}
	if got&flagPort != 0 {
		server.Flags |= config.SchedulerPort
	}
	if want := service(v, server); got != want.Flags || svc.Netmask != want.Netmask {
		server.Scheduler = fmt.Sprintf("%s (flags %#x, netmask %#x)", svc.SchedName, got, svc.Netmask)
	}
	return v, server, nil
}

// parseDestination is the reverse of destinationOf. One that is not forwarded
// as its tier forwards is listed with a weight that nobody wants.
func parseDestination(t steer.Tier, d *moby.Destination) (netip.AddrPort, int, error) {
	real, err := addrPort(d.Address, d.Port)
	if err != nil {
		return netip.AddrPort{}, 0, fmt.Errorf("reading a destination: %w", err)
	}
	if d.ConnectionFlags&moby.ConnectionFlagFwdMask != methodOf(t) {
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
