package speaker

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
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
