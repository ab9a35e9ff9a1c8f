//go:build netns

package ipvs

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

// open makes a connection whose address is kept, and one with SNAT, for both
// families, and returns what asks a question on each.
func (l *lab) open(t testing.TB) (stillThere func(t testing.TB)) {
	t.Helper()
	var conns []*nettest.Conn
	for _, vip := range []string{vip4, vip6} {
		for _, port := range []string{kept, snatted} {
			c, err := l.client.Dial("tcp", net.JoinHostPort(vip, port))
			if err != nil {
				t.Fatalf("Dial() = %v", err)
			}
			t.Cleanup(func() { c.Close() })
			conns = append(conns, c)
		}
	}
	stillThere = func(t testing.TB) {
		t.Helper()
		for _, c := range conns {
			if _, err := c.Ask(); err != nil {
				t.Errorf("the connection %s -> %s is lost: %v", c.LocalAddr(), c.RemoteAddr(), err)
			}
		}
	}
	stillThere(t)
	return stillThere
}

// state is everything that programs can show of the node and of Herald's
// namespace, down to the handles of nftables: those change if a rule is made
// anew. Counters and neighbours are left out.
func (l *lab) state(t testing.TB) string {
	t.Helper()
	return visible(t, l.one) + visible(t, l.inside(single)) + visible(t, l.inside(front)) + visible(t, l.inside(back))
}

// inside is the namespace of a tier.
func (l *lab) inside(t *tier) *nettest.Namespace {
	return &nettest.Namespace{Name: t.file, Handle: l.k.spaces[t.of].ns}
}

func visible(t testing.TB, n *nettest.Namespace) string {
	t.Helper()
	var s strings.Builder
	for _, command := range [][]string{
		{"ip", "-o", "link"}, {"ip", "-o", "addr"},
		{"ip", "rule"}, {"ip", "-6", "rule"},
		{"ip", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"},
		{"nft", "-a", "-s", "list", "ruleset"}, {"ipvsadm", "-Sn"},
	} {
		s.WriteString(strings.Join(command, " ") + "\n" + n.Run(t, command[0], command[1:]...))
	}
	return s.String()
}

func TestARestartTouchesNothing(t *testing.T) {
	l := newLab(t)
	l.settle(t, rows())
	stillThere := l.open(t)
	before := l.state(t)

	opts := l.k.opts
	if err := l.k.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
	stillThere(t) // nobody is there, and everything steers on
	*l.k = *New(opts)
	for range 2 {
		if err := l.k.Prepare(context.Background()); err != nil {
			t.Fatalf("Prepare() = %v", err)
		}
		if mended := l.k.Mended(); len(mended) > 0 {
			t.Errorf("Prepare() has mended %v", mended)
		}
	}
	l.holds(t, rows())
	stillThere(t)
	if after := l.state(t); after != before {
		t.Errorf("a restart changed something.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

func TestIdleConnectionsAreRememberedForADay(t *testing.T) {
	l := newLab(t)
	for _, of := range tiers {
		if out := l.inside(of).Run(t, "ipvsadm", "-L", "--timeout"); !strings.Contains(out, "86400 120 300") {
			t.Errorf("%s: %s, want 86400 120 300", of.file, out)
		}
	}
}

func TestHalfAnAddressIsSweptAndComesBack(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx, node := context.Background(), nettest.New(t, "node")
	k := newKernel(t, node)
	add := []steer.Change{kerneltest.Addr(steer.Add, "192.0.2.1"), kerneltest.Addr(steer.Add, "2001:db8::1")}
	if err := errors.Join(k.Prepare(ctx), k.Apply(ctx, add)); err != nil {
		t.Fatal(err)
	}
	halves := map[string]func() error{
		"only inside": func() error { return gone(k.host, hostRoute(ip("192.0.2.1"), node.Index(t, single.veth))) },
		"not in the single tier": func() error {
			return gone(k.spaces[single.of].place, insideRoute(ip("2001:db8::1")))
		},
		"not in the front tier": func() error {
			return gone(k.spaces[front.of].place, insideRoute(ip("192.0.2.1")))
		},
		"not in the back tier": func() error {
			return gone(k.spaces[back.of].place, insideRoute(ip("192.0.2.1")))
		},
	}
	for name, cut := range halves {
		t.Run(name, func(t *testing.T) {
			for _, prepare := range []bool{false, true} { // Add must not depend on the sweep
				if err := cut(); err != nil {
					t.Fatal(err)
				}
				table, err := k.Table(ctx)
				if err != nil || len(table.Addrs) != 1 {
					t.Errorf("Table() = %v, %v, want one address", table.Addrs, err)
				}
				if prepare {
					if err := k.Prepare(ctx); err != nil {
						t.Errorf("Prepare() = %v", err)
					}
				}
				want := steer.NewTable()
				want.Addrs = map[netip.Addr]bool{add[0].Addr: true, add[1].Addr: true}
				join, _ := steer.Diff(table, want)
				if err := k.Apply(ctx, join); err != nil {
					t.Errorf("Apply(%v) = %v", join, err)
				}
				if err := k.Apply(ctx, join); !errors.Is(err, os.ErrExist) {
					t.Errorf("Apply(%v) again = %v, want %v", join, err, os.ErrExist)
				}
			}
		})
	}
}

// gone deletes one route behind Herald's back.
func gone(p *place, r hostAddr) error {
	r.del = true
	return errors.Join(p.route(context.Background(), []hostAddr{r})...)
}

func TestAHostThatDoesNotForwardIsTold(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx, node := context.Background(), nettest.New(t, "node")
	k := newKernel(t, node)
	if err := k.Prepare(ctx); err != nil {
		t.Fatal(err)
	}
	for addr, key := range map[string]string{
		"192.0.2.1": "net/ipv4/ip_forward", "2001:db8::1": "net/ipv6/conf/all/forwarding",
	} {
		node.Sysctl(t, key, "0")
		err := k.Apply(ctx, []steer.Change{kerneltest.Addr(steer.Add, addr)})
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("Apply() with %s = 0: %v, want it named", key, err)
		}
		node.Sysctl(t, key, "1")
	}
}

func TestAHostWithoutIPv6SteersIPv4(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx, node := context.Background(), nettest.New(t, "node")
	node.Sysctl(t, "net/ipv6/conf/all/disable_ipv6", "1")
	node.Sysctl(t, "net/ipv6/conf/default/disable_ipv6", "1")
	k := newKernel(t, node)
	add := kerneltest.Addr(steer.Add, "192.0.2.1")
	if err := errors.Join(k.Prepare(ctx), k.Prepare(ctx), k.Apply(ctx, []steer.Change{add})); err != nil {
		t.Fatal(err)
	}
	if table, err := k.Table(ctx); err != nil || !table.Addrs[add.Addr] {
		t.Errorf("Table() = %v, %v", table, err)
	}
	if err := k.Apply(ctx, []steer.Change{kerneltest.Addr(steer.Add, "2001:db8::1")}); err == nil {
		t.Error("Apply() takes in an IPv6 address on a host without IPv6")
	}
}
