package steer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

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
	case KindNode:
		if c.Verb == Set {
			return fmt.Errorf("a node cannot be set")
		}
		return checkAddr(c.Node)
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
	case c.Verb == Del:
		return checkVirtual(c.Virtual)
	}
	return cmp.Or(checkVirtual(c.Virtual), checkSet(c.Virtual, c.Server))
}

// checkVirtual lets the unspecified address pass for node ports.
func checkVirtual(v Virtual) error {
	if a := v.Addr.Addr(); v.Tier == Single && a.IsValid() && a.IsUnspecified() && a.Zone() == "" {
		return nil
	}
	return checkAddr(v.Addr.Addr())
}

// longestAffinity is the longest that the API allows, in seconds.
const longestAffinity = 86400

func checkSet(v Virtual, s Server) error {
	prefixes, ok := s.Sources.Prefixes()
	six := v.Addr.Addr().Is6()
	switch {
	case s.Scheduler == "":
		return fmt.Errorf("the server has no scheduler")
	case s.Flags != 0 && s.Scheduler != "sh" && s.Scheduler != "mh":
		return fmt.Errorf("scheduler %q has no flags", s.Scheduler)
	case s.Affinity > longestAffinity:
		return fmt.Errorf("affinity of %d s is longer than a day", s.Affinity)
	case v.Tier != Single && (s.SNAT || s.Sources != ""):
		return fmt.Errorf("a %s server has neither SNAT nor sources", v.Tier)
	case v.Tier != Back && s.Direct:
		return fmt.Errorf("only a back server is direct")
	case !ok || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() != six }):
		return fmt.Errorf("%q are no sources of the server's family", s.Sources)
	}
	return nil
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
