package ipvs

import (
	"context"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rules makes sure that the nftables tables of the host and of the tiers are as
// they should be. The front has none.
func (k *Kernel) rules(context.Context) error {
	if err := k.spaces[single.of].ensure(singleRules(k.marks)); err != nil {
		return err
	}
	if err := k.spaces[back.of].ensure(backRules(k.segments())); err != nil {
		return err
	}
	return k.host.ensure(hostRules(k.hostFacts()))
}

// segments are the greatest TCP segments that fit into tunnels, by family; none
// for a family that has no tunnels or needs no bound.
func (k *Kernel) segments() map[family]int {
	sizes := map[family]int{}
	for _, a := range k.Self().Tunnels {
		if size := segment(familyOf(a), k.uplink(familyOf(a))); size > 0 && size < 1<<16 {
			sizes[familyOf(a)] = size
		}
	}
	return sizes
}

// singleRules mark before IPVS what is to be masqueraded after it: the packet
// keeps its mark on the way through. What goes from a pod of this node to
// another is masqueraded whatever the server says: the reply would go there
// directly otherwise.
func singleRules(m marks) ruleset {
	r := ruleset{sets: setsOf(inSingle)}
	before := chain{Chain: nftables.Chain{Name: "mark", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle}}
	after := chain{Chain: nftables.Chain{Name: "nat", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource}}
	after.add("SNAT", isMarked(m.low, m.low), masquerade)
	for _, f := range both {
		before.add("servers that want SNAT", is(f), server(f), in(setOf(snat, f)), mark(m.low, m.low))
		before.add("the host as client", is(f), source(f), equal(single.host(f).AsSlice()), mark(m.low, m.low))
		after.add("from pod to pod of this node", is(f), source(f), in(setOf(locals, f)), destination(f), in(setOf(locals, f)), masquerade)
	}
	r.chains = []chain{before, after, asked()}
	return r
}

// asked gives replies the address that the client has asked, as conntrack knows
// it. Two connections from one port of a client, to two virtual servers that send
// them to the same port of the same pod, would be one to the pod, so that the
// kernel gives the second another source port. IPVS cannot tell the replies
// apart, for it gets to see them with the client's port again; it takes both for
// those of one connection.
func asked() chain {
	// After IPVS, which takes replies at 99 and 100.
	c := chain{Chain: nftables.Chain{Name: "asked", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(200)}}
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, f := range both {
			c.add("replies come from the address asked", is(f), carries(proto), replies, fromAskedAddress(f), fromAskedPort(proto))
		}
	}
	return c
}

// backRules bound the segments of TCP by what a tunnel leaves room for: clients
// learn it from the answer to their SYN, which does not pass the tunnel. What
// has come out of one and finds no server, or one whose endpoints all drain, was
// sent here before this node knew of the endpoint, or after it was gone: it is
// dropped, for the client tries again, and would not after an answer that
// refuses. Pings are answered: doctor asks by them whether tunnels arrive.
func backRules(segments map[family]int) ruleset {
	sizes := chain{Chain: nftables.Chain{Name: "segments", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityMangle}}
	for _, f := range both {
		if size, ok := segments[f]; ok {
			sizes.add("room for the header of a tunnel", is(f), clamp(size))
		}
	}
	// After IPVS, which takes what it has a server for at 98 and 99.
	early := chain{Chain: nftables.Chain{Name: "early", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityRef(200)}}
	for _, f := range both {
		early.add("pings show that tunnels arrive", carries(f.icmp()), accept)
	}
	tunnelled := chain{Chain: nftables.Chain{Name: "tunnelled", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle}}
	for _, link := range []string{tunnelLink4, tunnelLink6} {
		early.add("sent here too early or too late", from(link), drop)
		tunnelled.add("out of a tunnel", from(link), mark(tunnelMark, tunnelMark))
	}
	refusals := chain{Chain: nftables.Chain{Name: "refusals", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter}}
	for _, f := range both {
		refusals.add("endpoints drain here, and the sender does not know yet", isMarked(tunnelMark, tunnelMark), portUnreachable(f), drop)
	}
	// A chain for NAT makes the kernel look for connections that have become one,
	// even without a rule.
	ports := chain{Chain: nftables.Chain{Name: "ports", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource}}
	// What is passed on has got its source, an address of this tier, from IPVS.
	// A client's packet that is passed on as it is came before its address was
	// taken in: let through, conntrack would have noted it, and would not see
	// that what the client sends next goes to a pod.
	unknown := chain{Chain: nftables.Chain{Name: "unknown", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(150)}}
	unknown.add("sent here before the address was taken in", notICMP, notLocalSource, drop)
	return ruleset{chains: []chain{sizes, tunnelled, early, refusals, ports, unknown, asked()}}
}

