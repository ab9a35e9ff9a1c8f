package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/herald-lb/herald/internal/snapshot"
	"github.com/herald-lb/herald/speaker/steer"
)

// Trace returns the way of a new flow for people to read, one line for each
// step: who takes it in, and what each server on its way does with it. It
// arrives at the node via or, if that is "", where it has to: at the client's
// own node if it is in the cluster, else at the one that announces the address, or
// at the first of those that tell routers of it.
//
// The error says why nobody takes it in, or why Herald does not steer it. What
// is refused on its way is no error.
func Trace(s snapshot.Snapshot, via string, f steer.Flow) ([]string, error) {
	node, how, err := ingress(s, via, f)
	if err != nil {
		return nil, err
	}
	route, err := steer.Trace(s, node, f)
	if err != nil {
		return nil, err
	}
	lines := []string{fmt.Sprintf("%s of %s", f, route.Service), how}
	for _, h := range route.Hops {
		lines = append(lines, h.String())
	}
	if route.Refused != "" {
		lines = append(lines, "refused: "+route.Refused)
	}
	return lines, nil
}

// ingress returns the node that a flow arrives at, and how that comes.
func ingress(s snapshot.Snapshot, via string, f steer.Flow) (node, how string, err error) {
	addr := f.Virtual.Addr()
	if via != "" {
		if !slices.ContainsFunc(s.Nodes, func(n snapshot.Node) bool { return n.Name == via }) {
			return "", "", fmt.Errorf("there is no node %s", via)
		}
		return via, "arrives at " + via + ", as asked", nil
	}
	if node, ok := steer.NodeOf(s, f.Client.Addr()); ok {
		return node, "starts on " + node + ", which takes it in itself", nil
	}
	if node, ok := steer.NodeOf(s, addr); ok {
		return node, "arrives at " + node + ", whose address it is", nil
	}
	winner, nodes := Owner(s, addr)
	tellers := tellersOf(s, addr)
	switch {
	case winner != "":
		return winner, fmt.Sprintf("announced by %s, elected of %s", winner, strings.Join(nodes, " ")), nil
	case len(tellers) > 0:
		return tellers[0], fmt.Sprintf("told to routers by %s: as if they chose %s", strings.Join(tellers, " "), tellers[0]), nil
	case len(s.Nodes) > 0 && !slices.ContainsFunc(s.Services, func(svc snapshot.Service) bool { return announces(&svc) && slices.Contains(svc.Addrs(), addr) }):
		// It is not for announcing: any node knows whose address it is.
		_, err := steer.Trace(s, anySteers(s), f)
		if err == nil {
			err = fmt.Errorf("%s is announced by nobody: name the node that the flow arrives at", addr)
		}
		return "", "", err
	case !s.Config.PoolOf(addr).Layer2.Enabled:
		return "", "", fmt.Errorf("%s is not announced on the segment: name the node that the flow arrives at", addr)
	}
	return "", "", fmt.Errorf("%s is announced by nobody: no node that may has a link into its subnet and a usable endpoint within reach", addr)
}

// tellersOf returns the nodes that mean to tell routers of addr, by name.
func tellersOf(s snapshot.Snapshot, addr netip.Addr) (nodes []string) {
	for _, t := range Tellings(s, addr) {
		if t.Route.Prefix.IsValid() {
			nodes = append(nodes, t.Node)
		}
	}
	return slices.Compact(nodes)
}

// anySteers returns a node that steers, or "".
func anySteers(s snapshot.Snapshot) string {
	for _, sp := range s.Speakers {
		if sp.DataPath != "" {
			return sp.Node
		}
	}
	return ""
}

// Owner returns the node that announces addr on layer 2, once its rows stand
// there, and those that could, by name; "" if nobody does.
func Owner(s snapshot.Snapshot, addr netip.Addr) (winner string, nodes []string) {
	all := contests(s, nil)
	i, ok := slices.BinarySearchFunc(all, addr, func(c contest, addr netip.Addr) int { return c.addr.Compare(addr) })
	if !ok {
		return "", nil
	}
	return electAll(all)[i], all[i].roster.nodes
}
