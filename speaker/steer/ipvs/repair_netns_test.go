//go:build netns

package ipvs

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/herald-lb/herald/speaker/steer"
)

func TestPrepareRepairsWhatSomebodyBroke(t *testing.T) {
	l := newLab(t)
	l.settle(t, rows())
	// Prepare knows the places, not the rows: what it mends without them is
	// mended for the connections that live.
	tests := []struct {
		name     string
		breaking func(t *testing.T)
		lost     bool // whether connections cannot survive it
	}{
		{"the host's nftables table is deleted", func(t *testing.T) {
			l.one.Run(t, "nft", "delete", "table", "inet", "herald")
		}, false},
		{"the host's nftables rules are flushed", func(t *testing.T) {
			l.one.Run(t, "nft", "flush", "table", "inet", "herald")
		}, false},
		{"one rule is added to the host's table", func(t *testing.T) {
			l.one.Run(t, "nft", "insert rule inet herald replies drop")
		}, false},
		{"a chain is added to the host's table", func(t *testing.T) {
			l.one.Run(t, "nft", "add chain inet herald more { type filter hook forward priority 0; policy drop; }")
		}, false},
		{"the host's table is of another make", func(t *testing.T) {
			l.one.Run(t, "nft", "delete table inet herald; add table inet herald; add set inet herald snat4 { type ipv4_addr; }; "+
				"add chain inet herald pre { type filter hook prerouting priority 0; policy drop; }")
		}, false},
		{"the rules inside are flushed", func(t *testing.T) {
			l.inside(single).Run(t, "nft", "flush", "table", "inet", "herald")
		}, false},
		{"the rule of the mark is deleted", func(t *testing.T) {
			l.one.Run(t, "ip", "rule", "del", "priority", "72")
			l.one.Run(t, "ip", "-6", "rule", "del", "priority", "72")
		}, false},
		{"the routes of the mark are deleted", func(t *testing.T) {
			l.one.Run(t, "ip", "route", "flush", "table", "7272")
			l.one.Run(t, "ip", "-6", "route", "flush", "table", "7272")
		}, false},
		{"the way out of the namespace is deleted", func(t *testing.T) {
			l.inside(single).Run(t, "ip", "route", "del", "default")
			l.inside(single).Run(t, "ip", "-6", "route", "del", "default")
		}, false},
		{"the routes of the addresses are deleted", func(t *testing.T) {
			l.one.Run(t, "ip", "route", "del", vip4)
			l.one.Run(t, "ip", "-6", "route", "del", vip6)
		}, false},
		{"the routes inside are deleted", func(t *testing.T) {
			l.inside(single).Run(t, "ip", "route", "del", "local", vip4, "table", "local")
		}, false},
		{"the addresses of the link are deleted", func(t *testing.T) {
			l.one.Run(t, "ip", "addr", "flush", "dev", "herald0")
		}, false},
		{"the link is set down", func(t *testing.T) { l.one.Down(t, "herald0") }, false},
		{"the MTU of the link is lowered", func(t *testing.T) {
			l.one.Run(t, "ip", "link", "set", "herald0", "mtu", "1280")
		}, false},
		{"the link's path filter is strict", func(t *testing.T) {
			l.one.Sysctl(t, "net/ipv4/conf/herald0/rp_filter", "1")
		}, false},
		{"conntrack is turned off for IPVS", func(t *testing.T) {
			l.inside(single).Run(t, "sysctl", "-w", "net.ipv4.vs.conntrack=0")
		}, false},
		{"forwarding inside is turned off", func(t *testing.T) {
			l.inside(single).Run(t, "sysctl", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
		}, false},
		{"the link is deleted", func(t *testing.T) { l.one.Run(t, "ip", "link", "del", "herald0") }, false},
		{"the table inside is deleted", func(t *testing.T) {
			l.inside(single).Run(t, "nft", "delete", "table", "inet", "herald")
		}, false},
		{"the virtual servers are deleted", func(t *testing.T) { l.inside(single).Run(t, "ipvsadm", "-C") }, true},
		{"the namespace is unmounted", func(t *testing.T) {
			if err := unix.Unmount(l.k.pinPath(single), unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}, true},
	}
	before := l.shape(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stillThere := l.open(t)
			tt.breaking(t)
			if err := l.k.Prepare(context.Background()); err != nil {
				t.Fatalf("Prepare() = %v", err)
			}
			holds, err := l.k.Holds(t.Context(), rows())
			have, e := l.k.Table(t.Context())
			if err := errors.Join(err, e); err != nil || holds && !steer.Same(have, rows()) {
				t.Errorf("Holds() = %v, %v, of what differs", holds, err)
			}
			l.settle(t, rows())
			if holds, err := l.k.Holds(t.Context(), rows()); err != nil || !holds {
				t.Errorf("Holds() = %v, %v, of what is right", holds, err)
			}
			if !tt.lost {
				stillThere(t)
			}
			ask(t, l.client, "tcp", net.JoinHostPort(vip4, kept), []string{"a", "b"}, true)
			ask(t, l.client, "tcp", net.JoinHostPort(vip6, snatted), []string{"a", "c"}, false)
			ask(t, l.one, "udp", net.JoinHostPort(vip6, kept), []string{"a", "b"}, false)
			if after := l.shape(t); after != before {
				t.Errorf("something else than before stands.\nbefore:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// shape is the part of the state that is the same after a repair: nftables and
// rules, without handles.
func (l *lab) shape(t testing.TB) string {
	t.Helper()
	return l.one.Run(t, "nft", "-s", "list", "table", "inet", "herald") +
		l.inside(single).Run(t, "nft", "-s", "list", "ruleset") +
		sorted(l.one.Run(t, "ip", "rule")) + sorted(l.one.Run(t, "ip", "-6", "rule")) +
		l.one.Run(t, "ip", "route", "show", "table", "7272") + l.one.Run(t, "ip", "-6", "route", "show", "table", "7272")
}

// sorted is text with its lines in order: rules of one priority are listed as
// they were added.
func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