// tunnelMark is what packets bear in the back that have come out of a tunnel.
const tunnelMark = 1

// both families.
var both = [...]family{family4, family6}

// hostFacts are what the rules on a host depend on.
type hostFacts struct {
	marks marks
	// tunnels are the addresses of this node that tunnels come from and go to.
	tunnels []netip.Addr
}

func (k *Kernel) hostFacts() hostFacts { return hostFacts{k.marks, k.Self().Tunnels} }

// hostRules lead packets of the host into the tiers and, with the replies, back.
func hostRules(h hostFacts) ruleset {
	r := ruleset{sets: setsOf(onHost)}
	r.chains = []chain{h.arrivals(), h.departures(), h.replies(), h.answers(), h.ports("ports", nftables.ChainHookPrerouting),
		h.ports("own-ports", nftables.ChainHookOutput), h.nat(), h.own()}
	return r
}

// arrivals say what becomes of packets from outside, before connection tracking
// sees them: it would see one half of the connections of front and back, and
// call that invalid.
func (h hostFacts) arrivals() chain {
	c := chain{Chain: nftables.Chain{Name: "arrivals", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw}}
	for _, f := range both {
		c.add("sources that are not let in", is(f), server(f), in(setOf(limited, f)), client(f), notIn(setOf(allowed, f)), drop)
		c.add("what back sends to clients", from(back.veth), is(f), source(f), in(setOf(addrs, f)), notrack)
		c.add("what back says itself", from(back.veth), is(f), source(f), equal(back.inside(f).AsSlice()), notrack)
	}
	c.add("what front sends", from(front.veth), notrack)
	for _, a := range h.tunnels {
		f := familyOf(a)
		tunnelled := join(is(f), carries(f.tunnel()), destination(f), equal(a.AsSlice()), inner(f), in(setOf(addrs, f)))
		into := rewrite(f, f.destinationOffset(), back.inside(f))
		c.add("a tunnel from this node to itself", from(front.veth), tunnelled, into)
		c.add("tunnels from other nodes", tunnelled, source(f), in(setOf(nodes, f)), notrack, into)
	}
	// From when a speaker is told to do without tunnels until its first pass. The
	// kernel would refuse them, and IPVS in the front tell the client so.
	for _, f := range both {
		c.add("tunnels to itself that are not taken: clients try again", from(front.veth), is(f), carries(f.tunnel()), localDestination, drop)
	}
	for _, t := range []struct {
		set  setName
		tier *tier
	}{{fronts, front}, {direct, back}} {
		lead := join(notrack, mark(h.marks.mask(), h.marks.of(t.tier.of)))
		for _, f := range both {
			outside := join(notFrom(single.veth), notFrom(back.veth), is(f), source(f), notIn(setOf(pods, f)))
			c.add("clients from outside", outside, server(f), in(setOf(t.set, f)), lead)
			c.add("errors about their connections", notFrom(single.veth), notFrom(back.veth), is(f), carries(f.icmp()), quoted(f), in(setOf(t.set, f)), lead)
		}
	}
	return c
}

