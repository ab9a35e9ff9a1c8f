package steer

import (
	"fmt"
	"net/netip"

	"github.com/herald-lb/herald/internal/snapshot"
)

// Check says why no kernel can make c, or nil. A Kernel asks before it acts,
// because kernels are careless: IPVS takes an IPv6 destination for an IPv4
// server and a weight above 65535, and lists something else than it was given.
func Check(c Change) error {
	switch c.Kind() {
	case KindAddr:
		if c.Verb == Set {
			return fmt.Errorf("an address cannot be set")
		}
		return checkAddr(c.Addr)
	case KindPods:
		if c.Verb == Set {
			return fmt.Errorf("a prefix cannot be set")
		}
		if c.Pods != c.Pods.Masked() || c.Pods.Addr().Is4In6() {
			return fmt.Errorf("prefix %s has bits set beyond its length", c.Pods)
		}
		return nil
	case KindDest:
		return checkDest(c)
	}
	return checkServer(c)
}

func checkServer(c Change) error {
	switch c.Virtual.Proto {
	case snapshot.TCP, snapshot.UDP, snapshot.SCTP:
	default:
		return fmt.Errorf("protocol %d is not one of tcp, udp, sctp", c.Virtual.Proto)
	}
	switch {
	case c.Virtual.Addr.Port() == 0:
		return fmt.Errorf("port 0 cannot be served")
	case c.Verb != Del && c.Server.Scheduler == "":
		return fmt.Errorf("the server has no scheduler")
	}
	return checkAddr(c.Virtual.Addr.Addr())
}

func checkDest(c Change) error {
	target := c.Real.Addr()
	switch {
	case target.Is4() != c.Virtual.Addr.Addr().Is4():
		return fmt.Errorf("destination and server are of different families")
	case c.Real.Port() == 0:
		return fmt.Errorf("port 0 cannot be a destination")
	case c.Verb != Del && (c.Weight < 0 || c.Weight > 65535):
		return fmt.Errorf("weight %d is not between 0 and 65535", c.Weight)
	}
	return checkAddr(target)
}

func checkAddr(a netip.Addr) error {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() || a.Zone() != "" {
		return fmt.Errorf("%s is not an address that traffic can be steered for", a)
	}
	return nil
}
