package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

func isSix(p netip.Prefix) bool { return p.Addr().Is6() }

// kubeProxy says what kube-proxy has to do with it. In none of its modes does
// it see the rows of Herald, which stand in namespaces of their own.
func (f Facts) kubeProxy() []Finding {
	const what = "kube-proxy"
	switch {
	case !f.KubeProxy.There:
		return []Finding{{OK, what, "nobody answers where it would: the speaker answers on health check node ports", ""}}
	case f.KubeProxy.Mode == "":
		return []Finding{{OK, what, "it is there; in none of its modes it sees what Herald steers with", ""}}
	}
	return []Finding{{OK, what, fmt.Sprintf("it is there, in mode %s, in which it does not see what Herald steers with", f.KubeProxy.Mode), ""}}
}

// names judges who else uses the names and numbers of Herald.
func (f Facts) names() []Finding {
	const what = "names and numbers of Herald"
	var all []Finding
	for _, t := range f.Taken {
		all = append(all, Finding{Fail, what, t + ", and that is not Herald's", "take it away: Herald leaves alone what is not its own"})
	}
	for _, s := range f.Shared {
		all = append(all, Finding{Warn, what, s + ", so that packets of Herald's may be led elsewhere, or its own packets to Herald", "let it use other numbers"})
	}
	if len(all) == 0 {
		all = append(all, Finding{OK, what, "nobody else uses its links, routing tables or marks", ""})
	}
	return all
}

// owners judges who else makes the host take in an address that Herald steers.
func (f Facts) owners() []Finding {
	const what = "owners of addresses"
	if f.Cluster.Unread != "" {
		return []Finding{{Skip, what, f.Cluster.Unread, ""}}
	}
	of := map[netip.Addr]string{}
	for _, svc := range f.Cluster.Services {
		for _, in := range svc.Ingress {
			if svc.Steered() && in.Mode != "VIP" { // which kube-proxy has to take in itself
				of[in.Addr] = svc.Key
			}
		}
	}
	var all []Finding
	for _, a := range f.Addrs {
		if svc, ok := of[a.Addr]; ok {
			all = append(all, Finding{Fail, what, fmt.Sprintf("%s of %s is bound on %s: the host keeps its packets and answers for it, whoever announces it", a.Addr, svc, a.Link),
				"find out who binds it (kube-vip, keepalived, kube-proxy before 1.29, a leftover of MetalLB), and take it away: ip addr del " + a.Addr.String() + " dev " + a.Link})
		}
	}
	for _, r := range f.Routes {
		if svc, ok := of[r.Addr]; ok {
			all = append(all, Finding{Fail, what, fmt.Sprintf("a route of somebody else leads %s of %s past Herald: %s", r.Addr, svc, r.Text), "find out who has made it, and take it away"})
		}
	}
	if len(all) == 0 {
		all = append(all, Finding{OK, what, fmt.Sprintf("none of the %d that Herald steers is bound on this host or routed by others", len(of)), ""})
	}
	return all
}

// wide is whether pointers have 64 bits, by names of uname and of GOARCH.
func wide(machine string) bool {
	return strings.Contains(machine, "64") || strings.HasPrefix(machine, "s390x") // not s390
}

// machine judges the width of pointers, by which mh hashes.
func (f Facts) machine() []Finding {
	if f.Machine == "" || wide(f.Machine) {
		return []Finding{{OK, "kernel", "it is one of 64 bits (" + f.Machine + ")", ""}}
	}
	return []Finding{{Warn, "kernel", "it is one of 32 bits (" + f.Machine + "): herald trace cannot tell what it chooses, and it chooses otherwise than one of 64 bits",
		"do not mix both in one pool's nodes"}}
}

// architectures judges whether all nodes choose alike.
func (f Facts) architectures() []Finding {
	const what = "kernels of the nodes"
	if f.Cluster.Unread != "" {
		return []Finding{{Skip, what, f.Cluster.Unread, ""}}
	}
	var narrow []string
	for node, arch := range f.Cluster.Nodes {
		if !wide(arch) {
			narrow = append(narrow, node)
		}
	}
	slices.Sort(narrow)
	if len(narrow) == 0 || len(narrow) == len(f.Cluster.Nodes) {
		return []Finding{{OK, what, "by their architecture all nodes choose alike", ""}}
	}
	return []Finding{{Warn, what, fmt.Sprintf("%s have 32 bits as their kubelets say, %d others 64: the scheduler mh of one chooses otherwise than that of the other, "+
		"and connections break where an address moves between them", strings.Join(narrow, " "), len(f.Cluster.Nodes)-len(narrow)),
		"let only nodes of one kind announce, by announce.layer2.nodeSelector of the pools"}}
}