// departures give tunnels the address of this node, which the others know.
func (h hostFacts) departures() chain {
	c := chain{Chain: nftables.Chain{Name: "departures", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRaw}}
	for _, a := range h.tunnels {
		f := familyOf(a)
		c.add("tunnels to other nodes", from(front.veth), is(f), carries(f.tunnel()), source(f), equal(front.inside(f).AsSlice()),
			rewrite(f, f.sourceOffset(), a))
	}
	return c
}

// stateful are the tiers whose connections the host tracks, once they have left
// for the endpoint.
var stateful = [...]*tier{single, back}

// replies of connections that came out of a tier go back into it.
func (h hostFacts) replies() chain {
	c := chain{Chain: nftables.Chain{Name: "replies", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle}}
	mask := h.marks.mask()
	for _, t := range stateful {
		value := h.marks.of(t.of)
		c.add("connections that left Herald", from(t.veth), fresh, markConn(mask, value))
		c.add("their replies go back to Herald", notFrom(t.veth), replies, isConnMarked(mask, value), mark(mask, value))
	}
	return c
}

// answers is replies for an endpoint in the host's network, which answers from
// here: the chain type routes anew what was marked.
func (h hostFacts) answers() chain {
	c := chain{Chain: nftables.Chain{Name: "answers", Type: nftables.ChainTypeRoute,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityMangle}}
	mask := h.marks.mask()
	for _, t := range stateful {
		value := h.marks.of(t.of)
		c.add("replies of the host go back to Herald", replies, isConnMarked(mask, value), mark(mask, value))
	}
	return c
}

// notLoopback is whether the packet is sent to another address than one of
// 127.0.0.0/8 or ::1: from those it could not come back.
func notLoopback(f family) exprs {
	own, size := []byte{127}, uint32(1)
	if f.six() {
		own, size = netip.IPv6Loopback().AsSlice(), 16
	}
	return join(network(1, f.destinationOffset(), size), exprs{&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: own}})
}

// ports lead node ports, which are addresses of the host, to where the servers
// are. They come before kube-proxy and CNI plug-ins, which use dstnat.
func (h hostFacts) ports(name string, hook *nftables.ChainHook) chain {
	c := chain{Chain: nftables.Chain{Name: name, Type: nftables.ChainTypeNAT,
		Hooknum: hook, Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest - 10)}}
	for _, f := range both {
		c.add("node ports", is(f), localDestination, notLoopback(f), port(), in(setOf(ports, f)), natTo(expr.NATTypeDestNAT, f, single.inside(f)))
	}
	return c
}

// nat gives what leaves for an endpoint an address of this node, if the tier
// has not kept the client's, and hides the host itself as a client. It comes
// before kube-proxy and CNI plug-ins, which use srcnat.
func (h hostFacts) nat() chain {
	c := chain{Chain: nftables.Chain{Name: "nat", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATSource - 10)}}
	for _, f := range both {
		c.add("SNAT to an address of this node", from(single.veth), is(f), source(f), equal(single.inside(f).AsSlice()), masquerade)
	}
	c.add("the host as client", to(single.veth), localSource, masquerade)
	return c
}

// own is for an endpoint in the host's network that answers UDP by a socket of
// no address: it picks the source by the way back, and to the namespace or to a
// pod that would be the link's own. To itself it is the address that was asked.
func (h hostFacts) own() chain {
	c := chain{Chain: nftables.Chain{Name: "own", Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityNATSource}}
	for _, f := range both {
		c.add("SNAT to the address asked", from(single.veth), is(f), source(f), equal(single.inside(f).AsSlice()), snatToAsked(f))
		c.add("SNAT to the address asked", from(single.veth), is(f), carries(unix.IPPROTO_UDP), source(f), in(setOf(pods, f)), snatToAsked(f))
	}
	return c
}

// setsOf returns both sets of every name.
func setsOf(names []setName) (sets []*nftables.Set) {
	for _, name := range names {
		for _, f := range both {
			sets = append(sets, setOf(name, f))
		}
	}
	return sets
}

// add appends a rule of parts, which says what it is for.
func (c *chain) add(why string, parts ...exprs) {
	c.rules = append(c.rules, rule{why, join(parts...)})
}
