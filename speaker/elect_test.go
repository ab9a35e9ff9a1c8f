package speaker

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/herald-lb/herald/internal/snapshot"
)

func nodeNames(n int) []string {
	out := make([]string, 0, n)
	for i := range n {
		out = append(out, fmt.Sprintf("node-%03d", i))
	}
	return out
}

func vips(n int) []netip.Addr {
	a := netip.MustParseAddr("192.0.2.0")
	out := make([]netip.Addr, 0, n)
	for range n {
		out = append(out, a)
		a = a.Next()
	}
	return out
}

func TestElectMovesOnlyTheLostNodesAddresses(t *testing.T) {
	before := nodeNames(5)
	after := slices.Delete(slices.Clone(before), 2, 3)
	for _, vip := range vips(1000) {
		old, now := Elect(vip, before), Elect(vip, after)
		if old != before[2] && now != old {
			t.Errorf("%s moved from %s to %s though %s left", vip, old, now, before[2])
		}
		if old == before[2] && !slices.Contains(after, now) {
			t.Errorf("%s went to %q, which is no candidate", vip, now)
		}
	}
}

func TestElectGivesEveryNodeItsShare(t *testing.T) {
	for _, n := range []int{2, 3, 10, 250} {
		nodes := nodeNames(n)
		count := map[string]int{}
		for _, vip := range vips(100 * n) {
			count[Elect(vip, nodes)]++
		}
		for _, node := range nodes {
			if count[node] < 60 || count[node] > 145 {
				t.Errorf("of %d addresses on %d nodes %s has %d, want about 100", 100*n, n, node, count[node])
			}
		}
	}
}

func TestElectDoesNotDependOnOrder(t *testing.T) {
	nodes := nodeNames(7)
	turned := slices.Clone(nodes)
	slices.Reverse(turned)
	for _, vip := range vips(500) {
		if a, b := Elect(vip, nodes), Elect(vip, turned); a != b {
			t.Errorf("%s: %s or %s, by the order of candidates", vip, a, b)
		}
	}
}

// Speakers of different versions run side by side during an upgrade, so the
// choice must never change.
func TestElectIsForEver(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	for vip, want := range map[string]string{
		"192.0.2.1": "n2", "192.0.2.2": "n3", "192.0.2.3": "n1", "2001:db8::1": "n3", "2001:db8::2": "n3",
	} {
		if got := Elect(netip.MustParseAddr(vip), nodes); got != want {
			t.Errorf("Elect(%s) = %q, want %q", vip, got, want)
		}
	}
	if got := Elect(netip.MustParseAddr("192.0.2.1"), nil); got != "" {
		t.Errorf("Elect of nobody = %q", got)
	}
}

func BenchmarkElect(b *testing.B) {
	nodes, vip := nodeNames(250), netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		Elect(vip, nodes)
	}
}

// everybody gives all of nodes for each address.
func everybody(addrs []netip.Addr, nodes []string) map[netip.Addr][]string {
	all := map[netip.Addr][]string{}
	for _, a := range addrs {
		all[a] = nodes
	}
	return all
}

// elected is electAll, of the nodes given for each address.
func elected(nodes map[netip.Addr][]string) map[netip.Addr]string {
	candidates := map[string]*candidate{}
	var all []contest
	for _, addr := range slices.SortedFunc(maps.Keys(nodes), netip.Addr.Compare) {
		var cs []*candidate
		for _, n := range nodes[addr] {
			if candidates[n] == nil {
				candidates[n] = &candidate{node: snapshot.Node{Name: n}, number: len(candidates), hash: hash(n)}
			}
			cs = append(cs, candidates[n])
		}
		all = append(all, contest{target: target{addr: addr}, roster: newRoster(cs)})
	}
	owners := map[netip.Addr]string{}
	for i, owner := range electAll(all) {
		owners[all[i].addr] = owner
	}
	return owners
}

func TestNoNodeHasMoreThanAQuarterAboveTheMean(t *testing.T) {
	for _, tt := range []struct{ nodes, addrs, most int }{
		{3, 500, 209}, {10, 10000, 1250}, {250, 10000, 50}, {250, 250, loadFew}, {1, 100, 125},
	} {
		nodes := nodeNames(tt.nodes)
		load := map[string]int{}
		for addr, owner := range elected(everybody(vips(tt.addrs), nodes)) {
			if !slices.Contains(nodes, owner) {
				t.Fatalf("%s is at %q", addr, owner)
			}
			load[owner]++
		}
		for node, n := range load {
			if n > tt.most {
				t.Errorf("of %d addresses on %d nodes %s has %d, want at most %d", tt.addrs, tt.nodes, node, n, tt.most)
			}
		}
	}
}

// An address that is bound to full nodes goes to the best of them all the same.
func TestWhoCanOnlyBeOnFullNodesIsThere(t *testing.T) {
	addrs := vips(200)
	all := everybody(addrs, nodeNames(10))
	for _, a := range addrs[:100] {
		all[a] = []string{"node-003"}
	}
	owners := elected(all)
	for _, a := range addrs[:100] {
		if owners[a] != "node-003" {
			t.Errorf("%s is at %q", a, owners[a])
		}
	}
}

// With few addresses the election is Elect, so that one that comes or goes moves
// no other; with many, hardly any.
func TestAnAddressThatComesMovesHardlyAnyOther(t *testing.T) {
	for _, tt := range []struct{ nodes, addrs, moves int }{
		{3, 40, 0}, {10, 60, 0}, {10, 2000, 20}, {250, 10000, 100},
	} {
		addrs, nodes := vips(tt.addrs+1), nodeNames(tt.nodes)
		before := elected(everybody(addrs[:tt.addrs], nodes))
		after := elected(everybody(addrs, nodes))
		moves := 0
		for a, owner := range before {
			if after[a] != owner {
				moves++
			}
			if tt.moves == 0 && owner != Elect(a, nodes) {
				t.Errorf("%s is at %s, want %s", a, owner, Elect(a, nodes))
			}
		}
		if moves > tt.moves {
			t.Errorf("%d of %d addresses on %d nodes have moved, want at most %d", moves, tt.addrs, tt.nodes, tt.moves)
		}
	}
}

// A node that goes gives up its own addresses, and hardly any other moves.
func TestANodeThatGoesMovesLittleElse(t *testing.T) {
	addrs, nodes := vips(2000), nodeNames(10)
	before := elected(everybody(addrs, nodes))
	after := elected(everybody(addrs, slices.Delete(slices.Clone(nodes), 4, 5)))
	own, others := 0, 0
	for a, owner := range before {
		switch {
		case owner == nodes[4]:
			own++
		case after[a] != owner:
			others++
		}
	}
	if others > own/5 {
		t.Errorf("%d addresses of other nodes have moved, of the lost one %d", others, own)
	}
}
