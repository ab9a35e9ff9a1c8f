package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// A sysctl is a kernel setting as it has to be.
type sysctl struct {
	key, value string // key as in "net/ipv4/ip_forward"
}

// insideSysctls are for every namespace of Herald's. A new one inherits the
// host's IPv4 settings (net/ipv4/devinet.c), so that all that matter are set
// here.
//
// The order counts: turning on ip_forward resets others.
var insideSysctls = []sysctl{
	{"net/ipv4/ip_forward", "1"},
	// Everything comes and goes by one link: that is no reason for redirects.
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/" + insideLink + "/send_redirects", "0"},
	{"net/ipv4/conf/all/rp_filter", "0"},
	{"net/ipv4/conf/default/rp_filter", "0"}, // of links to come
	{"net/ipv4/conf/" + insideLink + "/rp_filter", "0"},
	// Without it a removed endpoint swallows packets for minutes.
	{"net/ipv4/vs/expire_nodest_conn", "1"},
	{"net/ipv4/vs/expire_quiescent_template", "1"},
}

// trackedSysctls are for the tiers that do NAT: without conntrack IPVS marks
// packets untracked, and nobody sees that two connections have become one. What
// looks wrong to conntrack is not: a connection may have begun on another node.
var trackedSysctls = append(slices.Clone(insideSysctls),
	sysctl{"net/ipv4/vs/conntrack", "1"},
	sysctl{"net/netfilter/nf_conntrack_tcp_be_liberal", "1"},
	sysctl{"net/netfilter/nf_conntrack_tcp_loose", "1"},
)

// sloppySysctls are for the tiers that go on with a connection which began on
// another node: they take a packet from its middle for the beginning.
var sloppySysctls = []sysctl{
	{"net/ipv4/vs/sloppy_tcp", "1"},
	{"net/ipv4/vs/sloppy_sctp", "1"},
}

// frontSysctls are of the tier that sees one half of a connection, and changes
// nothing of it.
var frontSysctls = slices.Concat(insideSysctls, sloppySysctls, []sysctl{{"net/ipv4/vs/conntrack", "0"}})

// backSysctls make the kernel's own errors bear the mark of what they are about,
// which tells those about tunnelled packets from others.
var backSysctls = slices.Concat(trackedSysctls, sloppySysctls, []sysctl{{"net/ipv4/fwmark_reflect", "1"}})

var backSysctls6 = slices.Concat(insideSysctls6, []sysctl{{"net/ipv6/fwmark_reflect", "1"}})

var insideSysctls6 = []sysctl{
	{"net/ipv6/conf/all/forwarding", "1"},
	{"net/ipv6/conf/" + insideLink + "/accept_dad", "0"},
	{"net/ipv6/conf/" + insideLink + "/accept_ra", "0"},
}

// hostSysctls are of Herald's own links only. Packets come out of them with the
// addresses of clients and of Services, whose routes lead elsewhere: loose
// reverse path filtering lets them pass where conf/all is strict, for the
// greater counts.
func hostSysctls(link string) []sysctl {
	return []sysctl{
		{"net/ipv4/conf/" + link + "/rp_filter", "2"},
		{"net/ipv4/conf/" + link + "/forwarding", "1"},
		{"net/ipv4/conf/" + link + "/accept_redirects", "0"},
		{"net/ipv4/conf/" + link + "/send_redirects", "0"},
	}
}

func hostSysctls6(link string) []sysctl {
	return []sysctl{
		{"net/ipv6/conf/" + link + "/accept_dad", "0"},
		{"net/ipv6/conf/" + link + "/accept_ra", "0"},
		{"net/ipv6/conf/" + link + "/accept_redirects", "0"},
	}
}

// set makes all settings be as they should, inside p, and writes only those
// that differ.
func (p *place) set(settings []sysctl) error {
	return p.do(func() error {
		for _, s := range settings {
			path := filepath.Join("/proc/sys", s.key)
			got, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("reading sysctl %s: %w", s.key, err)
			}
			if string(bytes.TrimSpace(got)) == s.value {
				continue
			}
			if err := os.WriteFile(path, []byte(s.value), 0); err != nil {
				return fmt.Errorf("setting sysctl %s to %s: %w", s.key, s.value, err)
			}
			p.mend("sysctl %s", s.key)
		}
		return nil
	})
}

// hasIPv6 is whether p speaks IPv6 at all.
func (p *place) hasIPv6() (yes bool, err error) {
	err = p.do(func() error {
		off, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		yes = err == nil && string(bytes.TrimSpace(off)) == "0"
		return err
	})
	return yes, err
}

// forwards says why p does not forward packets of a family, or nil. It is the
// host's setting, so Herald reads it and leaves it alone.
func (p *place) forwards(six bool) error {
	key := "net/ipv4/ip_forward"
	if six {
		key = "net/ipv6/conf/all/forwarding"
	}
	return p.do(func() error {
		on, err := os.ReadFile(filepath.Join("/proc/sys", key))
		switch {
		case err != nil:
			return fmt.Errorf("reading sysctl %s: %w", key, err)
		case string(bytes.TrimSpace(on)) == "0":
			return fmt.Errorf("sysctl %s is 0 on this host: it forwards nothing; set it to 1", key)
		}
		return nil
	})
}
