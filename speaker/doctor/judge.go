package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Level says how bad a Finding is.
type Level string

// The levels.
const (
	OK   Level = "OK"
	Skip Level = "SKIP" // it could not be looked at
	Warn Level = "WARN" // something works less well, or only sometimes
	Fail Level = "FAIL" // something does not work
)

// A Finding is one thing that was looked at.
type Finding struct {
	Level  Level
	What   string // was looked at
	Means  string
	Remedy string // "" where there is nothing to do
}

// String returns f as one line, as in
//
//	FAIL forwarding of IPv4: net.ipv4.ip_forward is 0, so that …; set it to 1
func (f Finding) String() string {
	line := fmt.Sprintf("%-4s %s: %s", f.Level, f.What, f.Means)
	if f.Remedy != "" {
		line += "; " + f.Remedy
	}
	return line
}

// Judge says what of a node keeps Herald from working well.
func Judge(f Facts) []Finding {
	return slices.Concat(
		f.paths(), f.schedulers(), f.tunnels(), f.reach(), f.machine(),
		f.forwarding(), f.links(), f.filters(), f.mtu(), f.kubeProxy(), f.names(), f.owners(), f.architectures(),
	)
}

// paths judges what the kernel can steer with.
func (f Facts) paths() []Finding {
	ipvs := Finding{OK, "IPVS", "the kernel has it", ""}
	nft := Finding{OK, "nftables", "the kernel has what Herald needs of it", ""}
	switch {
	case f.NoIPVS != "" && f.NoNFT != "":
		ipvs = Finding{Fail, "IPVS", f.NoIPVS, "without nftables either, this node steers nothing, and announces only addresses of pools with steer: ServiceProxy"}
		nft = Finding{Fail, "nftables", f.NoNFT, "load nf_tables on the node"}
	case f.NoIPVS != "":
		ipvs = Finding{Warn, "IPVS", f.NoIPVS, "until then this node steers with nftables, which can do less: see docs/nftables-fallback.md"}
	case f.NoNFT != "":
		nft = Finding{Warn, "nftables", f.NoNFT, "beside IPVS Herald needs nf_tables with NAT for SNAT and for the way back of replies: load its modules on the node"}
	}
	return []Finding{ipvs, nft}
}

// schedulers judges those that the kernel lacks: by itself Herald uses rr and mh.
func (f Facts) schedulers() []Finding {
	if f.NoIPVS != "" {
		return nil
	}
	var there, others []string
	var all []Finding
	for _, name := range slices.Sorted(maps.Keys(f.Schedulers)) {
		why, remedy := f.Schedulers[name], "load the module ip_vs_"+name+" on the node"
		switch {
		case why == "":
			there = append(there, name)
		case name == "rr":
			all = append(all, Finding{Fail, "IPVS scheduler rr", "Herald uses it for most Services, and the kernel does not make a server with it (" + why + ")", remedy})
		case name == "mh":
			all = append(all, Finding{Fail, "IPVS scheduler mh", "Herald chooses nodes with it where the client's address is kept, and the kernel does not make a server with it (" + why + ")", remedy})
		default:
			others = append(others, name)
		}
	}
	if len(there) > 0 {
		all = append(all, Finding{OK, "IPVS schedulers", "the kernel has " + strings.Join(there, " "), ""})
	}
	if len(others) > 0 {
		all = append(all, Finding{OK, "IPVS schedulers", "the kernel lacks " + strings.Join(others, " "), "a pool or Service that names one of them is not steered here until its module is loaded"})
	}
	return all
}

// tunnels judges how nodes send each other packets as they are.
func (f Facts) tunnels() []Finding {
	if f.NoIPVS != "" {
		return nil
	}
	var all []Finding
	for _, family := range slices.Sorted(maps.Keys(f.Tunnels)) {
		module := "ipip"
		if family == "IPv6" {
			module = "ip6_tunnel"
		}
		finding := Finding{OK, "tunnels for " + family, "the kernel has " + module, ""}
		if why := f.Tunnels[family]; why != "" {
			finding = Finding{Warn, finding.What, why + ": Services with an endpoint here get connections with the address of a node instead of the client's", "load the module " + module + " on the node"}
		}
		all = append(all, finding)
	}
	return all
}

