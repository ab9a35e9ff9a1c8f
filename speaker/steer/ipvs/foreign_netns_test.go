//go:build netns

package ipvs

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/herald-lb/herald/internal/nettest"
	"github.com/herald-lb/herald/speaker/steer"
	"github.com/herald-lb/herald/speaker/steer/kerneltest"
)

func TestNothingForeignIsTouchedAndNothingIsLeft(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx, node := context.Background(), nettest.New(t, "node")
	// What others have on a node: services of kube-proxy's IPVS mode on the
	// very address, a table, rules, routes of every kind.
	for _, command := range []string{
		"ip link add dummy0 type dummy", "ip addr add 10.96.0.1/32 dev dummy0", "ip link set dummy0 up",
		"ip route add 192.0.2.77/32 dev dummy0 proto 71", "ip route add 203.0.113.0/24 dev dummy0 table 7280",
		"ip -6 route add 2001:db8:7::/48 dev dummy0",
		"ip rule add fwmark 0x4000/0x4000 lookup 7280", "ip -6 rule add fwmark 0x1000/0x1000 lookup 7280 priority 71",
		"ipvsadm -A -t 192.0.2.1:80 -s rr", "ipvsadm -a -t 192.0.2.1:80 -r 10.0.0.99:80 -m", "ipvsadm -A -f 7 -s wlc",
		"nft add table inet other", "nft add chain inet other herald { type nat hook postrouting priority 100; }",
		"nft add rule inet other herald oifname eth0 masquerade", "nft add table ip herald",
		"nft add table ip6 herald", "sysctl -w net.ipv4.conf.all.rp_filter=1",
	} {
		words := strings.Fields(command)
		node.Run(t, words[0], words[1:]...)
	}
	sysctls := func() string {
		return node.Run(t, "sysctl", "-a", "-r", `^net\.(ipv[46]\.(ip|conf\.(all|default|lo|dummy0)|vs)|netfilter.nf_conntrack_(max|tcp))`)
	}
	before, settings := visible(t, node), sysctls()

	k := newKernel(t, node)
	for range 2 {
		if err := k.Prepare(ctx); err != nil {
			t.Fatalf("Prepare() = %v", err)
		}
		if err := k.Apply(ctx, []steer.Change{
			kerneltest.Pods(steer.Add, "10.244.1.0/24"),
			kerneltest.Server(steer.Add, "192.0.2.1:80/tcp", "wrr", true),
			kerneltest.Dest(steer.Add, "192.0.2.1:80/tcp", "10.0.0.7:8080", 1),
			kerneltest.Server(steer.Add, "[2001:db8::1]:80/tcp", "wrr", true),
			kerneltest.Addr(steer.Add, "192.0.2.1"), kerneltest.Addr(steer.Add, "2001:db8::1"),
		}); err != nil {
			t.Fatalf("Apply() = %v", err)
		}
		if out := node.Run(t, "ipvsadm", "-Sn"); strings.Contains(out, "wrr") || !strings.Contains(before, out) {
			t.Errorf("the host's IPVS changed:\n%s", out)
		}
		// By another process, which has prepared nothing.
		other := New(k.opts)
		if err := errors.Join(other.Remove(ctx), other.Close()); err != nil {
			t.Fatalf("Remove() = %v", err)
		}
		if after := visible(t, node); after != before {
			t.Errorf("Remove() left or took something.\nbefore:\n%s\nafter:\n%s", before, after)
		}
		if after := sysctls(); after != settings {
			t.Errorf("sysctls of the host changed.\nbefore:\n%s\nafter:\n%s", settings, after)
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), k.opts.StateDir) {
		t.Errorf("mounts are left (%v):\n%s", err, mounts)
	}
	if files, err := os.ReadDir(k.opts.StateDir); err != nil || len(files) > 0 {
		t.Errorf("files are left in the state directory: %v, %v", files, err)
	}
}

func TestAForeignRouteIsNotReplaced(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx, node := context.Background(), nettest.New(t, "node")
	node.Run(t, "ip", "route", "add", "192.0.2.1/32", "dev", "lo")
	node.Run(t, "ip", "-6", "route", "add", "2001:db8::1/128", "dev", "lo")
	before := visible(t, node)
	k := newKernel(t, node)
	if err := k.Prepare(ctx); err != nil {
		t.Fatalf("Prepare() = %v", err)
	}
	for _, addr := range []string{"192.0.2.1", "2001:db8::1"} {
		for range 2 {
			err := k.Apply(ctx, []steer.Change{kerneltest.Addr(steer.Add, addr)})
			if err == nil || errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "not Herald's") {
				t.Errorf("Apply() over a foreign route = %v", err)
			}
		}
	}
	if table, err := k.Table(ctx); err != nil || len(table.Addrs) > 0 {
		t.Errorf("Table() = %v, %v, want no address", table.Addrs, err)
	}
	if err := k.Remove(ctx); err != nil {
		t.Fatalf("Remove() = %v", err)
	}
	if after := visible(t, node); after != before {
		t.Errorf("foreign routes changed.\nbefore:\n%s\nafter:\n%s", before, after)
	}
}

func TestAForeignLinkIsNotReplaced(t *testing.T) {
	nettest.RequireIPVS(t)
	ctx, node := context.Background(), nettest.New(t, "node")
	node.Run(t, "ip", "link", "add", single.veth, "type", "dummy")
	k := newKernel(t, node)
	if err := k.Prepare(ctx); err == nil || !strings.Contains(err.Error(), "dummy that is not Herald's") {
		t.Errorf("Prepare() over a foreign link = %v", err)
	}
	if err := k.Remove(ctx); err != nil {
		t.Errorf("Remove() = %v", err)
	}
	node.Index(t, single.veth) // fails t if it is gone
}
