package l2

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestFault(t *testing.T) {
	const up = unix.IFF_UP | unix.IFF_RUNNING
	ether := func(flags uint32, state netlink.LinkOperState) netlink.LinkAttrs {
		return netlink.LinkAttrs{EncapType: "ether", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}, RawFlags: flags, OperState: state}
	}
	tunnel := ether(up, netlink.OperUnknown)
	tunnel.EncapType, tunnel.HardwareAddr = "ipip", nil
	long := ether(up, netlink.OperUp)
	long.HardwareAddr = make(net.HardwareAddr, 20)
	tests := []struct {
		name string
		link netlink.LinkAttrs
		want string
	}{
		{"a link that is up has none", ether(up, netlink.OperUp), ""},
		{"nor has one whose driver keeps no state", ether(up, netlink.OperUnknown), ""},
		{"down", ether(0, netlink.OperDown), "link is down"},
		{"no carrier", ether(unix.IFF_UP, netlink.OperDown), "link has no carrier"},
		{"the device below has no carrier", ether(unix.IFF_UP, netlink.OperLowerLayerDown), "link has no carrier"},
		{"waiting for 802.1X", ether(unix.IFF_UP, netlink.OperDormant), "link has no carrier"},
		{"loopback", ether(up|unix.IFF_LOOPBACK, netlink.OperUnknown), "not an Ethernet link"},
		{"no ARP, as on kube-ipvs0", ether(up|unix.IFF_NOARP, netlink.OperUp), "ARP is off on this link"},
		{"tunnel", tunnel, "not an Ethernet link"},
		{"hardware addresses of another length", long, "not an Ethernet link"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := fault(&tt.link); got != tt.want {
				t.Errorf("fault() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestGlobals(t *testing.T) {
	var addrs []netlink.Addr
	for i, s := range []string{
		"2001:db8::5/64", "192.0.2.5/24", "10.0.0.5/8", "fe80::5/64", "169.254.1.5/16", "127.0.0.1/8",
		"192.0.2.5/24", "192.0.2.6/32", "198.51.100.1/24", "fd50::5/64",
	} {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		a.LinkIndex = 2
		if i == 8 {
			a.LinkIndex = 3
		}
		addrs = append(addrs, *a)
	}
	var want []netip.Prefix
	for _, s := range []string{"10.0.0.5/8", "192.0.2.5/24", "192.0.2.6/32", "2001:db8::5/64", "fd50::5/64"} {
		want = append(want, netip.MustParsePrefix(s))
	}
	if got := globals(addrs, 2); !slices.Equal(got, want) {
		t.Errorf("globals() = %v, want %v", got, want)
	}
}

func TestOnlyHeraldsLinksAreHeralds(t *testing.T) {
	for name, want := range map[string]bool{
		"herald0": true, "herald1": true, "herald-front": true, "herald-back": true, "herald2": false, "eth0": false,
	} {
		if got := isHeralds(name); got != want {
			t.Errorf("isHeralds(%q) = %v, want %v", name, got, want)
		}
	}
}