// reach judges whether the network passes on what nodes send through tunnels.
func (f Facts) reach() []Finding {
	var all []Finding
	for _, family := range []struct {
		name     string
		six      bool
		protocol int
	}{{"IPv4", false, 4}, {"IPv6", true, 41}} {
		var reached, lost, dead []string
		for _, r := range f.Reached {
			switch {
			case r.Addr.Is6() != family.six:
			case r.ByTunnel:
				reached = append(reached, r.Node)
			case r.ByPing:
				lost = append(lost, r.Node)
			default:
				dead = append(dead, r.Node)
			}
		}
		what := "tunnels to other nodes, " + family.name
		if len(reached) > 0 {
			all = append(all, Finding{OK, what, "answered by " + some(reached), ""})
		}
		if len(lost) > 0 {
			all = append(all, Finding{Fail, what, fmt.Sprintf("%s: a ping is answered, a packet through a tunnel is not: on the way there protocol %d is dropped, or on the way back what comes from an address of a Service; "+
				"connections by this node to their pods get no answer", some(lost), family.protocol),
				"let the network and the nodes' firewalls pass both, or give every speaker --tunnels=false, with which pods see an address of a node"})
		}
		if len(dead) > 0 {
			all = append(all, Finding{Warn, what, some(dead) + ": neither a ping nor a packet through a tunnel is answered", "see whether these nodes are well"})
		}
	}
	return all
}

// some names a few.
func some(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, " ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], " "), len(names)-most)
}

// forwarding judges whether the host passes packets on at all.
func (f Facts) forwarding() []Finding {
	var all []Finding
	for _, s := range []struct {
		key, family string
		off         Level
	}{{"net/ipv4/ip_forward", "IPv4", Fail}, {"net/ipv6/conf/all/forwarding", "IPv6", Warn}} {
		name, what := strings.ReplaceAll(s.key, "/", "."), "forwarding of "+s.family
		switch value, ok := f.Settings[s.key]; {
		case !ok && s.family == "IPv6":
			all = append(all, Finding{OK, what, "this host speaks no IPv6", ""})
		case !ok:
			all = append(all, Finding{Skip, what, name + " cannot be read", ""})
		case value == "0":
			all = append(all, Finding{s.off, what, name + " is 0: the host drops what is not for itself, and Herald announces no address of this family here",
				"set it to 1, by a file in /etc/sysctl.d so that it outlives a reboot"})
		default:
			all = append(all, Finding{OK, what, name + " is " + value, ""})
		}
	}
	return all
}

// links judges whether there is one to announce on.
func (f Facts) links() []Finding {
	if len(f.Links) > 0 {
		return nil // what matters of each is said below
	}
	return []Finding{{Fail, "links", "none is up that has an address and speaks ARP and NDP, so that nothing can be announced here", "see docs/troubleshooting.md, step 2"}}
}

// filters judges reverse path filtering. That of Herald's own links is always
// loose, whatever that of all is, for the greater counts.
func (f Facts) filters() []Finding {
	var strict []string
	for _, l := range f.Links {
		if l.RPFilter == 1 {
			strict = append(strict, l.Name)
		}
	}
	const what = "reverse path filtering"
	switch {
	case len(strict) == 0:
		return []Finding{{OK, what, "it is strict on no link that packets come by", ""}}
	case len(f.Links) == 1:
		return []Finding{{OK, what, "it is strict on " + strict[0] + ", the only link that packets come by: it drops nothing there", ""}}
	}
	return []Finding{{Warn, what, fmt.Sprintf("it is strict on %s: what comes by one link from a client whose way back is by another is dropped, "+
		"as where an address is announced on a link that the default route does not lead by", strings.Join(strict, " ")),
		"set net.ipv4.conf.LINK.rp_filter of such links to 2"}}
}

// What a tunnel adds to a packet, and the least that a link with IPv6 has to
// carry (RFC 2003, RFC 2473, RFC 8200 §5), in bytes.
const (
	overhead4 = 20
	overhead6 = 40
	least6    = 1280
)

// mtu judges what a tunnel leaves room for.
func (f Facts) mtu() []Finding {
	if f.NoIPVS != "" {
		return nil
	}
	var all []Finding
	for _, l := range f.Links {
		what := "MTU of " + l.Name
		six := slices.ContainsFunc(l.Prefixes, isSix)
		switch {
		case six && l.MTU < least6+overhead6:
			all = append(all, Finding{Warn, what, fmt.Sprintf("it is %d, of which a tunnel leaves less than the %d that IPv6 needs", l.MTU, least6),
				fmt.Sprintf("raise it to at least %d, or set keepClientIP of IPv6 pools to false", least6+overhead6)})
		default:
			means := fmt.Sprintf("it is %d; in a tunnel to another node there is room for %d of IPv4", l.MTU, l.MTU-overhead4)
			if six {
				means += fmt.Sprintf(" and %d of IPv6", l.MTU-overhead6)
			}
			all = append(all, Finding{OK, what, means + ", and clients are told of it by ICMP, which firewalls must let through", ""})
		}
	}
	return all
}
