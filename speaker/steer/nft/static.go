package nft

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A chain is one chain with its rules, as Herald wants it.
type chain struct {
	name     string
	hook     *nftables.ChainHook // nil: only gone to from others
	priority nftables.ChainPriority
	rules    [][]expr.Any
}

// refuse is the chain that answers for what nobody serves.
const refuse = "refuse"

// service is the chain that finds the server, and limit the one before it that
// drops what comes from where the server lets nobody in.
func (e entrance) service() string { return e.String() + "-service" }
func (e entrance) limit() string   { return e.String() + "-limit" }

// staticChains are the chains that are there as long as the table is.
func staticChains(mark uint32) []chain {
	chains := []chain{{name: refuse, rules: refuseRules()}}
	for _, e := range entrances {
		chains = append(chains,
			chain{name: e.service(), rules: e.serviceRules()},
			chain{name: e.limit(), rules: e.limitRules()})
	}
	in := chain{name: "prerouting", hook: nftables.ChainHookPrerouting, priority: *nftables.ChainPriorityNATDest - 10}
	out := chain{name: "output", hook: nftables.ChainHookOutput, priority: *nftables.ChainPriorityNATDest - 10}
	for _, e := range entrances {
		in.rules = append(in.rules, slices.Concat(e.match(), goTo(e.limit())))
		// What the node itself sends has its address from the route to the
		// service, not from the one to the endpoint. To its own addresses it
		// has one of them, which every endpoint of a node port can answer.
		var asked []expr.Any
		if !e.port {
			asked = orMark(mark)
		}
		out.rules = append(out.rules, slices.Concat(e.match(), asked, goTo(e.service())))
	}
	return append(chains, in, out, chain{name: "postrouting", hook: nftables.ChainHookPostrouting,
		priority: *nftables.ChainPriorityNATSource - 10, rules: postRules(mark)})
}

func goTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// match matches what comes in by e: what goes to an address that is taken in,
// or to an address of the node. Loopback addresses are not the node's: what is
// sent to one cannot be led elsewhere.
func (e entrance) match() []expr.Any {
	if !e.port {
		return append(e.fam.is(), e.fam.loadDaddr(0), &expr.Lookup{SourceRegister: reg(0), SetName: addrsSet(e.fam).Name})
	}
	loopback := []byte{127} // and whatever follows
	if e.fam == v6 {
		loopback = []byte{15: 1}
	}
	return append(e.fam.is(),
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseNetworkHeader,
			Offset: e.fam.daddrOffset(), Len: uint32(len(loopback))},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg(0), Data: loopback},
		&expr.Fib{Register: reg(0), FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)})
}

// limitRules drop what the server does not let in. What the node itself sends
// does not come here.
func (e entrance) limitRules() [][]expr.Any {
	drop, at := e.loadServer(0)
	drop = append(drop,
		&expr.Lookup{SourceRegister: reg(0), SetName: limitedSet(e.fam).Name},
		e.fam.loadSaddr(at), // right behind the server
		&expr.Lookup{SourceRegister: reg(0), SetName: sourcesSet(e.fam).Name, Invert: true},
		&expr.Verdict{Kind: expr.VerdictDrop})
	return [][]expr.Any{drop, goTo(e.service())}
}

// serviceRules send to the server, answer an echo request, and refuse the
// rest. What goes to the node itself and to no node port is left alone.
//
// The server is looked up twice: kernels before 6.17 find neither the old nor
// the new element if it is being replaced at that very moment.
func (e entrance) serviceRules() [][]expr.Any {
	server, _ := e.loadServer(0)
	set := serversSet(e.fam)
	if e.port {
		server, _ = loadPort(0)
		set = portsSet(e.fam)
	}
	server = append(server, &expr.Lookup{SourceRegister: reg(0), IsDestRegSet: true,
		DestRegister: unix.NFT_REG_VERDICT, SetName: set.Name})
	rules := [][]expr.Any{server, server}
	if !e.port {
		rules = append(rules, echo(e.fam), goTo(refuse))
	}
	return rules
}

// echo lets the node answer an echo request with an address of its own, which
// the reply does not show: the NAT turns it back.
func echo(f family) []expr.Any {
	proto, kind := byte(unix.IPPROTO_ICMP), byte(8)
	if f == v6 {
		proto, kind = unix.IPPROTO_ICMPV6, 128
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{proto}},
		&expr.Payload{DestRegister: reg(0), Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{kind}},
		&expr.Redir{},
	}
}

// refuseRules answer TCP with a reset and all else with port unreachable.
func refuseRules() [][]expr.Any {
	return [][]expr.Any{
		{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg(0)},
			&expr.Cmp{Op: expr.CmpOpEq, Register: reg(0), Data: []byte{unix.IPPROTO_TCP}},
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		},
		{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}},
	}
}

// postRules masquerade. The connection's bit says that the client is a pod of
// this node: it needs to only if the endpoint, which is known now, is one too,
// for its reply would go there directly. The bit stays on nothing that leaves.
func postRules(mark uint32) [][]expr.Any {
	var rules [][]expr.Any
	for _, f := range families {
		rules = append(rules, slices.Concat(f.is(), hasConnMark(mark), f.fromPods(), f.toPods(), orMark(mark)))
	}
	return append(rules, slices.Concat(hasConnMark(mark), clearConnMark(mark)), masquerade(mark))
}
