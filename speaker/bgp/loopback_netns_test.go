//go:build netns

package bgp

import "testing"

// A node without IPv4 has its loopback, at least.
func TestNodeWithoutIPv4(t *testing.T) {
	in := cable(t, node(t), []string{"2001:db8::10/64"}, []string{"2001:db8::1/64"})
	p, w := ebgp(), base("a", "2001:db8::1")
	p.neighbor = "2001:db8::10"
	r := startBIRD(t, in, p)
	s, _ := run(t)
	w.Routes = told
	want(t, s, w)
	awaitUp(t, s, "a")
	awaitRoutes(t, r, w, expected(w, told, "2001:db8::10", "2001:db8::10"))
}

// What GoBGP needs of the node is said if it is missing.
func TestLoopbackIsMissing(t *testing.T) {
	n := node(t)
	in := cable(t, n, []string{"2001:db8::10/64"}, []string{"2001:db8::1/64"})
	p, w := ebgp(), base("a", "2001:db8::1")
	p.neighbor = "2001:db8::10"
	startBIRD(t, in, p)
	t.Cleanup(func() { n.Down(t, "lo"); n.Up(t, "lo") }) // with the addresses that it has at the start
	tests := []struct {
		name   string
		remove func(t *testing.T)
	}{
		{"lo is down", func(t *testing.T) { n.Down(t, "lo") }},
		{"lo has no IPv4 address", func(t *testing.T) { n.Run(t, "ip", "-4", "address", "flush", "dev", "lo") }},
		{"a filter drops what goes to it", func(t *testing.T) {
			for _, rule := range []string{"add table inet test", "add chain inet test in { type filter hook input priority 0; }", "add rule inet test in ip daddr 127.0.0.0/8 drop"} {
				n.Run(t, "nft", rule)
			}
			t.Cleanup(func() { n.Run(t, "nft", "delete table inet test") })
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.remove(t)
			t.Cleanup(func() { n.Down(t, "lo"); n.Up(t, "lo") })
			s, _ := run(t)
			want(t, s, w)
			awaitErr(t, s, "a", "this node does not reach itself by 127.0.0.0/8")
			t.Logf("it says: %s", state(s, "a").Err)
		})
	}
	s, _ := run(t)
	want(t, s, w)
	awaitUp(t, s, "a")
}
